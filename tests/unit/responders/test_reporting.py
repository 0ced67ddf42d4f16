"""What becomes of outcomes between Kafka and the log."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.events import Position
from responders.acting import Tried, succeeded
from responders.outbox import Item, Part
from responders.ports import Outgoing
from responders.reporting import Reports
from responders.settings import respond_settings


class Topic:
    """An outlet whose topic has a generation."""

    def __init__(self) -> None:
        self.generation = 1
        self.sent: list[Outgoing] = []

    def send(self, events: Sequence[Outgoing]) -> list[Position]:
        self.sent += events
        return [Position(self.generation, len(self.sent) + 10) for _ in events]


def reported(topic: Topic) -> tuple[Reports, Part]:
    """One outcome on its way: Kafka has it, the log does not."""
    item = Item(0, Position(1, 1), "notify_customer", "a1", "high", 1_790_000_000_000)
    part = Part(0, waiting={item.key: item})
    reports = Reports()
    reports.put(item, succeeded(respond_settings({}), item, None, Tried(1_790_000_000_001)))
    reports.send(topic, {0})
    return reports, part


def test_an_outcome_in_a_topic_that_was_made_again_is_sent_again() -> None:
    """The topic was deleted before a worker read it: the log goes on in the next generation, and would lack it."""
    topic = Topic()
    reports, part = reported(topic)
    topic.generation = 2
    assert reports.settle(part, Position(1, 4), Position(2, 0)) == []
    reports.send(topic, {0})
    assert len(topic.sent) == 2 and topic.sent[0] == topic.sent[1]
    part.waiting.clear()
    assert len(reports.settle(part, Position(2, 13), Position(2, 0))) == 1


@pytest.mark.parametrize("reached", [4, 30])
def test_an_outcome_that_kafka_lost_is_sent_again_once_the_loss_is_accepted(reached: int) -> None:
    """Whether or not the log has gone on after it; where it was sent to again, it waits as before."""
    topic = Topic()
    reports, part = reported(topic)
    assert reports.settle(part, Position(1, reached), Position(1, 11)) == []
    reports.send(topic, {0})
    assert len(topic.sent) == 2 and topic.sent[0] == topic.sent[1]
    assert reports.settle(part, Position(1, 11), Position(1, 11)) == []
    reports.send(topic, {0})
    assert len(topic.sent) == 2


def test_an_unsent_outcome_that_the_log_has_settled_is_not_sent() -> None:
    """It was unknown whether Kafka had it, and it had."""
    topic = Topic()
    item = Item(0, Position(1, 1), "notify_customer", "a1", "high", 1_790_000_000_000)
    reports = Reports()
    reports.put(item, succeeded(respond_settings({}), item, None, Tried(1_790_000_000_001)))
    assert reports.settle(Part(0), Position(1, 4), Position(1, 0)) == [item.key]
    reports.send(topic, {0})
    assert topic.sent == [] and item.key not in reports


def test_an_outcome_that_the_log_passed_by_is_told_and_not_sent_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The worker rejected it: it would be rejected again."""
    topic = Topic()
    reports, part = reported(topic)
    assert reports.settle(part, Position(1, 99), Position(1, 0)) == []
    assert "respond.outcome_rejected" in capsys.readouterr().out
    reports.send(topic, {0})
    assert len(topic.sent) == 1
