"""A slow, obvious oracle of a program's aggregates, written from their definitions and not from the compiled code.

It keeps every event and computes each aggregate anew, event by event. Numbers are floats, strings their 64-bit hashes,
conditions bools, and None is what is missing. Only 2^x is shared with the project, as its last bit is part of the
definition.
"""

from __future__ import annotations

import math
import struct
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.numeric import exp2
from core.program.typed import Aggregate, Column, Expression
from core.program.windows import buckets

Value = float | int | bool | None
Values = Mapping[Expression, Value]

ENTITIES_KEPT = 16
MASK = 2**64 - 1


@dataclass
class History:
    """What happened to one entity, in order of arrival: (receive time, values)."""

    events: list[tuple[int, Values]] = field(default_factory=list)


@dataclass
class SlowAggregates:
    """All aggregates of one account's payments and verdicts, any number of accounts."""

    aggregates: list[Aggregate]
    histories: dict[object, OrderedDict[object, History]] = field(default_factory=lambda: defaultdict(OrderedDict))

    def read(self, account: int, time: int, own: Values) -> list[Value]:
        """Every aggregate before a payment with these values."""
        return [self._value(a, account, time, own) for a in self.aggregates]

    def add(self, account: int, time: int, values: Values, *, verdict: bool = False) -> None:
        """Fold a payment or a verdict."""
        for entity in {a.entity for a in self.aggregates if a.on_verdicts == verdict}:
            if (key := entity_key(entity, values)) is None:
                continue
            known = self.histories[(account, entity, verdict)]
            known.setdefault(key, History()).events.append((time, values))
            known.move_to_end(key)
            if len(known) > ENTITIES_KEPT:
                known.popitem(last=False)

    def _value(self, a: Aggregate, account: int, time: int, own: Values) -> Value:
        key = entity_key(a.entity, own)
        known = self.histories[(account, a.entity, a.on_verdicts)]
        events = known[key].events if key in known else []
        counted = [(at, None if a.value is None else v[a.value]) for at, v in events if counts(a, v)]
        if a.function == "share":
            every = in_window(a.window_ms, [(at, None) for at, _ in events], time)
            mine = in_window(a.window_ms, counted, time)
            whole = sum(len(bucket) for bucket in every)
            return sum(len(bucket) for bucket in mine) / whole if whole else None
        if a.function == "distinct":  # an event without the value takes its place all the same
            every = in_window(a.window_ms, [(at, v[a.value]) for at, v in events if passes(a, v)], time)
            return distinct(a, every)
        if a.function in WINDOWED:
            return WINDOWED[a.function](a, in_window(a.window_ms, counted, time))
        if a.function == "is_new":
            return is_new(a, events, counted, own)
        if not counted:
            return None
        match a.function:
            case "since":
                return max(time - max(at for at, _ in counted), 0) / 1000.0
            case "first":
                return min(counted, key=lambda each: each[0])[1]
            case "last":
                return max(reversed(counted), key=lambda each: each[0])[1]
            case "decayed":
                return decayed([each for each in counted if math.isfinite(each[1])], a.window_ms)  # type: ignore[arg-type]
            case _:
                return typical([v for _, v in counted if math.isfinite(v)])  # type: ignore[arg-type, misc]


def entity_key(entity: tuple[str, ...], values: Values) -> object:
    """The key of the local entity, None if a field is missing."""
    fields = {e.name: v for e, v in values.items() if isinstance(e, Column) and e.source == "field"}
    key = tuple(fields.get(name) for name in entity)
    return None if None in key else tuple(same(part) for part in key)


def same(value: Value) -> object:
    """Equal for equal values: NaN equals itself."""
    return "nan" if value != value else value


def counts(a: Aggregate, values: Values) -> bool:
    """Whether the event counts: its condition is true, and its value is there."""
    return passes(a, values) and (a.value is None or values[a.value] is not None)


def passes(a: Aggregate, values: Values) -> bool:
    """Whether the condition is true."""
    return a.condition is None or values[a.condition] is True


def in_window(window_ms: int, counted: list[tuple[int, Value]], time: int) -> list[list[Value]]:
    """The values of each bucket of the window, in order of the buckets' places: those of its n epochs whose place was
    not taken by a newer one.
    """
    width, n = buckets(window_ms)
    held: dict[int, int] = {}
    for at, _ in counted:
        held[at // width % n] = max(held.get(at // width % n, at // width), at // width)
    now = time // width
    return [
        [value for at, value in counted if at // width == held[place]]
        for place in sorted(held)
        if now - n < held[place] <= now
    ]


def total(values: list[list[float]]) -> float:
    """Buckets' sums, added up."""
    result = 0.0
    for bucket in values:
        part = 0.0
        for value in bucket:
            part += value
        result += part
    return result


def deviation(values: list[list[float]]) -> float:
    """Population standard deviation: Welford's update in a bucket, Chan's merge of buckets."""
    count, mean, squares = 0, 0.0, 0.0
    for bucket in values:
        n, m, s = 0, 0.0, 0.0
        for value in bucket:
            n += 1
            delta = value - m
            m += delta / n
            s += delta * (value - m)
        if count == 0:
            count, mean, squares = n, m, s
            continue
        both = count + n
        delta = m - mean
        mean += delta * (n / both)
        squares += s + delta * delta * (count * (n / both))
        count = both
    return math.nan if squares != squares else math.sqrt(max(squares, 0.0) / count)


def extreme(values: list[list[float]], function: str) -> float:
    """NaN if any is NaN, else the first of the largest or smallest."""
    flat = [value for bucket in values for value in bucket]
    if any(v != v for v in flat):
        return math.nan
    return max(flat) if function == "max" else min(flat)


def distinct(a: Aggregate, values: list[list[Value]]) -> float:
    """Linear counting on 64 bits; a full sketch counts as if one bit were free."""
    bits = {key_of(value, a.value) >> 58 for bucket in values for value in bucket if value is not None}
    return abs(round(-64.0 * math.log(max(64 - len(bits), 1) / 64.0), 1))


def key_of(value: Value, expression: Expression | None) -> int:
    """A string's hash; for a number or bool, SplitMix64 of its bits, where −0 is 0 and there is one NaN."""
    assert expression is not None
    if expression.type == "string":
        return int(value) or 1  # type: ignore[arg-type]
    word = int(value) if expression.type == "bool" else float_word(value)  # type: ignore[arg-type]
    x = (word + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return (x ^ x >> 31) or 1


def float_word(value: float) -> int:
    """The bits of a number, where −0 is 0 and there is one NaN."""
    if value != value:
        return 0x7FF8000000000000
    return int.from_bytes(struct.pack("<d", value if value else 0.0), "little")


def is_new(
    a: Aggregate, events: list[tuple[int, Values]], counted: list[tuple[int, Value]], own: Values
) -> float | None:
    """Whether the payment's value is not among the last n distinct ones."""
    assert a.value is not None
    if not events or own[a.value] is None:
        return None
    last = list(dict.fromkeys(key_of(value, a.value) for _, value in reversed(counted)))[: a.size]
    return 0.0 if key_of(own[a.value], a.value) in last else 1.0


def decayed(counted: list[tuple[int, float]], half_life: int) -> float | None:
    """West's weighted mean."""
    weight, mean, latest = 0.0, 0.0, 0
    for number, (at, value) in enumerate(counted):
        added = 1.0
        if number == 0:
            latest = at
        elif at >= latest:
            weight *= exp2(-(at - latest) / half_life)
            latest = at
        else:
            added = exp2(-(latest - at) / half_life)
        weight += added
        mean += (value - mean) * (added / weight)
    return mean if counted else None


def typical(values: list[float]) -> float | None:
    """A running mean of the last 512 that cuts outliers once ten values are known."""
    result = 0.0
    for n, value in enumerate(values, 1):
        used = min(value, 2.0 * result + 1.0) if n > 10 else value
        result = result + (used - result) / min(n, 512)
    return result if values else None


WINDOWED = {
    "count": lambda a, values: float(sum(map(len, values))),
    "sum": lambda a, values: total(values),
    "mean": lambda a, values: total(values) / sum(map(len, values)) if values else None,
    "min": lambda a, values: extreme(values, "min") if values else None,
    "max": lambda a, values: extreme(values, "max") if values else None,
    "std": lambda a, values: deviation(values) if values else None,
}
