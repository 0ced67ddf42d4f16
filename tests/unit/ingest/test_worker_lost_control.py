"""A control stream that goes back under a running worker: it must stop, not name positions that don't exist."""

from __future__ import annotations

import pytest

from core.codec import encode
from core.context import Resolver
from core.errors import Conflict
from core.events import ThresholdsChanged
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest.worker import Worker
from models.forest import ForestScorer
from tests.builders.decisions import created

FIRST, SECOND, OTHER = (
    encode(ThresholdsChanged(occurred_at=0, actor="t", review=review, decline=0.7)) for review in (0.3, 0.5, 0.6)
)


def log_of(*payloads: bytes) -> MemoryLog:
    """A log whose control stream holds its identity, then these events."""
    log = created()
    log.append_control(payloads, expected=1)
    return log


def worker_on(log: MemoryLog) -> Worker:
    """A worker that has read the log's control stream to its end."""
    resolver = Resolver(
        log.get_blob, lambda content, version, digest: ForestScorer.load(content, version=version, spec=1)
    )
    worker = Worker(Settings(dead_letter_topic="", decisions_topic=""), log, resolver)
    worker._read_control()
    worker._control_read_at = 0.0
    return worker


@pytest.mark.parametrize("now", [log_of(FIRST), log_of(FIRST, OTHER), log_of(), MemoryLog()])
def test_a_worker_stops_when_an_event_it_has_seen_is_gone(now: MemoryLog) -> None:
    """Seen to position 3, where the stream now ends before or holds another event: Conflict, before a decision could
    record position 3.
    """
    worker = worker_on(log_of(FIRST, SECOND))
    worker._log = now
    with pytest.raises(Conflict, match="event 3"):
        worker._read_control()


def test_a_worker_goes_on_when_the_stream_stands_or_grows() -> None:
    """At the stream's end nothing happens; a new event is applied."""
    log = log_of(FIRST)
    worker = worker_on(log)
    worker._read_control()
    assert worker._control.position == 2
    log.append_control([SECOND], expected=2)
    worker._control_read_at = 0.0
    worker._read_control()
    assert (worker._control.position, worker._control.state.review) == (3, 0.5)
