"""Bad messages of every kind in a good stream, from Kafka to the log and the dead-letter topic (I9)."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from console.stack import Broker, Valkey
from core.codec import decode_reject
from core.events import Position
from core.partitioner import partition_murmur2
from core.times import DAY_MS, HOUR_MS
from core.validation import REASONS
from tests import worker_harness as h
from tests.builders import batches
from tests.worker_harness import Raw, Stage

NOW = int(time.time() * 1000)
"""The stream is live."""
ACCOUNT = "acct-1"


def transaction(**changes: object) -> bytes:
    """A valid value, with changes; a change to None leaves the field out."""
    fields = {"transaction_id": "t", "account_id": ACCOUNT, "amount": 10.0, "occurred_at": NOW, **changes}
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def verdict(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "type": "feedback.v1",
        "account_id": ACCOUNT,
        "transaction_id": "good-1",
        "occurred_at": NOW,
        "source": "analyst",
        "verdict": "fraud",
        **changes,
    }
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def number(field: str, text: str) -> bytes:
    """A value with a number that no JSON encoder would write."""
    return transaction(**{field: "@"}).replace(b'"@"', text.encode())


BAD_TRANSACTIONS: list[tuple[str, bytes | None]] = [
    ("tombstone", None),
    ("too_large", transaction(attributes={f"a{n}": "x" * 600 for n in range(120)})),
    ("too_large", b" " * 900_000),
    ("not_utf8", b'{"transaction_id":"\xff\xfe"}'),
    ("not_utf8", b"\x80\x04\x95"),
    ("not_json", b""),
    ("not_json", b"hello"),
    ("not_json", transaction()[:-1]),
    ("not_json", transaction() + transaction()),
    ("not_json", number("amount", "NaN")),
    ("not_json", number("amount", "-Infinity")),
    ("not_json", b"\xef\xbb\xbf" + transaction()),
    ("not_json", transaction(transaction_id="@").replace(b"@", b"\\ud800")),
    ("not_finite", number("amount", "1e999")),
    ("not_finite", number("amount", "9" * 5_000)),
    ("wrong_type", b'{"transaction_id":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    ("wrong_type", b"[]"),
    ("wrong_type", b"null"),
    ("wrong_type", transaction(amount="10")),
    ("wrong_type", transaction(amount=True)),
    ("wrong_type", transaction(occurred_at=1.5)),
    ("wrong_type", number("occurred_at", "1" * 5_000)),
    ("wrong_type", transaction(attributes={"nested": {"no": 1}})),
    ("duplicate_key", transaction()[:-1] + b',"amount":1}'),
    ("duplicate_key", transaction()[:-1] + b',"attributes":{"a":1,"\\u0061":2}}'),
    ("missing_field", transaction(amount=None)),
    ("missing_field", b"{}"),
    ("unknown_field", transaction(surprise=1)),
    ("empty_id", transaction(transaction_id="")),
    ("bad_id", transaction(transaction_id="x" * 129)),
    ("bad_id", transaction(transaction_id="a\x00b")),
    ("bad_id", transaction(merchant_id="line\nbreak")),
    ("negative_amount", transaction(amount=-0.01)),
    ("absurd_amount", transaction(amount=1.1e12)),
    ("absurd_time", transaction(occurred_at=0)),
    ("absurd_time", transaction(occurred_at=-NOW)),
    ("absurd_time", transaction(occurred_at=9_999_999_999_999)),
    ("absurd_time", number("occurred_at", "1" * 30)),
    ("future_time", transaction(occurred_at=NOW + HOUR_MS)),
    ("past_time", transaction(occurred_at=NOW - 31 * DAY_MS)),
    ("too_many_attributes", transaction(attributes={f"a{n}": n for n in range(513)})),
    ("not_finite", transaction(attributes={"x": "@"}).replace(b'"@"', b"1e999")),
]

BAD_FEEDBACK: list[tuple[str, bytes | None]] = [
    ("tombstone", None),
    ("not_json", b"{"),
    ("not_utf8", b'{"type":"\xc3\x28"}'),
    ("wrong_type", b"7"),
    ("wrong_type", verdict(verdict="guilty")),
    ("wrong_type", verdict(confidence="high")),
    ("unknown_event", verdict(type="feedback.v9")),
    ("unknown_event", verdict(type=None)),
    ("unknown_field", verdict(recorded_at=1)),
    ("unknown_field", verdict(colour="red")),
    ("duplicate_key", verdict()[:-1] + b',"verdict":"legitimate"}'),
    ("missing_field", verdict(verdict=None)),
    ("bad_confidence", verdict(confidence=1.5)),
    ("absurd_time", verdict(occurred_at=1)),
    ("absurd_time", verdict(transaction_occurred_at=5)),
    ("future_time", verdict(occurred_at=NOW + HOUR_MS)),
    ("future_time", verdict(transaction_occurred_at=NOW + HOUR_MS)),
    ("empty_id", verdict(transaction_id="")),
    ("negative_amount", verdict(amount=-1.0)),
    ("bad_id", verdict(reason="tab\there")),
    ("too_deep", b'{"type":"feedback.v1","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
]

BAD_KEYS: list[tuple[str, bytes | None]] = [
    ("empty_key", None),
    ("empty_key", b""),
    ("key_mismatch", b"acct-2"),
    ("key_mismatch", b"\xff\xfe"),
]


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    changes = {"partitions": 2, "batch_size": 20}
    made = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, history=False, **changes)
    made.create_topics()
    return made


def good(on: Stage, number: int) -> Raw:
    account = f"acct-{number % 7}"
    value = transaction(transaction_id=f"good-{number}", account_id=account, occurred_at=NOW + number)
    return Raw(on.settings.transactions_topic, account.encode(), value, NOW + number)


def test_every_kind_of_bad_message_is_kept_and_the_stream_goes_on(on: Stage) -> None:
    """Good messages are decided, each bad one is in `rejects` with its bytes and reason, and in the dead-letter
    topic.
    """
    transactions, feedback = on.settings.transactions_topic, on.settings.feedback_topic
    bad = [(reason, Raw(transactions, b"acct-1", value, NOW)) for reason, value in BAD_TRANSACTIONS]
    bad += [(reason, Raw(feedback, b"acct-1", value, NOW)) for reason, value in BAD_FEEDBACK]
    for index, (reason, key) in enumerate(BAD_KEYS):
        bad.append((reason, Raw(transactions, key, transaction(transaction_id=f"k{index}"), NOW)))
        bad.append((reason, Raw(feedback, key, verdict(), NOW)))
    elsewhere = (partition_murmur2(b"acct-1", on.settings.partitions) + 1) % on.settings.partitions
    for topic, value in ((transactions, transaction(transaction_id="w", occurred_at=NOW)), (feedback, verdict())):
        bad.append(("wrong_partition", Raw(topic, b"acct-1", value, NOW, partition=elsewhere)))
    numbers = iter(range(1_000_000))
    messages: list[Raw] = []
    for _, message in bad:
        messages += [good(on, next(numbers)) for _ in range(3)]
        messages.append(message)
    # A duplicate in the same batch, and one of a message that was decided long before.
    repeated = [good(on, 2), good(on, 2), messages[0]]
    bad += [("duplicate_transaction", message) for message in repeated]
    messages += repeated
    messages += [good(on, next(numbers)) for _ in range(5)]
    on.send(messages)
    stats = on.drain()

    found = h.log_of(on)
    rejects = Counter((topic, reason, key, value) for part in found for topic, _, reason, key, value in part.rejects)
    roles = {transactions: "transactions", feedback: "feedback"}
    assert rejects == Counter((roles[m.topic], reason, m.key, m.value) for reason, m in bad)
    assert sum(len(part.transactions) for part in found) == next(numbers)
    assert stats.transactions + sum(stats.rejects.values()) == len(messages)
    assert stats.rejects == Counter(reason for reason, _ in bad)
    signing = {"unsigned", "bad_signature", "not_permitted", "repeated_act"}  # tests/unit/core/test_feedback_signing.py
    registry = {"unknown_schema", "not_by_schema"}  # test_wire_format.py
    assert set(stats.rejects) == set(REASONS) - {"outside_history", "card_number"} - signing - registry
    h.assert_sound(on)


def test_a_dead_letter_is_the_reject(on: Stage) -> None:
    """Key, value, and in the headers reason, detail, topic, partition and position: what the log's reject says."""
    messages = [Raw(on.settings.transactions_topic, b"acct-1", value, NOW) for _, value in BAD_TRANSACTIONS]
    messages += [Raw(on.settings.feedback_topic, b"acct-1", value, NOW) for _, value in BAD_FEEDBACK]
    messages.append(Raw(on.settings.transactions_topic, b"\x00\xff", transaction(), NOW))
    on.send(messages)
    on.drain()
    logged = []
    with on.log() as log:
        for p in range(on.settings.partitions):
            for entry in batches.contents(log, p)["rejects"]:
                r = decode_reject(entry.payload)
                headers = (
                    ("reason", r.reason.encode()),
                    ("detail", r.detail.encode()),
                    ("topic", r.topic.encode()),
                    ("partition", b"%d" % p),
                    ("position", r.position.encode()),
                )
                logged.append((r.key, r.value, headers))
    assert len(logged) == len(messages)
    letters = [(m.key, m.value, m.headers) for m in on.messages(on.settings.dead_letter_topic)]
    assert sorted(letters, key=repr) == sorted(logged, key=repr)


def test_a_message_as_large_as_the_broker_lets_through_is_one_reject(on: Stage) -> None:
    """10 MB arrive whole in `rejects`; the dead-letter copy says that it was too large to copy; the stream goes on."""
    size = 10_000_000
    large = {"message.max.bytes": 20_000_000}
    on.send([good(on, 0)])
    on.send([Raw(on.settings.transactions_topic, b"acct-1", b"x" * size, NOW, partition=0)], **large)
    on.send([Raw(on.settings.transactions_topic, b"acct-1", b"x" * 999_900, NOW, partition=0)], **large)
    on.send([good(on, n) for n in range(1, 30)])
    stats = on.drain()
    assert stats.transactions == 30
    assert stats.rejects == {"too_large": 2}
    kept = [r for part in h.log_of(on) for r in part.rejects]
    assert sorted(len(value or b"") for *_, value in kept) == [999_900, size]
    h.assert_sound(on)


def test_rejects_alone_move_the_position(on: Stage) -> None:
    """A partition that got nothing but garbage has sealed its position, so that a restart does not read it again."""
    on.send([Raw(on.settings.transactions_topic, b"k", b"garbage", NOW, partition=1) for _ in range(25)])
    on.drain()
    with on.log() as log:
        assert log.head(1).transactions == Position(1, 25)
    stats = on.drain()
    assert not stats.rejects


@pytest.mark.parametrize("topic", ["missing-topic", ""])
def test_a_dead_letter_topic_that_is_not_there_does_not_stop_the_stream(on: Stage, topic: str) -> None:
    """Rejects stay in the log; that their copies can't be written is no reason to stop or to wait."""
    on = on.changed(dead_letter_topic=topic and f"{on.settings.log_prefix}.{topic}")
    messages = []
    for n in range(100):
        messages += [good(on, n), Raw(on.settings.transactions_topic, b"k", b"garbage", NOW)]
    on.send(messages)
    stats = on.drain()
    assert (stats.transactions, stats.rejects) == (100, {"not_json": 100})
    h.assert_sound(on)
