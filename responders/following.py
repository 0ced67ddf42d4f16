"""Keeps the outbox up to date with the log: reads seals, alerts and account events, and nothing else of a partition.

    behind ──advance──► at the head ──(the log grows)──► behind
       ▲                    │ the seal at our place is another one, or is gone (the server lost its tail)
       └──────start again───┘ a change of responses names another beginning

Only what a seal covers is folded. The fold begins where the earliest switched-on action begins, so its cost is that of
the alerts and account events since then: 1.5 µs each. Every responder follows all partitions, so that one that takes
over knows what to do at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from core.codec import decode_account_event, decode_seal
from core.control_stream import ControlStream
from core.errors import Corrupt, Incomplete
from core.events import START, Position, Seal
from core.log.base import Entry, EventLog
from core.log.paging import PAGE, entries, read
from core.log.seals import ID_PART_MAX
from core.responses import Switch
from responders.outbox import Part, Rules


class Place(NamedTuple):
    """How far a partition is folded: its seal, that seal's digest, and the positions that it covers."""

    sequence: int = 0
    digest: str = ""
    transactions: Position = START
    feedback: Position = START


@dataclass(slots=True)
class Followed:
    """A partition's outbox at a place."""

    part: Part
    place: Place


@dataclass(slots=True)
class Follower:
    """The outbox of a log. `step` raises Unavailable and Incomplete as reading does; it may then be called again."""

    log: EventLog
    partitions: Sequence[int]
    assumed: Mapping[str, Switch] | None = None
    """For a dry run: taken instead of the log's switches."""
    control: ControlStream = field(default_factory=ControlStream)
    rules: Rules = field(default_factory=lambda: Rules({}, ()))
    _followed: dict[int, Followed] = field(default_factory=dict)

    def step(self) -> int:
        """Follow the control stream and every partition to its end; returns how many batches were folded."""
        done, seen = 0, -1
        while True:
            self._follow_control()
            if not self.rules.switches:
                return done
            if self.control.position == seen:
                raise Incomplete(f"a seal names a control position after {seen}, where the control stream ends")
            is_ahead, seen = False, self.control.position
            for partition in self.partitions:
                folded, later = self._advance(partition)
                done, is_ahead = done + folded, is_ahead or later
            if not is_ahead:
                return done

    def _follow_control(self) -> None:
        self.control.advance(self.log)
        state = self.control.state
        rules = Rules(dict(state.responses) if self.assumed is None else self.assumed, state.histories)
        if _begins(rules) != _begins(self.rules):
            self._followed.clear()
        self.rules = rules

    def part(self, partition: int) -> Part:
        """A partition's outbox, which the caller must not change."""
        followed = self._followed.get(partition)
        return followed.part if followed is not None else Part(partition)

    def place(self, partition: int) -> Place:
        """How far a partition is folded."""
        followed = self._followed.get(partition)
        return followed.place if followed is not None else Place()

    def _advance(self, partition: int) -> tuple[int, bool]:
        """Fold what is new; returns how many batches, and whether others were decided under a later control position
        than the one that the rules are of.
        """
        done = 0
        while True:
            followed = self._followed.get(partition)
            if followed is None:
                followed = self._followed[partition] = Followed(Part(partition), self._beginning(partition))
            place = followed.place
            page = [(sequence, decode_seal(payload)) for sequence, payload in self._seals(partition, place)]
            if place.sequence and (not page or (page[0][0], page[0][1].digest) != (place.sequence, place.digest)):
                del self._followed[partition]
                if self._beginning(partition) == place:
                    return done, False  # the log's tail is lost up to here: wait for it
                continue
            fresh = page[1:] if place.sequence else page
            known = [(sequence, seal) for sequence, seal in fresh if seal.control <= self.control.position]
            if known:
                followed.place = _fold(self.log, followed, known, self.rules)
                done += len(known)
            if len(known) < len(fresh):
                return done, True
            if not fresh:
                return done, False

    def _seals(self, partition: int, place: Place) -> list[tuple[int, bytes]]:
        """Our seal, read again, and those after it."""
        if not place.sequence:
            return [(e.id.generation, e.payload) for e in read(self.log, partition, "seals", START, PAGE)]
        after = Position(place.sequence - 1, ID_PART_MAX)
        return [(e.id.generation, e.payload) for e in self.log.read(partition, "seals", after, PAGE)]

    def _beginning(self, partition: int) -> Place:
        sequence = min(switch.begin(partition) for switch in self.rules.switches.values())
        if not sequence:
            return Place()
        found = read(self.log, partition, "seals", Position(sequence - 1, ID_PART_MAX), 1)
        if not found or found[0].id.generation != sequence:
            return Place()  # the log lost its tail: it will have such a seal again
        seal = decode_seal(found[0].payload)
        return Place(sequence, seal.digest, Position.parse(seal.transactions), Position.parse(seal.feedback))


def _begins(rules: Rules) -> dict[str, tuple[int, ...]]:
    return {action: switch.begins for action, switch in rules.switches.items()}


def _fold(log: EventLog, followed: Followed, seals: Sequence[tuple[int, Seal]], rules: Rules) -> Place:
    """Fold the batches of consecutive seals; returns the place after them."""
    part, place = followed.part, followed.place
    end = seals[-1][1]
    last = Position.parse(end.transactions), Position.parse(end.feedback)
    alerts = entries(log, part.partition, "alerts", place.transactions, last[0])
    events = entries(log, part.partition, "feedback", place.feedback, last[1])
    for sequence, seal in seals:
        _, n_alerts, n_events, _ = seal.counts
        for _ in range(n_events):
            part.event(decode_account_event(_next(part.partition, sequence, events).payload), seal.recorded_at)
        for _ in range(n_alerts):
            alert = _next(part.partition, sequence, alerts)
            part.alert(sequence, seal.recorded_at, alert.id, alert.payload, rules)
    return Place(seals[-1][0], end.digest, *last)


def _next(partition: int, sequence: int, of: Iterator[Entry]) -> Entry:
    found = next(of, None)
    if found is None:
        raise Corrupt(f"partition {partition}: the log holds fewer entries than seal {sequence} counts")
    return found
