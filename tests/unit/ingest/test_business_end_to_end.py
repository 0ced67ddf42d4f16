"""The business's commands on a broker, a worker and a log: each takes effect with the worker's next batch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console import cli, wiring
from console.stack import Broker, Valkey
from core import control_stream
from core.codec import decode_score, decode_transaction, encode
from core.log.paging import entries
from core.replay import Timeline
from core.settings import environment_name
from core.verification import verify
from sources.record import Record
from tests import worker_harness as h
from tests.builders.events import transaction
from tests.worker_harness import Stage

NAMES = ("kafka_servers", "redis_host", "redis_port", "log_prefix", "transactions_topic", "feedback_topic")
WHY = ("--reason", "because", "--actor", "ann")


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, partitions=2)
    for name in NAMES:
        monkeypatch.setenv(environment_name(name), str(getattr(stage.settings, name)))
    monkeypatch.chdir(tmp_path)
    yield stage


def test_what_people_change_decides_the_next_batch(
    on: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A block, a list, a rule, rates: before, after and undone; the whole log replays identically."""

    def sentinel(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["sentinel", *arguments])
        with pytest.raises(SystemExit) as done:
            cli.main()
        said = capsys.readouterr()
        assert not done.value.code, said
        return said.out

    sent = 0

    def decided(**changes: Any) -> tuple[str, tuple[str, ...], float]:
        nonlocal sent
        sent += 1
        item = transaction(sent, occurred_at=int(time.time() * 1000), **changes)
        on.produce([Record("transactions", item.account_id, item.occurred_at, encode(item))])
        on.drain()
        with on.log() as log:
            for partition in range(2):
                for entry in entries(log, partition, "transactions"):
                    t = decode_transaction(entry.payload)
                    if t.transaction_id == item.transaction_id:
                        score = log.get(partition, "scores", entry.id)
                        assert score is not None
                        found = decode_score(score)
                        return found.decision, found.rules, t.rate
        raise AssertionError(f"{item.transaction_id} was not decided")

    on.create_topics()
    assert decided(account_id="a1") == ("approve", (), 1.0)
    sentinel("block", "a1", *WHY)
    assert decided(account_id="a1")[:2] == ("decline", ("ACCOUNT_BLOCKED",))
    assert "a1" in json.loads(sentinel("block", "--show", "--json").splitlines()[-1])["blocked_accounts"]
    sentinel("unblock", "a1", *WHY)
    assert decided(account_id="a1")[0] == "approve"
    sentinel("list", "add", "merchant", "block", "SHOP-66", *WHY)
    assert decided(account_id="a2", merchant_id="shop-66 ")[:2] == ("decline", ("LIST_BLOCK",))
    sentinel("list", "remove", "merchant", "block", "shop-66", *WHY)
    assert decided(account_id="a2", merchant_id="shop-66")[0] == "approve"
    assert "UNKNOWN_CURRENCY" in decided(account_id="a3", amount=900.0, currency="BTC")[1]
    Path("rates.csv").write_text("BTC,60000")
    sentinel("rates", "set", "rates.csv", "--base", "EUR", *WHY)
    assert decided(account_id="a4", amount=900.0, currency="btc")[1:] == (("AMOUNT_HIGH",), 60_000.0)
    sentinel("rule", "disable", "AMOUNT_HIGH", *WHY)
    assert decided(account_id="a5", amount=900.0, currency="BTC")[1:] == ((), 60_000.0)
    with on.log() as log:
        timeline = Timeline(control_stream.history(log), wiring.open_resolver(log))
        found = [verify(log, partition, log.head(partition), timeline) for partition in range(2)]
    assert sum(each.identical for each in found) == sent and not any(each.first_difference for each in found)
