"""What a sample of accounts tells of all accounts: estimates with intervals. Pure.

Accounts are chosen independently with probability `share`, by a keyed hash, so always the same ones; all payments of a
chosen account are taken, because payments of one account are alike. A total is estimated by that of the sample ÷ share
(Horvitz and Thompson 1952), with the variance (1 − share) / share² · Σ y² over the chosen accounts; a ratio by that of
the sample, with the variance of its linearised residuals (Särndal, Swensson and Wretman 1992, section 5.6). Intervals
are normal, at 95 %: with few accounts, or one that dominates, they are too narrow. Of what no chosen account has, so
many accounts may have it that all were left out with a probability of 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.hashing import HashKey, hash_strings
from projections.audit.stored_batch import coded
from projections.audit.stored_tables import Rows
from projections.audit.tally import Judged, Sums
from projections.labelling.view import FRAUD

MEASURES = ("alerts_before", "alerts_after", "frauds_before", "frauds_after", "stricter", "milder")
"""What is summed by account."""
_QUANTILE = 1.959963984540054


def joined(parts: Sequence[Sums]) -> Sums:
    """The sums of parts, every account once."""
    if not parts:
        return Sums(np.zeros(0, dtype=np.uint64), np.zeros((0, len(MEASURES))))
    owners, inverse = np.unique(np.concatenate([each.owners for each in parts]), return_inverse=True)
    sums = np.zeros((len(owners), len(MEASURES)))
    np.add.at(sums, inverse, np.concatenate([each.sums for each in parts]))
    return Sums(owners, sums)


class Estimate(NamedTuple):
    """A figure of all accounts, and its interval at 95 %."""

    value: float
    low: float
    high: float


def chosen_rows(rows: Rows, share: float, key: HashKey) -> NDArray[np.int64]:
    """The rows of the chosen accounts, ascending."""
    codes, names = coded(rows.column("account_id"))
    draws = hash_strings(names, key.derived("backtest sample")) >> np.uint64(32)
    chosen = draws < np.uint64(min(round(share * 2**32), 2**32 - 1)) if share < 1.0 else np.ones(len(names), np.bool_)
    return np.flatnonzero(chosen[codes])


def sums_of(rows: Rows, judged: Judged, key: HashKey) -> Sums:
    """What is summed, of judged rows."""
    codes, names = coded(rows.column("account_id"))
    was, now, is_fraud = judged.was > 0, judged.now > 0, judged.labels == FRAUD
    columns = (was, now, was & is_fraud, now & is_fraud, judged.now > judged.was, judged.now < judged.was)
    sums = np.stack([np.bincount(codes, each, minlength=len(names)) for each in columns], axis=1).astype(np.float64)
    return Sums(hash_strings(names, key), sums)


def total(sums: NDArray[np.float64], share: float) -> Estimate:
    """The total of all accounts. sums: of the chosen ones, float64 (n,). If they have nothing, the upper end is in
    accounts.
    """
    value = float(sums.sum()) / share
    if value == 0.0 and share < 1.0:
        return Estimate(0.0, 0.0, math.log(0.05) / math.log1p(-share))
    error = _QUANTILE * float(np.sqrt((1.0 - share) * np.square(sums).sum())) / share
    return Estimate(value, max(value - error, float(sums.sum())), value + error)


def ratio(over: NDArray[np.float64], under: NDArray[np.float64], share: float) -> Estimate | None:
    """A ratio of totals of all accounts, in [0, 1]; None if it has no denominator."""
    below = float(under.sum())
    if below == 0.0:
        return None
    value = float(over.sum()) / below
    error = _QUANTILE * float(np.sqrt((1.0 - share) * np.square(over - value * under).sum())) / below
    return Estimate(value, max(value - error, 0.0), min(value + error, 1.0))


def estimates(found: Sums, share: float, days: int) -> dict[str, Estimate]:
    """The figures of all accounts, by name."""
    by = dict(zip(MEASURES, found.sums.T, strict=True))
    out = {name: total(sums, share) for name, sums in by.items()}
    for when in ("before", "after"):
        every = out[f"alerts_{when}"]
        out[f"alerts_per_day_{when}"] = Estimate(*(each / days for each in every))
        if (of := ratio(by[f"frauds_{when}"], by[f"alerts_{when}"], share)) is not None:
            out[f"precision_{when}"] = of
    return out
