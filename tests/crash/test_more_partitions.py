"""A log's number of partitions is fixed: a topic that grew is refused at once, and `sentinel history copy` moves to a
log with more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.stack import Broker, Valkey
from core.codec import decode_score, decode_transaction
from core.control import Generation
from core.errors import BadInput
from core.log.base import Entry
from core.log.paging import pages
from core.settings import Settings
from ingest import bootstrap, copying
from ingest.kafka_client import Topic
from ingest.topic_watch import TopicWatch
from sources.record import Record
from tests import worker_harness as h
from tests.worker_harness import Raw, Stage

ACT = {"occurred_at": 1_780_000_000_000, "actor": "ann", "reason": "more partitions"}


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    made = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, partitions=2)
    made.create_topics()
    return made


def larger(on: Stage, partitions: int) -> Stage:
    """A stage for a new log with more partitions."""
    name = f"{on.settings.log_prefix}-larger"
    return on.changed(
        log_prefix=name,
        consumer_group=name,
        transactions_topic=f"{name}.transactions",
        feedback_topic=f"{name}.feedback",
        dead_letter_topic="",
        partitions=partitions,
    )


def copied(on: Stage, to: Stage) -> copying.Copied:
    with to.log() as log:
        return copying.copy(log, to.settings, on.settings.transactions_topic, on.settings.feedback_topic, None, **ACT)


def decided(on: Stage) -> dict[str, tuple[Any, ...]]:
    """By payment, all that was decided about it and from what."""
    found: dict[str, tuple[Any, ...]] = {}
    with on.log() as log:
        for partition in range(on.settings.partitions):
            entries: list[list[Entry]] = [
                [e for page in pages(log, partition, s) for e in page] for s in ("transactions", "scores")
            ]
            for transaction, score in zip(*entries, strict=True):
                t, s = decode_transaction(transaction.payload), decode_score(score.payload)
                found[t.transaction_id] = (s.decision, s.severity, s.margin, s.rules, bytes(s.features), t.received_at)
    return found


def test_a_log_with_more_partitions_decides_alike(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the old topics hold, copied: each payment is decided once in the new log, to the same features, margin
    and decision; what was sent in between is copied by a second run, and nothing twice. Both logs have the same hash
    key here: distinct merchants are estimated under it.
    """
    monkeypatch.setattr(bootstrap.secrets, "token_hex", lambda size: "5e" * size)
    records = h.synthetic(1_200)
    half = len(records) // 2
    on.produce(records[:half])
    to = larger(on, 5)
    first = copied(on, to)
    assert (first.transactions, first.left_out) == (h.count(records[:half], "transactions"), 0)
    on.produce(records[half:])
    on.drain()
    second = copied(on, to)
    assert second.transactions + first.transactions == h.count(records, "transactions")
    assert second.feedback + first.feedback == h.count(records, "feedback")
    assert copied(on, to) == copying.Copied(0, 0, 0)
    to.drain()
    h.assert_sound(to)
    h.assert_everything_once(to, records)
    former, new = decided(on), decided(to)
    assert len(former) == h.count(records, "transactions") and any(rules for _, _, _, rules, *_ in former.values())
    assert new == former


def test_an_account_whose_partition_changed_stays_in_order(on: Stage) -> None:
    """A topic that grew holds an account's later messages in another partition: they are copied by their times."""
    key = b"acct-1"
    topic, feedback = on.settings.transactions_topic, on.settings.feedback_topic
    times = [1_780_000_000_000 + 1_000 * n for n in range(40)]
    on.send([Raw(topic, key, b'{"n":%d}' % n, at, partition=1) for n, at in enumerate(times[:20])])
    on.send([Raw(topic, key, b'{"n":%d}' % (20 + n), at, partition=0) for n, at in enumerate(times[20:])])
    former = copying.FormerTopics(larger(on, 3).settings, topic, feedback)
    found: list[Record] = [record for chunk in former.chunks() for record in chunk]
    assert [msgspec.json.decode(r.value)["n"] for r in found] == list(range(40))
    assert [r.timestamp for r in found] == times


def test_what_can_not_be_placed_is_left_out(on: Stage) -> None:
    """Without a key, or a value, or about a token that names a partition of the former log: counted, not copied."""
    topic = on.settings.transactions_topic
    token = b"acct_1_" + b"ab" * 16
    odd = [(None, b"{}"), (b"\xff", b"{}"), (b"k", None), (token, b"{}")]
    on.send([Raw(topic, key, value, 1_780_000_000_000, partition=0) for key, value in odd])
    on.send([Raw(topic, b"k", b"{}", 1_780_000_000_001, partition=0)])
    former = copying.FormerTopics(larger(on, 3).settings, topic, on.settings.feedback_topic)
    assert [[r.key for r in chunk] for chunk in former.chunks()] == [["k"]]
    assert former.left_out == 4


def test_topics_are_not_copied_to_themselves(on: Stage) -> None:
    """Nor from a topic that does not exist."""
    with pytest.raises(BadInput, match="can't be copied to itself"):
        copying.FormerTopics(on.settings, on.settings.transactions_topic, "nowhere")
    with pytest.raises(BadInput, match="no topic"):
        copying.FormerTopics(on.settings, "nowhere", "nowhere either")


def test_a_worker_ends_when_its_topic_has_grown(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It decides nothing more, and says where to go on."""
    on.produce(h.synthetic(100))
    worker = h.Threaded(on)
    worker.start()
    h.wait_for(lambda: worker.worker.partitions, "partitions")
    known = bootstrap.source_topics(on.settings)

    def grown(settings: object, names: list[str], client: object = None) -> dict[str, Topic]:
        return {topic.name: topic._replace(partitions=4) for topic in known.values()}

    monkeypatch.setattr(bootstrap, "describe", grown)
    monkeypatch.setattr("ingest.kafka_client.describe", grown)
    with pytest.raises(BadInput, match=r"2 partitions.*has 4.*docs/partitions.md"):
        worker.join()


def test_the_watch_tells_another_topic_from_a_grown_one() -> None:
    """Either differs from what the log's generation read."""
    watch = TopicWatch(Settings(transactions_topic="t", feedback_topic="f"))
    read = {role: Generation(1, "id", role[0], 2, (0, 0)) for role in ("transactions", "feedback")}
    for partitions, identity, expected in ((2, "id", False), (4, "id", True), (2, "other", True)):
        watch._seen = {role: Topic(role[0], identity, partitions) for role in read}
        assert watch.differs(read) is expected
