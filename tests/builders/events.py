"""Transactions, verdicts and seeded streams of both, and the settings of every property test."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hypothesis import HealthCheck, settings

from core.events import (
    AccountBlocked,
    AccountEvent,
    AccountUnblocked,
    CaseOpened,
    FeedbackReceived,
    HistoryStarted,
    Transaction,
)
from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from core.validation import TIME_MAX_MS, TIME_MIN_MS

fuzz = partial(settings, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Settings of every property test: no failure for being slow on a busy machine, and no chance but the code.
Hypothesis tries the constants of loaded modules too, so another choice of test files can bring other examples.
"""

T0 = 1_524_000_000_000
"""2018-04-17 21:20 UTC, a Tuesday."""

HISTORY = HistoryStarted(
    occurred_at=0, actor="test", reason="streams of the past", earliest=TIME_MIN_MS, latest=TIME_MAX_MS - 1
)
"""Every message is history: received when it occurred."""

Item = Transaction | AccountEvent
"""One event of a partition in the order in which it is decided."""


def transaction(number: int = 1, **changes: Any) -> Transaction:
    """A plain valid transaction; `number` makes its id."""
    values: dict[str, Any] = {
        "transaction_id": f"t{number}",
        "account_id": "a1",
        "amount": 20.0,
        "occurred_at": T0,
        "currency": "EUR",
        "merchant_id": "m1",
        "merchant_category": "5411",
        "country": "DE",
        "channel": "card_present",
        "device_id": "d1",
    }
    return Transaction(**(values | changes))


def verdict(account_id: str = "a1", verdict: Any = "fraud", occurred_at: int = T0, **changes: Any) -> FeedbackReceived:
    """A verdict of an analyst."""
    values: dict[str, Any] = {"transaction_id": "t1", "source": "analyst"} | changes
    return FeedbackReceived(account_id=account_id, verdict=verdict, occurred_at=occurred_at, **values)


_STEPS = (
    0,
    1,
    1_000,
    20_000,
    MINUTE_MS,
    5 * MINUTE_MS,
    17 * MINUTE_MS,
    HOUR_MS,
    7 * HOUR_MS,
    DAY_MS,
    9 * DAY_MS,
    31 * DAY_MS,
    365 * DAY_MS,
)
_STEP_WEIGHTS = (6, 6, 8, 10, 10, 10, 8, 8, 5, 3, 1, 0.3, 0.1)
_AMOUNTS = (0.0, 0.25, 1.0, 9.75, 20.0, 55.5, 220.0, 1_000.0, 4_096.5)
_CATEGORIES = ("", "5411", "5812", "7995", "4829", "5732", "5999", "6011", "4111", "5541", "5912")
_COUNTRIES = ("", "DE", "FR", "US", "JP", "ZZ", "AU", "BR", "GB", "IT", "ES", "NL")
_CHANNELS = ("", "card_present", "atm", "online", "pos", "phone")


@dataclass
class Shape:
    """What a random stream looks like. `late` is the share of events that come late, by up to `late_ms`; `duplicates`
    that of transactions that repeat one, or that have the ID of another.
    """

    accounts: int = 6
    late: float = 0.0
    late_ms: int = 3 * DAY_MS
    feedback: float = 0.1
    merchants: int = 90
    exact: bool = True
    duplicates: float = 0.0
    steps: tuple[int, ...] = field(default=_STEPS)
    weights: tuple[float, ...] = field(default=_STEP_WEIGHTS)


BURST = Shape(accounts=2, steps=(0, 10, 500, 2_000), weights=(1, 1, 1, 1), feedback=0.02)


def stream(seed: int, size: int, shape: Shape | None = None) -> list[Item]:
    """A seeded stream. With `exact`, amounts are multiples of ¼, so their sums are exact in any order."""
    shape = shape or Shape()
    rng = random.Random(seed)
    time = T0
    items: list[Item] = []
    for number in range(size):
        time += rng.choices(shape.steps, shape.weights)[0] * rng.choice((1, 1, 1, 2))
        account = f"a{int(rng.random() ** 2 * shape.accounts)}"
        at = time - (rng.randrange(1, shape.late_ms) if rng.random() < shape.late else 0)
        if rng.random() < shape.feedback:
            items.append(
                _feedback(rng, account if rng.random() < 0.8 else f"only-feedback{rng.randrange(3)}", at, number)
            )
            continue
        amount = rng.choice(_AMOUNTS) if rng.random() < 0.97 else 1e12
        if not shape.exact:
            amount = round(rng.lognormvariate(3.5, 1.2), 2)
        again = rng.random() < shape.duplicates and number > 0
        if again and rng.random() < 0.5:
            items.append(rng.choice([item for item in items[-60:] if isinstance(item, Transaction)] or items[:1]))
            continue
        items.append(
            Transaction(
                transaction_id=f"t{number - rng.randrange(1, min(number, 40) + 1) if again else number}",
                account_id=account,
                amount=amount,
                occurred_at=at,
                currency="EUR",
                merchant_id=f"m{int(rng.random() ** 2 * shape.merchants)}" if rng.random() < 0.93 else "",
                merchant_category=rng.choice(_CATEGORIES),
                country=rng.choice(_COUNTRIES),
                channel=rng.choice(_CHANNELS),
                device_id=f"d{rng.randrange(12)}" if rng.random() < 0.8 else "",
                card_id=f"c{rng.randrange(9)}",
                ip=f"10.0.0.{rng.randrange(5)}",
            )
        )
    return items


def _feedback(rng: random.Random, account: str, at: int, number: int) -> AccountEvent:
    kind = rng.randrange(8)
    if kind == 0:
        return AccountBlocked(account_id=account, occurred_at=at, actor="ann")
    if kind == 1:
        return AccountUnblocked(account_id=account, occurred_at=at, actor="ann")
    if kind == 2:
        return CaseOpened(account_id=account, case_id=f"case{number}", occurred_at=at, actor="ann")
    word = ("fraud", "fraud", "legitimate", "legitimate", "unsure")[kind - 3]
    return verdict(
        account,
        word,
        at,
        transaction_id=f"t{rng.randrange(number + 1)}",
        merchant_id=f"m{rng.randrange(9)}",
        device_id=f"d{rng.randrange(12)}",
        transaction_occurred_at=max(at - rng.randrange(20 * DAY_MS), T0 - 30 * DAY_MS),
    )
