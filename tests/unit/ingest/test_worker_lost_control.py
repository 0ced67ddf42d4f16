"""A control stream that goes back under a running worker: it must stop, not name positions that don't exist."""

from __future__ import annotations

import pytest

from core.codec import encode
from core.control import Resolver
from core.errors import Conflict
from core.events import ThresholdsChanged
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest.worker import Worker
from models.forest import ForestScorer


def worker_on(log: MemoryLog) -> Worker:
    resolver = Resolver(
        log.get_blob, lambda content, version, digest: ForestScorer.load(content, version=version, spec=1)
    )
    return Worker(Settings(dead_letter_topic="", decisions_topic=""), log, resolver)


def test_a_worker_stops_when_an_event_it_has_seen_is_gone() -> None:
    """Seen to position 2, the stream ends at 1: Conflict, before a decision could record position 2."""
    log = MemoryLog()
    event = encode(ThresholdsChanged(occurred_at=0, actor="t", review=0.3, decline=0.7))
    log.append_control([event], expected=0)
    worker = worker_on(log)
    worker._control.position = 2
    with pytest.raises(Conflict, match="lost event 2"):
        worker._read_control()


def test_a_worker_goes_on_when_the_stream_stands_or_grows() -> None:
    """At the stream's end nothing happens; a new event is applied."""
    log = MemoryLog()
    first, second = (
        encode(ThresholdsChanged(occurred_at=0, actor="t", review=review, decline=0.7)) for review in (0.3, 0.5)
    )
    log.append_control([first], expected=0)
    worker = worker_on(log)
    worker._control.position = 1
    worker._read_control()
    assert worker._control.position == 1
    log.append_control([second], expected=1)
    worker._control_read_at = 0.0
    worker._read_control()
    assert (worker._control.position, worker._control.review) == (2, 0.5)
