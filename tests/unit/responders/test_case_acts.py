"""Acts on cases: what they become, what can't be done, and that a case ends as the events say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.errors import BadInput, Conflict
from core.events import AccountUnblocked, CaseNoted, FeedbackReceived, Position
from core.hashing import HashKey
from core.times import DAY_MS
from projections.engine.base import Fact, fold
from projections.views.case_records import Case
from projections.views.cases import CASES
from responders.cases import acts
from responders.cases.acts import Act
from responders.cases.settings import case_settings
from tests.builders.events import T0
from tests.builders.facts import decided

ANN, BOB = (Act(name, T0 + 2 * DAY_MS, f"act-{name}") for name in ("ann", "bob"))


class Queue:
    """An account with two alerts, and the events that followed."""

    def __init__(self) -> None:
        self.facts = [decided(1), decided(2)]

    @property
    def case(self) -> Case:
        (case,) = fold(CASES, self.facts).accounts["a1"].cases
        return case

    def do(self, build: Callable[..., Any], *arguments: Any, **options: Any) -> list[Any]:
        events: list[Any] = build(self.case, *arguments, **options)
        self.facts += [Fact(0, Position(1, 1), T0 + 2 * DAY_MS, event) for event in events]
        return events

    def verdicts(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for each in self.case.verdicts:
            found.setdefault(f"{each.actor}:{each.transaction_id}", []).append(each.verdict)
        return found


def test_a_resolution_judges_every_payment_and_an_undo_takes_it_back() -> None:
    """Fraud on both payments, then unsure; the case is the analyst's again; done anew, it counts anew."""
    queue = Queue()
    queue.do(acts.take, ANN)
    queue.do(acts.resolve, ANN, "fraud", "confirmed")
    assert (queue.case.outcome, queue.case.note) == ("fraud", "confirmed")
    queue.do(acts.undo, ANN)
    assert (queue.case.stage, queue.case.assignee) == ("assigned", "ann")
    assert queue.verdicts() == {"ann:t1": ["fraud", "unsure"], "ann:t2": ["fraud", "unsure"]}
    queue.do(acts.resolve, ANN._replace(now_ms=ANN.now_ms + 1), "legitimate")
    assert queue.case.outcome == "legitimate"
    assert queue.verdicts()["ann:t1"] == ["fraud", "unsure", "legitimate"]


def test_an_undo_by_another_leaves_the_verdicts_of_the_first() -> None:
    """Nobody speaks as somebody else: the case is open again, the label is contested."""
    queue = Queue()
    queue.do(acts.resolve, ANN, "fraud")
    queue.do(acts.undo, BOB)
    assert queue.case.stage == "open" and queue.verdicts() == {"ann:t1": ["fraud"], "ann:t2": ["fraud"]}


def test_an_act_that_was_cut_short_is_completed_by_doing_it_again() -> None:
    """Only the case's own event arrived: the same act sends the missing verdicts, and nothing else."""
    queue = Queue()
    queue.facts.append(Fact(0, Position(1, 1), T0, acts.resolve(queue.case, ANN, "fraud")[0]))
    again = queue.do(acts.resolve, ANN, "fraud")
    assert [type(event) for event in again] == [FeedbackReceived, FeedbackReceived]
    with pytest.raises(BadInput, match="already resolved as fraud, by ann"):
        acts.resolve(queue.case, ANN, "fraud")


def test_somebody_elses_case_is_locked() -> None:
    """Taking, resolving and snoozing it is a conflict; by force, it is taken over."""
    queue = Queue()
    queue.do(acts.take, ANN)
    for build, arguments in ((acts.take, ()), (acts.resolve, ("fraud",)), (acts.snooze, (BOB.now_ms + 1,))):
        with pytest.raises(Conflict, match="ann works on case 00:1-1"):
            build(queue.case, BOB, *arguments)  # type: ignore[operator]
    queue.do(acts.assign, BOB, "bob", force=True)
    assert queue.case.assignee == "bob"
    queue.do(acts.assign, BOB, "")
    assert (queue.case.assignee, queue.case.stage) == ("", "open")


def test_what_makes_no_sense_is_refused_with_a_reason() -> None:
    """Undoing, checking and waking too early; a past or far snooze; one's own check; a link with itself."""
    queue = Queue()
    for build, arguments in (
        (acts.undo, (ANN,)),
        (acts.check, (ANN, "fraud")),
        (acts.snooze, (ANN, ANN.now_ms - 1)),
        (acts.snooze, (ANN, ANN.now_ms + 91 * DAY_MS)),
        (acts.snooze, (ANN, 0)),
        (acts.note, (ANN, " ")),
        (acts.note, (ANN, "x" * 2001)),
        (acts.note, (ANN, "a\x1b[31mb")),
        (acts.route, (ANN, "")),
    ):
        with pytest.raises(BadInput):
            build(queue.case, *arguments)  # type: ignore[operator]
    with pytest.raises(BadInput):
        acts.link(queue.case, queue.case, ANN)
    queue.do(acts.resolve, ANN, "fraud")
    with pytest.raises(BadInput, match="somebody else must check"):
        acts.check(queue.case, ANN, "fraud")
    with pytest.raises(BadInput, match="undo that first"):
        acts.take(queue.case, BOB)
    queue.do(acts.check, BOB, "legitimate")
    assert queue.case.contradicted


def test_mentions_are_names_after_an_at_sign() -> None:
    """Not e-mail addresses; each once; without the sentence's full stop."""
    (event,) = acts.note(Queue().case, ANN, "@bob ask x@bank.example, then @cho.lee. @bob!")
    assert isinstance(event, CaseNoted) and event.mentions == ("bob", "cho.lee")


def test_a_macro_does_all_that_it_names() -> None:
    """Verdicts, the closed case, and the account unblocked; an unknown one is named."""
    settings = case_settings(
        {"macros": {"customer_confirmed": {"verdict": "legitimate", "note": "by phone", "unblock": True}}}
    )
    queue = Queue()
    events = queue.do(acts.run, ANN, settings.macro("customer_confirmed"))
    assert queue.case.outcome == "legitimate" and queue.case.note == "by phone"
    unblock = events[-1]
    assert isinstance(unblock, AccountUnblocked) and unblock.reason == "case 00:1-1: by phone"
    with pytest.raises(BadInput, match="known: customer_confirmed"):
        settings.macro("nonsense")


@pytest.mark.parametrize(
    "table",
    [
        {"macro": {}},
        {"check_share": 1.5},
        {"macros": {"m": {"verdict": "maybe"}}},
        {"macros": {"m": {"verdict": "fraud", "block": True, "unblock": True}}},
        {"macros": {"m": {"verdict": "fraud", "note": "a\x07"}}},
    ],
)
def test_a_bad_setting_is_refused(table: dict[str, Any]) -> None:
    """At the start of every command, in one line."""
    with pytest.raises(BadInput) as refused:
        case_settings(table)
    assert str(refused.value).startswith("cases") and "\n" not in str(refused.value)


def test_the_sample_is_a_share_of_the_cases_and_the_same_for_everybody() -> None:
    """About a tenth of 4,000 cases at 0.1; none at 0, all at 1; another log draws others."""
    keys = [HashKey.of("000102030405060708090a0b0c0d0e0f"), HashKey.of("ff0102030405060708090a0b0c0d0e0f")]
    cases = [Case(f"00:1-{n}", "a", 0, "alert", resolved_at=T0) for n in range(4_000)]
    first, second = ({c.case_id for c in cases if acts.is_sampled(c, key, 0.1)} for key in keys)
    assert 330 < len(first) < 470 and first != second
    assert not any(acts.is_sampled(c, keys[0], 0.0) for c in cases)
    assert all(acts.is_sampled(c, keys[0], 1.0) for c in cases)
