"""The report on an experiment as of a moment: exposure, sample ratio, gains with intervals, and the verdict. Pure.

Combines the observations of the read model (`projections.views.experiments_answers`), inference
(`learners.experiments.sequential`, `learners.experiments.srm`) and the verdict (`learners.experiments.verdict`). The
orchestrator and `sentinel experiment show` call the same function, so a person sees exactly what the process acts on.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.assignment import WHOLE
from core.events import ExperimentStarted
from learners.experiments.sequential import Effect, Trajectory, contributions, trajectory
from learners.experiments.srm import Mismatch
from learners.experiments.verdict import (
    METRICS,
    Criteria,
    Finding,
    Metric,
    Verdict,
    criteria_of,
    finding,
    new_effect,
    verdict,
)
from projections.views.experiments import Experiment, ExperimentChange
from projections.views.experiments_answers import Observations

Floats = NDArray[np.float64]


class ArmRow(msgspec.Struct, frozen=True):
    """An arm's accounts, and the mean outcomes of its mature accounts (NaN if there are none)."""

    name: str
    model: str
    share: float
    exposed: int
    expected: float
    mature: int
    means: dict[str, float]
    program: str = ""
    """SHA-256 of its program, "" for the deployed one."""


class SampleRatio(msgspec.Struct, frozen=True):
    """The sample-ratio check: the anytime-valid p-value (decides, at 0.001) and the chi-square's (displayed)."""

    log_e: float
    p_anytime: float
    chi_square: float
    p_chi_square: float


class Report(msgspec.Struct, frozen=True):
    """An experiment as of a cut. state: running, or how it ended. verdict: by the data at the cut, even after the end;
    then "stop" instead of "continue". conclusion: how it was concluded, and the winning arm; "" if it was not.

    excluded: accounts cut off by the end; transactions with conflicting verdicts, left out, or decided outside
    (crossed).
    """

    experiment_id: str
    as_of: str
    state: str
    definition: ExperimentStarted
    changes: list[ExperimentChange]
    arms: list[ArmRow]
    sample_ratio: SampleRatio
    findings: list[Finding]
    verdict: Verdict
    excluded: dict[str, int]
    conclusion: str = ""


def report(experiment: Experiment, seen: Observations, as_of: str) -> Report:
    """The report on an experiment from its observations."""
    definition = experiment.definition
    criteria = criteria_of(definition)
    shares = [arm.share / WHOLE for arm in definition.arms]
    names = [arm.name for arm in definition.arms]
    mismatch = Mismatch()
    for arm in seen.exposed.tolist():
        mismatch.update(arm, shares)
    alpha = definition.alpha / (len(METRICS) * (len(names) - 1))
    findings = [
        finding(names[treated], metric, _effect(definition, criteria, seen, treated, metric), alpha)
        for treated in range(1, len(names))
        for metric in METRICS
    ]
    mature = np.bincount(seen.arm, minlength=len(names)).tolist()
    until = experiment.ended_at or seen.clock
    statistic, p = mismatch.chi_square
    return Report(
        definition.experiment_id,
        as_of,
        experiment.end or "running",
        definition,
        experiment.changes,
        _arm_rows(definition, seen, mature),
        SampleRatio(mismatch.log_e, mismatch.p_value, statistic, p),
        findings,
        _of_ended(
            experiment,
            verdict(
                criteria,
                names,
                dict(zip(names, mature, strict=True)),
                findings,
                mismatch,
                until - definition.occurred_at,
            ),
        ),
        {
            "cut_off_accounts": seen.cut_off,
            "unresolved_transactions": seen.unresolved,
            "left_out_transactions": seen.left_out,
            "crossed_transactions": seen.crossed,
        },
        _conclusion(experiment),
    )


def _of_ended(experiment: Experiment, by_the_data: Verdict) -> Verdict:
    """The verdict; an experiment that has ended never continues."""
    if experiment.end is None or by_the_data.action != "continue":
        return by_the_data
    return Verdict("stop", "", (f"{experiment.end} before the data were conclusive", *by_the_data.reasons))


def _conclusion(experiment: Experiment) -> str:
    ended = experiment.conclusion
    return "" if ended is None else f"{ended.verdict} {ended.winner}".rstrip()


def paths(experiment: Experiment, seen: Observations, treated: int) -> dict[Metric, Trajectory]:
    """Estimates and intervals after each mature account, arm number `treated` against control; for plots."""
    if not len(seen.arm):
        return {}
    found: dict[Metric, Trajectory] = {}
    for metric in METRICS:
        arms, p, q = _against_control(experiment.definition, seen, treated)
        found[metric] = trajectory(*contributions(arms, p, q, seen.outcomes[metric]))
    return found


def _effect(
    definition: ExperimentStarted, criteria: Criteria, seen: Observations, treated: int, metric: Metric
) -> Effect:
    effect = new_effect(metric, criteria)
    effect.extend(*_against_control(definition, seen, treated), seen.outcomes[metric])
    return effect


def _against_control(
    definition: ExperimentStarted, seen: Observations, treated: int
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """(arm as numbered in `learners.experiments.sequential`, its probability, control's probability), each (m,)."""
    arms = np.where(seen.arm == treated, 1, np.where(seen.arm == 0, 0, -1))
    count = len(arms)
    p, q = definition.arms[treated].share / WHOLE, definition.arms[0].share / WHOLE
    return arms, np.full(count, p), np.full(count, q)


def _arm_rows(definition: ExperimentStarted, seen: Observations, mature: list[int]) -> list[ArmRow]:
    exposed = np.bincount(seen.exposed, minlength=len(definition.arms)).tolist()
    rows = []
    for i, arm in enumerate(definition.arms):
        mine = seen.arm == i
        means = {m: float(values[mine].mean()) if mature[i] else float("nan") for m, values in seen.outcomes.items()}
        share = arm.share / WHOLE
        model = f"{arm.model}-{arm.version}"
        expected = share * len(seen.exposed)
        rows.append(ArmRow(arm.name, model, share, exposed[i], expected, mature[i], means, arm.program))
    return rows
