"""Whether everything runs, as one answer: beside a worker, with servers gone, for administrators and for others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console import findings, wiring
from console.api import inspecting
from console.api.inspecting import Facts, Inspector, Looked
from console.server_findings import Finding, ServerFacts
from console.stack import Broker, Valkey
from core.events import Position
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest.backlog import Group, Member
from tests.builders.api import Served, served
from tests.worker_harness import Threaded, stage, synthetic, wait_for

NOBODY = {"kafka": "Kafka at secret-host:9092 can't be reached"}
FACTS = Facts(
    {"transactions": {0: 10**6, 1: 5}},
    Group("stable", 2, frozenset([0, 1]), (Member("w", "10.0.0.7", (1, 2)), Member("w", "10.0.0.8", (0,)))),
    [ServerFacts("secret-host:6379", "Valkey 9.0.0", 1000, 5000, 3, 60)],
    NOBODY,
)


class Told(Inspector):
    """An inspector that has been told everything."""

    def __init__(self) -> None:
        super().__init__(Settings(), 1)

    def facts(self, wait_s: float) -> Looked[Facts]:
        return Looked(FACTS, 7)

    def findings(self, wait_s: float = 0.0) -> Looked[list[Finding]]:
        return Looked([Finding("kafka", "ok", "reachable at secret-host"), Finding("log", "fail", "secret", "mend")], 8)


@pytest.fixture
def told(api: Served) -> Iterator[Served]:
    before = api.client.app.state.inspector
    api.client.app.state.inspector = Told()
    yield api
    api.client.app.state.inspector = before


def test_every_part_is_in_the_answer(told: Served, decided: MemoryLog) -> None:
    """Places of partitions are the log's; lag is Kafka's end less what was taken; a worker has its partitions."""
    found = told.get("/v1/system", "admin").json()
    for row in found["partitions"]:
        head = decided.head(row["partition"])
        assert (row["sequence"], Position.parse(row["position"])) == (head.sequence, head.transactions)
        assert row["sealed_at"] > 0
    first, second, third = found["partitions"]
    assert first["lag"] == {"transactions": 10**6 - decided.head(0).transactions.offset, "feedback": None}
    assert (second["lag"]["transactions"], third["lag"]["transactions"]) == (0, None)
    assert [(w["name"], w["host"], w["partitions"]) for w in found["workers"]] == [
        ("w 1", "10.0.0.8", [0]),
        ("w 2", "10.0.0.7", [1, 2]),
    ]
    assert (first["worker"], third["worker"]) == ("w 1", "w 2")
    assert found["workers"][0]["last_seal_at"] == first["sealed_at"]
    assert {row["name"] for row in found["read_models"]} >= {"registry", "cases", "labels"}
    assert all(row["condition"] == "following" and row["behind"] == 0 for row in found["read_models"])
    assert found["archive"] == {"configured": False, "location": "", "decisions": 0}
    assert (found["facts_at"], found["findings_at"], found["control"]) == (7, 8, decided.control_head())
    assert found["findings"][1] == {"check": "log", "status": "fail", "message": "secret", "remedy": "mend"}


@pytest.mark.parametrize("role", ["viewer", "submitter", "analyst", "auditor"])
def test_others_see_states_without_addresses(told: Served, role: str) -> None:
    """The same figures; no host, address, path or message that may name one."""
    got = told.get("/v1/system", role)
    found = got.json()
    assert "secret" not in got.text and "10.0.0" not in got.text
    assert [(f["check"], f["status"]) for f in found["findings"]] == [("kafka", "ok"), ("log", "fail")]
    assert found["problems"] == {"kafka": "does not answer"} and found["log_servers"][0]["memory_bytes"] == 1000
    assert [w["partitions"] for w in found["workers"]] == [[0], [1, 2]]


def test_slow_questions_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread asks; the others get what was found before, or nothing. It is asked again after its time."""
    asked: list[int] = []
    answers = threading.Event()

    def ask(settings: Settings) -> list[Finding]:
        asked.append(1)
        answers.wait(10.0)
        return [Finding("a", "ok", "b")]

    monkeypatch.setattr(inspecting, "findings", ask)
    monkeypatch.setattr(inspecting, "FINDINGS_S", 0.2)
    inspector = Inspector(Settings(), 1)
    assert inspector.findings() is None and inspector.findings() is None
    answers.set()
    assert (found := inspector.findings(10.0)) is not None and found.found == [Finding("a", "ok", "b")]
    assert len(asked) == 1
    time.sleep(0.3)
    assert inspector.findings() == found
    wait_for(lambda: len(asked) == 2, "the second question")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_question_that_breaks_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raised, also a fault of ours; and whoever waits for the first answer does not wait in vain."""
    asked: list[int] = []

    def ask(settings: Settings) -> list[Finding]:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("a fault of ours")
        return [Finding("a", "ok", "b")]

    monkeypatch.setattr(inspecting, "findings", ask)
    monkeypatch.setattr(inspecting, "FINDINGS_S", 0.2)
    inspector = Inspector(Settings(), 1)
    began = time.monotonic()
    assert inspector.findings(30.0) is None
    assert time.monotonic() - began < 15.0
    wait_for(inspector.findings, "the second answer")
    assert len(asked) == 2


@pytest.fixture(scope="module")
def everything(
    valkey_server: Valkey, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Any]]:
    """The API beside a worker and real servers."""
    directory: Path = tmp_path_factory.mktemp("system")
    on = stage(broker.bootstrap, valkey_server.host, valkey_server.port, directory)
    on.create_topics()
    with Threaded(on) as worker:
        wait_for(lambda: len(worker.worker.partitions) == on.settings.partitions, "the assignment")
        on.produce(synthetic(300, seed=3))
        with served(wiring.open_log(on.settings), directory, on.settings) as api:
            yield api, on


def test_real_servers_are_described(everything: tuple[Served, Any]) -> None:
    """All is decided, so nothing waits; the server names its version and memory; findings are doctor's."""
    api, on = everything

    def settled() -> bool:
        answer = api.get("/v1/system", "admin").json()
        lags = [n for row in answer["partitions"] for n in row["lag"].values()]
        is_all = all(row["sequence"] for row in answer["partitions"])
        return bool(answer["findings_at"]) and is_all and all(n == 0 for n in lags)

    wait_for(settled, "everything to be decided", 60.0)
    found = api.get("/v1/system", "admin").json()
    assert (found["group"], found["workers"]) == ("stable", None)  # the local stack's broker names no members
    assert all(time.time() * 1000 - row["sealed_at"] < 120_000 for row in found["partitions"])
    (server,) = found["log_servers"]
    assert server["address"].endswith(str(on.settings.redis_port)) and server["memory_bytes"] > 0
    assert server["version"].split()[0] in ("Valkey", "Redis") and found["problems"] == {}
    told = {(f["check"], f["status"]) for f in found["findings"]}
    assert told >= {(f.check, f.status) for f in findings.log_server_findings(on.settings)}
    assert "secret" not in str(found)


def test_servers_that_are_gone_are_told() -> None:
    """The answer is there within seconds, and says who did not answer."""
    nowhere = Settings(kafka_servers="127.0.0.1:1", redis_port=1)
    found = inspecting.facts(nowhere, 1)
    assert set(found.problems) == {"kafka", "log server"} and found.group is None and found.servers == []
