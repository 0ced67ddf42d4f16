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

An account's alerts or frauds on one day are one episode: they weigh one together, however many payments it has. So do
those of all accounts that are defrauded at one shop on one day (a terminal that copies cards). They are few, so they
are compared in longer windows. What fraud takes is compared as `relative_amount`: what the account usually pays, and
what is usual in the shop's category (`Usual`), vary more than any change of fraud, and would hide it.
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

RELATIVE_AMOUNT = "relative_amount"
FRAUD_WEIGHTS = {
    RELATIVE_AMOUNT: 8,
    "hour_of_day": 6,
    "amount": 1,
    "count_1h": 1,
    "device_is_new": 1,
    "country_is_new": 1,
    "merchant_is_new": 1,
}
"""What is compared of alerts and of reported frauds (amounts, hours, bursts, and what is new), and its weight in the
group's share of the error budget."""
CATEGORY_ROWS_MIN = 20
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
    window that was read; episodes: rows are weighted by `episode_weights`. marked float32 (n,): 1 for reports
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
    values, windows (lengths, ms, ascending), days of log before the reference that it needs, and whether it follows the
    calendar or remembers a month (`is_slow`).
    """

    name: str
    kind: str
    categories: tuple[float, ...]
    group: str
    share: float
    values: Callable[[Sample], Column]
    windows: tuple[int, ...]
    settle_days: int = 0
    is_slow: bool = False


def is_slow(name: str) -> bool:
    """Whether the feature sums up an account's or a merchant's payments of a day or more, or remembers a month."""
    over_days = name.startswith(_VOLUMES) and name.endswith(("_1d", "_24h", "_7d", "_30d", "_today"))
    return over_days or name in _MEMORIES


def kind_of(name: str, config: DriftConfig) -> str:
    """How a feature is compared: numeric, hour, categorical or excluded."""
    return "hour" if name == "hour_of_day" else config.policies[name].kind


class Usual(NamedTuple):
    """What is usual in a shop's category: the median of ln(amount / what the account usually pays) of payments there.
    categories uint64 (C,) ascending, medians (C,); `other`: of all payments, for categories with few.
    """

    categories: NDArray[np.uint64]
    medians: NDArray[np.float64]
    other: float

    def relative_amount(self, sample: Sample) -> Column:
        """ln(amount / what the account usually pays), less the category's median: float32 (n,), NaN where an account
        has no usual amount yet.
        """
        categories = sample.rows.categories[sample.index]
        medians = np.full(len(categories), self.other)
        if len(self.categories):
            at = np.minimum(np.searchsorted(self.categories, categories), len(self.categories) - 1)
            known = self.categories[at] == categories
            medians[known] = self.medians[at[known]]
        return np.asarray(_log_to_typical(sample) - medians, dtype=np.float32)


def usual(sample: Sample) -> Usual:
    """What is usual in these payments."""
    values = _log_to_typical(sample)
    held = values == values
    values, categories = values[held], sample.rows.categories[sample.index][held]
    order = np.lexsort((values, categories))
    names, first, size = np.unique(categories[order], return_index=True, return_counts=True)
    medians = np.array([np.median(values[order[f : f + s]]) for f, s in zip(first, size, strict=True)])
    enough = size >= CATEGORY_ROWS_MIN
    return Usual(names[enough], medians[enough], float(np.median(values)) if len(values) else 0.0)


def _log_to_typical(sample: Sample) -> NDArray[np.float64]:
    ratio = sample.feature("amount_to_typical").astype(np.float64)
    return np.log(np.where(ratio > 0, ratio, np.nan))


NOTHING_USUAL = Usual(np.empty(0, dtype=np.uint64), np.empty(0), 0.0)


def figures(config: DriftConfig, review: float, known: Usual = NOTHING_USUAL) -> list[Figure]:
    """All figures: the features in the order of the spec, the score, the alert rate, then alerts and reports. review:
    the threshold's margin; known: what is usual in the reference.
    """
    inputs = [name for name in spec.NAMES if config.policies[name].kind != "excluded" and name not in HEADLINE]
    share_of = dict.fromkeys(HEADLINE, SHARES["headline"] / len(HEADLINE))
    for group, members in (
        ("slow", [SCORE, *(name for name in inputs if is_slow(name))]),
        ("inputs", [name for name in inputs if not is_slow(name)]),
    ):
        share_of |= dict.fromkeys(members, SHARES[group] / max(len(members), 1))

    longest, of_fraud = config.windows_ms[-1:], config.fraud_windows_ms

    def of_feature(name: str) -> Figure:
        policy, share, slow = config.policies[name], share_of.get(name, 0.0), is_slow(name)
        windows = longest if slow else config.windows_ms
        kind = kind_of(name, config)
        values = _feature(name)
        return Figure(name, kind, policy.categories, "payments", share, values, windows, policy.settle_days, slow)

    def of_group(group: str, prefix: str, whole: float) -> list[Figure]:
        every = sum(FRAUD_WEIGHTS.values())
        found = []
        for name, weight in FRAUD_WEIGHTS.items():
            share = whole * weight / every
            if name == RELATIVE_AMOUNT:
                found.append(Figure(prefix + name, "numeric", (), group, share, known.relative_amount, of_fraud))
                continue
            policy, kind = config.policies[name], kind_of(name, config)
            found.append(
                Figure(
                    prefix + name, kind, policy.categories, group, share, _feature(name), of_fraud, policy.settle_days
                )
            )
        return found

    def alerted(sample: Sample) -> Column:
        return (sample.rows.margins[sample.index] >= review).astype(np.float32)

    fraud = SHARES["frauds"]
    return [
        *(of_feature(name) for name in spec.NAMES),
        Figure(SCORE, "numeric", (), "scored", share_of[SCORE], _margin, longest, is_slow=True),
        Figure(ALERT_RATE, "categorical", FLAG, "scored", share_of[ALERT_RATE], alerted, config.windows_ms),
        *of_group("alerts", ALERTS, SHARES["alerts"]),
        *of_group("reports", FRAUD, 0.8 * fraud),
        Figure(FRAUD + SCORE, "numeric", (), "reports", 0.1 * fraud, _margin, of_fraud),
        Figure(FRAUD_RATE, "categorical", FLAG, "reported", 0.1 * fraud, _marked, of_fraud),
        Figure(RECALL, "categorical", FLAG, "reports", SHARES["performance"] / 4, alerted, of_fraud),
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


def episode_weights(sample: Sample) -> NDArray[np.float64]:
    """1 / (rows of the same account and day · accounts of the same shop and day), float64 (n,)."""
    day = sample.times // DAY_MS
    account, shop = (
        np.unique(names, return_inverse=True)[1] * 2**20 + day
        for names in (sample.accounts, sample.rows.shops[sample.index])
    )
    _, episode, rows = np.unique(account, return_inverse=True, return_counts=True)
    shop_days, visit = np.unique(shop, return_inverse=True)
    visits = np.unique(visit * (len(rows) + 1) + episode) // (len(rows) + 1)
    accounts = np.bincount(visits, minlength=len(shop_days))
    return np.asarray(1.0 / (rows[episode] * accounts[visit]))


def is_performance(name: str) -> bool:
    """Whether the figure is one of performance."""
    return name.startswith(PERFORMANCE)
