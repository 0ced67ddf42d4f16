"""The reference publisher: follows the log, publishes each day boundary once, and agrees with the offline run."""

from __future__ import annotations

import numpy as np
import pytest

from console.wiring import load_scorer
from core import control_stream
from core.context import Resolver
from core.features.reference import ReferenceTable
from core.log.memory import MemoryLog
from core.times import HOUR_MS
from ingest.offline import OfflineIngest
from projections.reference.publisher import ReferencePublisher
from sources.synthetic import SyntheticConfig, SyntheticStream

PARTITIONS = 2


def filled(reference: bool, hours: int = 24) -> MemoryLog:
    log = MemoryLog()
    config = SyntheticConfig(transactions=4_000, accounts=60, merchants=200, days=15, fraud_rate=0.05, seed=4)
    offline = OfflineIngest(
        log,
        Resolver(log.get_blob, load_scorer),
        partitions=PARTITIONS,
        reference=reference,
        reference_hours=hours,
    )
    for chunk in SyntheticStream(config).records():
        offline.feed(chunk)
    offline.flush()
    return log


def test_it_publishes_a_boundary_once_and_a_second_publisher_nothing() -> None:
    """The first step publishes both tables as of the newest day; repeating it, or another publisher, adds nothing."""
    log = filled(reference=False)
    publisher = ReferencePublisher(log, list(range(PARTITIONS)))
    assert [event.kind for event in publisher.step()] == ["merchant", "device"]
    head = log.control_head()
    assert publisher.step() == []
    assert ReferencePublisher(log, list(range(PARTITIONS))).step() == []
    assert log.control_head() == head


@pytest.mark.parametrize("hours", [24, 4])
def test_tables_agree_with_those_of_the_offline_run(hours: int) -> None:
    """Following the finished log gives, for its last boundary, what was published when that was crossed."""
    inline = filled(reference=True, hours=hours)
    written = control_stream.current(inline).references
    later = filled(reference=False)
    ReferencePublisher(later, list(range(PARTITIONS)), hours).step()
    published = control_stream.current(later).references
    for kind, (digest, as_of) in written.items():
        assert published[kind][1] == as_of and as_of % (hours * HOUR_MS) == 0
        ours, theirs = (
            ReferenceTable.from_bytes(log.get_blob(d)) for log, d in ((later, published[kind][0]), (inline, digest))
        )
        common = np.isin(ours.keys, theirs.keys)
        assert np.array_equal(ours.keys[common], theirs.keys)
        assert np.array_equal(ours.values[common], theirs.values, equal_nan=True)
        # Merchants and devices first seen on the last day have nothing before the boundary.
        assert np.nansum(ours.values[~common]) == 0.0
