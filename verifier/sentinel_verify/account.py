"""What the engine keeps of an account beside its aggregates, and the columns that follow from it: habits, typical
amounts, travel, verdicts, blocks. core/features/spec.py of Stream-Sentinel says what each means; the order of the
operations is the engine's, because the last bits depend on it.
"""

import math
from typing import Any

from .aggregates import Ring
from .forms import in_form
from .numbers import exp2
from .places import CENTRES, km_between
from .values import UNKNOWN, Value
from .verdicts import DAY_MS, HOUR_MS, Hour, Verdicts

MEAN_HALF_LIFE_MS = 30 * DAY_MS
HIGH_HALF_LIFE_MS = 7 * DAY_MS
IDS_KEPT = 32
IN_PERSON = ("", "card_present", "atm", "pos")
Json = dict[str, Any]


class Account:
    """The state before the next payment. begins: how many payments of the account came before those that are added.
    before: the latest time at which they were received, epoch ms; None if there were none.

    Of an account that begins within the proof everything is known. Else only what the first payment's own record, and
    the payments after it, say.
    """

    def __init__(self, name: str, begins: int, before: int | None) -> None:
        self.verdicts = Verdicts(name)
        self.left_out: set[Hour] = set()
        """Hours whose verdicts don't count at present."""
        self._payments, self._before = begins, before
        self._blocked = False
        self._first_time = self._last_time = 0
        self._weight = self._mean = self._squares = 0.0
        self._typical = self._high = 0.0
        self._high_time = 0
        self._hours = [0] * 24
        self._place: tuple[str, int] | None = None
        self._days = Ring(DAY_MS, 30)
        self._ids: list[tuple[str, int]] = []
        self._is_busy = False

    def features(self, t: Json) -> dict[str, Value]:
        """The columns before a payment. None is missing."""
        time, amount = received(t), worth(t)
        whole = self._before is None
        found: dict[str, Value] = {"transactions_total": float(self._payments)}
        found |= dict.fromkeys(_MISSING, None if whole and not self._payments else UNKNOWN)
        found["high_amounts"] = 0.0 if whole else UNKNOWN
        if whole and self._payments:
            deviation = math.sqrt(max(self._squares, 0.0) / self._weight)
            hour = t["occurred_at"] // HOUR_MS % 24
            near = sum(self._hours[(hour + step) % 24] for step in (23, 0, 1))
            is_high = self._high > 0.0
            age = max(time - self._high_time, 0)
            found |= {
                "decayed_mean": self._mean,
                "decayed_std": deviation,
                "amount_zscore": (amount - self._mean) / (deviation + 0.01 * abs(self._mean) + 0.01),
                "account_age_days": (time - self._first_time) / DAY_MS,
                "hour_share": near / sum(self._hours),
                "typical_amount": self._typical,
                "amount_to_typical": amount / self._typical if self._typical > 0.0 else None,
                "days_since_high_amount": (time - self._high_time) / DAY_MS if is_high else None,
                "high_amounts": self._high * exp2(-age / HIGH_HALF_LIFE_MS) if is_high else 0.0,
            }
        if self._ids and (whole or self._last_time >= (self._before or 0)):
            found["seconds_since_last"] = (time - self._last_time) / 1000.0
        if whole or (self._before or 0) // DAY_MS < time // DAY_MS:
            today = self._days.at(time)
            found["count_today"], found["sum_today"] = float(today.count), today.total
        found["km_from_last"], found["speed_kmh"] = self._travel(t)
        counted = self.verdicts.counted(self.left_out)
        found["fraud_verdicts"], found["legitimate_verdicts"] = float(counted.frauds), float(counted.legitimates)
        found["days_since_fraud"] = (time - counted.last) / DAY_MS if counted.frauds else None
        found["account_blocked"] = float(self._blocked)
        return found

    def _travel(self, t: Json) -> tuple[Value, Value]:
        here = _place(t)
        if not here:
            return None, None
        if self._before is not None:
            return UNKNOWN, UNKNOWN
        if self._place is None:
            return None, None
        there, time = self._place
        km = km_between(here, there)
        return km, km / (max(abs(t["occurred_at"] - time), 60_000) / HOUR_MS)

    def is_conflict(self, t: Json) -> Value:
        """Whether the account sent this ID before, with other content: its last 32 are known to it for ever, those
        before them for about a day, unless the partition had too many.
        """
        ids = [name for name, _ in self._ids]
        if t["transaction_id"] in ids[-IDS_KEPT:]:
            return True
        return UNKNOWN if self._before is not None or self._is_busy or t["transaction_id"] in ids else False

    def add_payment(self, t: Json) -> None:
        """Count a payment."""
        time, amount = received(t), worth(t)
        if (place := _place(t)) and (self._place is None or t["occurred_at"] >= self._place[1]):
            self._place = place, t["occurred_at"]
        self._days.add(time, amount)
        self._add_typical(time, amount)
        self._add_history(time, amount, t["occurred_at"] // HOUR_MS % 24)
        self._ids.append((t["transaction_id"], time))
        if len(self._ids) > IDS_KEPT:  # one leaves the last 32; if it is younger than a day, it is kept elsewhere
            self._is_busy |= self._ids[-1 - IDS_KEPT][1] + DAY_MS + 1_000 > time

    def add_feedback(self, event: Json) -> None:
        """Count a verdict, a block or its end; nothing else changes features."""
        if event["type"] == "feedback.v1":
            self.verdicts.add(event)
        elif event["type"] in ("account_blocked.v1", "account_unblocked.v1"):
            self._blocked = event["type"] == "account_blocked.v1"

    def _add_typical(self, time: int, amount: float) -> None:
        typical, cut = self._typical, amount
        if self._payments >= 10:
            if amount > 3.0 * typical:
                age = time - self._high_time
                if self._high == 0.0:
                    self._high, self._high_time = 1.0, time
                elif age >= 0:
                    self._high, self._high_time = self._high * exp2(-age / HIGH_HALF_LIFE_MS) + 1.0, time
                else:
                    self._high += exp2(age / HIGH_HALF_LIFE_MS)
            cut = min(amount, 2.0 * typical + 1.0)
        self._typical = typical + (cut - typical) / min(self._payments + 1, 512)

    def _add_history(self, time: int, amount: float, hour: int) -> None:
        weight = 1.0
        if self._payments == 0 or (self._before is not None and not self._ids):
            self._first_time = self._last_time = time
        elif time >= self._last_time:
            decay = exp2(-(time - self._last_time) / MEAN_HALF_LIFE_MS)
            self._weight *= decay
            self._squares *= decay
            self._last_time = time
        else:
            weight = exp2(-(self._last_time - time) / MEAN_HALF_LIFE_MS)
            self._first_time = min(self._first_time, time)
        self._weight += weight
        delta = amount - self._mean
        if self._weight > 0.0:
            self._mean += delta * (weight / self._weight)
            self._squares += weight * delta * (amount - self._mean)
        self._payments += 1
        if sum(self._hours) >= 1024:
            self._hours = [count // 2 for count in self._hours]
        self._hours[hour] += 1


_MISSING = (
    "decayed_mean", "decayed_std", "amount_zscore", "account_age_days", "hour_share", "typical_amount",
    "amount_to_typical", "days_since_high_amount", "seconds_since_last", "count_today", "sum_today",
)  # fmt: skip


def received(t: Json) -> int:
    """When a payment was received, epoch ms."""
    return int(t.get("received_at") or t["occurred_at"])


def worth(t: Json) -> float:
    """Its amount in the base currency."""
    return float(t["amount"]) * float(t.get("rate", 1.0))


def _place(t: Json) -> str:
    """The country in which a cardholder was present; "" if none was, or it is not known."""
    country = in_form("country", t.get("country", ""))
    return country if in_form("text", t.get("channel", "")) in IN_PERSON and country in CENTRES else ""
