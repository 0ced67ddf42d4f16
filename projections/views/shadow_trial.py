"""Observations of a shadow's paired trial: one difference per account, on which the paired test is based.

Each account that the pair (deciding model, shadow) scored is one observation, starting with its first such transaction:

    enrolled   at the log time of that transaction
    window     its transactions up to `window_ms` of event time after the first
    mature     at enrolment + `window_ms` + `maturity_ms` of log time, once its partition's log has passed that time;
               verdicts and transactions recorded later change nothing, so an observation is final

Only transactions count on which the two differ: one alerts (any decision other than approve), the other approves. What
the shadow would have decided is in the score: the program's decision at its probability, with the same hits. Labels are
those of an experiment (`projections.views.account_labels`): delayed verdicts count if they are recorded by maturity, a
transaction without a verdict is then legitimate, and one with conflicting verdicts is left out. An alert is
investigated and so labelled more often than an approval: frauds that only the shadow would have alerted are known from
chargebacks and customers alone, so missing labels count against the shadow, never for it.

A difference is the champion's outcome minus the shadow's, signed so that more is better for the shadow, in [−1, 1]:

    fraud_caught, missed_fraud   1 if only the shadow alerted a fraud, −1 if only the champion did; 0 if both or neither
    false_positive               1 if only the champion alerted a legitimate transaction, −1 if only the shadow did
    value_lost                   amount of the frauds that only the champion approved, minus the same of the shadow,
                                 each capped at `value_cap`, as a share of the cap
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from projections.views import labels as labels_view
from projections.views.account_labels import limits_of, truths
from projections.views.experiments_answers import METRICS, VALUE_CAP
from projections.views.labels import Labels
from projections.views.shadow import TRIAL_ROW, Enrolment, Pair

Floats = NDArray[np.float64]


class Trial(NamedTuple):
    """The observations of a pair's accounts. accounts: enrolled. mature_at: log times of maturity, in order (m,).
    differences: metric → float64 (m,). changed: mature accounts on which the two differ. unresolved, left_out:
    transactions with conflicting verdicts; beyond the read model's limits.
    """

    accounts: int
    mature_at: NDArray[np.int64]
    differences: dict[str, Floats]
    changed: int
    unresolved: int
    left_out: int


FinalDifferences = dict[tuple[int, str], tuple[tuple[float, ...], int, bool]]
"""(Partition, account) of a mature account → its differences in the order of METRICS, its conflicting transactions, and
whether the two models differ on any."""
_NOTHING = ((0.0,) * len(METRICS), 0, False)


def observe(
    pairs: Mapping[int, Pair],
    labels: Mapping[int, Labels],
    clocks: Mapping[int, int],
    window_ms: int,
    maturity_ms: int,
    *,
    value_cap: float = VALUE_CAP,
    final: FinalDifferences | None = None,
) -> Trial:
    """The observations of one pair from the partitions' states of the shadow's and the labels' read models at one cut.

    clocks: log time reached by partition. final: a cache of mature accounts from earlier calls for the same pair, times
    and cap; it is updated. Ordered by log time of maturity, then partition, then account, so the observations at an
    earlier cut are a prefix, as long as partitions advance together.
    """
    memory: FinalDifferences = {} if final is None else final
    mature: list[tuple[int, int, str, Enrolment]] = []
    for partition in sorted(pairs):
        for account, held in pairs[partition].accounts.items():
            mature_at = held.recorded_at + window_ms + maturity_ms
            if mature_at < clocks[partition]:  # not ≤: more may arrive within the same millisecond
                mature.append((mature_at, partition, account, held))
    mature.sort(key=lambda row: row[:3])
    fresh = [row for row in mature if (row[1], row[2]) not in memory]
    for _, partition, account, held in fresh:
        if not held.rows:
            memory[partition, account] = _NOTHING
    fresh = [row for row in fresh if row[3].rows]
    if fresh:
        found = _differences(fresh, labels, window_ms, value_cap)
        memory.update(zip([(row[1], row[2]) for row in fresh], found, strict=True))
    results = [memory[partition, account] for _, partition, account, _ in mature]
    table = np.array([values for values, *_ in results], dtype=np.float64).reshape(len(mature), len(METRICS))
    return Trial(
        sum(len(pair.accounts) for pair in pairs.values()),
        np.array([row[0] for row in mature], dtype=np.int64),
        {metric: table[:, i].copy() for i, metric in enumerate(METRICS)},
        sum(is_changed for *_, is_changed in results),
        sum(conflicts for _, conflicts, _ in results),
        sum(pair.left_out for pair in pairs.values()),
    )


def _differences(
    mature: list[tuple[int, int, str, Enrolment]],
    labels: Mapping[int, Labels],
    window_ms: int,
    value_cap: float,
) -> list[tuple[tuple[float, ...], int, bool]]:
    """The values of FinalDifferences for each account that has rows."""
    count, limits = len(mature), limits_of(labels)
    matured_at = np.array([row[0] for row in mature], dtype=np.int64)
    sizes = np.array([len(row[3].rows) // TRIAL_ROW.itemsize for row in mature], dtype=np.int64)
    rows = np.frombuffer(b"".join(bytes(row[3].rows) for row in mature), dtype=TRIAL_ROW)
    owner = np.repeat(np.arange(count), sizes)
    over_at = np.array([row[3].received_at + window_ms for row in mature], dtype=np.int64)
    counts = (rows["received_at"] < over_at[owner]) & (rows["recorded_at"] <= matured_at[owner])
    by_champion, by_shadow = rows["decision"] > 0, rows["would"] > 0
    differs = counts & (by_champion != by_shadow)
    rows, owner, by_shadow, kept = (
        rows[differs],
        owner[differs],
        by_shadow[differs],
        np.bincount(owner[differs], minlength=count),
    )
    said = [
        list(labels_view.claims_of(partition, labels[partition], account)) if n else []
        for (_, partition, account, _), n in zip(mature, kept.tolist(), strict=True)
    ]
    is_fraud, is_legitimate = truths(rows["key"], kept, matured_at, said, limits)

    def any_of(chosen: NDArray[np.bool_]) -> Floats:
        return (np.bincount(owner[chosen], minlength=count) > 0).astype(np.float64)

    def amount_of(chosen: NDArray[np.bool_]) -> Floats:
        total = np.bincount(owner[chosen], np.maximum(rows["amount"][chosen], 0.0), count)
        return np.asarray(np.minimum(total / value_cap, 1.0))

    caught = any_of(is_fraud & by_shadow) - any_of(is_fraud & ~by_shadow)
    spared = any_of(is_legitimate & ~by_shadow) - any_of(is_legitimate & by_shadow)
    saved = amount_of(is_fraud & by_shadow) - amount_of(is_fraud & ~by_shadow)
    conflicts = np.bincount(owner[~is_fraud & ~is_legitimate], minlength=count).tolist()
    columns = {"fraud_caught": caught, "missed_fraud": caught, "false_positive": spared, "value_lost": saved}
    values = zip(*(columns[metric].tolist() for metric in METRICS), strict=True)
    return list(zip(values, conflicts, (kept > 0).tolist(), strict=True))
