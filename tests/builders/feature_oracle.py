"""A slow, obvious oracle of the feature spec, written from the words of core/features/spec.py and not from the kernel.

It keeps every accepted event of an account and computes all columns by brute force at each transaction. Only the bucket
of a string's hash is shared knowledge with the log (hashes are logged state): `string_hash` is a second implementation.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from core import geography
from core.events import AccountBlocked, AccountUnblocked, FeedbackReceived, Transaction

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
WINDOWS = {"10m": (MINUTE, 10), "1h": (5 * MINUTE, 12), "24h": (HOUR, 24), "7d": (6 * HOUR, 28), "30d": (DAY, 30)}
HALF_LIFE = 30 * DAY
NAN = math.nan
MASK = 2**64 - 1

APPROXIMATE = frozenset({"decayed_mean", "decayed_std", "amount_zscore", "high_amounts"})
"""Columns whose formula here differs from the kernel's recurrence; all others must be equal to the last bit of
float32.
"""


def string_hash(text: str) -> int:
    """SipHash-2-4 with the key 00 01 … 0f in unbounded integers, from the paper's section 2; 0 for ""."""
    return siphash(text.encode(), bytes(range(16))) or 1 if text else 0


def siphash(content: bytes, key: bytes) -> int:
    """SipHash-2-4 (Aumasson and Bernstein 2012), section 2.2 to 2.4."""
    k0, k1 = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def left(x: int, bits: int) -> int:
        return (x << bits | x >> 64 - bits) & MASK

    def sip_round() -> None:
        for a, b, c, d, first, second in ((0, 1, 2, 3, 13, 16), (2, 1, 0, 3, 17, 21)):
            v[a] = v[a] + v[b] & MASK
            v[c] = v[c] + v[d] & MASK
            v[b], v[d] = left(v[b], first) ^ v[a], left(v[d], second) ^ v[c]
            v[a] = left(v[a], 32)

    padded = content + bytes(7 - len(content) % 8) + bytes([len(content) & 0xFF])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        sip_round()
        sip_round()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(4):
        sip_round()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def at(t: Transaction) -> int:
    """When it was received."""
    return t.received_at or t.occurred_at


def linear_count(strings: Iterable[str]) -> float:
    """Distinct strings by linear counting on 64 bits; a full sketch counts as if one bit were free."""
    zeros = 64 - len({string_hash(s) >> 58 for s in strings if s})
    return round(-64.0 * math.log(max(zeros, 1) / 64.0), 1)


@dataclass
class Account:
    """Everything that was accepted about one account, in order of arrival."""

    past: list[Transaction] = field(default_factory=list)
    feedback: list[object] = field(default_factory=list)

    def in_window(self, width: int, buckets: int, time: int) -> list[Transaction]:
        """Events in the `buckets` buckets up to that of `time`, unless a newer bucket has taken their bucket's
        place.
        """
        newest: dict[int, int] = {}
        for t in self.past:
            bucket = at(t) // width
            newest[bucket % buckets] = max(newest.get(bucket % buckets, bucket), bucket)
        now = time // width
        return [
            t
            for t in self.past
            if now - buckets < at(t) // width <= now and newest[at(t) // width % buckets] == at(t) // width
        ]


def is_new(past: list[str], value: str, size: int) -> float:
    """1 if `value` is not among the last `size` distinct known values; NaN if unknown or there is no history at all."""
    if not value or not past:
        return NAN
    last = list(dict.fromkeys(v for v in reversed(past) if v))[:size]
    return 0.0 if value in last else 1.0


def hour_share(hours: list[int], hour: int) -> float:
    """Counts by hour, all halved (rounded down) whenever they have reached 1024 together."""
    held = [0] * 24
    for h in hours:
        if sum(held) >= 1024:
            held = [n // 2 for n in held]
        held[h] += 1
    return (held[hour - 1] + held[hour] + held[(hour + 1) % 24]) / sum(held) if hours else NAN


def ratio(a: float, b: float) -> float:
    return a / b if b > 0.0 else NAN


def travel(past: list[Transaction], t: Transaction) -> tuple[float, float]:
    """(km, km/h) from the latest in-person transaction in a known country; on a tie of times, from the last to
    arrive.
    """
    if not _in_person(t):
        return NAN, NAN
    last: Transaction | None = None
    for p in past:
        if _in_person(p) and (last is None or p.occurred_at >= last.occurred_at):
            last = p
    if last is None:
        return NAN, NAN
    here, there = (geography.CENTRES[geography.PLACES[x.country]].tolist() for x in (t, last))
    km = 6371.0 * math.sqrt(sum((a - b) ** 2 for a, b in zip(here, there, strict=True)))
    return km, km / (max(abs(t.occurred_at - last.occurred_at), MINUTE) / HOUR)


def _in_person(t: Transaction) -> bool:
    return t.channel in ("", "card_present", "atm", "pos") and t.country in geography.PLACES


def decayed(past: list[Transaction]) -> tuple[float, float]:
    """Mean and standard deviation of the amounts, each weighted by 2^(−age / half-life), age against the latest
    event.
    """
    if not past:
        return NAN, NAN
    latest = max(at(p) for p in past)
    weights = [2.0 ** ((at(p) - latest) / HALF_LIFE) for p in past]
    total = math.fsum(weights)
    mean = math.fsum(w * p.amount for w, p in zip(weights, past, strict=True)) / total
    squares = math.fsum(w * (p.amount - mean) ** 2 for w, p in zip(weights, past, strict=True))
    return mean, math.sqrt(squares / total)


def typical(amounts: list[float]) -> tuple[float, list[bool]]:
    """The typical amount after all of them, and which of them were high when they came."""
    value, high = 0.0, []
    for n, amount in enumerate(amounts, 1):
        experienced = n > 10
        high.append(experienced and amount > 3.0 * value)
        used = min(amount, 2.0 * value + 1.0) if experienced else amount
        value = value + (used - value) / min(n, 512)
    return value, high


def vector(account: Account, t: Transaction) -> dict[str, float]:
    """Every column of `t` but those of the reference tables, before `t` is added to the account."""
    past, time = account.past, at(t)
    hour = t.occurred_at // HOUR % 24
    out: dict[str, float] = {"amount": t.amount, "hour_of_day": hour, "day_of_week": (t.occurred_at // DAY + 3) % 7}
    out["source_delay_s"] = (time - t.occurred_at) / 1000
    for name, (width, buckets) in WINDOWS.items():
        inside = account.in_window(width, buckets, time)
        amounts = [p.amount for p in inside]
        out[f"count_{name}"] = len(inside)
        out[f"sum_{name}"] = math.fsum(amounts)
        out[f"mean_{name}"] = math.fsum(amounts) / len(inside) if inside else NAN
        out[f"max_{name}"] = max(amounts, default=NAN)
        out[f"merchants_{name}"] = linear_count(p.merchant_id for p in inside)
        if name == "30d":
            today = [p.amount for p in inside if at(p) // DAY == time // DAY]
            out["count_today"], out["sum_today"] = len(today), math.fsum(today)
    out["amount_to_mean_7d"] = ratio(t.amount, out["mean_7d"])
    out["amount_to_mean_30d"] = ratio(t.amount, out["mean_30d"])
    out["amount_to_max_30d"] = ratio(t.amount, out["max_30d"])
    mean, deviation = decayed(past)
    out["decayed_mean"], out["decayed_std"] = mean, deviation
    out["amount_zscore"] = (t.amount - mean) / (deviation + 0.01 * abs(mean) + 0.01)
    usual, high = typical([p.amount for p in past])
    out["typical_amount"] = usual if past else NAN
    out["amount_to_typical"] = ratio(t.amount, usual) if past else NAN
    highs = [at(p) for p, is_high in zip(past, high, strict=True) if is_high]
    out["days_since_high_amount"] = (time - max(highs)) / DAY if highs else NAN
    now = max([time, *highs])
    out["high_amounts"] = math.fsum(2.0 ** ((h - now) / (7 * DAY)) for h in highs)
    out["seconds_since_last"] = (time - max(at(p) for p in past)) / 1000 if past else NAN
    out["account_age_days"] = (time - min(at(p) for p in past)) / DAY if past else NAN
    out["transactions_total"] = len(past)
    out["hour_share"] = hour_share([p.occurred_at // HOUR % 24 for p in past], hour)
    out["merchant_is_new"] = is_new([p.merchant_id for p in past], t.merchant_id, 16)
    out["category_is_new"] = is_new([p.merchant_category for p in past], t.merchant_category, 8)
    out["country_is_new"] = is_new([p.country for p in past], t.country, 8)
    out["device_is_new"] = is_new([p.device_id for p in past], t.device_id, 8)
    out["km_from_last"], out["speed_kmh"] = travel(past, t)
    verdicts = counted([e for e in account.feedback if isinstance(e, FeedbackReceived)])
    frauds = [e.occurred_at for e in verdicts if e.verdict == "fraud"]
    out["fraud_verdicts"] = len(frauds)
    out["days_since_fraud"] = (time - max(frauds)) / DAY if frauds else NAN
    out["legitimate_verdicts"] = sum(e.verdict == "legitimate" for e in verdicts)
    blocks = [
        isinstance(e, AccountBlocked) for e in account.feedback if isinstance(e, AccountBlocked | AccountUnblocked)
    ]
    out["account_blocked"] = float(blocks[-1]) if blocks else 0.0
    return out


LATEST_DAYS = {"chargeback": 540, "early_fraud_warning": 540, "representment": 720}


def counted(verdicts: list[FeedbackReceived]) -> list[FeedbackReceived]:
    """The verdicts that count: possible in time, and no repetition of their rater, in the order said."""
    kept: list[FeedbackReceived] = []
    heard: list[tuple[object, ...]] = []
    last: dict[tuple[str, ...], tuple[str, float]] = {}
    for e in sorted(verdicts, key=lambda e: e.occurred_at):
        paid = e.transaction_occurred_at
        late = LATEST_DAYS.get(e.source, 10**6) * DAY
        if paid and not paid - 300_000 <= e.occurred_at <= paid + late:
            continue
        rater = (e.transaction_id, e.source, e.actor if e.source == "analyst" else "")
        word = (e.verdict, e.confidence)
        if last.get(rater) != word and (rater, word, e.occurred_at) not in heard:
            kept.append(e)
            last[rater] = word
        heard.append((rater, word, e.occurred_at))
    return kept


@dataclass
class Sent:
    """What the accounts of a partition have sent, without hashes or bounds: see core/features/remembered.py."""

    clock: int = -(2**62)
    last: dict[str, list[tuple[Transaction, int]]] = field(default_factory=lambda: defaultdict(list))
    kept: list[tuple[int, Transaction]] = field(default_factory=list)

    def kind(self, payment: Transaction) -> str:
        """Whether the payment is new, a duplicate or a conflict. It is remembered unless it is a duplicate."""
        self.clock = now = max(self.clock, payment.occurred_at)
        own = self.last[payment.account_id]
        known = [p for p, _ in own] + [p for until, p in self.kept if until > now]
        if payment in known:
            return "duplicate"
        names = [(p.account_id, p.transaction_id) for p in known]
        if len(own) == 32:
            oldest, second = own.pop(0)
            if second * 1000 + DAY + 1000 > now:
                self.kept.append((now + DAY + 1000, oldest))
        own.append((payment, now // 1000))
        return "conflict" if (payment.account_id, payment.transaction_id) in names else "new"


def vectors(items: Iterable[object]) -> list[dict[str, float]]:
    """The oracle's vectors of a stream's transactions, without duplicates."""
    accounts: dict[str, Account] = defaultdict(Account)
    sent = Sent()
    out = []
    for item in items:
        if isinstance(item, Transaction):
            account = accounts[item.account_id]
            if sent.kind(item) == "duplicate":
                continue
            out.append(vector(account, item))
            account.past.append(item)
        else:
            accounts[item.account_id].feedback.append(item)  # type: ignore[attr-defined]
    return out
