"""Changes that wait for a second person: what one person may not do alone becomes a proposal, which another approves.

    append          what one person may do alone, and proposals of the rest; every act on what decides passes here
    approve         carry out another person's proposal: the change itself, with the proposal as its cause
    withdraw        take back an open one

Models and programs have proposals of their own (`learners.governance.models`, `programs`). Raises BadInput and
ConcurrencyError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from core import changes, control, control_stream
from core.control_stream import ControlEntry, ControlStream, Known
from core.errors import BadInput
from core.events import ChangeProposed, ChangeWithdrawn, Control, ExperimentStarted
from core.governance import SHADOW, Governance
from core.log.base import EventLog
from learners.governance import control_events
from learners.governance.control_events import Act
from projections.views.registry import registry_of


@dataclass(frozen=True, slots=True)
class OpenChange:
    """An open proposal of a change. kind: the event's type; about: an experiment's ID, or "". change: its fields."""

    proposal_id: str
    kind: str
    about: str
    position: int
    occurred_at: int
    actor: str
    reason: str
    change: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChangeAct:
    """The result of an act on a proposal: the control position after it, and the kind of change."""

    position: int
    outcome: str
    proposal_id: str
    kind: str


class Appended(NamedTuple):
    """The control position after an append, and what took effect. proposals: IDs of what waits for a second person,
    proposed now or before.
    """

    position: int
    events: list[Control]
    proposals: list[str]


def append(
    log: EventLog, decide: Callable[[Known], Sequence[Control]], stream: ControlStream | None = None
) -> Appended:
    """Append the events that `decide` returns, or proposals in place of those that need a second person. Raises as
    `core.control_stream.append`.
    """
    wanted: list[Control] = []
    seen: list[Governance] = []

    def instead(known: Known) -> list[Control]:
        wanted[:] = decide(known)
        seen[:] = [known.state.governance]  # advanced by the append
        return or_proposed(wanted, known.state.governance, known.state.position)

    appended = control_stream.append(log, instead, stream)
    waiting = [name for event in wanted if (name := _open(event, seen[0]))]
    happened: list[Control] = [event for event in appended.events if not isinstance(event, ChangeProposed)]
    return Appended(appended.position, happened, waiting)


def or_proposed(events: Sequence[Control], known: Governance, position: int) -> list[Control]:
    """The events, or in place of those that need a second person, proposals of them; nothing for what is proposed
    already. What follows an event that waits, waits with it (`approve`). position: of the control stream, after which
    they are appended. Raises BadInput for what could not take effect now even if it were approved.
    """
    found: list[Control] = []
    waits = False
    for event in events:
        if not known.needs_second(event):
            found += [] if waits else [event]
            continue
        waits = True
        control.check(event)
        known.check_content(event)
        if not _open(event, known):
            found.append(_proposal(event, position + len(found) + 1))
    return found


def _proposal(event: Control, position: int) -> ChangeProposed:
    return ChangeProposed(
        occurred_at=event.occurred_at,
        actor=event.actor,
        reason=event.reason,
        causation_id=event.causation_id,
        proposal_id=f"{changes.kind_of(event).partition('.')[0]}:{position}",
        change=changes.content(event),
    )


def _open(event: Control, known: Governance) -> str:
    """The ID of the open proposal of the same, by whomever: of an experiment by its ID, of anything else by its
    content; "" for none.
    """
    if not known.needs_second(event):
        return ""
    kind, about, digest = changes.kind_of(event), getattr(event, "experiment_id", ""), changes.digest(event)
    for name, each in known.changes.items():
        if each.kind == kind and (each.about == about if about else each.digest == digest):
            return name
    return ""


def open_changes(entries: Sequence[ControlEntry]) -> list[OpenChange]:
    """The open proposals of the control stream's entries, oldest first."""
    known = control_stream.fold(entries).governance.changes
    found: dict[str, OpenChange] = {}
    for position, event in control_stream.effective(entries):
        if isinstance(event, ChangeProposed) and event.proposal_id in known:
            each = known[event.proposal_id]
            said = (position, event.occurred_at, event.actor, event.reason)
            found[event.proposal_id] = OpenChange(event.proposal_id, each.kind, each.about, *said, event.change)
    return sorted(found.values(), key=lambda each: each.position)


def _find(entries: Sequence[ControlEntry], proposal_id: str) -> OpenChange:
    found = open_changes(entries)
    for each in found:
        if each.proposal_id == proposal_id:
            return each
    known = ", ".join(each.proposal_id for each in found) or "none"
    raise BadInput(f"no proposal {proposal_id!r} of a change is open (open: {known})")


def approve(log: EventLog, proposal_id: str, act: Act) -> ChangeAct:
    """Carry out another person's proposal."""
    seen: list[OpenChange] = []

    def decide(known: Known) -> list[Control]:
        seen.append(_find(known.entries, proposal_id))
        author = {**act.fields, "causation_id": proposal_id}
        event = changes.event_of(seen[-1].change, **author)
        return [event, *_shadow_of(event, known, Act(act.actor, act.reason, act.now_ms, proposal_id))]

    appended = control_stream.append(log, decide)
    return ChangeAct(appended.position, "approved", proposal_id, seen[-1].kind)


def _shadow_of(event: Control, known: Known, act: Act) -> list[Control]:
    """A shadow that becomes an arm is withdrawn, as `control_events.start` does."""
    if not isinstance(event, ExperimentStarted):
        return []
    registry = registry_of(known.entries)
    if registry.aliases.get(SHADOW) in [f"{arm.model}-{arm.version}" for arm in event.arms]:
        return control_events.withdrawal(registry, SHADOW, act)
    return []


def withdraw(log: EventLog, proposal_id: str, act: Act) -> ChangeAct:
    """Take back an open proposal, one's own or another's."""
    seen: list[OpenChange] = []

    def decide(known: Known) -> list[Control]:
        seen.append(_find(known.entries, proposal_id))
        return [ChangeWithdrawn(**act.fields, proposal_id=proposal_id)]

    appended = control_stream.append(log, decide)
    return ChangeAct(appended.position, "withdrawn", proposal_id, seen[-1].kind)
