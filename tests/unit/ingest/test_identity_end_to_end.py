"""A worker on a log that requires identity: what it reports is signed, and without a key it does not start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from console import identity_keys
from console.stack import Broker, Valkey
from core import control_stream
from core.codec import decode_account_event, decode_reject, encode
from core.errors import BadInput
from core.events import FeedbackRule, SealsRecorded
from core.log.base import EventLog
from core.settings import environment_name
from learners.governance import identities
from learners.governance.control_events import Act
from sources.record import Record
from tests import worker_harness as h
from tests.builders.command_line import run_command
from tests.builders.events import T0, transaction, verdict
from tests.worker_harness import Stage, Threaded


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    stage = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, partitions=2)
    stage.create_topics()
    return stage


def made(directory: Path, name: str) -> identity_keys.FileKey:
    key = identity_keys.new(name)
    identity_keys.write(directory / f"{name}.pem", key, os.environ)
    return key


def required(log: EventLog, directory: Path, feedback: FeedbackRule = "", **more: str) -> None:
    """Ann administers, the worker works, the loop learns; identity is required. more: further names and their roles."""
    ann = made(directory, "ann")
    log.signer = ann  # type: ignore[misc]
    act = Act("ann", "policy", 1)
    identities.enrol(log, act, "ann", ["admin"], ann.public_key)
    for name, role in {"worker-1": "worker", "loop-1": "learner", **more}.items():
        identities.enrol(log, act, name, [role], made(directory, name).public_key)
    identities.require(log, act, True, feedback)


def test_what_commands_tell_is_signed(
    on: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verdicts, blocks and case work by commands count; what others put into the topic is rejected, and what may not be
    told is refused before it is sent.
    """
    monkeypatch.chdir(on.directory)
    for name in ("kafka_servers", "redis_host", "redis_port", "log_prefix", "feedback_topic", "transactions_topic"):
        monkeypatch.setenv(environment_name(name), str(getattr(on.settings, name)))
    send(on, 1)
    on.drain()
    with on.log() as log:
        required(log, on.directory, "signed", carol="analyst", disputes="chargeback")
    signed = on.changed(identity_key=str(on.directory / "worker-1.pem"))

    def run(name: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setenv(environment_name("identity_key"), str(on.directory / f"{name}.pem"))
        return run_command(monkeypatch, capsys, *arguments).told

    given = "--occurred-at", str(T0 + 86_400_000), "--verdict", "fraud", "--source"
    assert run("carol", "feedback", "t1", *given, "analyst")[0] == 0
    assert run("carol", "block", "a2", "--reason", "stolen", "--no-lookup")[0] == 0
    assert run("disputes", "feedback", "t3", *given, "chargeback")[0] == 0
    for name, source in (("disputes", "analyst"), ("carol", "chargeback"), ("worker-1", "analyst")):
        code, said = run(name, "feedback", "t4", *given, source)
        assert code == 2 and "may not tell this" in said, said
    on.produce([Record("feedback", "a5", T0, encode(verdict("a5", transaction_id="t5", actor="carol")))])
    signed.drain()
    with on.log() as log:
        told = [decode_account_event(e.payload) for p in range(2) for e in log.read(p, "feedback")]
        rejects = [decode_reject(e.payload).reason for p in range(2) for e in log.read(p, "rejects")]
    assert {(type(e).__name__, e.actor) for e in told} == {
        ("FeedbackReceived", "carol"),
        ("AccountBlocked", "carol"),
        ("FeedbackReceived", "disputes"),
    }
    assert rejects == ["unsigned"]
    h.assert_sound(on)


def send(on: Stage, first: int) -> None:
    """Twenty payments."""
    paid = [transaction(n, account_id=f"a{n}", occurred_at=T0 + n) for n in range(first, first + 20)]
    on.produce(Record("transactions", each.account_id, each.occurred_at, encode(each)) for each in paid)


def test_a_worker_signs_what_it_reports(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on where an unsigned one began the log; what it records has an effect."""
    send(on, 1)
    on.drain()
    with on.log() as log:
        required(log, on.directory)
    with pytest.raises(BadInput, match="it is not signed"):
        on.drain()
    with pytest.raises(BadInput, match="may not do this"):
        on.changed(identity_key=str(on.directory / "loop-1.pem")).drain()
    monkeypatch.setattr("ingest.worker.RECORD_S", 0.0)
    signed = on.changed(identity_key=str(on.directory / "worker-1.pem"))
    send(signed, 21)
    worker = Threaded(signed)
    worker.start()

    def is_done() -> bool:
        worker.check()
        with on.log() as log:
            said = [each.event for each in control_stream.history(log) if isinstance(each.event, SealsRecorded)]
            decided = sum(log.length(partition, "scores") for partition in range(2))
        return decided == 40 and any(event.key for event in said)

    h.wait_for(is_done, "its decisions and its seals")
    worker.stop()
    with on.log() as log:
        entries = control_stream.history(log)
        mine = [each for each in entries if each.event.actor == "worker-1"]
        assert mine and not any(each.refused for each in entries)
