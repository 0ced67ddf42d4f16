"""Splits by event time: training, a gap of one label maturity, test; never shuffled, never overlapping. Pure.

A shuffled split leaks an account's later frauds into its earlier rows; a split without the gap trains on labels that
nobody had yet. Splits are prequential: each test period follows its training period and becomes training data later
(Dawid 1984; Gama, Sebastião, Rodrigues 2013).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.times import DAY_MS
from learners.training.dataset import Mask, TrainingSet


@dataclass(frozen=True, slots=True)
class Split:
    """Event times (epoch ms) of a prequential split: train [start, train_end), gap, test [test_start, end)."""

    start: int
    train_end: int
    test_start: int
    end: int

    @property
    def gap_ms(self) -> int:
        """From the end of training to the start of the test: the label maturity."""
        return self.test_start - self.train_end


def split_by_time(times: NDArray[np.int64], test_share: float, gap_days: float, warm_up_days: float) -> Split:
    """Test on the last `test_share` of the time span, after a gap of `gap_days`; the first `warm_up_days` are not used.

    times: int64 (n,) epoch ms, ascending. Raises BadInput if nothing is left to train on.
    """
    first, last = int(times[0]), int(times[-1]) + 1
    return last_split(first + int(warm_up_days * DAY_MS), last, gap_days, int((last - first) * test_share))


def last_split(start: int, end: int, gap_days: float, test_ms: int) -> Split:
    """Test on the last `test_ms` before `end`, train on everything from `start` to the gap before the test.

    Raises BadInput if nothing is left to train on.
    """
    split = Split(start, end - test_ms - int(gap_days * DAY_MS), end - test_ms, end)
    if split.train_end <= split.start:
        raise BadInput(
            f"too little data: {max(end - start, 0) / DAY_MS:.1f} days leave nothing to train on before a gap of"
            f" {gap_days:g} days and a test of {test_ms / DAY_MS:.1f} days"
        )
    return split


def rolling(
    first: int, last: int, *, train_ms: int, gap_ms: int, test_ms: int, step_ms: int | None = None
) -> Iterator[Split]:
    """Prequential splits over [first, last) (epoch ms), oldest first, each `step_ms` after the one before.

    step_ms: defaults to test_ms, so that test periods are contiguous. Only complete splits are made. Raises BadInput
    if a length is not positive (the gap may be 0).
    """
    step_ms = test_ms if step_ms is None else step_ms
    if min(train_ms, test_ms, step_ms) <= 0 or gap_ms < 0:
        raise BadInput("rolling splits: train, test and step must be longer than 0, and the gap must not be negative")
    start = first
    while start + train_ms + gap_ms + test_ms <= last:
        train_end = start + train_ms
        yield Split(start, train_end, train_end + gap_ms, train_end + gap_ms + test_ms)
        start += step_ms


def known_compromised(data: TrainingSet, split: Split) -> Mask:
    """Test rows of accounts already known to be compromised on the test day: bool (n,), True = exclude from the test.

    The rule of the Fraud Detection Handbook (Le Borgne et al. 2022, section 5.2): on each UTC day of the test an
    account is excluded if it had a fraud between the start of training and the day minus the maturity (the split's
    gap). Alerting on such an account proves nothing, because its card is already blocked.
    """
    frauds = data.labels & (data.times >= split.start) & (data.times < split.end)
    accounts, inverse = np.unique(data.accounts, return_inverse=True)
    first_fraud = np.full(len(accounts), np.iinfo(np.int64).max)
    np.minimum.at(first_fraud, inverse[frauds], data.times[frauds])
    tested = (data.times >= split.test_start) & (data.times < split.end)
    day_start = data.times // DAY_MS * DAY_MS
    known: Mask = tested & (first_fraud[inverse] < day_start - split.gap_ms)
    return known
