"""The tail: every outcome reaches who waits for it, whenever they begin to wait; none is missed or told twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from console.api.tail import Decided, Outcome, Refused, Tail
from core.codec import encode
from core.errors import Unavailable
from core.events import Position, TransactionRejected
from core.log.base import Batch, Entry, Head
from core.log.memory import MemoryLog
from tests.builders.batches import batch_after


def run(log: MemoryLog, check: Callable[[Tail], Awaitable[Any]]) -> Any:
    """Run `check` with a tail of the log's first two partitions."""

    async def main() -> Any:
        tail = Tail(log, [0, 1])
        tail.prepare()
        tail.start()
        try:
            return await asyncio.wait_for(check(tail), 20.0)
        finally:
            await asyncio.to_thread(tail.stop)

    return asyncio.run(main())


def test_an_outcome_is_told_before_and_after_it_is_asked_for() -> None:
    """Who waits gets the entries of the batch; so does who asks later; the older log is not told."""
    log = MemoryLog()
    old = log.append(0, batch_after(Head(), transactions=3), Head())
    batch = batch_after(old, transactions=5, alerts=2)

    async def check(tail: Tail) -> None:
        first = tail.outcome(0, batch.scores[0].id)
        log.append(0, batch, old)
        got = await first
        assert got == Decided(
            0,
            batch.scores[0].id,
            batch.transactions[0].payload,
            batch.scores[0].payload,
            dict(batch.alerts).get(got.position),
        )
        for entry in batch.scores:
            late = tail.outcome(0, entry.id)
            assert (await late).position == entry.id  # type: ignore[union-attr]
        assert not tail.outcome(0, old.transactions).done()

    run(log, check)


def test_a_reject_is_told_with_its_reason_and_feedbacks_rejects_are_not() -> None:
    """A rejected payment's position is told; a rejected verdict is nobody's payment."""
    log = MemoryLog()

    def reject(topic: Any, offset: int) -> bytes:
        return encode(
            TransactionRejected(
                recorded_at=1, topic=topic, position=f"1-{offset}", reason="bad_id", detail="x", key=None, value=None
            )
        )

    async def check(tail: Tail) -> None:
        heard: list[Outcome] = []
        tail.listeners.append(heard.extend)
        waiting = tail.outcome(1, Position(1, 8))
        batch = Batch(
            control=0,
            recorded_at=1,
            transactions_end=Position(1, 8),
            feedback_end=Position(1, 7),
            rejects=[Entry(Position(1, 1), reject("feedback", 7)), Entry(Position(1, 2), reject("transactions", 8))],
        )
        log.append(1, batch, Head())
        assert await waiting == Refused(1, Position(1, 8), "bad_id", "x")
        assert heard == [await waiting]

    run(log, check)


def test_nothing_is_missed_or_told_twice_over_many_batches_and_an_outage() -> None:
    """Forty batches in two partitions, with the log away in between: each decision is told once, in order."""
    log = MemoryLog()
    follow = log.follow
    away = {"until": 0, "calls": 0}

    def flaky(*arguments: Any, **named: Any) -> Any:
        away["calls"] += 1
        if away["calls"] % 5 == 0:
            raise Unavailable("the log server is away")
        return follow(*arguments, **named)

    log.follow = flaky  # type: ignore[method-assign]

    async def check(tail: Tail) -> None:
        heard: list[Outcome] = []
        tail.listeners.append(heard.extend)
        wanted: dict[int, list[Position]] = {0: [], 1: []}
        heads = {0: Head(), 1: Head()}
        for number in range(40):
            p = number % 2
            batch = batch_after(heads[p], transactions=3 + number % 4, alerts=1)
            heads[p] = log.append(p, batch, heads[p])
            wanted[p] += [entry.id for entry in batch.scores]
            await asyncio.sleep(0.002)
        while len(heard) < sum(map(len, wanted.values())):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        for p in (0, 1):
            assert [each.position for each in heard if each.partition == p] == wanted[p]
        assert tail.trouble == "" or "away" in tail.trouble

    run(log, check)


def test_who_gives_up_leaves_nothing_behind() -> None:
    """A future that was forgotten is not kept, and one beside it still gets the outcome."""
    log = MemoryLog()
    batch = batch_after(Head(), transactions=1)
    position = batch.scores[0].id

    async def check(tail: Tail) -> None:
        given_up, kept = tail.outcome(0, position), tail.outcome(0, position)
        tail.forget(0, position, given_up)
        log.append(0, batch, Head())
        assert (await kept).position == position
        assert not given_up.done()

    run(log, check)


@pytest.mark.parametrize("partition", [0, 1])
def test_a_page_that_ends_within_a_batch_loses_no_payment(partition: int) -> None:
    """More entries than one call returns: each score comes with its own transaction."""
    log = MemoryLog()
    batch = batch_after(Head(), transactions=1_500, alerts=700)

    async def check(tail: Tail) -> None:
        heard: list[Outcome] = []
        tail.listeners.append(heard.extend)
        log.append(partition, batch, Head())
        while len(heard) < 1_500:
            await asyncio.sleep(0.01)
        told = [(each.position, each.transaction, each.alert) for each in heard if isinstance(each, Decided)]
        alerts = dict(batch.alerts)
        assert told == [(entry.id, entry.payload, alerts.get(entry.id)) for entry in batch.transactions]

    run(log, check)
