"""Changes of rules in words, from and to."""

from __future__ import annotations

from core.events import RulesChanged
from projections.engine.base import control_fact, fold
from projections.views.registry import REGISTRY
from projections.views.registry_answers import policy_history
from tests.builders.decisions import control_entries
from tests.builders.events import T0


def test_parameters_of_the_library_and_of_a_program() -> None:
    """A default that only a program's document knows is called so; a standard one is a number."""
    steps: list[dict[str, float]] = [{"far_km": 5.0, "amount_high": 9.0}, {"far_km": 6.0}, {}]
    events = [RulesChanged(occurred_at=T0, actor="ann", parameters=parameters) for parameters in steps]
    state = fold(REGISTRY, map(control_fact, control_entries(*events)))
    assert [edit.change for edit in policy_history(state, "rules")] == [
        "far_km default → 5, amount_high 1000 → 9",
        "far_km 5 → 6, amount_high 9 → 1000 (default)",
        "far_km 6 → default",
    ]
