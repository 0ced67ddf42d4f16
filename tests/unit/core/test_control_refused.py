"""Control events that make no sense: they change nothing, stop nobody, and fold the same for ever."""

from __future__ import annotations

import pytest

from core.control import ControlState, check
from core.errors import BadInput
from core.events import Control, RulesChanged, ThresholdsChanged

NONSENSE: list[Control] = [
    ThresholdsChanged(occurred_at=0, actor="t", review=0.9, decline=0.1),
    ThresholdsChanged(occurred_at=0, actor="t", review=float("nan"), decline=0.1),
    RulesChanged(occurred_at=0, actor="t", parameters={"no such parameter": 1.0}),
    RulesChanged(occurred_at=0, actor="t", parameters={"amount_high": float("nan")}),
    RulesChanged(occurred_at=0, actor="t", disabled=("no such rule",)),
]


@pytest.mark.parametrize("event", NONSENSE)
def test_nonsense_is_refused_and_changes_nothing(event: Control) -> None:
    """A nonsensical event moves the position, is named in `refused`, and leaves every setting as it was."""
    state, untouched = ControlState(), ControlState()
    state.apply(1, event)
    assert state.position == 1
    assert 1 in state.refused
    assert (state.review, state.decline, state.parameters, state.disabled) == (
        untouched.review,
        untouched.decline,
        untouched.parameters,
        untouched.disabled,
    )


@pytest.mark.parametrize("event", NONSENSE)
def test_check_refuses_it_before_it_is_appended(event: Control) -> None:
    """What the fold refuses, `check` refuses with a reason."""
    with pytest.raises(BadInput):
        check(event)


def test_a_later_good_event_takes_effect() -> None:
    """A refused event does not block those after it."""
    state = ControlState()
    state.apply(1, NONSENSE[0])
    state.apply(2, ThresholdsChanged(occurred_at=0, actor="t", review=0.2, decline=0.7))
    assert (state.review, state.decline, list(state.refused)) == (0.2, 0.7, [1])
