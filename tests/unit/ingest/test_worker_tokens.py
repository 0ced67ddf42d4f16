"""A log with tokens: raw identifiers and personal attributes are nowhere on disk, and every decision is the same."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from console import cli
from console.stack import Broker, Valkey
from core import control_stream
from core.codec import decode_reject, decode_score, decode_transaction
from core.errors import BadInput, Unavailable
from core.events import SealedValuesOpened
from core.log.archive.archive import open_archive
from core.log.archive.archiver import archive_partition
from core.partitioner import partition_murmur2
from core.program.library import default_blobs
from core.sealing import unseal
from core.tokens import is_token
from ingest import bootstrap, vault
from ingest.vault import Vault
from sources.record import Record
from tests import worker_harness as h
from tests.builders.full_disk import no_room
from tests.worker_harness import Raw, Stage

NOW = int(time.time() * 1000)
EMAIL, PHONE = "jane.doe@example.com", "+49 151 2345678"


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    made = h.stage(
        broker.bootstrap,
        valkey_server.host,
        valkey_server.port,
        tmp_path,
        partitions=2,
        tokenise=True,
        vault=str(tmp_path / "vault" / "keys"),
        sealed_attributes=("email", "phone"),
        archive=str(tmp_path / "archive"),
    )
    made = made.changed(decisions_topic=f"{made.settings.log_prefix}.decisions")
    made.create_topics()
    return made


def renamed(records: list[Record]) -> list[Record]:
    """The records with identifiers that nothing else on the machine holds."""
    found = []
    for topic, _, timestamp, value in records:
        body = msgspec.json.decode(value, type=dict[str, Any])
        for name in ("account_id", "device_id", "card_id"):
            if body.get(name):
                body[name] = f"Raw-{body[name]}"
        if topic == "transactions":
            body |= {"ip": f"198.51.100.{len(found) % 250}", "attributes": {"email": EMAIL, "phone": PHONE, "n": 1.0}}
        found.append(Record(topic, body["account_id"], timestamp, msgspec.json.encode(body)))
    return found


def raw_names(records: list[Record]) -> set[str]:
    bodies = [msgspec.json.decode(r.value, type=dict[str, Any]) for r in records]
    fields = ("account_id", "device_id", "card_id", "ip")
    return {body[name] for body in bodies for name in fields if body.get(name)} | {EMAIL, PHONE}


def decided(on: Stage) -> dict[str, Any]:
    """What was decided, and on which features, by transaction."""
    found = {}
    with on.log() as log:
        for p in range(on.settings.partitions):
            streams = h.batches.contents(log, p)
            for t, s in zip(streams["transactions"], streams["scores"], strict=True):
                score = decode_score(s.payload)
                found[decode_transaction(t.payload).transaction_id] = (
                    score.features,
                    score.margin,
                    score.decision,
                    score.rules,
                )
    return found


def test_no_raw_identifier_is_on_disk_and_every_decision_is_the_same(on: Stage, tmp_path: Path) -> None:
    """As in a log without tokens; replayed without the vault to the same bits."""
    records = renamed(h.synthetic(1_500))
    on.produce(records)
    bad = [Raw(on.settings.transactions_topic, b"Raw-x", b'{"account_id":"Raw-x"', NOW)]
    bad += [Raw(on.settings.transactions_topic, records[0].key.encode(), records[0].value, NOW)]
    on.send(bad)
    stats = on.drain()
    assert stats.rejects == {"not_json": 1, "duplicate_transaction": 1}
    with on.log() as log:
        for partition in range(2):
            archive_partition(log, open_archive(on.settings.archive), partition, recorded_until=NOW + 10**9)
        held = [entry.payload for entry in control_stream.history(log)]
        for partition in range(2):
            held += [e.payload for entries in h.batches.contents(log, partition).values() for e in entries]
    for topic in (on.settings.dead_letter_topic, on.settings.decisions_topic):
        held += [part for m in on.messages(topic) for part in (m.key, m.value, repr(m.headers).encode()) if part]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"keys", "archive"} <= {path.name for path in files} | {p.name for f in files for p in f.parents}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files if "snapshots" not in str(path.parent.name))
    everything = b"\n".join([*held, *(path.read_bytes() for path in files)])
    assert [name for name in raw_names(records) | {"Raw-x"} if name.encode() in everything] == []

    plain = Stage(
        msgspec.structs.replace(
            on.settings, tokenise=False, log_prefix=f"{on.settings.log_prefix}-plain", snapshot_directory="", archive=""
        ),
        tmp_path,
    ).changed(snapshot_directory=str(tmp_path / "plain"), decisions_topic="", dead_letter_topic="")
    with on.log() as log:
        identity = control_stream.identity_of(log)
    with plain.log() as log:  # of the same hash key: merchants are counted by hashes
        for blob in default_blobs():
            log.put_blob(blob)
        control_stream.append(log, lambda known: [identity._replace(tokens="").event("test"), h.HISTORY])
    plain.drain()
    assert decided(on) == decided(plain)
    for path in (tmp_path / "vault").iterdir():
        path.unlink()
    h.assert_sound(on)


def payment(number: int, **changes: object) -> bytes:
    fields = {"transaction_id": f"t{number}", "account_id": "Ann", "amount": 10.5, "occurred_at": NOW - 5} | changes
    return msgspec.json.encode(fields)


def test_people_with_the_vault_can_open_what_is_sealed(on: Stage) -> None:
    """Attributes and rejects, under the account's own key; another account's key opens nothing."""
    topic = on.settings.transactions_topic
    on.send([Raw(topic, b"Ann", payment(1, attributes={"email": EMAIL, "phone": PHONE, "n": 1}), NOW)])
    on.send([Raw(topic, b"Bob", payment(2, account_id="Bob"), NOW), Raw(topic, b"Ann", b"{Ann", NOW)])
    on.drain()
    keys = Vault(Path(on.settings.vault))
    ann, bob = keys.find("Ann"), keys.find("Bob")
    assert ann is not None and bob is not None and keys.by_token(ann.token) == ann and keys.find("Zoe") is None
    with on.log() as log:
        streams = [h.batches.contents(log, p) for p in range(2)]
    logged = [decode_transaction(e.payload) for each in streams for e in each["transactions"]]
    mine = next(t for t in logged if t.account_id == ann.token)
    assert mine.attributes["n"] == 1 and is_token(mine.account_id)
    assert unseal(ann.key, "email", str(mine.attributes["email"])) == EMAIL.encode()
    for key, field in ((bob.key, "email"), (ann.key, "phone")):
        with pytest.raises(BadInput):
            unseal(key, field, str(mine.attributes["email"]))
    [reject] = [decode_reject(e.payload) for each in streams for e in each["rejects"]]
    assert reject.key == ann.token.encode() and unseal(ann.key, "reject", (reject.value or b"").decode()) == b"{Ann"


def test_verdicts_blocks_and_lists_reach_the_token(on: Stage) -> None:
    """By the raw ID or, in the account's partition, by the token; also after a restart and with another worker."""
    s = on.settings
    on.send([Raw(s.transactions_topic, b"Ann", payment(n, device_id="Dev-1"), NOW + n) for n in range(3)])
    on.drain()
    keys = Vault(Path(s.vault))
    ann = keys.find("Ann")
    assert ann is not None
    home = partition_murmur2(b"Ann", 2)
    verdict = {"type": "feedback.v1", "account_id": "Ann", "transaction_id": "t0", "occurred_at": NOW}
    verdict |= {"source": "analyst", "verdict": "fraud", "device_id": "Dev-1"}
    block = {"type": "account_blocked.v1", "account_id": ann.token, "occurred_at": NOW, "actor": "ann"}
    on.send([Raw(s.feedback_topic, b"Ann", msgspec.json.encode(verdict), NOW + 10)])
    on.produce([Record("feedback", ann.token, NOW + 11, msgspec.json.encode(block))])
    on.send([Raw(s.transactions_topic, b"Ann", payment(n), NOW + 20 + n) for n in range(4, 6)])
    stats = on.drain()
    assert stats.decisions["decline"] == 2 and not stats.rejects
    parts = h.log_of(on)
    assert {e["account_id"] for _, e in parts[home].transactions + parts[home].feedback} == {ann.token}
    assert not parts[1 - home].transactions
    h.assert_sound(on)


def test_another_vault_or_none_is_refused(on: Stage, tmp_path: Path) -> None:
    """A log is with tokens of one vault, or without, from its beginning."""
    on.send([Raw(on.settings.transactions_topic, b"Ann", payment(1), NOW)])
    on.drain()
    with on.log() as log:
        for changes, said in (
            ({"vault": str(tmp_path / "other")}, "the vault of key"),
            ({"tokenise": False}, "the log holds tokens"),
        ):
            with pytest.raises(BadInput, match=said):
                bootstrap.ensure(log, on.changed(**changes).settings)
    fresh = Vault(tmp_path / "given", b"k" * 32)
    assert fresh.key_id == Vault(tmp_path / "given", b"k" * 32).key_id != Vault(tmp_path / "lost", b"k" * 32).key_id
    with pytest.raises(BadInput, match="does not hold its key"):
        Vault(tmp_path / "given")
    with pytest.raises(BadInput, match="is not that of the vault"):
        Vault(Path(on.settings.vault), b"x" * 32)
    assert vault.tokenises(on.changed(tokenise=False, environment="production").settings)


@pytest.fixture
def sentinel(
    on: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[object, str]]:
    """Runs a command on the stage's log; returns its exit code and what it printed."""
    config = tmp_path / "sentinel.toml"
    on.worker("unused")
    (tmp_path / f"{on.settings.log_prefix}.toml").rename(config)
    config.chmod(0o600)
    monkeypatch.setenv("SENTINEL_CONFIG", str(config))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["sentinel", *arguments])
        with pytest.raises(SystemExit) as done:
            cli.main()
        shown = capsys.readouterr()
        return done.value.code, shown.out + shown.err

    return run


def test_people_name_accounts_as_they_are_sent(on: Stage, sentinel: Callable[..., tuple[object, str]]) -> None:
    """A case that is opened by hand, and a block, by the raw ID: of the account's token."""
    topic = on.settings.transactions_topic
    with h.Threaded(on) as worker, on.log() as log:
        on.send([Raw(topic, b"Ann", payment(n), NOW + n) for n in range(3)])
        h.wait_for_decisions(on, log, 3, worker.check)
        code, shown = sentinel("case", "open", "Ann", "--note", "called twice")
        ann = Vault(Path(on.settings.vault)).find("Ann")
        assert ann is not None
        assert code == 0 and ann.token in shown and "Ann" not in shown, shown
        code, shown = sentinel("block", "Ann", "Bob", "--reason", "called twice")
        assert code == 0 and "account Bob has no transaction" in shown and "account Ann" not in shown, shown


def test_a_running_worker_forgets_who_is_erased(
    on: Stage, tmp_path: Path, sentinel: Callable[..., tuple[object, str]]
) -> None:
    """`sentinel erase` beside it: whoever returns is a new account; the certificate names the record."""
    topic = on.settings.transactions_topic
    certificate = tmp_path / "erased.json"
    with h.Threaded(on) as worker, on.log() as log:
        on.send([Raw(topic, b"Ann", payment(n, attributes={"email": EMAIL}), NOW + n) for n in range(3)])
        h.wait_for_decisions(on, log, 3, worker.check)
        code, shown = sentinel("unseal", "t1", "--account", "Ann", "--reason", "call her")
        assert code == 0 and EMAIL in shown and "Ann" not in shown
        opened = control_stream.history(log)[-1].event
        assert isinstance(opened, SealedValuesOpened) and opened.fields == ("email",) and opened.reason == "call her"
        assert sentinel("unseal", "t1")[0] == 2
        code, shown = sentinel("erase", "Ann", "--reason", "she asked", "--certificate", "nowhere/erased.json")
        assert code == 2 and "nowhere does not exist" in shown and Vault(Path(on.settings.vault)).find("Ann")
        code, shown = sentinel("erase", "Ann", "--reason", "she asked", "--certificate", str(certificate))
        assert code == 0 and "erased" in shown
        code, shown = sentinel("unseal", "t1", "--reason", "call her")
        assert code == 2 and "erased" in shown and EMAIL not in shown
        position = msgspec.json.decode(certificate.read_bytes())["position"]
        h.wait_for(lambda: worker.worker.control_position >= position, "the record")
        on.send([Raw(topic, b"Ann", payment(n), NOW + n) for n in range(3, 5)])
        h.wait_for_decisions(on, log, 5, worker.check)
    home = partition_murmur2(b"Ann", 2)
    accounts = [e["account_id"] for _, e in h.log_of(on)[home].transactions]
    assert len(set(accounts[:3])) == len(set(accounts[3:])) == 1 and accounts[2] != accounts[3]
    h.assert_sound(on)


def test_a_vault_that_can_not_grow_says_why(tmp_path: Path) -> None:
    """The disk's error, not that of what follows it; with space the same vault goes on."""
    keys = Vault(tmp_path / "keys")
    with no_room(), pytest.raises(Unavailable, match=r"can't be written: (disk I/O error|database or disk is full)"):
        keys.accounts(["Ann"], lambda name: 0)
    assert keys.accounts(["Ann"], lambda name: 0)["Ann"] == keys.find("Ann")


def test_a_worker_waits_for_its_vault(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault that can't be written, here because somebody else writes for too long, neither ends the worker nor loses
    a message.
    """
    monkeypatch.setattr(vault, "BUSY_MS", 50)
    on.produce(renamed(h.synthetic(20, seed=1)))
    on.drain()
    second = on.produce(renamed(h.synthetic(200, start=NOW)))
    with closing(sqlite3.connect(on.settings.vault, isolation_level=None)) as other:
        other.execute("begin immediate")
        with capture_logs() as said, h.Threaded(on) as worker, on.log() as log:
            h.wait_for(lambda: sum("server_unavailable" in each["event"] for each in said) > 2, "waiting")
            worker.check()
            other.execute("commit")
            h.wait_for_decisions(on, log, 220, worker.check)
    assert h.count(second, "transactions") == 200
    waited = [each["error"] for each in said if each["event"] == "ingest.server_unavailable"]
    assert f"the vault {on.settings.vault} can't be written: database is locked" in waited
    h.assert_sound(on)
