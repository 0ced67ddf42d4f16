"""When a log may begin: an empty control stream is not enough."""

from __future__ import annotations

from typing import Any

import pytest

from core import control_stream
from core.errors import BadInput
from core.log.base import Head
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest import bootstrap, evidence
from ingest.evidence import Found
from ingest.kafka_client import Topic
from tests.builders.batches import batch_after

SETTINGS = Settings(partitions=2)


@pytest.fixture(autouse=True)
def topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two source topics, without a broker."""
    made = {role: Topic(role, f"id of {role}", 2) for role in ("transactions", "feedback")}
    monkeypatch.setattr(bootstrap, "source_topics", lambda settings: made)
    monkeypatch.setattr(bootstrap, "log_starts", lambda settings, topic: (0, 0))
    monkeypatch.setattr(evidence, "of_earlier_log", lambda log, settings, topic: [])


def test_a_log_whose_partitions_hold_seals_without_a_control_stream_is_not_begun() -> None:
    """A worker appended to a server that had just been emptied, before it noticed. Even a person's word does not begin
    a log on top of that: its partitions were decided under events that are lost.
    """
    log = MemoryLog()
    log.append(1, batch_after(Head()), Head())
    for new_log in ("", "it is another server"):
        with pytest.raises(BadInput, match="no control stream, but partitions 1 hold decisions"):
            bootstrap.ensure(log, SETTINGS, new_log)
    assert log.control_head() == 0


def test_what_another_worker_has_just_begun_is_no_evidence_of_an_earlier_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between this worker's look at the control stream and at the rest, another one begins the log, decides and takes a
    snapshot: this one goes on.
    """
    log = MemoryLog()

    def begun_meanwhile(of: Any, settings: Settings, topic: Topic) -> list[Found]:
        if not log.control_head():
            monkeypatch.setattr(evidence, "of_earlier_log", lambda log, settings, topic: [])
            bootstrap.ensure(log, SETTINGS)
            log.append(0, batch_after(Head()), Head())
        return [Found("there is a snapshot", 1)]

    monkeypatch.setattr(evidence, "of_earlier_log", begun_meanwhile)
    stream = bootstrap.ensure(log, SETTINGS)
    assert stream.position == log.control_head() == control_stream.current(log).position


def test_a_start_that_was_held_up_does_not_bring_a_deleted_topic_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker describes the topics and is frozen; one is made again, and another worker begins its generation. The
    first one's description is older than that: by it, everybody would read the topic from its beginning once more.
    """
    log = MemoryLog()
    old = bootstrap.source_topics(SETTINGS)
    new = {role: topic._replace(topic_id=f"another id of {role}") for role, topic in old.items()}
    bootstrap.ensure(log, SETTINGS)
    monkeypatch.setattr(bootstrap, "source_topics", lambda settings: new)
    bootstrap.ensure(log, SETTINGS)
    before = log.control_head()
    answers = [old, new, new]
    monkeypatch.setattr(bootstrap, "source_topics", lambda settings: answers.pop(0))
    bootstrap.ensure(log, SETTINGS)
    assert log.control_head() == before
    generations = control_stream.current(log).generations
    assert {(each.number, each.topic_id) for each in generations.values()} == {
        (2, f"another id of {role}") for role in new
    }
