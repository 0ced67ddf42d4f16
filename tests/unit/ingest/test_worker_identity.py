"""A log's identity and its partitioner, on real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from console import findings as doctor
from console.stack import Broker, Valkey
from core import control_stream
from core.codec import decode_reject, encode
from core.errors import BadInput
from core.events import AccountBlocked
from core.partitioner import PARTITIONERS
from tests import worker_harness as h
from tests.builders.events import transaction
from tests.builders.logs import entries
from tests.worker_harness import Raw, Stage, Threaded

NOW = 1_780_000_000_000


def staged(broker: Broker, valkey: Valkey, directory: Path, **changes: Any) -> Stage:
    on = h.stage(broker.bootstrap, valkey.host, valkey.port, directory, **changes)
    on.create_topics()
    return on


@pytest.mark.parametrize("partitioner", ["murmur2", "crc32"])
def test_what_our_producer_sends_is_where_it_belongs(
    broker: Broker, valkey_server: Valkey, tmp_path: Path, partitioner: Any
) -> None:
    """With either partitioner every message is decided, and the log says which one it is."""
    on = staged(broker, valkey_server, tmp_path, partitioner=partitioner)
    records = h.synthetic(400)
    on.produce(records)
    on.drain()
    h.assert_everything_once(on, records)
    with on.log() as log:
        identity = control_stream.identity_of(log)
        assert (identity.partitioner, identity.partitions) == (partitioner, 4)
        assert not [f for f in doctor.log_findings(on.settings) if f.status == "fail"]


def test_a_message_elsewhere_is_rejected_and_doctor_says_so(
    broker: Broker, valkey_server: Valkey, tmp_path: Path
) -> None:
    """A payment copied into every partition is decided once, in its own; so is a block. Nothing passes beside it."""
    on = staged(broker, valkey_server, tmp_path)
    block = encode(AccountBlocked(account_id="a1", occurred_at=NOW - 1, actor="ann"))
    payment = encode(transaction(1, account_id="a1", occurred_at=NOW))
    own = PARTITIONERS["murmur2"](b"a1", 4)
    for topic, value in ((on.settings.feedback_topic, block), (on.settings.transactions_topic, payment)):
        on.send([Raw(topic, b"a1", value, NOW, partition=p) for p in range(4)])
    on.drain()
    with on.log() as log:
        for partition in range(4):
            reasons = [decode_reject(e.payload).reason for e in entries(log, partition, "rejects")]
            assert reasons == ([] if partition == own else ["wrong_partition"] * 2)
        scores = entries(log, own, "scores")
        assert h.total(on, log) == 1 and b'"ACCOUNT_BLOCKED"' in scores[0].payload
    said = [f for f in doctor.log_findings(on.settings) if f.status == "fail"]
    assert len(said) == 3 and all("wrong_partition" in f.message and "murmur2" in f.remedy for f in said)


def test_a_setting_that_differs_from_the_log_is_an_error(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """Partitioner and bounds are chosen once; another value later is refused with what to do."""
    on = staged(broker, valkey_server, tmp_path, accounts_max=5_000)
    on.drain()
    chosen = {"SENTINEL_PARTITIONER=murmur2": {"partitioner": "crc32"}, "_ACCOUNTS_MAX=5000": {"accounts_max": 6_000}}
    for remedy, changes in chosen.items():
        worker = Threaded(Stage(replace(on.settings, **changes), tmp_path), drain=True)
        worker.start()
        with pytest.raises(BadInput, match=remedy):
            worker.join()
    other = replace(on.settings, partitioner="crc32")
    assert any("SENTINEL_PARTITIONER=murmur2" in f.remedy for f in doctor.log_findings(other))


def test_a_log_without_identity_is_refused(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """A log with topics but without LogCreated is of an earlier release: nothing is decided on it."""
    on = staged(broker, valkey_server, tmp_path)
    on.drain()
    with on.log() as log:
        held = [payload for _, payload in log.read_control()]
    older = Stage(replace(on.settings, log_prefix=f"{on.settings.log_prefix}-older"), tmp_path)
    with older.log() as log:
        log.append_control([payload for payload in held if b"log_created" not in payload], 0)
    worker = Threaded(older, drain=True)
    worker.start()
    with pytest.raises(BadInput, match=r"release before 0\.3\.0"):
        worker.join()
    assert any("LogCreated" in f.message for f in doctor.log_findings(older.settings))
