"""Time travel: resolves `--as-of` to exact places in every source of the log. Reads only.

    2026-03-01, 2026-03-01T12:00:00Z, 1772366400000   a moment T of log time: what the log held at T. A partition is
        read up to its last batch whose seal was recorded by T. The control stream has no log time: it is read up to
        the first event with `occurred_at` after T, but at least as far as any seal recorded by T had seen. A backdated
        event appended after a later one is therefore not included.
    p07:1-533   when transaction 1-533 of partition 7 was decided: that partition right after it (with the feedback
        that its score saw), the control stream at the position its score names, other partitions as of the moment
        its batch was recorded.
    c12         while control position 12 was the newest that decisions knew: every partition up to its last batch
        that saw no later one.
    p07:s12, p07:s12+3   after a batch, or that many facts into the next one.
    t1772366400000   together with positions: the moment at which clocks in the answer (a case's SLA) are read.

Several of these, separated by commas, are exact for the sources they name; the first determines the other sources.
Every answer prints its places in this form; asked again with them, a question gets the same answer forever.

Seal times come from the workers' clocks. A batch that claims to be later than the partition's last one was recorded
under a wrong clock; it counts as recorded when the next one was that is not. If a clock was set back within a
partition, bisection finds one of the boundaries that match T.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from core.codec import decode_seal
from core.errors import BadInput
from core.events import Position, Seal
from core.log.base import EventLog
from core.log.paging import pages
from core.times import parse_iso
from projections.engine.base import CONTROL, NOWHERE, DecidedTransaction, Place, place_name
from projections.engine.feed import Bound, batches, bound_at, seal_at

_ITEM = re.compile(r"p(\d{1,9}):(?:(\d{1,18}-\d{1,18})|s(\d{1,18})(?:\+(\d{1,18}))?)|c(\d{1,18})")
_MOMENT = re.compile(r"t(\d{1,15})")


@dataclass(frozen=True, slots=True)
class Cut:
    """A place in every source, and the moment (epoch ms) at which clocks in answers are read; None is the present."""

    partitions: dict[int, Bound]
    control: int
    moment: int | None

    def place(self, source: int) -> Place:
        """The place in a source."""
        return Place(self.control) if source == CONTROL else self.partitions[source].place

    def __str__(self) -> str:
        named = [place_name(p, bound.place) for p, bound in sorted(self.partitions.items())]
        moment = [] if self.moment is None else [f"t{self.moment}"]
        return ",".join([*named, place_name(CONTROL, Place(self.control)), *moment])


def parse_time(text: str) -> int | None:
    """Epoch ms of a date, an ISO 8601 time (UTC unless it says otherwise) or a number of milliseconds; else None."""
    if re.fullmatch(r"\d{11,14}", text):
        return int(text)
    try:
        return parse_iso(text)
    except ValueError:
        return None


def resolve(log: EventLog, partitions: Sequence[int], text: str | None = None) -> Cut:
    """The places that `text` names; None is now. Raises BadInput if it is invalid or beyond the log's end."""
    if not text:
        heads = {p: log.head(p) for p in partitions}
        bounds = {p: Bound(Place(h.sequence), h.transactions, h.feedback) for p, h in heads.items()}
        return Cut(bounds, log.control_head(), None)
    moment = parse_time(text)
    if moment is not None:
        return _at_time(log, partitions, moment)
    named: dict[int, Place] = {}
    others: list[Callable[[], Cut]] = []
    at: int | None = None
    for item in text.split(","):
        if stamp := _MOMENT.fullmatch(item.strip()):
            at = int(stamp[1])
            continue
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            raise BadInput(f"--as-of {text!r} is not a time (2026-03-01T12:00Z) or a position (p07:1-533, c12)")
        source, place, rest = _item(log, partitions, match)
        named[source] = place
        others.append(rest)
    if all(source in named for source in (*partitions, CONTROL)):
        found = _named(log, partitions, named)
        return found if at is None else replace(found, moment=at)
    if not others:
        raise BadInput(f"--as-of {text!r} names no position")
    found = others[0]()
    bounds = {p: bound_at(log, p, named[p]) if p in named else found.partitions[p] for p in partitions}
    return Cut(
        bounds, named[CONTROL].sequence if CONTROL in named else found.control, found.moment if at is None else at
    )


def _named(log: EventLog, partitions: Sequence[int], named: dict[int, Place]) -> Cut:
    bounds = {p: bound_at(log, p, named[p]) for p in partitions}
    newest = max((bound.recorded_at for bound in bounds.values()), default=0)
    return Cut(bounds, named[CONTROL].sequence, newest)


def _item(log: EventLog, partitions: Sequence[int], match: re.Match[str]) -> tuple[int, Place, Callable[[], Cut]]:
    """(source, its exact place, a function that finds the places of the other sources)."""
    partition, position, sequence, index, control = match.groups()
    if control is not None:
        place = Place(int(control))
        if place.sequence > log.control_head():
            raise BadInput(f"the control stream ends at c{log.control_head()}, before c{control}")
        return CONTROL, place, lambda: _at_control(log, partitions, place.sequence)
    p = int(partition)
    if p not in partitions:
        raise BadInput(f"partition {p} does not exist; the log has 0 … {max(partitions, default=-1)}")
    head = log.head(p)
    if position is not None:
        wanted = Position.parse(position)
        if wanted > head.transactions:
            raise BadInput(f"partition {p} ends at {head.transactions}, before {wanted}")
        place, seen = _at_transaction(log, p, head.sequence, wanted)
    else:
        place, seen = Place(int(sequence), int(index or 0)), None
        if place > Place(head.sequence):
            raise BadInput(f"partition {p} ends at s{head.sequence}, before {place_name(p, place)}")
    recorded = place.sequence + (1 if place.inside else 0)
    seal = seal_at(log, p, recorded) if recorded else None

    def others() -> Cut:
        moment = seal.recorded_at if seal else 0
        rest = _at_time(log, partitions, moment)
        known = seen if seen is not None else seal.control if seal else 0
        return Cut({**rest.partitions, p: bound_at(log, p, place)}, known, moment)

    return p, place, others


def _at_transaction(log: EventLog, p: int, end: int, wanted: Position) -> tuple[Place, int | None]:
    """The place right after the last transaction ≤ `wanted`, and the control position that its score names."""
    before = _bisect(log, p, end, lambda seal: Position.parse(seal.transactions) < wanted)
    for batch in batches(log, p, before, min(before + 1, end)):
        index, seen = 0, None
        for number, fact in enumerate(batch.facts, 1):
            if isinstance(fact.event, DecidedTransaction) and fact.id <= wanted:
                index, seen = number, fact.event.score.control_position
        return (Place(batch.sequence) if index == len(batch.facts) else Place(before, index)), seen
    return NOWHERE, None


def _at_time(log: EventLog, partitions: Sequence[int], moment: int) -> Cut:
    bounds, floor = {}, 0
    for p in partitions:
        sequence = _recorded_by(log, p, moment)
        bounds[p] = bound_at(log, p, Place(sequence))
        if sequence:
            floor = max(floor, seal_at(log, p, sequence).control)
    control = floor
    for batch in batches(log, CONTROL, floor, log.control_head()):
        if batch.recorded_at > moment:
            break
        control = batch.sequence
    return Cut(bounds, control, moment)


def _recorded_by(log: EventLog, p: int, moment: int) -> int:
    """The last sequence of the partition that was recorded by the moment."""
    end = log.head(p).sequence
    if not end:
        return 0
    newest = seal_at(log, p, end).recorded_at

    def holds(sequence: int) -> bool:
        following = pages(log, p, "seals", Position(sequence, 0), Position(end, 1), count=20)
        times = (decode_seal(entry.payload).recorded_at for page in following for entry in page)
        return next(time for time in times if time <= newest) <= moment

    return _bisect_sequences(end, holds)


def _at_control(log: EventLog, partitions: Sequence[int], sequence: int) -> Cut:
    bounds, newest = {}, 0
    for p in partitions:
        last = _bisect(log, p, log.head(p).sequence, lambda seal: seal.control <= sequence)
        bounds[p] = bound_at(log, p, Place(last))
        newest = max(newest, bounds[p].recorded_at)
    return Cut(bounds, sequence, newest)


def _bisect(log: EventLog, p: int, end: int, holds: Callable[[Seal], bool]) -> int:
    """The last sequence in 0 … end whose seal satisfies `holds`, which must be monotone: once false, always false."""
    return _bisect_sequences(end, lambda sequence: holds(seal_at(log, p, sequence)))


def _bisect_sequences(end: int, holds: Callable[[int], bool]) -> int:
    low, high = 0, end
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
