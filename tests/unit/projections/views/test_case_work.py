"""What people do with cases, folded: who was first, and what an undo restores."""

from __future__ import annotations

from typing import Any

from core.events import (
    CaseAssigned,
    CaseChecked,
    CaseLinked,
    CaseNoted,
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseRouted,
    CaseSnoozed,
    Position,
)
from projections.engine.base import Fact, fold
from projections.views.case_records import SLA_MS, Case, clock
from projections.views.cases import CASES
from tests.builders.events import T0, verdict
from tests.builders.facts import decided

ON: dict[str, Any] = {"account_id": "a1", "case_id": "00:1-1", "occurred_at": T0}


def said(event: Any) -> Fact:
    return Fact(0, Position(1, 1), T0 + 1000, event)


def cases_of(*events: Any, alerts: int = 1) -> list[Case]:
    """The account's cases after its alerts and these events."""
    facts = [decided(n) for n in range(1, alerts + 1)] + [e if isinstance(e, Fact) else said(e) for e in events]
    cases: list[Case] = fold(CASES, facts).accounts["a1"].cases
    return cases


def take(actor: str, revision: int = 1, act_id: str = "") -> CaseAssigned:
    return CaseAssigned(**ON, actor=actor, assignee=actor, revision=revision, act_id=act_id or actor)


def test_of_two_who_take_a_case_at_once_the_first_has_it_and_the_other_is_told() -> None:
    """Both saw revision 1: the second act has no effect, and is kept with the reason."""
    (case,) = cases_of(take("ann"), take("bob"))
    assert (case.assignee, case.stage, case.revision) == ("ann", "assigned", 2)
    (refused,) = case.refused
    assert (refused.act_id, refused.actor, refused.why) == ("bob", "bob", "ann was first and assigned it to ann")
    assert [change.actor for change in case.history] == ["ann"]


def test_an_alert_that_nobody_has_seen_stops_a_verdict() -> None:
    """Between looking and resolving another alert joined: the resolution has no effect."""
    late = CaseResolved(**ON, actor="ann", verdict="legitimate", revision=1, act_id="x")
    (case,) = cases_of(decided(2), late)
    assert (case.stage, len(case.alerts)) == ("open", 2)
    assert case.refused[0].why == "another alert joined the case (00:1-2)"


def test_notes_links_and_routes_disturb_nobody() -> None:
    """They change no revision, so an act that was begun before them counts."""
    (case,) = cases_of(
        CaseNoted(**ON, actor="ann", note="hm, @bob", mentions=("bob",)),
        CaseLinked(**ON, actor="ann", other_case_id="01:1-7"),
        CaseRouted(**ON, actor="responder", queue="large"),
        take("bob"),
    )
    assert (case.assignee, case.queue, case.links, case.revision) == ("bob", "large", ["01:1-7"], 2)
    assert (case.notes[0].note, case.notes[0].mentions) == ("hm, @bob", ("bob",))
    (case,) = cases_of(
        CaseLinked(**ON, actor="ann", other_case_id="x"), CaseLinked(**ON, actor="ann", other_case_id="x", linked=False)
    )
    assert case.links == []


def test_a_reopened_case_is_as_before() -> None:
    """Assignee and clock come back; the outcome is gone; a verdict that was taken back does not close it again."""
    resolved = CaseResolved(**ON, actor="ann", verdict="fraud", note="n", revision=2)
    again = CaseReopened(**ON, actor="ann", revision=3)
    unsure = verdict("a1", "unsure", T0 + 9, transaction_id="t1", actor="ann")
    (case,) = cases_of(take("ann"), resolved, again, unsure)
    assert (case.stage, case.assignee, case.outcome, case.resolved_by, case.note) == ("assigned", "ann", None, "", "")
    assert clock(case, T0) == "running"
    assert [change.work for change in case.history] == ["assigned", "resolved", "reopened"]


def test_what_does_not_fit_the_stage_is_refused() -> None:
    """Nothing to reopen or check before the resolution; nothing to take or snooze after it."""
    (case,) = cases_of(
        CaseReopened(**ON, actor="ann", act_id="1"),
        CaseChecked(**ON, actor="bob", verdict="fraud", act_id="2"),
        CaseResolved(**ON, actor="ann", verdict="fraud"),
        take("bob", 0, "3"),
        CaseSnoozed(**ON, actor="bob", until=T0 + 5, act_id="4"),
    )
    assert [(r.act_id, r.why) for r in case.refused] == [
        ("1", "the case is not resolved"),
        ("2", "the case is not resolved"),
        ("3", "the case is resolved"),
        ("4", "the case is resolved"),
    ]
    assert (case.assignee, case.snoozed_until) == ("", 0)


def test_a_second_person_who_disagrees_marks_the_case() -> None:
    """A check that agrees does not; one that differs makes it contradicted, until it is resolved anew."""
    closed = CaseResolved(**ON, actor="ann", verdict="legitimate")
    agree = CaseChecked(**ON, actor="bob", verdict="legitimate")
    differ = CaseChecked(**ON, actor="cho", verdict="fraud", note="same device")
    (case,) = cases_of(closed, agree)
    assert (case.contradicted, case.checks[0].agrees) == (False, True)
    (case,) = cases_of(closed, agree, differ)
    assert (case.contradicted, case.checks[1].agrees, case.checks[1].note) == (True, False, "same device")
    (case,) = cases_of(closed, differ, CaseResolved(**ON, actor="ann", verdict="fraud"))
    assert (case.contradicted, case.outcome) == (False, "fraud")


def test_a_case_by_hand_has_the_deadline_of_its_severity() -> None:
    """From the time of the record; its note opens it."""
    event = CaseOpened(
        account_id="a1", case_id="m-1", occurred_at=T0, actor="ann", severity="high", queue="q", note="call"
    )
    _, case = cases_of(event)
    assert (case.severity, case.due_at, case.queue) == ("high", T0 + 1000 + SLA_MS["high"], "q")
    assert (case.notes[0].note, case.amount_at_risk) == ("call", 0.0)


def test_responders_route_by_the_alert() -> None:
    """The ID of any alert in the case names it."""
    (case,) = cases_of(CaseRouted(**{**ON, "case_id": "00:1-2"}, actor="responder", queue="large"), alerts=2)
    assert case.queue == "large" and case.amount_at_risk == 18.0
