"""`sentinel feedback` on a broker, a worker and a log: from a file to labels, and the same file again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from console import cli
from console.stack import Broker, Valkey
from core.settings import environment_name
from projections.catalogue import ALL
from projections.engine.states import open_states
from projections.views.labels_answers import Filters, labels_answer
from sources.record import Record
from tests import worker_harness as h
from tests.worker_harness import Stage

NAMES = ("kafka_servers", "redis_host", "redis_port", "log_prefix", "transactions_topic", "feedback_topic")


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, partitions=3)
    for name in NAMES:
        monkeypatch.setenv(environment_name(name), str(getattr(stage.settings, name)))
    monkeypatch.chdir(tmp_path)
    yield stage


def sentinel(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sentinel", "feedback", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return int(done.value.code or 0)


def test_a_file_becomes_labels_and_sent_again_changes_nothing(
    on: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accounts are found in the log, the worker takes every verdict, all count; the second time all are duplicates."""
    start = int(time.time() * 1000) - 40 * 86_400_000
    sent = [r for r in h.synthetic(80, accounts=12, start=start) if r.topic == "transactions"]
    on.create_topics()
    on.produce(sent)
    on.drain()
    ids = [_id(record) for record in sent]
    at = max(record.timestamp for record in sent) + 86_400_000
    lines = [f"{each},{'fraud' if n % 3 == 0 else 'legitimate'},{at + n}" for n, each in enumerate(ids)]
    Path("v.csv").write_text("\n".join(["transaction_id,verdict,occurred_at", *lines, "nowhere,fraud,"]) + "\n")
    for times in (1, 2):
        assert sentinel(monkeypatch, "--file", "v.csv", "--source", "analyst", "--actor", "ann", "--json") == 1
        answer = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (answer["sent"], answer["reasons"], answer["not_in_log"]) == (len(ids), {"no_account": 1}, 0)
        on.drain()
        with on.log() as log:
            found = labels_answer(open_states(log, ALL, now_ms=int(time.time() * 1000)), Filters(limit=10**6))
        expected = {"accepted": len(ids)} | ({"duplicate": len(ids)} if times == 2 else {})
        assert found.quality == expected
        assert {row.transaction_id: row.status for row in found.labels} == {
            each: "fraud" if n % 3 == 0 else "legitimate" for n, each in enumerate(ids)
        }
    on_its_own = sentinel(monkeypatch, ids[0], "--verdict", "legitimate", "--source", "chargeback")
    assert on_its_own == 0
    on.drain()
    with on.log() as log:
        states = open_states(log, ALL, now_ms=int(time.time() * 1000))
        (row,) = labels_answer(states, Filters(transaction=ids[0])).labels
    assert (row.status, row.quality) == ("review", ["accepted", "duplicate", "accepted"])
    assert row.verdicts[-1].claimed_at == sent[0].timestamp and row.verdicts[-1].amount > 0


def _id(record: Record) -> str:
    value: str = msgspec.json.decode(record.value)["transaction_id"]
    return value
