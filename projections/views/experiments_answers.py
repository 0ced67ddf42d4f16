"""What an experiment's accounts show: the observations that a test is decided by.

An account counts once, from its first transaction in the experiment on:

    exposed    at the log time of that transaction; its arm's share is its probability (`core.assignment`)
    window     its transactions under that arm with event time before the first one's + `window_ms`
    mature     at exposure + `window_ms` + `maturity_ms` of log time, when its partition's log has passed that time;
               verdicts and transactions recorded later change nothing: an observation is final
    cut off    its window was not over when the experiment ended: it gives no observation

A transaction is fraud if its label says so (`projections.labelling`: of verdicts recorded by maturity and with fixed
reliabilities, so that an outcome is final), unresolved if its verdicts conflict (it then counts as neither), else
legitimate: no verdict that counts by maturity means legitimate, as an assumption. Alerted is any decision but approve.
An account's outcomes, each in [0, 1], of every account, exposed to fraud or not:

    fraud_caught     1 if a fraudulent transaction was alerted
    missed_fraud     1 if a fraudulent transaction was approved
    false_positive   1 if a legitimate transaction was alerted
    value_lost       amounts of approved fraud, at most `value_cap`, as a share of it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from projections.engine.states import States
from projections.labelling.consensus import consensus
from projections.labelling.quality import OverRate, judge, over_rate
from projections.labelling.verdicts import Claims
from projections.views import labels as labels_view
from projections.views.experiments import (
    EXPERIMENTS,
    ROW,
    Enrolled,
    Enrolment,
    Experiment,
    Experiments,
    transaction_keys,
)
from projections.views.labels import LABELS, Labels

Floats = NDArray[np.float64]

VALUE_CAP = 1_000.0
"""Amount (major units) at which an account's loss counts in full."""


class Observations(NamedTuple):
    """What an experiment's accounts show.

    exposed, exposed_at: arm (index) and log time of every account, in order of exposure, (n,). arm, mature_at: the same
    of mature ones in order of maturity, (m,). outcomes: metric → float64 (m,) in [0, 1]. cut_off, unresolved, left_out,
    crossed: accounts cut off by the end; transactions with conflicting verdicts; transactions left out (see
    Enrolment); transactions decided outside while the experiment ran. clock: log time reached (epoch ms).
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


class Limits(NamedTuple):
    """What quality control needs to know beyond one payment's verdicts: see `projections.labelling.quality.judge`."""

    over: OverRate
    newest: int


Final = dict[tuple[int, str], tuple[tuple[float, ...], int]]
"""(Partition, account) of a mature account → its outcomes in the order of METRICS, and conflicting transactions."""


def observe(
    experiment: Experiment,
    states: Mapping[int, Experiments],
    labels: Mapping[int, Labels],
    *,
    value_cap: float = VALUE_CAP,
    final: Final | None = None,
) -> Observations:
    """An experiment's observations from its read model's and the labels' partitions at one cut.

    final: what earlier calls for the same experiment and cap found of mature accounts, which later ones then need not
    look at again; it is added to.

    Order of exposure and of maturity is log time, then partition, then account: what an earlier cut showed is a prefix
    of it, as long as partitions keep pace with each other.
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
            if mature_at < states[partition].recorded_at:  # not ≤: the same millisecond may bring more
                mature.append((mature_at, partition, account, arm, enrolment))
    exposed.sort()
    mature.sort(key=lambda row: row[:3])
    memory: Final = {} if final is None else final
    fresh = [row for row in mature if (row[1], row[2]) not in memory]
    said = [list(labels_view.claims_of(partition, labels[partition], account)) for _, partition, account, _, _ in fresh]
    matured_at = np.array([row[0] for row in fresh], dtype=np.int64)
    limits = Limits(over_rate(labels_view.claims(labels)) if fresh else {}, labels_view.newest(labels))
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
    """Transactions of enrolled accounts decided outside while it ran."""
    return sum(n for position, n in held.crossed.items() if not experiment.ended or position < experiment.ended)


def _outcomes(
    enrolments: Sequence[Enrolment],
    mature_at: NDArray[np.int64],
    said: Sequence[Sequence[Claims]],
    limits: Limits,
    window_ms: int,
    value_cap: float,
) -> list[tuple[tuple[float, ...], int]]:
    """Of n mature accounts: outcomes in the order of METRICS, and how many transactions have conflicting verdicts.

    mature_at (n,): what was recorded later is not seen. said: what was said of their payments.
    """
    count = len(enrolments)
    sizes = np.array([len(e.rows) // ROW.itemsize for e in enrolments], dtype=np.int64)
    rows = np.frombuffer(b"".join(e.rows for e in enrolments), dtype=ROW)
    ends = np.cumsum(sizes)
    owner = np.repeat(np.arange(count), sizes)
    over_at = np.array([e.occurred_at + window_ms for e in enrolments], dtype=np.int64)
    is_seen = (rows["occurred_at"] < over_at[owner]) & (rows["recorded_at"] <= mature_at[owner])
    is_fraud = np.zeros(len(rows), dtype=np.bool_)
    is_legitimate = np.ones(len(rows), dtype=np.bool_)
    conflicts = [0] * count
    for account, claims in enumerate(said):
        mine = slice(ends[account] - sizes[account], ends[account])
        own = frozenset(rows["key"][mine].tolist()) if claims else frozenset()
        keys = transaction_keys([each.transaction_id for each in claims]).tolist()
        for key, each in zip(keys, claims, strict=True):
            judged = judge(each, *limits, known_until=int(mature_at[account])) if key in own else None
            if judged is None or not (accepted := judged.accepted):
                continue
            here = rows["key"][mine] == np.uint64(key)
            label = consensus(accepted).label
            if label == "review":
                conflicts[account] += int((here & is_seen[mine]).sum())
            is_legitimate[mine][here] = label == "legitimate"
            is_fraud[mine][here] = label == "fraud"
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
