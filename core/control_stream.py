"""The control stream: the only way to append to it, and the only reading of which of its events take effect.

    read to the end → decide → check → append ─► appended
         ▲                        └─► BadInput: an event may not follow; none is appended
         └── another writer was first, at most ATTEMPTS_MAX times ─► ConcurrencyError

If the log has a signer, events are signed, again at each attempt: a signature is valid at one place (`core.signing`).

An append succeeds only at the position up to which the stream was read, so what was checked still holds (optimistic
concurrency). Any number of people and services may write at once, and a crash between two steps leaves nothing half
done.

A blob that an event names is stored before it (`Blobs`), so no crash leaves an event without it; and once more after
it, because a log server may lose its last second, and the blob with it, between the two.

An event that may not follow the events before it must have bypassed this module. It stays in the log, its entry's
`refused` says why it was refused, and it never takes effect for any reader. Besides this module only the log's own,
which treat events as bytes, call `EventLog.append_control` and `EventLog.read_control`.

Cost: about 10 µs per event read, and 0.1 ms for a signed one that this process has not verified before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from core.changes import content, event_of
from core.codec import decode_control
from core.control import ControlState, check
from core.errors import BadInput, ConcurrencyError, Conflict, Corrupt, Unavailable
from core.events import ChangeProposed, Control, ListChanged
from core.governance import Governance
from core.hiding import Hiding, masked
from core.identity import LogIdentity, required
from core.log.base import EventLog
from core.signing import encoded, intended
from core.tokens import KeyedTokens, is_token

ATTEMPTS_MAX = 20


class ControlEntry(NamedTuple):
    """A control event at its position, with its bytes. refused: why it has no effect; "" if it takes effect."""

    position: int
    event: Control
    payload: bytes
    refused: str = ""


class Known(NamedTuple):
    """The basis for a decision: the fold, and the entries that it was folded from, oldest first. Read-only."""

    state: ControlState
    entries: Sequence[ControlEntry]


class Appended(NamedTuple):
    """The control position after an append, and the events; no events if there was nothing to append."""

    position: int
    events: list[Control]


Decide = Callable[[Known], Sequence[Control]]
"""What to append: a pure function of what is known, called once per attempt."""


@dataclass(frozen=True, slots=True)
class Blobs:
    """What is stored for the events of one append."""

    log: EventLog
    contents: list[bytes] = field(default_factory=list)

    def put(self, content: bytes) -> str:
        """Store a blob, and once more after the append. Returns its SHA-256 (hex)."""
        self.contents.append(content)
        return self.log.put_blob(content)


@dataclass(slots=True)
class ControlStream:
    """The stream, followed up to `position`. Holds the fold, not the events, except those that a read which broke off
    had already folded: the next read returns them.
    """

    state: ControlState = field(default_factory=ControlState)
    _last: bytes = b""
    _unreturned: list[ControlEntry] = field(default_factory=list)

    @property
    def position(self) -> int:
        """The position of the last event read; 0 before the first."""
        return self.state.position

    @property
    def digest(self) -> str:
        """The digest of all events read (`core.log.seals.control_digest`)."""
        return self.state.digest

    def advance(self, log: EventLog, until: int | None = None) -> list[ControlEntry]:
        """Read and fold new events up to position `until`. The entries include refused events.

        Raises Conflict if the log no longer holds the last event read, Corrupt if an event is missing or does not
        decode. Events read before an error are folded, and returned by the next call.
        """
        self._fold_until(log, until)
        found, self._unreturned = self._unreturned, []
        return found

    def _fold_until(self, log: EventLog, until: int | None) -> None:
        while page := self._page(log):
            for position, payload in page:
                if until is not None and position > until:
                    return
                if position != self.position + 1:
                    raise Corrupt(f"control event {self.position + 1} is missing: {position} comes next")
                self._unreturned.append(self._take(decode_control(payload), payload))

    def _page(self, log: EventLog) -> list[tuple[int, bytes]]:
        """The events after the last known one, which is read again to check that it is unchanged."""
        if self.position == 0:
            return log.read_control()
        page = log.read_control(self.position - 1)
        if not page or page[0][0] != self.position:
            # A score that named this position could never be replayed.
            raise Conflict(f"the control stream has lost event {self.position}, which was read before: restart")
        if page[0][1] != self._last:
            raise Conflict(f"control event {self.position} differs from the one read before: restart")
        return page[1:]

    def _take(self, event: Control, payload: bytes) -> ControlEntry:
        position = self.position + 1
        self.state.apply(position, event, payload)
        self._last = payload
        return ControlEntry(position, event, payload, self.state.refused.get(position, ""))


def history(log: EventLog, until: int | None = None) -> list[ControlEntry]:
    """Every entry up to position `until`, including refused ones."""
    return ControlStream().advance(log, until)


def accepted(log: EventLog, until: int | None = None) -> list[tuple[int, Control]]:
    """(position, event) of every event that takes effect, up to position `until`."""
    return effective(history(log, until))


def effective(entries: Iterable[ControlEntry]) -> list[tuple[int, Control]]:
    """(position, event) of the entries that take effect."""
    return [(entry.position, entry.event) for entry in entries if not entry.refused]


def fold(entries: Iterable[ControlEntry]) -> ControlState:
    """The state after the stream's entries, from its beginning."""
    state = ControlState()
    for entry in entries:
        state.apply(entry.position, entry.event, entry.payload)
    return state


def current(log: EventLog, until: int | None = None) -> ControlState:
    """The fold at the stream's end, or at position `until`."""
    stream = ControlStream()
    stream.advance(log, until)
    return stream.state


def identity_of(log: EventLog) -> LogIdentity:
    """The log's identity. Raises BadInput if it has none (`core.identity`)."""
    return required(current(log).identity)


def first_identity(log: EventLog) -> LogIdentity | None:
    """The log's identity; None if it has none yet. Reads the stream's beginning, where it stands, and no further."""
    until = 16
    while True:
        known = current(log, until)
        if known.identity is not None or known.position < until:
            return known.identity
        until *= 16


def page(log: EventLog, known: ControlState, after: int, count: int) -> list[ControlEntry]:
    """Up to `count` entries after a position, oldest first, as far as `known` has folded the stream."""
    return [
        ControlEntry(position, decode_control(payload), payload, known.refused.get(position, ""))
        for position, payload in log.read_control(after, count)
        if position <= known.position
    ]


def payload_at(log: EventLog, position: int) -> bytes | None:
    """The bytes of the event at a position, unchecked; None if the log does not hold it."""
    found = log.read_control(position - 1, 1)
    return found[0][1] if found and found[0][0] == position else None


def append(log: EventLog, decide: Decide, stream: ControlStream | None = None, blobs: Blobs | None = None) -> Appended:
    """Append the events that `decide` returns for the stream's current end.

    stream: one that is being followed; it is advanced, and `decide` gets the entries read since. Without it the stream
    is read from the beginning. blobs: what the events name, stored by the caller or by `decide`.

    Raises what `decide` raises; BadInput if an event may not follow or would not decode again; ConcurrencyError if
    other writers were first ATTEMPTS_MAX times in a row (nothing was appended); Unavailable if the log server does not
    answer and it is unknown whether the events were appended.
    """
    appended = _append(log, decide, ControlStream() if stream is None else stream)
    if blobs is not None and appended.events:
        for content in blobs.contents:
            log.put_blob(content)
    return appended


def _append(log: EventLog, decide: Decide, stream: ControlStream) -> Appended:
    entries: list[ControlEntry] = []
    lost: list[bytes] = []  # sent, but no reply came: they may be at the next positions
    for _ in range(ATTEMPTS_MAX):
        read = stream.advance(log)
        entries += read
        if lost and [entry.payload for entry in read[: len(lost)]] == lost:
            return Appended(read[len(lost) - 1].position, [entry.event for entry in read[: len(lost)]])
        if read:
            lost = []  # others took these positions
        bare = [without_card_data(event, stream.state.identity) for event in decide(Known(stream.state, entries))]
        events = intended(bare, log.signer)
        if not events:
            return Appended(stream.position, [])
        check_sequence(events, stream.state.governance)
        payloads = encoded(events, log.signer, stream.state.next_place)
        if log.signer is not None:
            events = [decode_control(payload) for payload in payloads]
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
    raise ConcurrencyError(f"other writers were first on the control stream {ATTEMPTS_MAX} times in a row: try again")


def check_may_append(log: EventLog, event: Control) -> None:
    """Raise BadInput if `append` would refuse the event now: before an act that can't be undone."""
    stream = ControlStream()
    stream.advance(log)
    check_sequence(intended([event], log.signer), stream.state.governance)


def without_card_data(event: Control, identity: LogIdentity | None) -> Control:
    """The event without card numbers in its reason, and with tokens for those that it lists, or proposes to list."""
    reason = masked(event.reason)
    if reason is not event.reason:
        event = replace(event, reason=reason)
    if isinstance(event, ChangeProposed):
        return replace(event, change=content(without_card_data(event_of(event.change), identity)))
    if isinstance(event, ListChanged) and identity is not None:
        if identity.tokens and event.kind in ("account", "card", "device", "ip"):
            if raw := [value for value in event.add if not is_token(value)]:
                raise BadInput(f"this log holds tokens: {len(raw)} raw values can't stand on a list of this kind")
            return event
        event = Hiding(KeyedTokens.of(identity.key, identity.partitioner, identity.partitions)).list_change(event)
    return event


def check_sequence(events: Sequence[Control], known: Governance) -> None:
    """Raise BadInput unless each of the events may follow what is `known` and the events before it."""
    trial = known.copy()
    for event in events:
        check(event, trial)
        trial.apply(event)
