"""Observations of an experiment's accounts, on which the verdict of a test is based.

Each account is one observation, starting with its first transaction in the experiment:

    exposed    at the log time of that transaction; its arm's share is its probability (`core.assignment`)
    window     observation window: its transactions under that arm up to `window_ms` of event time after the first
    mature     at exposure + `window_ms` + `maturity_ms` of log time, once its partition's log has passed that time;
               verdicts and transactions recorded later change nothing, so an observation is final
    cut off    its window had not ended when the experiment did; it gives no observation

A transaction is fraud if its label says so (`projections.labelling`, from verdicts recorded by maturity and with fixed
reliabilities, so that an outcome is final), unresolved if its verdicts conflict (it then counts as neither), otherwise
legitimate: without an accepted verdict by maturity it is assumed to be legitimate. Any decision other than approve is
an alert. Outcomes are computed for every account, exposed to fraud or not, each in [0, 1]:

    fraud_caught     1 if a fraudulent transaction was alerted
    missed_fraud     1 if a fraudulent transaction was approved
    false_positive   1 if a legitimate transaction was alerted
    value_lost       the total amount of approved fraud, capped at `value_cap`, as a share of the cap
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from projections.engine.states import States
from projections.labelling.verdicts import Claims
from projections.views import labels as labels_view
from projections.views.account_labels import Limits, limits_of, truths
from projections.views.experiments import (
    EXPERIMENTS,
    ROW,
    Enrolled,
    Enrolment,
    Experiment,
    Experiments,
)
from projections.views.labels import LABELS, Labels

Floats = NDArray[np.float64]

VALUE_CAP = 1_000.0
"""The loss per account (major units) that counts as 1; larger losses are capped."""


class Observations(NamedTuple):
    """The observations of an experiment's accounts.

    exposed, exposed_at: arm (index) and log time of every account, in order of exposure, (n,). arm, mature_at: the same
    for mature accounts, in order of maturity, (m,). outcomes: metric → float64 (m,) in [0, 1]. cut_off, unresolved,
    left_out, crossed: accounts cut off by the end; transactions with conflicting verdicts; transactions left out (see
    Enrolment); transactions decided outside the experiment while it ran. clock: log time reached (epoch ms).
    """

    exposed: NDArray[np.int64]
    exposed_at: NDArray[np.int64]
    arm: NDArray[np.int64]
    mature_at: NDArray[np.int64]
    outcomes: dict[str, Floats]
    cut_off: int
    unresolved: int
    left_out: int
    crossed: int
    clock: int


METRICS = ("fraud_caught", "missed_fraud", "false_positive", "value_lost")


Final = dict[tuple[int, str], tuple[tuple[float, ...], int]]
"""(Partition, account) of a mature account → its outcomes in the order of METRICS, and its conflicting transactions."""


def observe(
    experiment: Experiment,
    states: Mapping[int, Experiments],
    labels: Mapping[int, Labels],
    *,
    value_cap: float = VALUE_CAP,
    final: Final | None = None,
) -> Observations:
    """An experiment's observations from the partition states of its read model and of the labels at one cut.

    final: a cache of mature accounts' outcomes from earlier calls for the same experiment and cap; it is updated.

    Exposure and maturity are ordered by log time, then partition, then account. The observations at an earlier cut are
    therefore a prefix, as long as partitions advance together.
    """
    definition = experiment.definition
    names = [arm.name for arm in definition.arms]
    exposed: list[tuple[int, int, str, int]] = []
    mature: list[tuple[int, int, str, int, Enrolment]] = []
    cut_off = left_out = crossed = 0
    for partition in sorted(states):
        held = states[partition].enrolled.get(definition.experiment_id, Enrolled())
        crossed += _crossed(experiment, held)
        for account, enrolment in held.accounts.items():
            if enrolment.arm not in names:
                continue
            arm = names.index(enrolment.arm)
            exposed.append((enrolment.recorded_at, partition, account, arm))
            left_out += enrolment.left_out
            over_at = enrolment.recorded_at + definition.window_ms
            if experiment.ended and over_at > experiment.ended_at:
                cut_off += 1
                continue
            mature_at = over_at + definition.maturity_ms
            if mature_at < states[partition].recorded_at:  # not ≤: more may arrive within the same millisecond
                mature.append((mature_at, partition, account, arm, enrolment))
    exposed.sort()
    mature.sort(key=lambda row: row[:3])
    memory: Final = {} if final is None else final
    fresh = [row for row in mature if (row[1], row[2]) not in memory]
    said = [list(labels_view.claims_of(partition, labels[partition], account)) for _, partition, account, _, _ in fresh]
    matured_at = np.array([row[0] for row in fresh], dtype=np.int64)
    limits = limits_of(labels if fresh else {})
    found = _outcomes([row[4] for row in fresh], matured_at, said, limits, definition.window_ms, value_cap)
    memory.update(zip([(row[1], row[2]) for row in fresh], found, strict=True))
    results = [memory[partition, account] for _, partition, account, _, _ in mature]
    table = np.array([values for values, _ in results], dtype=np.float64).reshape(len(mature), len(METRICS))
    return Observations(
        np.array([row[3] for row in exposed], dtype=np.int64),
        np.array([row[0] for row in exposed], dtype=np.int64),
        np.array([row[3] for row in mature], dtype=np.int64),
        np.array([row[0] for row in mature], dtype=np.int64),
        {metric: table[:, i].copy() for i, metric in enumerate(METRICS)},
        cut_off,
        sum(conflicts for _, conflicts in results),
        left_out,
        crossed,
        max((state.recorded_at for state in states.values()), default=0),
    )


def _crossed(experiment: Experiment, held: Enrolled) -> int:
    """Transactions of enrolled accounts that were decided outside the experiment while it ran."""
    return sum(n for position, n in held.crossed.items() if not experiment.ended or position < experiment.ended)


def _outcomes(
    enrolments: Sequence[Enrolment],
    mature_at: NDArray[np.int64],
    said: Sequence[Sequence[Claims]],
    limits: Limits,
    window_ms: int,
    value_cap: float,
) -> list[tuple[tuple[float, ...], int]]:
    """For each of n mature accounts: outcomes in the order of METRICS, and the number of conflicting transactions.

    mature_at (n,): log time after which nothing counts. said: the verdicts on each account's payments.
    """
    count = len(enrolments)
    sizes = np.array([len(e.rows) // ROW.itemsize for e in enrolments], dtype=np.int64)
    rows = np.frombuffer(b"".join(e.rows for e in enrolments), dtype=ROW)
    owner = np.repeat(np.arange(count), sizes)
    over_at = np.array([e.received_at + window_ms for e in enrolments], dtype=np.int64)
    is_seen = (rows["received_at"] < over_at[owner]) & (rows["recorded_at"] <= mature_at[owner])
    is_fraud, is_legitimate = truths(rows["key"], sizes, mature_at, said, limits)
    conflicts = np.bincount(owner[~is_fraud & ~is_legitimate & is_seen], minlength=count).tolist()
    is_alerted = rows["alerted"] == 1

    def of_accounts(chosen: NDArray[np.bool_]) -> Floats:
        return (np.bincount(owner[chosen & is_seen], minlength=count) > 0).astype(np.float64)

    lost = is_fraud & ~is_alerted & is_seen
    amounts = np.bincount(owner[lost], weights=np.maximum(rows["amount"][lost], 0.0), minlength=count)
    columns = (
        of_accounts(is_fraud & is_alerted),
        of_accounts(is_fraud & ~is_alerted),
        of_accounts(is_legitimate & is_alerted),
        np.minimum(amounts / value_cap, 1.0),
    )
    return list(zip(zip(*(column.tolist() for column in columns), strict=True), conflicts, strict=True))


class ExperimentAnswer(NamedTuple):
    """An experiment and its observations, for `learners.experiments.report`. others: the IDs of all experiments."""

    as_of: str
    experiment: Experiment
    seen: Observations
    others: list[str]


def experiment_answer(states: States, experiment_id: str | None = None) -> ExperimentAnswer:
    """An experiment with its observations, by default the newest. Raises BadInput if there is none."""
    experiments = states.of_control(EXPERIMENTS).experiments
    names = list(experiments)
    if not names:
        raise BadInput("no experiment has been started yet (start one with sentinel experiment start)")
    chosen = names[-1] if experiment_id is None else experiment_id
    if chosen not in experiments:
        raise BadInput(f"unknown experiment {chosen!r}; expected one of {', '.join(names)}")
    seen = observe(experiments[chosen], states.by_partition(EXPERIMENTS), states.by_partition(LABELS))
    return ExperimentAnswer(states.as_of, experiments[chosen], seen, names)
