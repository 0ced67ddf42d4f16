"""An experiment with what its accounts show."""

from __future__ import annotations

from typing import NamedTuple

from core.errors import BadInput
from projections.engine.states import States
from projections.views.experiments import EXPERIMENTS, Experiment, Observations, observe
from projections.views.labels import LABELS


class ExperimentAnswer(NamedTuple):
    """An experiment and its accounts' observations, for `learners.experiments.report`. others: all experiments' IDs."""

    as_of: str
    experiment: Experiment
    seen: Observations
    others: list[str]


def experiment_answer(states: States, experiment_id: str | None = None) -> ExperimentAnswer:
    """An experiment, by default the newest. Raises BadInput if there is none."""
    experiments = states.of_control(EXPERIMENTS).experiments
    names = list(experiments)
    if not names:
        raise BadInput("no experiment was started yet (sentinel experiment start)")
    chosen = names[-1] if experiment_id is None else experiment_id
    if chosen not in experiments:
        raise BadInput(f"there is no experiment {chosen!r}; there are {', '.join(names)}")
    seen = observe(experiments[chosen], states.by_partition(EXPERIMENTS), states.by_partition(LABELS))
    return ExperimentAnswer(states.as_of, experiments[chosen], seen, names)
