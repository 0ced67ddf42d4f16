"""What people and responders do with cases, as handlers of the case queue's fold.

CaseOpened     opens a case by hand. If its alert is already in a case, the new ID becomes an alias of that case.
CaseAssigned   assigns an unresolved case, or releases it ("")
CaseRouted     puts it into a queue
CaseResolved   resolves the case with an outcome; a later one corrects the outcome
CaseReopened   undoes that: the case is assigned as before
CaseSnoozed    an unresolved case need not be looked at before then
CaseNoted, CaseLinked, CaseChecked    a note, a link, a second person's look at a resolved case

An event that names a revision has an effect only if the case still has it. So of two people who act on the same case at
once, the one whose event comes first in the log wins; the other's act is kept in `refused`, with the reason. Unknown
case IDs are ignored.
"""

from __future__ import annotations

from core.events import (
    CaseAct,
    CaseAssigned,
    CaseChecked,
    CaseEvent,
    CaseLinked,
    CaseNoted,
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseRouted,
    CaseSnoozed,
    Verdict,
)
from core.times import minute_text
from projections.engine.base import Fact
from projections.views.case_records import (
    REFUSED_MAX,
    SLA_MS,
    Case,
    CaseChange,
    CaseCheck,
    CaseNote,
    Cases,
    RefusedAct,
    Work,
    find,
)


def opened(state: Cases, fact: Fact) -> None:
    event: CaseOpened = fact.event
    cases = state.of(event.account_id)
    if find(cases, event.case_id) is not None:
        return
    holder = next((c for c in cases if event.alert_id and any(a.alert_id == event.alert_id for a in c.alerts)), None)
    if holder is not None:
        holder.names.append(event.case_id)
        return
    case = Case(event.case_id, event.account_id, fact.recorded_at, event.actor, queue=event.queue)
    if event.severity is not None:
        case.severity, case.due_at = event.severity, fact.recorded_at + SLA_MS[event.severity]
    if event.note:
        case.notes.append(CaseNote(event.actor, event.occurred_at, event.note))
    case.history.append(CaseChange("opened", event.actor, event.occurred_at, case.revision, "", event.act_id))
    cases.append(case)


def assigned(state: Cases, fact: Fact) -> None:
    event: CaseAssigned = fact.event
    case = _admitted(state, event, is_resolved=False)
    if case is not None:
        case.stage, case.assignee = ("assigned" if event.assignee else "open"), event.assignee
        case.assigned_at = event.occurred_at
        _changed(case, event, "assigned" if event.assignee else "released", event.assignee)


def routed(state: Cases, fact: Fact) -> None:
    event: CaseRouted = fact.event
    case = _admitted(state, event)
    if case is not None and case.queue != event.queue:
        case.queue = event.queue
        _changed(case, event, "routed", event.queue, is_seen=False)


def resolved(state: Cases, fact: Fact) -> None:
    event: CaseResolved = fact.event
    case = _admitted(state, event)
    if case is not None:
        resolve(case, event.verdict, event.actor, event.occurred_at, fact.recorded_at)
        case.note = event.note
        _changed(case, event, "resolved", event.verdict)


def resolve(case: Case, outcome: Verdict, actor: str, occurred_at: int, recorded_at: int) -> None:
    """Close the case. The first resolution stops its clock."""
    if case.stage != "resolved":
        case.resolved_at, case.resolved_recorded_at = occurred_at, recorded_at
    case.stage, case.outcome, case.resolved_by, case.contradicted = "resolved", outcome, actor, False
    case.snoozed_until = 0


def reopened(state: Cases, fact: Fact) -> None:
    event: CaseReopened = fact.event
    case = _admitted(state, event, is_resolved=True)
    if case is not None:
        case.stage, case.outcome, case.contradicted = ("assigned" if case.assignee else "open"), None, False
        case.resolved_at, case.resolved_recorded_at, case.resolved_by, case.note = 0, 0, "", ""
        if event.note:
            case.notes.append(CaseNote(event.actor, event.occurred_at, event.note))
        _changed(case, event, "reopened")


def snoozed(state: Cases, fact: Fact) -> None:
    event: CaseSnoozed = fact.event
    case = _admitted(state, event, is_resolved=False)
    if case is not None:
        case.snoozed_until = event.until
        _changed(case, event, "snoozed" if event.until else "woken", minute_text(event.until) if event.until else "")


def noted(state: Cases, fact: Fact) -> None:
    event: CaseNoted = fact.event
    case = find(state.of(event.account_id), event.case_id)
    if case is not None:
        case.notes.append(CaseNote(event.actor, event.occurred_at, event.note, event.mentions))
        _changed(case, event, "noted", is_seen=False)


def linked(state: Cases, fact: Fact) -> None:
    event: CaseLinked = fact.event
    case = find(state.of(event.account_id), event.case_id)
    if case is not None and (event.other_case_id in case.links) != event.linked:
        (case.links.append if event.linked else case.links.remove)(event.other_case_id)
        _changed(case, event, "linked" if event.linked else "unlinked", event.other_case_id, is_seen=False)


def checked(state: Cases, fact: Fact) -> None:
    event: CaseChecked = fact.event
    case = _admitted(state, event, is_resolved=True)
    if case is not None:
        agrees = event.verdict == case.outcome
        case.checks.append(CaseCheck(event.actor, event.occurred_at, event.verdict, agrees, event.note))
        case.contradicted = case.contradicted or not agrees
        _changed(case, event, "checked", event.verdict)


def _admitted(state: Cases, event: CaseAct, *, is_resolved: bool | None = None) -> Case | None:
    """The case, if the event may change it; is_resolved: what it must be. A refused act is kept."""
    case = find(state.of(event.account_id), event.case_id)
    if case is None:
        return None
    why = ""
    if event.revision and event.revision != case.revision:
        last = next((change for change in reversed(case.history) if change.revision == case.revision), None)
        why = "the case has changed since" if last is None else _said(last)
    elif is_resolved is not None and (case.stage == "resolved") is not is_resolved:
        why = f"the case is {'not resolved' if is_resolved else 'resolved'}"
    if not why:
        return case
    if event.act_id:
        case.refused.append(RefusedAct(event.act_id, event.actor, event.occurred_at, why))
        del case.refused[:-REFUSED_MAX]
    return None


def _said(change: CaseChange) -> str:
    """The change that was first, in words."""
    if change.work == "alert":
        return f"another alert joined the case ({change.detail})"
    to = {"assigned": f" it to {change.detail}", "resolved": f" it as {change.detail}"}.get(change.work, " it")
    return f"{change.actor} was first and {change.work}{to}"


def _changed(case: Case, event: CaseEvent, work: Work, detail: str = "", *, is_seen: bool = True) -> None:
    """is_seen: whether others must have seen it before they act."""
    case.revision += is_seen
    case.history.append(CaseChange(work, event.actor, event.occurred_at, case.revision, detail, event.act_id))
