"""The streams of the drift benchmark are those that the offline worker decides, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import drift_streams
from core.times import DAY_MS
from ingest.offline import OfflineIngest
from learners.drift.rows import Rows
from learners.drift.windows import WindowReader
from sources.synthetic import START_MS

ACCOUNTS, SEED = 30, 3


def offline(scenario: str) -> Rows:
    """The kept rows as the offline worker decides and logs them."""
    log, deployed, resolver = drift_streams.beginning()
    ingest = OfflineIngest(log, resolver, partitions=1, start=[deployed])
    for records in drift_streams.source(ACCOUNTS, SEED, scenario).records():
        ingest.feed(records)
    ingest.flush()
    return WindowReader(log, range(1)).read(START_MS + drift_streams.REFERENCE * DAY_MS, 2**60)


@pytest.mark.parametrize("scenarios", [("none",), ("mix", "behaviour")])
def test_streams_in_columns_are_those_of_the_offline_worker(scenarios: tuple[str, ...]) -> None:
    """Features, margins and all other columns are equal, also of what a copied process decides after the turn."""
    for name, kept in drift_streams.decided(ACCOUNTS, SEED, scenarios):
        expected, found = offline(name), kept.rows
        assert len(expected) > 1000
        np.testing.assert_array_equal(found.columns, expected.columns)
        for column in ("margins", "times", "accounts", "shops", "categories"):
            np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
        assert found.digests == expected.digests
        assert (found.models == expected.models).all()


def test_reports_come_after_their_payments() -> None:
    """Each fraud that is reported in time has the time of its report, later than the payment; nothing else has one."""
    ((_, kept),) = drift_streams.decided(ACCOUNTS, SEED, ("none",))
    reported = kept.reported > 0
    assert 10 < reported.sum() < len(kept.rows) / 20
    assert (kept.reported[reported] > kept.rows.times[reported]).all()
    assert (kept.kinds[reported] > 0).all()
