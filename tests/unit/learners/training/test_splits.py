"""Splits by time: they never overlap, keep the gap, and leave known accounts out as the Handbook does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from core.features import spec
from core.times import DAY_MS
from learners.training import splits
from learners.training.dataset import TrainingSet
from learners.training.search import folds
from learners.training.splits import Split

days = st.integers(1, 20).map(lambda n: n * DAY_MS)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 10**12), st.integers(0, 120), days, st.integers(0, 9), days, st.none() | days)
def test_rolling_splits_keep_the_gap_and_never_overlap(
    first: int, span: int, train: int, gap: int, test: int, step: int | None
) -> None:
    """Train, the whole gap, test, inside the span; each a step after the one before; without a step the tests tile; no
    further split would have fitted.
    """
    last = first + span * DAY_MS
    found = list(splits.rolling(first, last, train_ms=train, gap_ms=gap * DAY_MS, test_ms=test, step_ms=step))
    for split in found:
        assert first <= split.start and split.end <= last
        assert split.train_end - split.start == train and split.end - split.test_start == test
        assert split.test_start - split.train_end == gap * DAY_MS == split.gap_ms
    for one, after in itertools.pairwise(found):
        assert after.start - one.start == (step or test)
        assert step is not None or after.test_start == one.end
    needed = train + gap * DAY_MS + test
    assert len(found) == (0 if span * DAY_MS < needed else (span * DAY_MS - needed) // (step or test) + 1)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 10**12), st.integers(1, 400), st.integers(0, 30))
def test_folds_of_the_search_stay_in_the_training_period(start: int, span: int, gap: int) -> None:
    """Past before validation, validations side by side up to the end, the gap kept where there is room for it."""
    end = start + span * DAY_MS
    found = folds(start, end, gap * DAY_MS)
    assert len(found) == 3
    for split in found:
        assert split.start == start < split.train_end <= split.test_start < split.end <= end
        assert split.gap_ms in (0, gap * DAY_MS)
    assert all(a.end == b.test_start for a, b in itertools.pairwise(found))


def test_impossible_splits_are_said() -> None:
    """A length of 0, and a span with nothing left to train on."""
    with pytest.raises(BadInput, match="longer than 0"):
        list(splits.rolling(0, DAY_MS, train_ms=0, gap_ms=0, test_ms=1))
    with pytest.raises(BadInput, match="too little data"):
        splits.last_split(0, 10 * DAY_MS, 7.0, 3 * DAY_MS)


payments = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 4), st.booleans()), min_size=40, max_size=80)


@settings(deadline=None, derandomize=True)
@given(payments, st.integers(1, 8), st.integers(0, 8), st.integers(1, 8))
def test_known_accounts_are_the_handbooks(
    data: list[tuple[int, int, bool]], train_days: int, gap_days: int, test_days: int
) -> None:
    """get_train_test_set of the Handbook, in plain Python: frauds of the training days are known at once, then on each
    test day those of the day before the delay.
    """
    data = sorted(data)
    start = 2
    first_test = start + train_days + gap_days
    known = {account for day, account, fraud in data if fraud and start <= day < start + train_days}
    out = set()
    for offset in range(test_days):
        known |= {a for d, a, fraud in data if fraud and d == start + train_days + offset - 1}
        out |= {i for i, (d, a, _) in enumerate(data) if d == first_test + offset and a in known}
    times, accounts, labels = (np.array(column) for column in zip(*data, strict=True))
    n = len(data)
    made = TrainingSet(
        np.zeros((n, spec.WIDTH), np.float32), labels, times * DAY_MS + 7, np.ones(n), accounts.astype(np.int64)
    )
    split = Split(*(d * DAY_MS for d in (start, start + train_days, first_test, first_test + test_days)))
    assert set(np.flatnonzero(splits.known_compromised(made, split)).tolist()) == out
