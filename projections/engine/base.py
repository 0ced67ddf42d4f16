"""What a projection is: a name, a version, a state, and handlers as one literal table. A projection is a fold (I5).

A projection keeps one state for each source (a partition of the log, or the control stream) and never looks across:
the state of a source at a place is then determined by that source's prefix alone, whatever the order in which sources
were read, and a set of places determines the whole view. What spans sources is put together when it is asked for
(`projections.engine.states`).

Handlers change the state that they are given and nothing else: no clock, no I/O, no randomness, no dependence on a
dict's order. They never write to the log, so folding again has no side effect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, get_args

import msgspec
import pyarrow as pa

from core.control_stream import ControlEntry
from core.events import AccountEvent, AlertRaised, Control, Position, TransactionReceived, TransactionScored

S = TypeVar("S", bound=msgspec.Struct)

CONTROL = -1
"""The control stream as a source; other sources are partition numbers."""


class Place(NamedTuple):
    """How far a source is folded: seals (or control events) in whole, then `inside` facts of the next batch.

    A batch's facts stand in the order in which they were decided (`projections.engine.feed`).
    """

    sequence: int
    inside: int = 0


NOWHERE = Place(0, 0)


def source_name(source: int) -> str:
    """`"p07"`, or `"c"` for the control stream."""
    return "c" if source == CONTROL else f"p{source:02d}"


def place_name(source: int, place: Place) -> str:
    """A place as `--as-of` takes it: `"p07:s12"`, `"p07:s12+3"`, `"c5"`."""
    if source == CONTROL:
        return f"c{place.sequence}"
    return f"{source_name(source)}:s{place.sequence}" + (f"+{place.inside}" if place.inside else "")


class Decided(NamedTuple):
    """One decision: the transaction, its score and its alert, which the log holds in three streams."""

    transaction: TransactionReceived
    score: TransactionScored
    alert: AlertRaised | None


class Fact(NamedTuple):
    """An event with where and when it entered the log.

    source: partition or CONTROL. id: its ID in its stream. recorded_at: epoch ms; its seal's, a control event's
    `occurred_at`. event: a Decided, an account event, a TransactionRejected, a Seal or a control event. refused: why a
    control event has no effect, "" for every other fact.
    """

    source: int
    id: Position
    recorded_at: int
    event: Any
    refused: str = ""


def control_fact(entry: ControlEntry) -> Fact:
    """An entry of the control stream as a fact."""
    return Fact(CONTROL, Position(entry.position, 1), entry.event.occurred_at, entry.event, entry.refused)


Handler = Callable[[S, Fact], None]


class ColumnarBatch(NamedTuple):
    """Whole batches of a partition as columns (`projections.engine.columnar`).

    decisions: a row a decision, in order, with the columns that were asked for; strings are dictionary-encoded.
    alerts: (row, alert) of the decisions that raised one. events: (row, fact) of account events, in order; a fact
    stands before the decision of its row, or after the last one. end, mark: see View.
    """

    decisions: pa.Table
    alerts: list[tuple[int, AlertRaised]]
    events: list[tuple[int, Fact]]
    end: Place
    mark: str


class Columns(Protocol):
    """A fold by columns under way. The state that it was begun with changes in `finish` and not before."""

    def take(self, batch: ColumnarBatch) -> None:
        """Fold the batch that follows."""

    def finish(self) -> None:
        """Bring the state to exactly what the handlers would have made of all the facts taken."""


class ByColumns(NamedTuple, Generic[S]):
    """How a projection folds the archive by columns: which it needs, and a fold begun with a state."""

    columns: tuple[str, ...]
    begin: Callable[[S, Mapping[type, Handler[S]]], Columns]


_CONTROL_TYPES: tuple[type, ...] = get_args(Control)
_ACCOUNT_TYPES: tuple[type, ...] = (Decided, *get_args(AccountEvent))


@dataclass(frozen=True)
class Projection(Generic[S]):
    """A read model. `handlers` by event type; what has no handler is left out, and so is every refused event.

    refusal: the handler of refused control events of any type, for a read model that shows them.
    comparable: what two versions are compared by in `digest`; the whole state unless a version changes its form.
    columnar: the same fold by columns, for the archive; only for handlers of decisions and account events.
    holds: what a person finds in it, for docs/queries.md.
    """

    name: str
    version: int
    state_type: type[S]
    handlers: Mapping[type, Handler[S]]
    holds: str = ""
    comparable: Callable[[S], Any] = lambda state: state
    columnar: ByColumns[S] | None = None
    refusal: Handler[S] | None = None

    @property
    def label(self) -> str:
        """`"cases-1"`."""
        return f"{self.name}-{self.version}"

    @cached_property
    def spec(self) -> str:
        """16 hex digits over the state's schema and the handled types: a checkpoint of another form is refused."""
        schema = msgspec.json.encode(msgspec.json.schema(self.state_type), order="deterministic")
        handled = ",".join(sorted(f"{kind.__name__}>{handler.__name__}" for kind, handler in self.handlers.items()))
        return hashlib.sha256(schema + handled.encode()).hexdigest()[:16]

    @property
    def reads_control(self) -> bool:
        """Some handler takes control events."""
        return any(kind in _CONTROL_TYPES for kind in self.handlers)

    @property
    def reads_partitions(self) -> bool:
        """Some handler takes what partitions hold."""
        return any(kind not in _CONTROL_TYPES for kind in self.handlers)

    @property
    def is_by_account(self) -> bool:
        """Every handler takes events of one account: the fold over that account's facts alone gives its part."""
        return all(kind in _ACCOUNT_TYPES for kind in self.handlers)

    def sources(self, partitions: Iterable[int]) -> list[int]:
        """The sources it folds, of a log with these partitions."""
        return [*(partitions if self.reads_partitions else ()), *((CONTROL,) if self.reads_control else ())]

    def initial(self) -> S:
        """The state before everything."""
        return self.state_type()

    def apply(self, state: S, fact: Fact) -> None:
        """Fold one fact into `state`."""
        handler = self.refusal if fact.refused else self.handlers.get(type(fact.event))
        if handler is not None:
            handler(state, fact)

    def encode(self, state: S) -> bytes:
        """The state's bytes for a checkpoint; dicts keep their order."""
        return msgspec.msgpack.encode(state)

    def decode(self, content: bytes) -> S:
        """The inverse of `encode`. Raises msgspec.MsgspecError."""
        return msgspec.msgpack.decode(content, type=self.state_type)

    def digest(self, state: S) -> str:
        """SHA-256 (hex) of the state in canonical form: equal states give equal digests whatever their history."""
        plain = msgspec.to_builtins(self.comparable(state), str_keys=True, order="deterministic")
        return hashlib.sha256(msgspec.msgpack.encode(plain)).hexdigest()


def fold(projection: Projection[S], facts: Iterable[Fact], state: S | None = None) -> S:
    """Fold facts of one source into `state` (or a new one), which is returned."""
    state = projection.initial() if state is None else state
    for fact in facts:
        projection.apply(state, fact)
    return state
