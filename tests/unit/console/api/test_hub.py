"""The hub: slow listeners lose their own stream only; what was missed is read from the log, once and in order."""

from __future__ import annotations

import asyncio

import pytest

from console.api import hub as hub_module
from console.api.hub import Filter, Hub, missed, parse_vector, vector_text
from console.api.tail import Decided, Outcome
from core.errors import BadInput
from core.events import START, Position
from core.log.memory import MemoryLog
from core.log.paging import decision_pages
from tests.builders.baseline_log import PARTITIONS

NOWHERE = dict.fromkeys(range(PARTITIONS), START)


@pytest.fixture(scope="module")
def outcomes(decided: MemoryLog) -> list[Outcome]:
    """Every decision of the log as the tail tells them, partition by partition."""
    return [
        Decided(p, s.id, t.payload, s.payload, None)
        for p in range(PARTITIONS)
        for transactions, scores in decision_pages(decided, p)
        for t, s in zip(transactions, scores, strict=True)
    ]


def test_a_slow_listener_is_cut_off_and_the_others_hear_all(outcomes: list[Outcome]) -> None:
    """The queue is bounded: the slow one is over after QUEUE_MAX events, while one that reads hears every decision."""

    async def main() -> None:
        hub = Hub(range(PARTITIONS))
        hub.begin(NOWHERE)
        slow, _ = hub.subscribe(Filter())
        quick, begin = hub.subscribe(Filter())
        assert begin == NOWHERE
        count = 0
        for page in _pages(outcomes, 200):
            hub.hear(page)
            while not quick.queue.empty():
                quick.queue.get_nowait()
                count += 1
        assert count == len(outcomes) > hub_module.QUEUE_MAX
        assert slow.is_over and not quick.is_over and slow.queue.qsize() == hub_module.QUEUE_MAX
        hub.unsubscribe(slow)
        assert len(hub) == 1

    asyncio.run(main())


def _pages(items: list[Outcome], size: int) -> list[list[Outcome]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def test_what_was_missed_is_told_once_in_order_from_any_event_on(decided: MemoryLog) -> None:
    """From the beginning: every decision. From any event's ID: exactly those after it."""
    until = {p: decided.head(p).transactions for p in range(PARTITIONS)}
    told = missed(decided, NOWHERE, until, Filter())
    assert told is not None and len(told) == sum(decided.length(p, "scores") for p in range(PARTITIONS))
    for p in range(PARTITIONS):
        mine = [event.place.position for event, _ in told if event.place.partition == p]
        assert mine == sorted(mine)
    for cut in (0, 1, len(told) // 2, len(told) - 1):
        after = parse_vector(told[cut][1], range(PARTITIONS))
        rest = missed(decided, after, until, Filter())
        assert rest == told[cut + 1 :]
    alerts = missed(decided, NOWHERE, until, Filter("alerts"))
    assert alerts is not None and [e.place for e, _ in alerts] == [e.place for e, _ in told if e.is_alert]


def test_too_much_is_not_read(decided: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a listener is told of a gap instead."""
    monkeypatch.setattr(hub_module, "CATCH_UP_MAX", 10)
    until = {p: decided.head(p).transactions for p in range(PARTITIONS)}
    assert missed(decided, NOWHERE, until, Filter()) is None


def test_an_id_is_a_position_in_every_partition() -> None:
    """Written and read back; another number of partitions is refused."""
    vector = {0: Position(1, 5), 1: START, 2: Position(3, 2**40)}
    assert vector_text(vector) == f"1-5.0-0.3-{2**40}"
    assert parse_vector(vector_text(vector), range(3)) == vector
    with pytest.raises(BadInput, match="Last-Event-ID"):
        parse_vector(vector_text(vector), range(4))
