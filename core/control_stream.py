"""The control stream: the one way to append to it, and the one reading of what in it counts.

    read to the end → decide → check → append ─► appended
         ▲                        └─► BadInput: one event may not follow, none is appended
         └── somebody wrote first, at most ATTEMPTS_MAX times ─► ConcurrencyError

An append lands only where the stream was read, so what was checked still holds then (optimistic concurrency). Any
number of people and services may write at once, and a crash between two steps leaves nothing half done.

An event that may not follow what came before it was appended past this module. It stays in the log, is named in its
entry's `refused`, and has no effect for any reader, for ever. Nobody else calls `EventLog.append_control` or
`EventLog.read_control`, but for the log's own modules, which treat the events as bytes.

Cost: some 3 µs an event read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from core.codec import decode_control, encode_control
from core.control import ControlState, check
from core.errors import ConcurrencyError, Conflict, Corrupt, Unavailable
from core.events import Control
from core.governance import Governance
from core.log.base import EventLog

ATTEMPTS_MAX = 20


class ControlEntry(NamedTuple):
    """A control event at its position, with its bytes. refused: why it has no effect, "" if it has one."""

    position: int
    event: Control
    payload: bytes
    refused: str = ""


class Known(NamedTuple):
    """What a decision is made from: the fold, and the entries that it was folded from, oldest first. Read only."""

    state: ControlState
    entries: Sequence[ControlEntry]


class Appended(NamedTuple):
    """The control position after an append, and the events; without events nothing had to be appended."""

    position: int
    events: list[Control]


Decide = Callable[[Known], Sequence[Control]]
"""What to append; a pure function of what is known, called once for every attempt."""


@dataclass(slots=True)
class ControlStream:
    """The stream followed up to `position`. It keeps the fold, not the events."""

    state: ControlState = field(default_factory=ControlState)
    _last: bytes = b""

    @property
    def position(self) -> int:
        """The position of the last event read; 0 before the first."""
        return self.state.position

    def advance(self, log: EventLog, until: int | None = None) -> list[ControlEntry]:
        """Read what is new, up to position `until`, and fold it. Refused events are among the entries.

        Raises Conflict if the log no longer holds the last event that was read, Corrupt if one is missing or does not
        decode. What was read before that is folded.
        """
        found: list[ControlEntry] = []
        while page := self._page(log):
            for position, payload in page:
                if until is not None and position > until:
                    return found
                if position != self.position + 1:
                    raise Corrupt(f"control event {self.position + 1} is missing: {position} comes next")
                found.append(self._take(decode_control(payload), payload))
        return found

    def _page(self, log: EventLog) -> list[tuple[int, bytes]]:
        """The next events, read together with the last one known."""
        if self.position == 0:
            return log.read_control()
        page = log.read_control(self.position - 1)
        if not page or page[0][0] != self.position:
            # A score that named this position could never be replayed.
            raise Conflict(f"the control stream has lost event {self.position}, which was read before: start again")
        if page[0][1] != self._last:
            raise Conflict(f"control event {self.position} is another one than was read before: start again")
        return page[1:]

    def _take(self, event: Control, payload: bytes) -> ControlEntry:
        position = self.position + 1
        self.state.apply(position, event)
        self._last = payload
        return ControlEntry(position, event, payload, self.state.refused.get(position, ""))


def history(log: EventLog, until: int | None = None) -> list[ControlEntry]:
    """Every entry up to position `until`, refused ones too."""
    return ControlStream().advance(log, until)


def accepted(log: EventLog, until: int | None = None) -> list[tuple[int, Control]]:
    """(position, event) of every event that has an effect, up to position `until`."""
    return effective(history(log, until))


def effective(entries: Iterable[ControlEntry]) -> list[tuple[int, Control]]:
    """(position, event) of the entries that have an effect."""
    return [(entry.position, entry.event) for entry in entries if not entry.refused]


def fold(entries: Iterable[ControlEntry]) -> ControlState:
    """The state after the stream's entries, from its beginning."""
    state = ControlState()
    for entry in entries:
        state.apply(entry.position, entry.event)
    return state


def current(log: EventLog, until: int | None = None) -> ControlState:
    """The fold at the stream's end, or at position `until`."""
    stream = ControlStream()
    stream.advance(log, until)
    return stream.state


def payload_at(log: EventLog, position: int) -> bytes | None:
    """The bytes of the event at a position, unjudged; None if the log does not hold it."""
    found = log.read_control(position - 1, 1)
    return found[0][1] if found and found[0][0] == position else None


def append(log: EventLog, decide: Decide, stream: ControlStream | None = None) -> Appended:
    """Append what `decide` makes of the stream's end.

    stream: one that was followed so far; it is advanced, and `decide` then knows the entries read since. Without one
    the stream is read from its beginning.

    Raises what `decide` raises; BadInput if an event may not follow or would not decode again, ConcurrencyError if
    others wrote first ATTEMPTS_MAX times in a row (nothing was appended then); Unavailable if the log server does not
    answer and whether the events were appended is not known.
    """
    stream = ControlStream() if stream is None else stream
    entries: list[ControlEntry] = []
    lost: list[bytes] = []  # sent, but the reply did not come: they may stand at the next positions
    for _ in range(ATTEMPTS_MAX):
        read = stream.advance(log)
        entries += read
        if lost and [entry.payload for entry in read[: len(lost)]] == lost:
            return Appended(read[len(lost) - 1].position, [entry.event for entry in read[: len(lost)]])
        if read:
            lost = []  # others took these positions
        events = list(decide(Known(stream.state, entries)))
        if not events:
            return Appended(stream.position, [])
        check_sequence(events, stream.state.governance)
        payloads = [encode_control(event) for event in events]
        try:
            log.append_control(payloads, stream.position)
        except ConcurrencyError:
            continue
        except Unavailable:
            if lost:
                raise
            lost = payloads
            continue
        for event, payload in zip(events, payloads, strict=True):
            stream._take(event, payload)
        return Appended(stream.position, events)
    raise ConcurrencyError(f"others wrote to the control stream first, {ATTEMPTS_MAX} times in a row")


def check_sequence(events: Sequence[Control], known: Governance) -> None:
    """Raise BadInput unless every one of the events may follow what is `known` and those before it."""
    trial = known.copy()
    for event in events:
        check(event, trial)
        trial.apply(event)
