"""The definition of a projection: a name, a version, a state, and a table of handlers. A projection is a fold (I5).

A projection keeps one state per source (a partition of the log, or the control stream) and never looks at another
source. The state of a source at a place is therefore determined by that source's prefix alone, in whatever order
sources are read, and a set of places determines the whole view. Answers that span sources are assembled on request
(`projections.engine.states`).

Handlers change the state they are given and nothing else: no clock, no I/O, no randomness, no dependence on dict order.
They never write to the log, so folding again has no side effects.
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
    """How far a source is folded: all batches up to seal (or control event) `sequence`, then `inside` facts of the next
    batch.

    A batch's facts are in the order in which they were decided (`projections.engine.feed`).
    """

    sequence: int
    inside: int = 0


NOWHERE = Place(0, 0)


def source_name(source: int) -> str:
    """`"p07"`, or `"c"` for the control stream."""
    return "c" if source == CONTROL else f"p{source:02d}"


def place_name(source: int, place: Place) -> str:
    """A place in the syntax of `--as-of`: `"p07:s12"`, `"p07:s12+3"`, `"c5"`."""
    if source == CONTROL:
        return f"c{place.sequence}"
    return f"{source_name(source)}:s{place.sequence}" + (f"+{place.inside}" if place.inside else "")


class DecidedTransaction(NamedTuple):
    """One decision: the transaction, its score and its alert, which the log keeps in three streams."""

    transaction: TransactionReceived
    score: TransactionScored
    alert: AlertRaised | None


class Fact(NamedTuple):
    """An event with its place and time in the log.

    source: partition or CONTROL. id: its ID in its stream. recorded_at: epoch ms; that of its seal, or a control
    event's `occurred_at`. event: a DecidedTransaction, an account event, a TransactionRejected, a Seal or a control
    event. refused: why a control event has no effect, "" for all other facts.
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

    decisions: one row per decision, in order, with the requested columns; strings are dictionary-encoded. alerts:
    (row, alert) of the decisions that raised one. events: (row, fact) of account events, in order; a fact precedes the
    decision of its row, or follows the last one. end: the place after the batches; mark: see SealedBatch.
    """

    decisions: pa.Table
    alerts: list[tuple[int, AlertRaised]]
    events: list[tuple[int, Fact]]
    end: Place
    mark: str


class Columns(Protocol):
    """A columnar fold in progress. The state it was begun with changes only in `finish`."""

    def take(self, batch: ColumnarBatch) -> None:
        """Fold the next batch."""

    def finish(self) -> None:
        """Update the state to exactly what the handlers would have made of the same facts."""


class ByColumns(NamedTuple, Generic[S]):
    """How a projection folds the archive by columns: the columns it needs, and a function that begins the fold."""

    columns: tuple[str, ...]
    begin: Callable[[S, Mapping[type, Handler[S]]], Columns]


_CONTROL_TYPES: tuple[type, ...] = get_args(Control)
_ACCOUNT_TYPES: tuple[type, ...] = (DecidedTransaction, *get_args(AccountEvent))


@dataclass(frozen=True)
class Projection(Generic[S]):
    """A read model. handlers: by event type; events without a handler and refused events are ignored.

    refusal: the handler of refused control events of any type, for a read model that shows them.
    comparable: the part of the state that `digest` covers when two versions are compared; the whole state by default.
    columnar: the same fold by columns, for the archive; only for handlers of decisions and account events.
    holds: a description of its contents, for docs/queries.md.
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
        """16 hex digits over the state's schema and the handled types; a checkpoint with another spec is ignored.

        Docstrings, which the schema repeats, are left out: rewording one must not cost a rebuild.
        """
        schema = msgspec.json.encode(_undocumented(msgspec.json.schema(self.state_type)), order="deterministic")
        handled = ",".join(sorted(f"{kind.__name__}>{handler.__name__}" for kind, handler in self.handlers.items()))
        return hashlib.sha256(schema + handled.encode()).hexdigest()[:16]

    @property
    def reads_control(self) -> bool:
        """Whether some handler takes control events."""
        return any(kind in _CONTROL_TYPES for kind in self.handlers)

    @property
    def reads_partitions(self) -> bool:
        """Whether some handler takes events of partitions."""
        return any(kind not in _CONTROL_TYPES for kind in self.handlers)

    @property
    def is_by_account(self) -> bool:
        """Whether all handlers take events of one account only, so that an account's part can be folded alone."""
        return all(kind in _ACCOUNT_TYPES for kind in self.handlers)

    def sources(self, partitions: Iterable[int]) -> list[int]:
        """The sources it folds in a log with these partitions."""
        return [*(partitions if self.reads_partitions else ()), *((CONTROL,) if self.reads_control else ())]

    def initial(self) -> S:
        """The state before any fact."""
        return self.state_type()

    def apply(self, state: S, fact: Fact) -> None:
        """Fold one fact into `state`."""
        handler = self.refusal if fact.refused else self.handlers.get(type(fact.event))
        if handler is not None:
            handler(state, fact)

    def encode(self, state: S) -> bytes:
        """The state as bytes for a checkpoint; dicts keep their order."""
        return msgspec.msgpack.encode(state)

    def decode(self, content: bytes) -> S:
        """The inverse of `encode`. Raises msgspec.MsgspecError."""
        return msgspec.msgpack.decode(content, type=self.state_type)

    def digest(self, state: S) -> str:
        """SHA-256 (hex) of the state in canonical form: equal states have equal digests, whatever their history."""
        plain = msgspec.to_builtins(self.comparable(state), str_keys=True, order="deterministic")
        return hashlib.sha256(msgspec.msgpack.encode(plain)).hexdigest()


def _undocumented(schema: Any) -> Any:
    """A JSON schema without the descriptions of its structs."""
    if isinstance(schema, list):
        return [_undocumented(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    is_struct = schema.get("type") in ("object", "array")
    return {name: _undocumented(each) for name, each in schema.items() if not (is_struct and name == "description")}


def fold(projection: Projection[S], facts: Iterable[Fact], state: S | None = None) -> S:
    """Fold facts of one source into `state` (or a new one) and return it."""
    state = projection.initial() if state is None else state
    for fact in facts:
        projection.apply(state, fact)
    return state
