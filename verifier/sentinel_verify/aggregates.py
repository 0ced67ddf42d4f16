"""A program's aggregates over one account's past: the earlier payments of the account, or of one of its entities, and
the verdicts on it. docs/language.md of Stream-Sentinel says what each computes; here it is in the order of its
additions, because the last bits depend on that.

A window of n buckets of width w is a ring: the bucket of epoch e = time // w stands at place e mod n, and a newer epoch
takes the place of an older one. Sums run over the buckets in order of their places.
"""

import math
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from . import numbers
from .errors import NotRecomputed, Refused
from .language import STANDARD, Expression
from .siphash import mixed, of_text
from .values import UNKNOWN, Row, Value, settled, value_of

ENTITIES_KEPT = 16
_WIDTHS = (1, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400)
"""Widths of buckets, seconds."""
LINEAR_COUNT = tuple(round(-64.0 * math.log(max(64 - bits, 1) / 64.0), 1) + 0.0 for bits in range(65))
"""Distinct values by the number of set bits of 64 (Whang, Vander-Zanden, Taylor 1990)."""

NEEDS_KEY = "distinct texts are counted by their hashes, and the key of the log's hashes is not in the proof"
BEFORE = "payments before the first one in the proof may count"


class Aggregates:
    """The state of some aggregates for one account. key: of the log's hashes, None if unknown. before: None if the
    events that follow are all there are; else the latest time (epoch ms) at which payments before them were received.
    """

    def __init__(
        self, aggregates: Iterable[Expression], types: dict[str, str], key: bytes | None, before: int | None
    ) -> None:
        self._all = [_Aggregate(each, key) for each in dict.fromkeys(aggregates)]
        self._types, self._before = types, before
        self._broken: dict[Any, str] = {}
        self._tables: dict[tuple[tuple[str, ...], bool], OrderedDict[Any, _Entity]] = {
            (each.entity, each.on_verdicts): OrderedDict() for each in self._all
        }

    def add(self, time: int, row: Row, on_verdicts: bool = False) -> None:
        """Count a payment, or a verdict, which was received at this time."""
        entities: dict[tuple[str, ...], _Entity] = {}
        for (names, verdicts), table in self._tables.items():
            if verdicts is on_verdicts and (key := self._key(names, row)) is not None:
                entities[names] = table.setdefault(key, _Entity())
                entities[names].events += 1
                table.move_to_end(key)
                if len(table) > ENTITIES_KEPT:
                    table.popitem(last=False)
        known: dict[Expression | None, Value] = {None: None}
        done = set()
        for each in self._all:
            if each.on_verdicts is not on_verdicts or each.entity not in entities:
                continue
            cells = entities[each.entity].cells
            for name, make, condition, value in each.cells:
                if (each.entity, name) in done or (each.entity, name) in self._broken:
                    continue
                done.add((each.entity, name))
                try:
                    for expression in (condition, value):
                        if expression not in known:
                            known[expression] = _known(expression, row)
                except NotRecomputed as error:
                    self._broken[each.entity, name] = str(error)
                    continue
                found = known[value]
                if (condition is None or known[condition] is True) and (
                    value is None or found is not None or each.function == "distinct"
                ):
                    if name not in cells:
                        cells[name] = make()
                    cells[name].add(time, found)

    def read(self, time: int, row: Row) -> tuple[dict[Expression, Value], dict[Expression, str]]:
        """Every aggregate before a payment that is received at this time, and why those that are unknown are."""
        found: dict[Expression, Value] = {}
        reasons: dict[Expression, str] = {}
        for each in self._all:
            before = None if each.on_verdicts else self._before
            broken = [
                self._broken[each.entity, cell[0]] for cell in each.cells if (each.entity, cell[0]) in self._broken
            ]
            value: Value
            if each.needs_key or broken:
                value, why = UNKNOWN, (broken or [NEEDS_KEY])[0]
            else:
                entity = self._tables[each.entity, each.on_verdicts].get(self._key(each.entity, row))
                own = None if each.function != "is_new" else value_of(each.value, row)
                value, why = each.read(entity, time, own, before), BEFORE
            found[each.expression] = value
            if value is UNKNOWN:
                reasons[each.expression] = why
        return found, reasons

    def _key(self, names: tuple[str, ...], row: Row) -> Any:
        """The key of the local entity, None if a field is missing; of the account, ()."""
        parts = []
        for name in names:
            of, form = STANDARD[name] if name in STANDARD else (self._types[name], "")
            part = row.leaf(("col", of, "field", name, form or ("raw" if of == "string" else "")))
            if part is None:
                return None
            parts.append(_same(part))
        return tuple(parts)


class _Entity:
    """An account or local entity. events: how many it has had, whether or not they counted."""

    def __init__(self) -> None:
        self.events = 0
        self.cells: dict[Any, Any] = {}


_Cell = tuple[Any, Callable[[], Any], Expression | None, Expression | None]


class _Aggregate:
    """One aggregate. cells: what it is read from: a name, which others may share, how it begins, and the condition and
    the value of what counts.
    """

    def __init__(self, expression: Expression, key: bytes | None) -> None:
        _, _, function, entity, window, size, on_verdicts, value, condition = expression
        self.expression, self.function, self.entity, self.size = expression, function, entity, size
        self.on_verdicts = on_verdicts
        self.value: Expression = settled(value) if value is not None else None  # type: ignore[assignment]
        condition = settled(condition) if condition is not None else None
        is_text = value is not None and value[1] == "string"
        self.needs_key = function == "distinct" and is_text and key is None
        make: Callable[[], Any]
        if function in _OF_WINDOW:
            self.width, self.number = width, number = buckets_of(window)
            make = lambda: Ring(width, number)  # noqa: E731
            if function == "distinct":
                make = lambda: Ring(width, number, lambda held: _bit(held, key))  # noqa: E731
            kind = "distinct" if function == "distinct" else "ring"
        else:
            kind = "last" if function == "since" else function
            make = {
                "last": _Latest, "first": _Earliest, "typical": _Typical,
                "decayed": lambda: _Decayed(window), "is_new": lambda: _Recent(size),
            }[kind]  # fmt: skip
        self.cells: list[_Cell] = [((kind, window, size, self.value, condition), make, condition, self.value)]
        if function == "share":
            self.cells.append((("ring", window, 0, None, None), make, None, None))

    def read(self, entity: _Entity | None, time: int, own: Value, before: int | None) -> Value:
        """Its value. own: the payment's own value, for `is_new`."""
        cells = [] if entity is None else [entity.cells.get(name) for name, *_ in self.cells]
        if self.function in _OF_WINDOW:
            if before is not None and before // self.width > time // self.width - self.number:
                return UNKNOWN
            rings = [[] if cell is None else cell.within(time) for cell in cells or [None, None]]
            if self.function == "share":
                whole = sum(bucket.count for bucket in rings[1])
                return sum(bucket.count for bucket in rings[0]) / whole if whole else None
            return _OF_WINDOW[self.function](rings[0])
        cell = cells[0] if cells else None
        if self.function == "is_new":
            return self._novelty(entity, cell, own, before)
        if before is not None and not (self.function in ("since", "last") and cell is not None and cell.time >= before):
            return UNKNOWN
        if cell is None:
            return None
        if self.function == "since":
            elapsed: float = max(time - cell.time, 0) / 1000.0
            return elapsed
        value: Value = cell.value
        return value

    def _novelty(self, entity: _Entity | None, cell: "_Recent | None", own: Value, before: int | None) -> Value:
        if own is None or (entity is None and before is None):
            return None
        held = [] if cell is None else cell.held
        if _same(own) in held:
            return False
        return UNKNOWN if before is not None and len(held) < self.size else True


def _known(expression: Expression | None, row: Row) -> Value:
    """The value of what counts. Raises NotRecomputed if it is unknown."""
    assert expression is not None
    if (found := value_of(expression, row)) is UNKNOWN:
        raise NotRecomputed("what counts depends on something that is not in the proof")
    return found


def buckets_of(window_ms: int) -> tuple[int, int]:
    """(width in ms, number) of a window's buckets: the widest that divides it into at least ten."""
    for width in reversed(_WIDTHS):
        if window_ms % (width * 1000) == 0 and window_ms // (width * 1000) >= 10:
            return width * 1000, window_ms // (width * 1000)
    raise Refused(f"the program has a window of {window_ms} ms, which can't be divided")


def _same(value: Value) -> Value:
    """Equal for equal values: NaN equals itself."""
    return "nan" if isinstance(value, float) and value != value else value


def _bit(value: Value, key: bytes | None) -> int:
    """The bit of 64 that a value sets: the first six bits of its hash."""
    if value is None or (isinstance(value, str) and key is None):
        return 0
    if isinstance(value, str) and key is not None:
        return 1 << (of_text(value, key) >> 58)
    word = int(value) if isinstance(value, bool) else 0x7FF8000000000000
    if isinstance(value, float) and value == value:
        word = int(struct.unpack("<Q", struct.pack("<d", value + 0.0))[0])
    return 1 << ((mixed((word + 0x9E3779B97F4A7C15) % 2**64) or 1) >> 58)


class Bucket:
    """What happened in one bucket. mean, squares: Welford's (1962) moments."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.count, self.bits = epoch, 0, 0
        self.total = self.least = self.largest = self.mean = self.squares = 0.0

    def add(self, value: Value) -> None:
        self.count += 1
        if isinstance(value, float):
            self.total += value
            if self.count == 1 or value != value or value < self.least:
                self.least = value
            if self.count == 1 or value != value or value > self.largest:
                self.largest = value
            delta = value - self.mean
            self.mean += delta / self.count
            self.squares += delta * (value - self.mean)


class Ring:
    """The buckets of one window. width: ms. bit: for distinct values, which bit a value sets."""

    def __init__(self, width: int, number: int, bit: Callable[[Value], int] | None = None) -> None:
        self._width, self._number, self._bit = width, number, bit
        self._held: dict[int, Bucket] = {}

    def add(self, time: int, value: Value) -> None:
        """Count an event in the bucket of its time."""
        epoch = time // self._width
        bucket = self._held.get(epoch % self._number)
        if bucket is None or bucket.epoch < epoch:
            bucket = self._held[epoch % self._number] = Bucket(epoch)
        elif bucket.epoch > epoch:
            return  # too late: a newer bucket has taken the place
        if self._bit is None:
            bucket.add(value)
        else:
            bucket.count += 1
            bucket.bits |= self._bit(value)

    def at(self, time: int) -> Bucket:
        """The bucket of a time; an empty one if it is not held."""
        epoch = time // self._width
        found = self._held.get(epoch % self._number)
        return found if found is not None and found.epoch == epoch else Bucket(epoch)

    def within(self, time: int) -> list[Bucket]:
        """The buckets of the window that ends now, in order of their places."""
        now = time // self._width
        held, oldest = self._held, now - self._number
        return [held[place] for place in sorted(held) if oldest < held[place].epoch <= now]


class _Latest:
    """The latest event, of equal times the last to arrive."""

    def __init__(self) -> None:
        self.time, self.value = -(2**63), None

    def add(self, time: int, value: Any) -> None:
        if time >= self.time:
            self.time, self.value = time, value


class _Earliest:
    """The earliest event, of equal times the first to arrive."""

    def __init__(self) -> None:
        self.time, self.value = 2**63, None

    def add(self, time: int, value: Any) -> None:
        if time < self.time:
            self.time, self.value = time, value


class _Decayed:
    """West's weighted mean (1979); a late event enters with its decayed weight."""

    def __init__(self, half_life: int) -> None:
        self._half_life, self._latest, self._weight = half_life, 0, 0.0
        self.value: float | None = None

    def add(self, time: int, value: float) -> None:
        if not math.isfinite(value):
            return
        weight, mean = 1.0, self.value or 0.0
        if self.value is None:
            self._latest = time
        elif time >= self._latest:
            self._weight *= numbers.exp2(-(time - self._latest) / self._half_life)
            self._latest = time
        else:
            weight = numbers.exp2(-(self._latest - time) / self._half_life)
        self._weight += weight
        self.value = mean + (value - mean) * (weight / self._weight) if self._weight > 0.0 else mean


class _Typical:
    """A running mean of the last 512 that cuts outliers once ten values are known (Huber 1964)."""

    def __init__(self) -> None:
        self.count = 0
        self.value: float | None = None

    def add(self, time: int, value: float) -> None:
        if not math.isfinite(value):
            return
        typical = self.value or 0.0
        if self.count >= 10:
            value = min(value, 2.0 * typical + 1.0)
        self.count += 1
        self.value = typical + (value - typical) / min(self.count, 512)


class _Recent:
    """The last different values, the most recent first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.held: list[Value] = []

    def add(self, time: int, value: Value) -> None:
        value = _same(value)
        self.held = [value, *(each for each in self.held if each != value)][: self._size]


def _count(buckets: list[Bucket]) -> float:
    return float(sum(bucket.count for bucket in buckets))


def _sum(buckets: list[Bucket]) -> float:
    total = 0.0
    for bucket in buckets:
        total += bucket.total
    return total


def _extreme(values: list[float], is_better: Callable[[float, float], bool]) -> float | None:
    found: float | None = None
    for value in values:
        if found is None or value != value or is_better(value, found):
            found = value
    return found


def _deviation(buckets: list[Bucket]) -> float | None:
    """Of the population: Chan's merge of the buckets' moments (1979)."""
    count, mean, squares = 0, 0.0, 0.0
    for bucket in buckets:
        if not count:
            count, mean, squares = bucket.count, bucket.mean, bucket.squares
            continue
        both = count + bucket.count
        delta = bucket.mean - mean
        mean += delta * (bucket.count / both)
        squares += bucket.squares + delta * delta * (count * (bucket.count / both))
        count = both
    if not count:
        return None
    return math.nan if squares != squares else math.sqrt(max(squares, 0.0) / count)


def _distinct(buckets: list[Bucket]) -> float:
    bits = 0
    for bucket in buckets:
        bits |= bucket.bits
    return LINEAR_COUNT[bin(bits).count("1")]


_OF_WINDOW: dict[str, Callable[[list[Bucket]], float | None]] = {
    "count": _count,
    "sum": _sum,
    "mean": lambda buckets: _sum(buckets) / _count(buckets) if buckets else None,
    "min": lambda buckets: _extreme([bucket.least for bucket in buckets], lambda x, y: x < y),
    "max": lambda buckets: _extreme([bucket.largest for bucket in buckets], lambda x, y: x > y),
    "std": _deviation,
    "distinct": _distinct,
    "share": lambda buckets: None,
}
"""The aggregates that have a window, from the buckets in it."""
