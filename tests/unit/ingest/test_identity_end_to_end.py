"""A worker on a log that requires identity: what it reports is signed, and without a key it does not start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from console import identity_keys
from console.stack import Broker, Valkey
from core import control_stream
from core.codec import encode
from core.errors import BadInput
from core.events import SealsRecorded
from core.log.base import EventLog
from learners.governance import identities
from learners.governance.control_events import Act
from sources.record import Record
from tests import worker_harness as h
from tests.builders.events import T0, transaction
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


def required(log: EventLog, directory: Path) -> None:
    """Ann administers, the worker works, the loop learns; identity is required."""
    ann = made(directory, "ann")
    log.signer = ann  # type: ignore[misc]
    act = Act("ann", "policy", 1)
    identities.enrol(log, act, "ann", ["admin"], ann.public_key)
    for name, role in (("worker-1", "worker"), ("loop-1", "learner")):
        identities.enrol(log, act, name, [role], made(directory, name).public_key)
    identities.require(log, act, True)


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
