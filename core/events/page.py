"""Generates docs/events.md; a test compares the two."""

from __future__ import annotations

import inspect
from typing import get_args

import msgspec

from core.events import (
    AccountEvent,
    AccountFact,
    AlertRaised,
    Control,
    ControlEvent,
    Event,
    Seal,
    Transaction,
    TransactionReceived,
    TransactionRejected,
    TransactionScored,
)

STREAMS: tuple[tuple[str, tuple[type[Event], ...]], ...] = (
    ("transactions", (TransactionReceived,)),
    ("scores", (TransactionScored,)),
    ("alerts", (AlertRaised,)),
    ("feedback", get_args(AccountEvent)),
    ("rejects", (TransactionRejected,)),
    ("seals", (Seal,)),
    ("control", get_args(Control)),
)
"""Every event, by stream."""


def markdown() -> str:
    """Every stream's events: tag, meaning, fields."""
    rows = [
        "# Events",
        "",
        "A log entry is one JSON object; `type` names its kind. Times are epoch milliseconds UTC. Fields in brackets",
        "may be absent; readers ignore unknown ones. Values and further details: `core/events/`.",
        "",
        "What a producer sends to the topic `transactions` has no `type`, and unknown fields are refused: "
        + _fields(Transaction).replace(", [`rate`], [`received_at`]", ""),
    ]
    for stream, events in STREAMS:
        rows += ["", f"## {stream}", ""]
        if stream == "control":
            rows += [f"Every one also has {_fields(ControlEvent)}.", ""]
        if stream == "feedback":
            rows += [f"Every one also has {_fields(AccountFact)} (docs/identity.md).", ""]
        rows += ["| type | meaning | fields |", "|---|---|---|"]
        for event in events:
            rows.append(f"| `{event.__struct_config__.tag}` | {_meaning(event)} | {_fields(event)} |")
    return "\n".join(rows) + "\n"


def _meaning(event: type[msgspec.Struct]) -> str:
    """The first sentence of an event's docstring."""
    words = " ".join(inspect.cleandoc(event.__dict__.get("__doc__") or "").split())
    return words.split(". ")[0].rstrip(".") + "."


def _fields(event: type[msgspec.Struct]) -> str:
    bases = (base for base in (ControlEvent, AccountFact) if issubclass(event, base) and event is not base)
    common = {name for base in bases for name in base.__struct_fields__}
    return ", ".join(
        f"`{field.encode_name}`" if field.required else f"[`{field.encode_name}`]"
        for field in msgspec.structs.fields(event)
        if field.name not in common
    )
