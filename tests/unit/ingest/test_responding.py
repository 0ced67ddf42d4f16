"""The group of responders, where log and topic do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TopicPartition

from core import control_stream
from core.errors import Unavailable
from core.events import SourceGenerationStarted
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest import kafka_client
from ingest.responding import GroupOwner


class Consumer:
    """A member of the group that is given what a test says."""

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self.callbacks = callbacks

    def assign(self, places: list[TopicPartition]) -> None:
        self.assigned = places

    def pause(self, places: list[TopicPartition]) -> None:
        pass

    def poll(self, timeout: float) -> None:
        return None


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Consumer:
    made = Consumer()
    monkeypatch.setattr(kafka_client, "responders_consumer", lambda settings: made)
    return made


def begun(partitions: int) -> MemoryLog:
    log = MemoryLog()
    started = SourceGenerationStarted(
        occurred_at=0, actor="t", topic="feedback", topic_name="f", generation=1, topic_id="i", partitions=partitions
    )
    control_stream.append(log, lambda known: [FIXED.event("t"), started])
    return log


def test_partitions_that_the_log_does_not_have_are_not_acted_on(
    consumer: Consumer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The feedback topic was given more partitions: the log's own go on, and the others are told."""
    owner = GroupOwner(Settings(), begun(2))
    owner.join(lambda partitions: None, lambda partitions: None)
    given = [TopicPartition("feedback", partition) for partition in (1, 2)]
    consumer.callbacks["on_assign"](consumer, given)
    assert set(owner.poll()) == {1}
    assert len(consumer.assigned) == 2
    assert "respond.unknown_partitions" in capsys.readouterr().out


def test_a_log_whose_server_was_emptied_is_unavailable(consumer: Consumer) -> None:
    """Not a bug with a traceback: a responder waits and asks again."""
    log = begun(2)
    owner = GroupOwner(Settings(), log)
    owner.join(lambda partitions: None, lambda partitions: None)
    log.truncate_control(0)
    with pytest.raises(Unavailable, match="no control stream"):
        owner.fence([0])
    with pytest.raises(Unavailable, match="no control stream"):
        GroupOwner(Settings(), log).join(lambda partitions: None, lambda partitions: None)
