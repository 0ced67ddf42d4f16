"""Changes that wait for a second person: one mechanism for every kind that has no proposals of its own. A part of
`core.governance`. Pure.

    ChangeProposed     somebody proposes a change: the event's content, without what concerns its author
    the change itself  by somebody else, with the proposal as its cause and exactly this content: it takes effect, and
                       the proposal is closed
    ChangeWithdrawn    by anybody who may propose, while it is open

A proposal to set something (thresholds, rules, rates, a switch) is closed when something else of its kind takes effect:
it was made for what was in force before, and would undo the change in between without anybody's noticing.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec.structs import replace

from core import authority, codec, events
from core.errors import UNDECODABLE, BadInput, Corrupt
from core.events import ChangeProposed, ChangeWithdrawn, Control, ControlEvent

OPEN_MAX = 100
_AUTHORS = ("occurred_at", "actor", "reason", "causation_id", "key", "signature")
SETTINGS: tuple[type[ControlEvent], ...] = (
    events.ThresholdsChanged,
    events.RulesChanged,
    events.RatesChanged,
    events.GovernanceChanged,
    events.IdentityRequired,
)
"""Kinds that set something as a whole."""


class Change(msgspec.Struct, frozen=True):
    """An open proposal. kind: the event's type; about: what it is about, the ID of an experiment, else ""; digest:
    SHA-256 of its content.
    """

    actor: str
    kind: str
    about: str
    digest: str


def content(event: Control) -> dict[str, Any]:
    """What a proposal holds of an event: its type and its own fields, as JSON has them."""
    bare = replace(event, reason="", causation_id="", key="", signature="")
    found: dict[str, Any] = msgspec.json.decode(codec.encode(bare))
    return {name: value for name, value in found.items() if name not in _AUTHORS}


def event_of(change: dict[str, Any], **author: Any) -> Control:
    """The event with this content. author: `occurred_at` and `actor`, and what else its base has. Raises BadInput if it
    is none that a proposal can hold.
    """
    given = {"occurred_at": 0, "actor": "", **author}
    try:
        found = codec.decode_control(msgspec.json.encode({**change, **given}))
    except (Corrupt, UnicodeError, *UNDECODABLE) as error:
        raise BadInput(f"a proposed change is not a control event: {error}") from None
    if any(name in change for name in _AUTHORS):
        raise BadInput("a proposed change names no author of its own")
    return found


def digest(event: Control) -> str:
    """SHA-256 of an event's content."""
    bare = replace(event, occurred_at=0, actor="", reason="", causation_id="", key="", signature="")
    return hashlib.sha256(codec.encode(bare)).hexdigest()


def kind_of(event: Control) -> str:
    """The event's type, as the log has it."""
    return str(type(event).__struct_config__.tag)


def proposed(event: ChangeProposed) -> Change:
    """A proposal, checked. Raises BadInput if what it proposes can't be proposed."""
    change = event_of(event.change)
    if authority.kind_of(change).second not in ("always", "loosening"):
        raise BadInput(f"{kind_of(change)} can't be proposed: no second person approves it")
    return Change(event.actor, kind_of(change), str(getattr(change, "experiment_id", "")), digest(change))


def check(event: ChangeProposed | ChangeWithdrawn, open_: dict[str, Change]) -> None:
    """Raise BadInput if the event may not follow."""
    if isinstance(event, ChangeWithdrawn):
        if event.proposal_id not in open_:
            raise BadInput(f"no proposal {event.proposal_id!r} of a change is open")
        return
    if not event.proposal_id or event.proposal_id in open_:
        raise BadInput(f"proposal ID {event.proposal_id!r} is already open, or empty")
    if len(open_) >= OPEN_MAX:
        raise BadInput(f"{OPEN_MAX} proposals of changes are open already")
    proposed(event)


def apply(event: Control, open_: dict[str, Change]) -> None:
    """Fold an event that passed `check`, and was accepted."""
    match event:
        case ChangeProposed():
            open_[event.proposal_id] = proposed(event)
        case ChangeWithdrawn():
            del open_[event.proposal_id]
        case events.IdentityRequired(required=True):
            open_.clear()
        case _ if open_:
            kind = kind_of(event)
            if event.causation_id in open_ and open_[event.causation_id].digest == digest(event):
                del open_[event.causation_id]
            if isinstance(event, SETTINGS):
                for key in [key for key, each in open_.items() if each.kind == kind]:
                    del open_[key]
        case _:
            pass
