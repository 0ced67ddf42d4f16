"""What the events of every stream share: positions, the base struct, and the terms that several streams use."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

Decision = Literal["approve", "review", "decline"]
Severity = Literal["low", "medium", "high", "critical"]


class Position(NamedTuple):
    """A stream entry's ID: the source topic's generation and its Kafka offset + 1. `0-0` is before everything.

    A payment's transaction, score and alert have the same ID in their streams.
    """

    generation: int
    offset: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.offset}"

    @classmethod
    def parse(cls, text: str | bytes) -> Position:
        """`"1-533"` → Position(1, 533). Raises ValueError on anything else."""
        generation, _, offset = (text.decode() if isinstance(text, bytes) else text).partition("-")
        return cls(int(generation), int(offset))


START = Position(0, 0)


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of all log events."""


class ControlEvent(Event, frozen=True, kw_only=True):
    """Base of control events. `occurred_at` is when the actor acted. key: the ID of the key that signed the event;
    signature: in base64 (`core.signing`); "" for none.
    """

    occurred_at: int
    actor: str
    reason: str = ""
    causation_id: str = ""
    key: str = ""
    signature: str = ""
