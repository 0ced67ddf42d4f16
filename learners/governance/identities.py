"""Acts on the roster: add, change, revoke, rotate, require; each one conditional append to the control stream.

    enrol     put somebody on the roster; the first one is an administrator who adds themselves     IdentityAdded
    change    give them other roles, or another user of the API                                     IdentityChanged
    add key   a further key, one's own or another's                                                 IdentityKeyAdded
    revoke    a key, or the whole identity, for ever                             IdentityKeyRevoked, IdentityRevoked
    require   from here on, only what is signed by somebody who may has an effect                   IdentityRequired

Under four eyes what gives power is only proposed (`learners.governance.proposals`). An act that already has its result
appends nothing. Raises BadInput and ConcurrencyError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.events import (
    Control,
    FeedbackRule,
    IdentityAdded,
    IdentityChanged,
    IdentityKeyAdded,
    IdentityKeyRevoked,
    IdentityRequired,
    IdentityRevoked,
)
from core.log.base import EventLog
from core.roster import Identity, Roster
from core.signing import key_id, public_bytes
from learners.governance.control_events import Act
from learners.governance.proposals import append


@dataclass(frozen=True, slots=True)
class RosterAct:
    """The result: the control position after it. changed: False if it was so already, or waits; proposals: IDs of what
    waits.
    """

    position: int
    changed: bool
    proposals: list[str]


def enrol(
    log: EventLog, act: Act, name: str, roles: Sequence[str], public_key: str = "", subject: str = ""
) -> RosterAct:
    """Put an identity on the roster."""

    def events(roster: Roster) -> list[Control]:
        known = roster.find(name)
        if known is not None and _is_so(known, roles, public_key, subject):
            return []
        return [IdentityAdded(**act.fields, name=name, roles=tuple(roles), public_key=public_key, subject=subject)]

    return _append(log, events)


def _is_so(known: Identity, roles: Sequence[str], public_key: str, subject: str) -> bool:
    keys = (key_id(public_bytes(public_key)),) if public_key else ()
    return not known.revoked and (known.roles, known.subject, known.keys) == (tuple(roles), subject, keys)


def change(
    log: EventLog, act: Act, name: str, roles: Sequence[str] | None = None, subject: str | None = None
) -> RosterAct:
    """Give an identity other roles or another user of the API; what is None stays."""

    def events(roster: Roster) -> list[Control]:
        known = find(roster, name)
        wanted = tuple(roles) if roles is not None else known.roles
        user = known.subject if subject is None else subject
        if (wanted, user) == (known.roles, known.subject):
            return []
        return [IdentityChanged(**act.fields, name=known.name, roles=wanted, subject=user)]

    return _append(log, events)


def add_key(log: EventLog, act: Act, name: str, public_key: str) -> RosterAct:
    """Give an identity a further key."""

    def events(roster: Roster) -> list[Control]:
        known = find(roster, name)
        if key_id(public_bytes(public_key)) in known.keys:
            return []
        return [IdentityKeyAdded(**act.fields, name=known.name, public_key=public_key)]

    return _append(log, events)


def revoke(log: EventLog, act: Act, name: str, key: str = "") -> RosterAct:
    """Revoke an identity, or one key of it by its ID."""

    def events(roster: Roster) -> list[Control]:
        known = find(roster, name)
        if known.revoked:
            return []
        if not key:
            return [IdentityRevoked(**act.fields, name=known.name)]
        if key not in known.keys and roster.owner(key) == known:
            return []
        return [IdentityKeyRevoked(**act.fields, name=known.name, key_id=key)]

    return _append(log, events)


def require(log: EventLog, act: Act, required: bool, feedback: FeedbackRule = "") -> RosterAct:
    """Require identity from here on, or stop requiring it. feedback: what feedback needs to be accepted."""

    def events(roster: Roster) -> list[Control]:
        if (roster.required, roster.feedback) == (required, feedback):
            return []
        return [IdentityRequired(**act.fields, required=required, feedback=feedback)]

    return _append(log, events)


def find(roster: Roster, name: str) -> Identity:
    """The identity that has this name, or this user of the API. Raises BadInput if nobody has."""
    found = roster.find(name)
    if found is None:
        raise roster.unknown(name)
    return found


def _append(log: EventLog, events: Callable[[Roster], list[Control]]) -> RosterAct:
    done = append(log, lambda known: events(known.state.governance.roster))
    return RosterAct(done.position, bool(done.events), done.proposals)
