"""Samples of accounts: what they take is exact for each account, and their intervals hold."""

from __future__ import annotations

import numpy as np
import pytest

from core.control_stream import history
from core.log.memory import MemoryLog
from core.program import loading
from core.program.library import kernel
from core.program.plan import plan
from projections.audit.backtest import Backtest
from projections.audit.sampling import MEASURES, estimates, joined, ratio, total
from projections.audit.tally import Sums, Tally
from projections.audit.whatif import Scope
from projections.labelling.reader import LabelReader
from tests.builders.baseline_log import PARTITIONS, decided
from tests.builders.programs import CARDS

SIMPLE = b"""
[program]
name = "simple"
version = "1.0.0"
uses = ["standard@1"]

[[rules]]
code = "BIG"
when = "amount >= 100"
effect = "review"
"""


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return decided()


@pytest.mark.parametrize("content", [SIMPLE, CARDS])
def test_a_sampled_account_counts_as_in_the_whole(log: MemoryLog, content: bytes) -> None:
    """About half of the accounts are taken, always the same ones, and each one's sums are those of a run over all; so
    also for features that are computed, since they are of the account alone.
    """

    def run(share: float) -> dict[int, tuple[float, ...]]:
        labels = LabelReader(log, range(PARTITIONS)).view()
        candidate = plan(loading.check(content).checked, kernel())
        test = Backtest(log, history(log), candidate, labels, sample=share)
        way = test.run if content is SIMPLE else test.run_columns
        tally = sum((way(p, log.head(p), Scope()) for p in range(PARTITIONS)), Tally(test.codes))
        found = joined(tally.accounts)
        counted = sum(int(day[0, 1:].sum()) for day in tally.days.values())
        assert counted == found.sums[:, MEASURES.index("alerts_before")].sum()
        return {int(owner): tuple(sums) for owner, sums in zip(found.owners, found.sums.tolist(), strict=True)}

    every, half = run(1.0), run(0.5)
    assert 0.25 * len(every) < len(half) < 0.75 * len(every)
    assert half == {owner: every[owner] for owner in half} and half == run(0.5)


def test_intervals_hold_in_repeated_samples() -> None:
    """Of 400 samples of 20 % of skewed accounts, about 95 % have the true total and ratio in their interval."""
    random = np.random.default_rng(5)
    alerts = random.poisson(random.lognormal(0.0, 1.0, 4000)).astype(np.float64)
    frauds = random.binomial(alerts.astype(np.int64), 0.3).astype(np.float64)
    held = [0, 0]
    for _ in range(400):
        chosen = random.random(4000) < 0.2
        whole, part = total(alerts[chosen], 0.2), ratio(frauds[chosen], alerts[chosen], 0.2)
        assert part is not None
        held[0] += whole.low <= alerts.sum() <= whole.high
        held[1] += part.low <= frauds.sum() / alerts.sum() <= part.high
    assert min(held) >= 365 and max(held) <= 395


def test_all_accounts_leave_nothing_to_estimate() -> None:
    """With a share of 1 the interval is the figure; without alerts there is no precision."""
    sums = np.array([[2.0, 3.0, 1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]])
    found = estimates(Sums(np.arange(2, dtype=np.uint64), sums), 1.0, 2)
    assert found["alerts_after"] == (4.0, 4.0, 4.0) and found["alerts_per_day_after"] == (2.0, 2.0, 2.0)
    assert found["precision_before"] == (0.5, 0.5, 0.5)
    nothing = total(np.zeros(3), 0.2)  # of 13 accounts that have it, none is chosen in 5.5 % of samples, of 14 in 4.4 %
    assert nothing[:2] == (0.0, 0.0) and 13.0 < nothing.high < 14.0
    assert "precision_after" not in estimates(Sums(np.arange(2, dtype=np.uint64), sums * 0.0), 0.5, 2)
