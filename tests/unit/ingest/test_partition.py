"""One partition's batch: positions, rejects, duplicates and ends, from messages to the log."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from core import pipeline
from core.codec import decode_account_event, decode_reject, decode_score, decode_transaction, encode
from core.events import AccountBlocked, Partitioner, Position, Transaction
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import Batch, Head
from core.log.memory import MemoryLog
from core.partitioner import PARTITIONERS
from ingest.admission import admit
from ingest.intake import Message
from ingest.partition import OFFSET_BEGINNING, Owned, Pending, finish, reject_counts
from ingest.screening import screen
from tests.builders.decisions import context
from tests.builders.events import HISTORY, T0, Item, Shape, stream, transaction, verdict

UNDER = context(HISTORY)
DIGEST = "c0" * 32


def owned(head: Head | None = None, generations: tuple[int, int] = (1, 1)) -> Owned:
    return Owned(0, head or Head(), AccountState(FIXED), generations)


def put(partition: Owned, items: list[Item | bytes], first: tuple[int, int] = (0, 0), start: int = T0) -> None:
    """Items as messages in this order of time; bytes are a bad `transactions` message, or feedback if they start with
    F.
    """
    offsets = list(first)
    for i, item in enumerate(items):
        bad = isinstance(item, bytes)
        which = 0 if isinstance(item, Transaction) or (bad and not item.startswith(b"F")) else 1
        side = partition.intake.feedback if which else partition.intake.transactions
        key, value = (b"k", item) if isinstance(item, bytes) else (item.account_id.encode(), encode(item))
        side.records.append(Message(offsets[which], start + i, key, value))
        offsets[which] += 1
    partition.intake.transactions.at_end = partition.intake.feedback.at_end = True


def settle(partition: Owned, limit: int = 10**6, log: MemoryLog | None = None) -> tuple[Pending, Batch]:
    """Take, decide, finish and append one batch."""
    pending = partition.take(limit, 777)
    assert pending is not None
    screen([pending])
    admit(pending, UNDER.histories)
    decided = pipeline.decide(UNDER, [pending.work])[0]
    finish([pending], [decided], UNDER.position, DIGEST)
    sealed = pending.sealed
    assert sealed is not None
    partition.head = (log or MemoryLog()).append(0, sealed.batch, sealed.expected)
    assert partition.head == sealed.head
    return pending, sealed.batch


@pytest.mark.parametrize("partitioner", ["murmur2", "crc32"])
def test_what_a_key_does_not_map_to_is_rejected(partitioner: Partitioner) -> None:
    """Payments, verdicts and blocks of other partitions' accounts are rejects; the partition's own are taken."""
    items: list[Item | bytes] = []
    for n in range(60):
        items.append(AccountBlocked(account_id=f"a{n}", occurred_at=T0, actor="ann"))
        items += [transaction(n, account_id=f"a{n}"), verdict(f"a{n}")]
    for number in range(3):
        identity = FIXED._replace(partitioner=partitioner, partitions=3)
        partition = Owned(number, Head(), AccountState(identity), (1, 1))
        put(partition, items)
        _, batch = settle(partition)
        own = {f"a{n}" for n in range(60) if PARTITIONERS[partitioner](f"a{n}".encode(), 3) == number}
        taken = [decode_transaction(e.payload).account_id for e in batch.transactions]
        assert set(taken) == own and len(taken) == len(own) and len(batch.feedback) == 2 * len(own)
        rejects = [decode_reject(e.payload) for e in batch.rejects]
        assert {(r.reason, (r.key or b"").decode() in own) for r in rejects} == {("wrong_partition", False)}
        assert len(rejects) == 3 * (60 - len(own)) and partitioner in rejects[0].detail


def test_one_message_with_a_key_twice_is_the_only_one_rejected() -> None:
    """All messages are scanned at once; where a key stands twice, rejects are those of each alone, in order."""
    good = [transaction(n, account_id="k") for n in range(6)]
    twice = encode(good[3])[:-1] + b',"amount":1.0}'
    partition = owned()
    put(partition, [*good[:3], twice, b"{", *good[3:5], b"[]", good[5]])
    pending, batch = settle(partition)
    assert [decode_transaction(e.payload).transaction_id for e in batch.transactions] == [f"t{n}" for n in range(6)]
    rejects = [decode_reject(e.payload) for e in batch.rejects]
    assert [(r.reason, r.position) for r in rejects] == [
        ("duplicate_key", "1-4"), ("not_json", "1-5"), ("wrong_type", "1-8"),
    ]  # fmt: skip
    assert len(pending.malformed) == 3


def test_several_partitions_are_scanned_together_with_the_rejects_of_each_alone() -> None:
    """A key that stands twice in one partition's message: every batch has the rejects and transactions that it has when
    it is taken by itself.
    """
    items = [transaction(n, account_id="k") for n in range(4)]
    twice = encode(items[0])[:-1] + b',"amount":1.0}'
    contents: list[list[Item | bytes]] = [[*items[:2], twice, b"{"], [*items[2:4], b"[]"]]
    alone: list[Pending] = []
    together: list[Pending] = []
    for content in contents:
        for found in (alone, together):
            partition = owned()
            put(partition, content)
            pending = partition.take(100, 777)
            assert pending is not None
            found.append(pending)
        screen(alone[-1:])
    screen(together)
    for one, other in zip(alone, together, strict=True):
        assert [(r.reason, r.position) for r in one.malformed] == [(r.reason, r.position) for r in other.malformed]
        assert [part.transactions for part in one.decoded] == [part.transactions for part in other.decoded]
    assert [r.reason for r in together[0].malformed] == ["duplicate_key", "not_json"]
    assert [r.reason for r in together[1].malformed] == ["wrong_type"]


@pytest.mark.parametrize("seed", range(20))
def test_a_key_that_stands_twice_changes_no_other_decision(seed: int) -> None:
    """Whatever the order of payments and feedback: with such a message among them, each payment has seen the feedback
    that it sees without it, also when all is decoded once more.
    """
    rng = random.Random(seed)
    items: list[Item | bytes] = [
        transaction(n, account_id="k") if rng.random() < 0.6 else verdict("k", transaction_id=f"t{n}")
        for n in range(30)
    ]
    twice = encode(transaction(99, account_id="k"))[:-1] + b',"amount":1.0}'
    at = rng.randrange(len(items) + 1)
    found = []
    for content in (items, [*items[:at], twice, *items[at:]]):
        partition = owned()
        put(partition, content)
        pending, batch = settle(partition)
        seen = [decode_score(e.payload).feedback_position for e in batch.scores]
        found.append((seen, pending.feedback_end, [e.payload for e in batch.feedback]))
    assert found[0] == found[1]


def test_nothing_to_take() -> None:
    """Without records, or with a side that holds the other back, there is no batch."""
    partition = owned()
    assert partition.take(10, 777) is None
    partition.intake.transactions.records.append(Message(0, T0, b"a1", encode(transaction())))
    assert partition.take(10, 777) is None


def test_positions_and_runs() -> None:
    """IDs are generation and offset + 1 of each topic; a score's f is the feedback that came before it."""
    partition = owned(generations=(3, 2))
    put(partition, [transaction(1), verdict(), verdict(), transaction(2), transaction(3), verdict()], (10, 5))
    pending, batch = settle(partition)
    assert (
        [e.id for e in batch.transactions]
        == [e.id for e in batch.scores]
        == [Position(3, 11), Position(3, 12), Position(3, 13)]
    )
    assert [e.id for e in batch.feedback] == [Position(2, 6), Position(2, 7), Position(2, 8)]
    assert [decode_score(e.payload).feedback_position for e in batch.scores] == ["0-0", "2-7", "2-7"]
    assert (batch.transactions_end, batch.feedback_end) == (Position(3, 13), Position(2, 8))
    assert decode_transaction(batch.transactions[0].payload).recorded_at == 777
    assert decode_account_event(batch.feedback[0].payload).recorded_at == 777
    assert len(pending.work.runs) == 3 and batch.control == UNDER.position


def test_rejects_are_kept_whole_and_ends_advance_over_them() -> None:
    """Bad messages get IDs of the batch's sequence, their position, reason and raw bytes; the ends go past them."""
    partition = owned(Head(sequence=6))
    put(partition, [b"\xff", transaction(1), b"F{}", b"{}", transaction(2, amount=-1.0)])
    _, batch = settle_without_log(partition)
    rejects = [decode_reject(e.payload) for e in batch.rejects]
    assert [e.id for e in batch.rejects] == [Position(7, 1), Position(7, 2), Position(7, 3), Position(7, 4)]
    assert [(r.topic, r.position, r.reason) for r in rejects] == [
        ("transactions", "1-1", "not_utf8"), ("feedback", "1-1", "not_json"),
        ("transactions", "1-3", "missing_field"), ("transactions", "1-4", "negative_amount"),
    ]  # fmt: skip
    assert (rejects[0].key, rejects[0].value, rejects[0].recorded_at) == (b"k", b"\xff", 777)
    assert (batch.transactions_end, batch.feedback_end) == (Position(1, 4), Position(1, 1))
    assert [e.id for e in batch.transactions] == [Position(1, 2)]


def settle_without_log(partition: Owned) -> tuple[Pending, Batch]:
    pending = partition.take(10**6, 777)
    assert pending is not None
    screen([pending])
    admit(pending, UNDER.histories)
    finish([pending], pipeline.decide(UNDER, [pending.work]), UNDER.position, DIGEST)
    assert pending.sealed is not None
    return pending, pending.sealed.batch


def test_a_batch_of_rejects_only_still_advances() -> None:
    """A batch with nothing good in it is appended all the same, so that its messages aren't read again."""
    partition = owned()
    put(partition, [b"", b"F"])
    _, batch = settle(partition)
    assert not batch.transactions and not batch.feedback and len(batch.rejects) == 2
    assert partition.settled and partition.head.transactions == Position(1, 1)


def test_a_tombstone_without_a_key_is_kept() -> None:
    """A message of nothing at all is a reject with nothing in it."""
    partition = owned()
    partition.intake.transactions.records.append(Message(0, 0, None, None))
    partition.intake.feedback.at_end = partition.intake.transactions.at_end = True
    _, batch = settle(partition)
    reject = decode_reject(batch.rejects[0].payload)
    assert (reject.reason, reject.key, reject.value) == ("tombstone", None, None)


def test_duplicates_become_rejects_with_the_raw_message() -> None:
    """A repeated payment, in the same batch or a later one, is rejected with its own position and bytes, after the bad
    messages.
    """
    partition, log = owned(), MemoryLog()
    put(partition, [transaction(1), transaction(1), b"x", transaction(1, account_id="a2"), transaction(7)])
    pending, batch = settle(partition, log=log)
    assert [decode_reject(e.payload).reason for e in batch.rejects] == ["not_json", "duplicate_transaction"]
    again = decode_reject(batch.rejects[1].payload)
    assert (again.position, again.value, again.key) == ("1-2", encode(transaction(1)), b"a1")
    assert [e.id.offset for e in batch.transactions] == [1, 4, 5]
    assert reject_counts(pending) == Counter(not_json=1, duplicate_transaction=1)
    put(partition, [transaction(1), transaction(2)], (5, 0))
    _, batch = settle(partition, log=log)
    assert [decode_reject(e.payload).position for e in batch.rejects] == ["1-6"]
    assert [e.id for e in batch.transactions] == [Position(1, 7)] and batch.rejects[0].id == Position(2, 1)


def test_long_details_are_cut() -> None:
    """A reject's detail is bounded, however long the message's field names are."""
    partition = owned()
    put(partition, [b'{"' + b"n" * 60_000 + b'":1}'])
    _, batch = settle(partition)
    assert len(decode_reject(batch.rejects[0].payload).detail) == 500


def test_start_offsets() -> None:
    """Reading goes on after the log's head, and from the beginning where the generation is new."""
    head = Head(sequence=1, transactions=Position(2, 41), feedback=Position(1, 7))
    assert owned(head, (2, 1)).start_offsets() == (41, 7)
    assert owned(head, (3, 1)).start_offsets() == (OFFSET_BEGINNING, 7)
    assert owned().start_offsets() == (OFFSET_BEGINNING, OFFSET_BEGINNING)


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_a_stream_in_batches_is_the_stream_at_once(limit: int) -> None:
    """The size of the batches changes neither entries nor state; every message is in the log exactly once."""
    rng = random.Random(3)
    items: list[Item | bytes] = list(stream(8, 300, Shape(accounts=5, duplicates=0.1, feedback=0.2)))
    for _ in range(25):
        items.insert(rng.randrange(len(items)), rng.choice([b"{", b"F{", b"\xff", b"[]"]))

    def run(size: int) -> tuple[MemoryLog, Owned]:
        partition, log = owned(), MemoryLog()
        put(partition, items)
        while not partition.intake.drained:
            settle(partition, size, log)
        return log, partition

    (once, one), (many, other) = run(10**6), run(limit)
    for name in ("transactions", "scores", "alerts", "feedback"):
        assert many.read(0, name, count=10**6) == once.read(0, name, count=10**6)
    positions = {
        log: sorted(decode_reject(e.payload).position for e in log.read(0, "rejects", count=10**6))
        for log in (once, many)
    }
    assert positions[once] == positions[many]
    assert one.state.digest() == other.state.digest()
    assert many.length(0, "transactions") + many.length(0, "feedback") + many.length(0, "rejects") == len(items)
