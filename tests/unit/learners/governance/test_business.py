"""Lists, thresholds and rules as acts: what is appended, what is not, on every implementation of the log."""

from __future__ import annotations

import time
from typing import Any

import pytest

from core import control_stream
from core.errors import BadInput
from core.events import ListChanged, RulesChanged
from core.identity import FIXED
from core.log.base import EventLog
from core.log.memory import MemoryLog
from learners.governance import business
from learners.governance.control_events import Act
from tests.builders.decisions import append_unchecked, created

ACT = Act("ann", "because", 1_700_000_000_000)


def test_lists_change_once(event_log: EventLog) -> None:
    """An addition or removal that has its result appends nothing; what was appended is the canonical form."""
    done = business.change_list(event_log, "merchant", "block", ACT, add=["SHOP-66 ", "shop-66", "m2"])
    assert (done.position, done.added, done.unchanged) == (1, ["shop-66", "m2"], [])
    again = business.change_list(event_log, "merchant", "block", ACT, add=["Shop-66", "m3"])
    assert (again.position, again.added, again.unchanged) == (2, ["m3"], ["shop-66"])
    gone = business.change_list(event_log, "merchant", "block", ACT, remove=["SHOP-66", "m9"])
    assert (gone.position, gone.removed, gone.unchanged) == (3, ["shop-66"], ["m9"])
    nothing = business.change_list(event_log, "merchant", "block", ACT, remove=["m9"])
    assert (nothing.position, nothing.unchanged) == (3, ["m9"])
    assert control_stream.current(event_log).lists == {("merchant", "block"): {"m2": None, "m3": None}}
    event = control_stream.history(event_log)[0].event
    assert isinstance(event, ListChanged) and (event.actor, event.reason, event.add) == (
        "ann",
        "because",
        ("shop-66", "m2"),
    )


def test_a_long_list_is_several_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """No event holds more than VALUES_MAX values, and all of them are appended together."""
    monkeypatch.setattr(business, "VALUES_MAX", 3)
    log = MemoryLog()
    done = business.change_list(log, "device", "watch", ACT, add=[f"d{n}" for n in range(8)])
    assert done.position == 3 and len(control_stream.current(log).lists["device", "watch"]) == 8


def test_a_list_of_many_values_changes_in_seconds() -> None:
    """The cost of a change grows with its size, not with its square."""
    log, values = MemoryLog(), [f"10.{n >> 8}.{n & 255}.1" for n in range(20_000)]
    before = time.process_time()
    business.change_list(log, "ip", "block", ACT, add=values)
    assert business.change_list(log, "ip", "block", ACT, add=values).unchanged == values
    assert time.process_time() - before < 10


def test_thresholds_and_rules_change_what_is_named(event_log: EventLog) -> None:
    """The other threshold, other parameters and other switches stay; repeating an act appends nothing."""
    append_unchecked(event_log, FIXED.event("worker"))
    assert business.set_thresholds(event_log, ACT, decline=0.9).state.review == 0.4
    assert not business.set_thresholds(event_log, ACT, decline=0.9).changed
    assert business.set_thresholds(event_log, ACT, review=0.5).state.decline == 0.9
    by_loss = business.set_thresholds(event_log, ACT, review_loss=15.0, decline_loss=60.0).state
    assert (by_loss.review, by_loss.decline, by_loss.review_loss, by_loss.decline_loss) == (0.5, 0.9, 15.0, 60.0)
    half = business.set_thresholds(event_log, ACT, decline=0.8).state
    assert (half.decline, half.review_loss, half.decline_loss) == (0.8, 15.0, 0.0), "a probability ends its loss"
    assert business.set_thresholds(event_log, ACT, review_loss=0.0).state.review_loss == 0.0
    business.change_rules(event_log, ACT, parameters={"velocity_10m": 6.0}, disable=["UNUSUAL_HOUR"])
    business.change_rules(event_log, ACT, parameters={"amount_high": 5.0}, disable=["NEW_MERCHANT"])
    assert not business.change_rules(event_log, ACT, parameters={"amount_high": 5.0}).changed
    state = business.change_rules(event_log, ACT, reset=["velocity_10m"], enable=["UNUSUAL_HOUR"]).state
    assert (state.parameters, state.disabled) == ({"amount_high": 5.0}, ("NEW_MERCHANT",))
    assert control_stream.current(event_log).position == 9 and not state.refused
    events = [entry.event for entry in control_stream.history(event_log)]
    assert sum(isinstance(event, RulesChanged) for event in events) == 3


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda log: business.set_thresholds(log, ACT), "give --review"),
        (lambda log: business.set_thresholds(log, ACT, review=0.9), "review <= decline"),
        (lambda log: business.set_thresholds(log, ACT, decline=float("nan")), "review <= decline"),
        (lambda log: business.change_rules(log, ACT, parameters={"speed": 1.0}), "unknown rule parameter 'speed'"),
        (lambda log: business.change_rules(log, ACT, reset=["speed"]), "unknown rule parameter 'speed'"),
        (lambda log: business.change_rules(log, ACT, parameters={"travel_km": float("inf")}), "finite"),
        (lambda log: business.change_rules(log, ACT, disable=["NOPE"]), "unknown rule 'NOPE'"),
        (lambda log: business.change_rules(log, ACT, disable=["NEW_MERCHANT"], enable=["NEW_MERCHANT"]), "both|and"),
        (lambda log: business.change_list(log, "country", "block", ACT, add=["Germany"]), "two letters"),
        (lambda log: business.change_list(log, "card", "block", ACT), "no value"),
        (lambda log: business.change_list(log, "card", "block", ACT, add=["c1"], remove=["C 1"]), "added and removed"),
    ],
)
def test_invalid_acts_append_nothing(act: Any, said: str) -> None:
    """What can't be in force is refused with what is wrong."""
    log = created()
    with pytest.raises(BadInput, match=said):
        act(log)
    assert log.control_head() == 1


@pytest.mark.parametrize(
    ("actor", "reason"), [("", "x"), ("ann", " "), ("an\x1b[2Jn", "x"), ("ann", "a\u202eb"), ("a" * 129, "x")]
)
def test_an_act_names_who_and_why_in_plain_text(actor: str, reason: str) -> None:
    """Actor and reason are there, and hold nothing that a terminal would obey."""
    with pytest.raises(BadInput):
        Act(actor, reason, 1)
