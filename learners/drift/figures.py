"""What is compared: the figures, and the payments that each is a figure of.

    payments   every decision, by event time            each feature of the spec
    scored     decided by the champion                  score, alerts:rate
    alerts     of these, at or above the threshold      alerts:<feature> of `FRAUD_FEATURES`: suspected fraud, at once
    reports    frauds, by the time of the report        fraud:<feature>, fraud:score, fraud:rate, performance:recall

Fraud changes in kind (amounts, hours, methods) before a model's performance can be measured. Alerts show it without any
label; reports also show the fraud that the model does not see. Labels are late, so reports are placed at the time at
which the first accepted verdict was given, and only those count that came within `maturity_ms` of the payment. If
nothing changes, the mixture of fast and slow reports is then the same in every window, and no window has to wait for
its slowest reports. The reference of reports is therefore `maturity_ms` later than that of payments: every fraud in it
was decided by the champion.

Volumes (counts and sums over a day or more) follow the calendar: weekends, pay days, holidays. Features that remember
days or a month change slowly, and what happened on one day stays in them; so does the score, which is made of both and
of tables that change once a day. They are compared in the longest window only,
and reported from "medium" on: four busy days at the end of a month are no drift, and what changes them changes a faster
figure sooner.

An account's alerts or frauds on one day are one episode: they weigh one together, however many payments it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.features import spec
from core.times import DAY_MS
from learners.drift.policy import (
    ALERT_RATE,
    ALERTS,
    FRAUD,
    FRAUD_RATE,
    HEADLINE,
    PERFORMANCE,
    RECALL,
    SCORE,
    SHARES,
    DriftConfig,
)
from learners.drift.rows import Rows
from projections.labelling.view import LabelView

Ints = NDArray[np.int64]
Column = NDArray[np.float32]

FRAUD_FEATURES = (
    "amount",
    "hour_of_day",
    "count_1h",
    "amount_zscore",
    "device_is_new",
    "country_is_new",
    "merchant_is_new",
)
"""The features of alerts and reported frauds that are compared: amounts, hours, bursts, and what is new."""
FLAG = (0.0, 1.0)
_VOLUMES = ("count_", "sum_", "mean_", "max_", "merchants_", "merchant_count_")
_MEMORIES = (
    "seconds_since_last",
    "decayed_mean",
    "decayed_std",
    "typical_amount",
    "high_amounts",
    "hour_share",
)
REPORTS = ("reports", "reported")
"""The groups whose rows are placed by the time of the report."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Payments of one group in order of `times` (event or report time, epoch ms), n of them. index (n,): rows of the
    window that was read; episodes: an account's rows on one day weigh one together. marked float32 (n,): 1 for reports
    among payments (`fraud:rate`), None elsewhere.
    """

    rows: Rows
    index: Ints
    times: Ints
    episodes: bool = False
    marked: Column | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def accounts(self) -> NDArray[np.uint64]:
        return self.rows.accounts[self.index]

    def between(self, start: int, end: int) -> Sample:
        """Those with start ≤ time < end."""
        low, high = (int(i) for i in np.searchsorted(self.times, [start, end]))
        part = slice(low, high)
        marked = None if self.marked is None else self.marked[part]
        return Sample(self.rows, self.index[part], self.times[part], self.episodes, marked)

    def feature(self, name: str) -> Column:
        return np.asarray(self.rows.columns[spec.index(name)][self.index])


class Figure(NamedTuple):
    """A figure: its name, kind (numeric, hour, categorical), categories, group of payments, share of the error budget,
    values, days of log before the reference that it needs, and whether it follows the calendar or remembers a month
    (`is_slow`).
    """

    name: str
    kind: str
    categories: tuple[float, ...]
    group: str
    share: float
    values: Callable[[Sample], Column]
    settle_days: int = 0
    is_slow: bool = False


def is_slow(name: str) -> bool:
    """Whether the feature sums up an account's or a merchant's payments of a day or more, or remembers a month."""
    over_days = name.startswith(_VOLUMES) and name.endswith(("_1d", "_24h", "_7d", "_30d", "_today"))
    return over_days or name in _MEMORIES


def kind_of(name: str, config: DriftConfig) -> str:
    """How a feature is compared: numeric, hour, categorical or excluded."""
    return "hour" if name == "hour_of_day" else config.policies[name].kind


def figures(config: DriftConfig, review: float) -> list[Figure]:
    """All figures: the features in the order of the spec, the score, the alert rate, then alerts and reports. review:
    the threshold's margin.
    """
    inputs = [name for name in spec.NAMES if config.policies[name].kind != "excluded" and name not in HEADLINE]
    share_of = dict.fromkeys(HEADLINE, SHARES["headline"] / len(HEADLINE))
    for group, members in (
        ("slow", [SCORE, *(name for name in inputs if is_slow(name))]),
        ("inputs", [name for name in inputs if not is_slow(name)]),
    ):
        share_of |= dict.fromkeys(members, SHARES[group] / max(len(members), 1))

    def of_feature(name: str, group: str, prefix: str, share: float) -> Figure:
        policy = config.policies[name]
        values = _feature(name)
        kind = kind_of(name, config)
        return Figure(prefix + name, kind, policy.categories, group, share, values, policy.settle_days, is_slow(name))

    def alerted(sample: Sample) -> Column:
        return (sample.rows.margins[sample.index] >= review).astype(np.float32)

    alerts = SHARES["alerts"] / len(FRAUD_FEATURES)
    frauds = SHARES["frauds"] / (len(FRAUD_FEATURES) + 2)
    return [
        *(of_feature(name, "payments", "", share_of.get(name, 0.0)) for name in spec.NAMES),
        Figure(SCORE, "numeric", (), "scored", share_of[SCORE], _margin, is_slow=True),
        Figure(ALERT_RATE, "categorical", FLAG, "scored", share_of[ALERT_RATE], alerted),
        *(of_feature(name, "alerts", ALERTS, alerts) for name in FRAUD_FEATURES),
        *(of_feature(name, "reports", FRAUD, frauds) for name in FRAUD_FEATURES),
        Figure(FRAUD + SCORE, "numeric", (), "reports", frauds, _margin),
        Figure(FRAUD_RATE, "categorical", FLAG, "reported", frauds, _marked),
        Figure(RECALL, "categorical", FLAG, "reports", SHARES["performance"] / 4, alerted),
    ]


def _feature(name: str) -> Callable[[Sample], Column]:
    return lambda sample: sample.feature(name)


def _margin(sample: Sample) -> Column:
    return sample.rows.margins[sample.index].astype(np.float32)


def _marked(sample: Sample) -> Column:
    assert sample.marked is not None
    return sample.marked


def samples(rows: Rows, model: str | None, review: float, labels: LabelView | None, delay_ms: int) -> dict[str, Sample]:
    """The samples by group. model: the champion's digest in `rows`; labels: None leaves out reports."""
    everything = np.arange(len(rows))
    scored = np.flatnonzero(rows.models == (rows.digests.index(model) if model in rows.digests else -2))
    alerts = scored[rows.margins[scored] >= review]
    out = {
        "payments": Sample(rows, everything, rows.times),
        "scored": Sample(rows, scored, rows.times[scored]),
        "alerts": Sample(rows, alerts, rows.times[alerts], episodes=True),
    }
    if labels is None:
        return out
    at = labels.reported(rows.accounts[scored], rows.transactions[scored])
    within = (at > 0) & (at - rows.times[scored] <= delay_ms)
    frauds, at = scored[within], at[within]
    order = np.argsort(at, kind="stable")
    out["reports"] = Sample(rows, frauds[order], at[order], episodes=True)
    index, times = np.concatenate([scored, frauds]), np.concatenate([rows.times[scored], at])
    marked = np.concatenate([np.zeros(len(scored)), np.ones(len(frauds))]).astype(np.float32)
    order = np.argsort(times, kind="stable")
    out["reported"] = Sample(rows, index[order], times[order], marked=marked[order])
    return out


def episode_weights(accounts: Ints, times: Ints) -> NDArray[np.float64]:
    """1 / the number of rows of the same account and day, float64 (n,)."""
    _, place, size = np.unique(accounts * 2**20 + times // DAY_MS, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / size[place])


def is_performance(name: str) -> bool:
    """Whether the figure is one of performance."""
    return name.startswith(PERFORMANCE)
