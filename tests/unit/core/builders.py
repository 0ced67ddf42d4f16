"""Shared builders of the core's tests: seeded streams, a tiny scorer, contexts, and ways to run the pipeline over a
stream.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, settings

from core import control_stream, pipeline
from core.codec import encode
from core.control import Context, ControlState, Resolver
from core.control_stream import ControlEntry
from core.errors import BadInput, Corrupt
from core.events import (
    AccountBlocked,
    AccountEvent,
    AccountUnblocked,
    CaseOpened,
    Control,
    FeedbackReceived,
    ModelDeployed,
    Position,
    Transaction,
)
from core.features import spec
from core.features.state import AccountState
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.scoring import Float32, Float64
from core.times import DAY_MS, HOUR_MS, MINUTE_MS

fuzz = partial(settings, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Settings of every property test: the same examples each run, and no failure for being slow on a busy machine."""

T0 = 1_524_000_000_000
"""2018-04-17 21:20 UTC, a Tuesday."""

Item = Transaction | AccountEvent
"""One event of a partition in the order in which it is decided."""

ARTIFACT = b'{"tiny": 1}'
"""The bytes that `load_tiny` takes for a model; any suffix of spaces is another version of it."""


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
    """What a random stream looks like. `late` is the share of events that come late, by up to `late_ms`."""

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


class TinyScorer:
    """A scorer that needs no library: a linear function of a few columns, added up in a fixed order; NaN counts as
    0.
    """

    version, spec = "tiny-1.0.0", spec.SPEC_VERSION
    WEIGHTS: ClassVar[dict[str, float]] = {
        "amount": 0.004,
        "amount_to_mean_30d": 0.6,
        "count_10m": 0.5,
        "merchant_is_new": 0.75,
        "hour_share": -2.0,
        "fraud_verdicts": 1.5,
        "merchant_risk_7d": 3.0,
        "device_accounts_30d": 0.125,
    }
    BIAS = -4.0

    def __init__(self, content: bytes = ARTIFACT) -> None:
        self.digest = hashlib.sha256(content).hexdigest()
        self.bias = self.BIAS + content.count(b" ")

    def _shares(self, features: Float32) -> Float64:
        shares = np.zeros(features.shape, dtype=np.float64)
        for name, weight in self.WEIGHTS.items():
            column = features[:, spec.index(name)].astype(np.float64)
            shares[:, spec.index(name)] = np.clip(np.where(np.isnan(column), 0.0, column), -1e6, 1e6) * weight
        return shares

    def margins(self, features: Float32) -> Float64:
        shares = self._shares(features)
        total = np.full(len(features), self.bias)
        for name in self.WEIGHTS:
            total = total + shares[:, spec.index(name)]
        return np.clip(total, -60.0, 60.0)

    def contributions(self, row: Float32) -> tuple[float, Float64]:
        return self.bias, self._shares(row[None, :])[0]


class FailingScorer(TinyScorer):
    """Raises on every batch of more than `limit` rows, and yields NaN where the amount is a multiple of 55.5."""

    limit = 10**9

    def margins(self, features: Float32) -> Float64:
        if len(features) > self.limit:
            raise RuntimeError("model broke")
        out = super().margins(features)
        out[features[:, spec.index("amount")] == np.float32(55.5)] = np.nan
        return out


def load_tiny(content: bytes, label: str, digest: str) -> TinyScorer:
    """A `control.LoadScorer` for ARTIFACT and its versions."""
    if hashlib.sha256(content).hexdigest() != digest or not content.startswith(ARTIFACT):
        raise Corrupt(f"{label} is not its digest's")
    return TinyScorer(content)


def deployed(content: bytes = ARTIFACT, version: str = "1.0.0") -> ModelDeployed:
    """The control event that makes `content` the champion."""
    return ModelDeployed(
        occurred_at=T0, actor="ann", name="tiny", version=version, digest=hashlib.sha256(content).hexdigest()
    )


def no_blob(digest: str) -> bytes:
    """A `control.LoadBlob` of an empty store."""
    raise BadInput(f"no blob {digest}")


def context(*events: Any, scorer: bool = True, blobs: Sequence[bytes] = (ARTIFACT,)) -> Context:
    """The context after `events`, with the tiny model deployed first unless `scorer` is off."""
    held = {hashlib.sha256(b).hexdigest(): b for b in blobs}
    state = ControlState()
    for sequence, event in enumerate([*([deployed()] if scorer else []), *events], 1):
        state.apply(sequence, event)
    return Resolver(lambda digest: held[digest] if digest in held else no_blob(digest), load_tiny).context(state)


def runs(items: Sequence[Item], first: tuple[int, int] = (0, 0)) -> list[pipeline.Run]:
    """Items as runs. `first` = (transactions, feedback) offsets consumed before."""
    offset, feedback = first
    out = [pipeline.Run(Position(1, feedback) if feedback else Position(0, 0))]
    for item in items:
        if isinstance(item, Transaction):
            offset += 1
            out[-1].positions.append(Position(1, offset))
            out[-1].transactions.append(item)
        else:
            feedback += 1
            if out[-1].transactions:
                out.append(pipeline.Run(Position(1, feedback)))
            out[-1].feedback.append(item)
            out[-1].feedback_position = Position(1, feedback)
    return out


def counts(items: Sequence[Item]) -> tuple[int, int]:
    """(transactions, feedback) in `items`."""
    n = sum(isinstance(item, Transaction) for item in items)
    return n, len(items) - n


def decide_in(
    items: Sequence[Item], cuts: Sequence[int], under: Context | None = None, state: AccountState | None = None
) -> tuple[list[pipeline.Decided], AccountState]:
    """Run the stream through `pipeline.decide`, cut at the given indices into calls of their own."""
    under = under or context(scorer=False)
    state = state or AccountState()
    results = []
    edges = [0, *sorted(cuts), len(items)]
    for start, end in pairwise(edges):
        work = pipeline.Work(0, state, runs(items[start:end], counts(items[:start])))
        results += pipeline.decide(under, [work])
    return results, state


def features_of(items: Sequence[Item], cuts: Sequence[int] = ()) -> Float32:
    """Feature vectors (n, WIDTH) of the stream's accepted transactions."""
    return np.concatenate([d.features for d in decide_in(items, cuts)[0]])


def append_unchecked(log: EventLog, *events: Control) -> int:
    """Append control events past every check, as somebody with another program may; the position of the last."""
    return log.append_control([encode(event) for event in events], log.control_head())


def control_entries(*events: Control) -> list[ControlEntry]:
    """The control stream of a log that holds these events, whether they may follow each other or not."""
    log = MemoryLog()
    append_unchecked(log, *events)
    return control_stream.history(log)
