"""A backlog that does not move is seen: by the worker that owns nothing or gets nowhere, and by `sentinel doctor`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from console import findings as doctor
from console import stream_findings
from console.server_findings import Finding
from console.stack import Broker, Valkey
from core.events import Position
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import Head
from core.settings import Settings
from ingest import kafka_client, telemetry, vigilance
from ingest.backlog import Group
from ingest.partition import Owned
from ingest.vigilance import Vigilance
from tests import worker_harness as h
from tests.worker_harness import Stage, Threaded


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(stream_findings, "BACKLOG_S", 0.5)
    made = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, dead_letter_topic="")
    made.create_topics()
    made.produce(h.synthetic(200))
    made.drain()
    return made


def findings(on: Stage) -> list[Finding]:
    return [f for f in doctor.guarded(stream_findings.stream_findings, on.settings) if f.check == "backlog"]


def test_doctor_sees_a_backlog_without_workers(on: Stage) -> None:
    """Nothing waits: nothing is said. Then messages wait: not ok."""
    assert findings(on) == []
    on.produce(h.synthetic(200, seed=8, start=1_780_000_000_000))
    assert [f.status for f in findings(on)] == ["fail"]


def test_doctor_sees_a_backlog_that_its_owner_does_not_move(on: Stage) -> None:
    """A member of the group has the partitions and decides nothing: fail."""
    on.produce(h.synthetic(200, seed=8, start=1_780_000_000_000))
    idle = kafka_client.transactions_consumer(on.settings)
    idle.subscribe([on.settings.transactions_topic])

    def has_all() -> bool:
        idle.consume(1, 0.1)
        return len(idle.assignment()) == on.settings.partitions

    h.wait_for(has_all, "an assignment")
    assert [f.status for f in findings(on)] == ["fail"]
    idle.close()


def test_doctor_says_nothing_of_a_backlog_that_moves(on: Stage) -> None:
    """With a worker at its work there is no finding."""
    with Threaded(on) as worker:
        h.wait_for(lambda: worker.worker.partitions, "partitions")
        on.produce(h.synthetic(200, seed=8, start=1_780_000_000_000))
        assert findings(on) == []


class Said:
    """What was logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    error = warning


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    logged = Said()
    monkeypatch.setattr(telemetry, "logger", lambda: logged)
    return logged


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [1_000.0]
    monkeypatch.setattr(vigilance.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


@pytest.mark.parametrize(
    ("group", "rejoins"),
    [
        (Group("stable", 3, frozenset()), 2),
        (Group("stable", 3, frozenset((0, 1))), 2),
        (Group("stable", 3, frozenset(range(4))), 0),
        (Group("preparing_rebalancing", 3, frozenset()), 0),
        (None, 0),
    ],
    ids=["nobody owns anything", "some have no owner", "others own all", "rebalancing", "not described"],
)
def test_a_worker_that_owns_nothing_says_why(
    monkeypatch: pytest.MonkeyPatch, said: Said, later: Callable[[float], None], group: Group | None, rejoins: int
) -> None:
    """After ten seconds it asks the broker; if partitions have no owner twice, it joins the group again, and once more
    half a minute later.
    """
    monkeypatch.setattr(vigilance, "group_of", lambda settings: group)
    joined: list[int] = []
    watching = Vigilance(Settings(), lambda: joined.append(1))
    for _ in range(2):
        later(5.0)
        watching.look({}, 0, 4)
    assert said.events == []
    for _ in range(11):
        later(5.0)
        watching.look({}, 0, 4)
    assert {event for event, _ in said.events} == {"ingest.owns_nothing"}
    assert len(said.events) == 1 + rejoins
    assert len(joined) == rejoins


def test_partitions_on_their_way_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, said: Said, later: Callable[[float], None]
) -> None:
    """Without an owner at one look and with one at the next, because the group is sharing out: nobody joins again."""
    states = iter([Group("stable", 3, frozenset((0, 1, 2, i % 2 + 3))) for i in range(20)])
    monkeypatch.setattr(vigilance, "group_of", lambda settings: next(states))
    joined: list[int] = []
    watching = Vigilance(Settings(), lambda: joined.append(1))
    for _ in range(12):
        later(5.0)
        watching.look({}, 0, 5)
    assert joined == [] and said.events[0][1]["why"] == "partitions have no owner"


def test_a_partition_that_does_not_move_is_told(said: Said, later: Callable[[float], None]) -> None:
    """Not at the end of its topics and nothing decided for a minute: an error and a gauge, until it moves."""
    watching = Vigilance(Settings(), lambda: None)
    owned = Owned(3, Head(), AccountState(FIXED), (1, 1))

    def look() -> None:
        later(6.0)
        watching.look({3: owned}, 0, 4)

    for _ in range(20):
        look()
    assert [event for event, _ in said.events] == ["ingest.partition_stalled"]
    assert telemetry.STALLED._value.get() == 1
    owned.head = Head(1, Position(1, 5))
    look()
    assert telemetry.STALLED._value.get() == 0
    owned.intake.transactions.at_end = owned.intake.feedback.at_end = True
    for _ in range(20):
        look()
    assert telemetry.STALLED._value.get() == 0


def test_a_worker_joins_again(on: Stage) -> None:
    """Leaving and joining the group while it runs: it owns its partitions again, and decides."""
    with Threaded(on) as worker, on.log() as log:
        h.wait_for(lambda: worker.worker.partitions, "partitions")
        assert worker.worker._fetcher is not None
        assert isinstance(worker.worker._fetcher.transactions, Consumer)
        again = worker.worker._fetcher.rejoin
        step = worker.worker._step

        def once(fetcher: object) -> None:
            worker.worker._step = step  # type: ignore[method-assign]
            again()

        worker.worker._step = once  # type: ignore[method-assign,assignment]
        on.produce(h.synthetic(200, seed=8, start=1_780_000_000_000))
        h.wait_for_decisions(on, log, 400, worker.check)
    h.assert_sound(on)
