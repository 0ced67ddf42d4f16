"""No card number, security code or magnetic stripe is stored: hostile messages from Kafka to everything that a worker
writes, searched byte by byte.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import msgspec
import pytest

from console.stack import Broker, Valkey
from core import control_stream
from core.codec import decode_transaction
from core.events import ListChanged
from core.hiding import Hiding
from core.identity import required
from core.log.archive.archive import open_archive
from core.log.archive.archiver import archive_partition
from core.log.base import EventLog
from core.partitioner import partition_murmur2
from core.tokens import KeyedTokens
from tests import worker_harness as h
from tests.builders.card_oracle import card_number, card_numbers, digits_of, in_script, spelled
from tests.worker_harness import Raw, Stage

NOW = int(time.time() * 1000)
PAN = "4111111111111111"
CODES = ("7391", "739")
"""Security codes, which nothing else in these messages is."""


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    made = h.stage(
        broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, history=False, partitions=2, batch_size=50
    )
    made.create_topics()
    return made


def payment(number: int, **changes: object) -> dict[str, object]:
    fields = {"transaction_id": f"t{number}", "account_id": f"a{number % 5}", "amount": 10.5, "occurred_at": NOW - 5}
    return fields | changes


def hostile(on: Stage, dice: random.Random, number: int) -> tuple[Raw, str]:
    """A message that holds a card number, and that number."""
    pan = card_number(dice)
    written = spelled(pan, dice)
    if dice.randrange(3) == 0:
        written = in_script(written, dice)
    topic = on.settings.transactions_topic
    match dice.randrange(11):
        case 0:
            body = payment(number, card_id=written)
        case 1:
            body = payment(number, attributes={"pan": written, "cvv": CODES[number % 2]})
        case 2:
            body = payment(number, attributes={"memo": f"pay {written} CVV {CODES[number % 2]} please"})
        case 3:
            body = payment(number, attributes={"pan": int(pan)})
        case 4:
            body = payment(number, account_id=written)
        case 5:
            body = payment(number, transaction_id=written)
        case 6:
            body = payment(number, surprise=written, cvc=CODES[number % 2])
        case 7:
            body = payment(number, amount=-1.0, merchant_id=written)
        case 8:
            body = payment(number, attributes={f"n{written}": 1, "track2": f";{pan}=27121010000012300000?"})
        case 9:
            body = {
                "type": "feedback.v1",
                "account_id": f"a{number % 5}",
                "transaction_id": f"t{number}",
                "occurred_at": NOW - 5,
                "source": "analyst",
                "verdict": "fraud",
                "reason": f"card {written}",
            }
            topic = on.settings.feedback_topic
        case _:
            return Raw(topic, written.encode(), f"{{card: {written}, cvv: {CODES[0]}".encode(), NOW), pan
    value = msgspec.json.encode(body)
    if dice.randrange(4) == 0:
        value = "".join(
            c if c.isascii() else "".join(f"\\u{u:04x}" for u in _units(c)) for c in value.decode()
        ).encode()
    return Raw(topic, str(body["account_id"]).encode(), value, NOW), pan


def _units(c: str) -> list[int]:
    encoded = c.encode("utf-16-be")
    return [int.from_bytes(encoded[k : k + 2], "big") for k in range(0, len(encoded), 2)]


def test_nothing_of_hostile_messages_is_left_anywhere(on: Stage, valkey_server: Valkey, tmp_path: Path) -> None:
    """Log and its file, control stream, archive, snapshots, dead letters, decisions: whatever form the number had."""
    on = on.changed(decisions_topic=f"{on.settings.log_prefix}.decisions", archive=str(tmp_path / "archive"))
    dice = random.Random(13)
    pairs = [hostile(on, dice, n) for n in range(600)]
    on.send([message for message, _ in pairs])
    stats = on.drain()
    assert stats.transactions > 250 and stats.rejects["not_json"] > 20 and stats.rejects["unknown_field"] > 20
    with on.log() as log:
        for partition in range(on.settings.partitions):
            archive_partition(log, open_archive(on.settings.archive), partition, recorded_until=NOW + 10**9)
        held = _everything(log, on)
    for topic in (on.settings.dead_letter_topic, on.settings.decisions_topic):
        held += [part for m in on.messages(topic) for part in (m.key, m.value, repr(m.headers).encode()) if part]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("snapshots" in str(path) for path in files) and any(path.suffix == ".parquet" for path in files)
    held += [path.read_bytes() for path in files]
    held += [path.read_bytes() for path in Path(valkey_server.directory).rglob("*") if path.is_file()]
    everything = b"\n".join(held)
    left = {pan for _, pan in pairs if pan.encode() in everything}
    assert not left
    assert not any(f"{name}{sep}{code}".encode() in everything for name in ("cvv", "cvc", "CVV ") for code in CODES
                   for sep in ("", '":"', ": "))  # fmt: skip
    for each in held[:-1]:
        text = each.decode("utf-8", "replace") if len(each) < 100_000 else ""
        assert not set(card_numbers(text)) & {pan for _, pan in pairs}
        assert not any(pan in digits_of(text) for _, pan in pairs)
    h.assert_sound(on)


def _everything(log: EventLog, on: Stage) -> list[bytes]:
    found = [entry.payload for entry in control_stream.history(log)]
    for partition in range(on.settings.partitions):
        found += [entry.payload for entries in h.batches.contents(log, partition).values() for entry in entries]
    return found


def test_an_account_that_is_a_card_number_stays_one_account(on: Stage) -> None:
    """Its payments, verdicts, lists and repetitions are those of its token, in the partition of its raw ID; a message
    about the token alone finds it too.
    """
    topic, key = on.settings.transactions_topic, PAN.encode()
    bodies = [payment(n, account_id=PAN, card_id="4012 8888 8888 1881") for n in (1, 2, 3, 1)]
    on.send([Raw(topic, key, msgspec.json.encode(body), NOW) for body in bodies])
    stats = on.drain()
    assert (stats.transactions, stats.rejects) == (3, {"duplicate_transaction": 1})
    with on.log() as log:
        identity = required(control_stream.current(log).identity)
        hiding = Hiding(KeyedTokens.of(identity.key, identity.partitioner, identity.partitions))
        account, card = hiding.identifier("account_id", PAN), hiding.identifier("card_id", "4012888888881881")
        block = ListChanged(
            occurred_at=0, actor="a", reason=PAN, kind="card", effect="block", add=("4012888888881881",)
        )
        control_stream.append(log, lambda known: [block])
        logged = control_stream.history(log)[-1].event
        assert isinstance(logged, ListChanged) and logged.add == (card,) and logged.reason == "****1111"
    home = partition_murmur2(key, on.settings.partitions)
    block_it = {"type": "account_blocked.v1", "account_id": account, "occurred_at": NOW, "actor": "ann"}
    on.send([Raw(on.settings.feedback_topic, account.encode(), msgspec.json.encode(block_it), NOW, partition=home)])
    on.send([Raw(topic, b"b", msgspec.json.encode(payment(5, account_id="b", card_id="4012-8888-8888-1881")), NOW + 1)])
    on.send([Raw(topic, key, msgspec.json.encode(payment(4, account_id=PAN)), NOW + 1)])
    on.send(
        [Raw(topic, account.encode(), msgspec.json.encode(payment(6, account_id=account)), NOW + 2, partition=1 - home)]
    )
    stats = on.drain()
    assert stats.decisions["decline"] == 2 and stats.rejects == {"wrong_partition": 1}
    parts = h.log_of(on)
    assert {e["account_id"] for _, e in parts[home].transactions} <= {account, "b"}
    assert [e["account_id"] for _, e in parts[home].feedback] == [account]
    h.assert_sound(on)


def test_messages_with_card_data_can_be_refused(on: Stage) -> None:
    """With `card_data = "reject"`; the reject has the code `card_number` and no card number."""
    on = on.changed(card_data="reject")
    bodies = [payment(1, card_id=PAN), payment(2), payment(3, attributes={"cvv": "123"}), payment(4, merchant_id="m")]
    on.send(
        [
            Raw(on.settings.transactions_topic, b"x", b"%b" % msgspec.json.encode(b | {"account_id": "x"}), NOW)
            for b in bodies
        ]
    )
    stats = on.drain()
    assert (stats.transactions, stats.rejects) == (2, {"card_number": 2})
    kept = [value for part in h.log_of(on) for *_, value in part.rejects]
    assert not any(PAN.encode() in (value or b"") or b'"123"' in (value or b"") for value in kept)
    assert {letter.value for letter in on.messages(on.settings.dead_letter_topic)} == set(kept)


def test_fields_can_be_declared_free(on: Stage) -> None:
    """IDs that look like card numbers by chance stay as they are."""
    on = on.changed(card_free_fields=("transaction_id",))
    body = payment(1, transaction_id=PAN, card_id=PAN, account_id="x")
    on.send([Raw(on.settings.transactions_topic, b"x", msgspec.json.encode(body), NOW)])
    on.drain()
    with on.log() as log:
        entries = [e for p in range(2) for e in h.batches.contents(log, p)["transactions"]]
    logged = decode_transaction(entries[0].payload)
    assert logged.transaction_id == PAN and logged.card_id.startswith("card_")
