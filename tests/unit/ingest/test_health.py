"""`/livez`, `/readyz` and `/metrics` of a process: what they answer, and what they never call ready."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from console.stack import free_port
from core.errors import Unavailable
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest import health as module
from ingest.families import LAG, READY
from ingest.health import BOARD, Health, log_check, serve
from tests.worker_harness import wait_for


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def health(clock: Time) -> Health:
    """Started, with no check of its own."""
    made = Health(clock)
    made.started()
    return made


def asked(port: int, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_a_process_answers_on_its_port(health: Health) -> None:
    """A failing check makes /readyz 503, names what is wrong, and is a metric; /livez stays 200. Other paths are told
    which there are.
    """
    wrong = ["3 partitions are parked"]
    health.check("partitions", lambda: wrong[0])
    port = free_port()
    serve(Settings(metrics_port=port), health)
    status, body = asked(port, "/readyz")
    assert status == 503
    assert json.loads(body) == {"status": "not ready", "checks": {"started": "", "partitions": wrong[0]}}
    assert asked(port, "/livez") == (200, '{"status":"ok","checks":{}}')
    assert asked(port, "/")[0] == 404 and "/readyz" in asked(port, "/")[1]
    status, body = asked(port, "/metrics")
    assert (status, 'sentinel_ready{check="partitions"} 0.0' in body) == (200, True)
    assert 'sentinel_ready{check="started"} 1.0' in body


def test_no_port_is_no_server_and_a_taken_one_is_told(health: Health) -> None:
    """The port is off by default; a second process on the same one gets a line that says what to do."""
    serve(Settings(), health)
    port = free_port()
    serve(Settings(metrics_port=port), health)
    with pytest.raises(Unavailable, match=rf"metrics port {port}: Address already in use; choose another"):
        serve(Settings(metrics_port=port), health)


def test_a_process_that_is_starting_is_not_ready(clock: Time) -> None:
    """Without any check there is no "ok"."""
    made = Health(clock)
    assert made.results() == {"started": "is starting"}
    made.started()
    clock.now += 10.0
    assert made.results() == {"started": ""}


@pytest.mark.parametrize(
    ("after_s", "rests_s", "trouble", "wrong"),
    [
        (59.0, 0.0, "", ""),
        (61.0, 0.0, "", "no step has ended for 61 s"),
        (61.0, 5.0, "", ""),
        (66.0, 5.0, "", "no step has ended for 66 s"),
        (1.0, 0.0, "the log server does not answer", "the log server does not answer"),
    ],
)
def test_steps_must_end(health: Health, clock: Time, after_s: float, rests_s: float, trouble: str, wrong: str) -> None:
    """A loop that stands still is not ready, however well it was before; nor is one whose last step failed."""
    health.follow_steps(60.0)
    health.stepped(rests_s, trouble)
    clock.now += after_s
    assert health.results()["progress"] == wrong


def test_frequent_probes_ask_once(health: Health, clock: Time) -> None:
    """Within a second the same answer is given."""
    calls = []
    health.check("log", lambda: calls.append(1) or "")  # type: ignore[func-returns-value]
    for _ in range(5):
        health.results()
    assert len(calls) == 1
    clock.now += 1.1
    health.results()
    assert len(calls) == 2


def test_a_check_without_an_answer_holds_up_nobody(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails after WAIT_S, the others are told, and it is not asked again before it has answered."""
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    monkeypatch.setattr(module, "KEPT_S", -1.0)
    frozen, asked_for = threading.Event(), []

    def ask() -> str:
        asked_for.append(1)
        frozen.wait(30.0)
        return ""

    health.check("log", ask)
    health.check("backlog", lambda: "messages wait")
    for _ in range(3):
        results = health.results()
        assert results == {"started": "", "log": "no answer within 0.05 s", "backlog": "messages wait"}
    assert len(asked_for) == 1
    frozen.set()
    wait_for(lambda: not health.results()["log"], "the answer")


def test_a_log_that_does_not_answer_is_named(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is asked anew each time."""
    log = MemoryLog()

    def down() -> int:
        raise Unavailable("event log server 127.0.0.1:1: refused")

    ask: Callable[[], str] = log_check(log)
    assert ask() == ""
    monkeypatch.setattr(log, "control_head", down)
    health.check("log", ask)
    assert health.results()["log"] == "event log server 127.0.0.1:1: refused"


def test_series_of_a_board_come_and_go() -> None:
    """What is put under a name replaces what was there, and a family without values has no series."""
    board = module.Board()
    board.put("worker", lambda: [LAG.of({("transactions", "3"): 7})])
    (family,) = board.collect()
    assert [(s.labels, s.value) for s in family.samples] == [({"topic": "transactions", "partition": "3"}, 7.0)]
    board.put("worker", lambda: [LAG.of({}), READY.of({("log",): True})])
    assert [len(family.samples) for family in board.collect()] == [0, 1]
    assert BOARD is not board


def test_a_check_that_breaks_has_not_passed(health: Health) -> None:
    """Whatever it raises; it may have read what another thread changes."""

    def breaks() -> str:
        raise RuntimeError("dictionary changed size during iteration")

    health.check("backlog", breaks)
    assert health.results()["backlog"] == "RuntimeError: dictionary changed size during iteration"
