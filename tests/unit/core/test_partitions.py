"""core/partitions.py: which partitions a log has."""

from __future__ import annotations

import pytest

from core import codec
from core.errors import BadInput
from core.events import SourceGenerationStarted
from core.log.memory import MemoryLog
from core.partitions import partitions_of


def test_a_log_has_the_partitions_of_its_first_topic() -> None:
    """All, or those asked for, ascending and each once; one that it lacks is refused, as is an empty log."""
    log = MemoryLog()
    with pytest.raises(BadInput, match="this log is empty: no worker has ever started on it"):
        partitions_of(log)
    started = SourceGenerationStarted(
        occurred_at=1, actor="w", topic="transactions", topic_name="t", generation=1, topic_id="u", partitions=4
    )
    log.append_control([codec.encode(started)], 0)
    assert partitions_of(log) == partitions_of(log, []) == [0, 1, 2, 3]
    assert partitions_of(log, [3, 1, 3]) == [1, 3]
    for outside in (4, -1):
        with pytest.raises(BadInput, match=rf"no partition {outside}: the log has partitions 0 to 3"):
            partitions_of(log, [0, outside])
