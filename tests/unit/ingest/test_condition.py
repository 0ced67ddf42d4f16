"""What a worker says of itself: never ready beside a backlog that does not move."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from console.stack import Broker, Valkey
from core.control_stream import ControlStream
from core.errors import Corrupt
from core.events import Position
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import Head
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest import condition as module
from ingest import telemetry
from ingest.condition import Condition
from ingest.health import Health
from ingest.parking import Parked, Parking
from ingest.partition import Owned
from tests.builders.fetching import Topic, fetcher_of
from tests.worker_harness import Threaded, count, stage, synthetic, wait_for, wait_for_decisions


class Ends(Topic):
    """A consumer that knows where its partitions begin and end."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = low, high

    def get_watermark_offsets(self, place: TopicPartition, cached: bool = False) -> tuple[int, int]:
        assert cached, "a scrape asks no broker"
        if place.partition == 9:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
        return self.low, self.high


class Made:
    """A condition with everything that it looks at."""

    def __init__(self, lag_max: int = 100) -> None:
        self.log = MemoryLog()
        self.owned: dict[int, Owned] = {}
        self.control = ControlStream()
        self.parking = Parking(self.log, lambda: self.control)
        self.vigilance: Any = SimpleNamespace(stalled=[], is_spare=False)
        self.kafka = Ends(0, 0)
        ownership: Any = SimpleNamespace(partitions=self.owned)
        settings = Settings(ready_lag_max=lag_max)
        self.fetcher = fetcher_of(settings, self.owned, self.kafka, Ends(-1001, -1001))
        self.condition = Condition(
            settings, self.log, self.fetcher, ownership, self.parking, self.vigilance, lambda: self.control
        )

    def own(self, *numbers: int) -> None:
        self.owned.update({number: Owned(number, Head(), AccountState(FIXED), (1, 1)) for number in numbers})

    def results(self) -> dict[str, str]:
        health = Health()
        self.condition.report(health)
        return health.results()


@pytest.fixture
def made() -> Made:
    return Made()


def samples(families: Iterable[Any], name: str) -> dict[tuple[str, ...], float]:
    (family,) = (each for each in families if each.name == name)
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_a_worker_with_partitions_and_nothing_to_do_is_ready(made: Made) -> None:
    """All checks pass."""
    made.own(0, 1)
    assert made.results() == dict.fromkeys(("started", "log", "partitions", "backlog", "progress"), "")


def test_a_worker_without_partitions_is_ready_only_as_a_spare(made: Made) -> None:
    """If the broker says that others own all, it waits for one of them to fail; otherwise something is wrong."""
    assert made.results()["partitions"] == "owns no partition, and it is not known that others own all"
    made.vigilance.is_spare = True
    assert made.results()["partitions"] == ""


def test_a_parked_partition_is_named(made: Made) -> None:
    """Its messages are not decided, so the worker is not ready, however well its other partitions get on."""
    made.own(0)
    made.parking.parked[3] = Parked("corrupt_log", Corrupt("a test"))
    assert made.results()["partitions"] == "parked: 3 (corrupt_log)"


def test_a_backlog_that_does_not_move_is_named(made: Made) -> None:
    """As vigilance sees it, whatever the lag is."""
    made.own(0, 1)
    made.vigilance.stalled = [1]
    assert made.results()["backlog"] == "messages wait, and nothing is decided, in partitions 1"


@pytest.mark.parametrize(("end", "wrong"), [(100, ""), (101, "101 messages wait, more than 100")])
def test_lag_is_bounded(made: Made, end: int, wrong: str) -> None:
    """`ready_lag_max` messages may wait, and not one more."""
    made.own(0)
    made.kafka.high = end
    assert made.results()["backlog"] == wrong


def test_lag_is_what_is_not_in_the_log(made: Made) -> None:
    """From the last decision in the log, not from the last message taken; from the topic's beginning if nothing of it
    was decided; 0 at the end even if Kafka counts records that are no messages. Unknown ends give no figure.
    """
    made.own(0, 1, 2, 9)
    made.kafka.low, made.kafka.high = 10, 50
    made.owned[1].head = Head(1, Position(1, 40))
    made.owned[2].intake.transactions.at_end = True
    assert made.fetcher.lags() == {("transactions", "0"): 40, ("transactions", "1"): 10, ("transactions", "2"): 0}
    made.owned[2].transactions_end = Position(1, 50)  # taken, and not in the log yet
    assert made.fetcher.lags()["transactions", "2"] == 40


def test_snapshots_age_while_decisions_are_not_in_them(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero as long as nothing was decided since the last one, and from each new one on; a partition that is given up
    is forgotten.
    """
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: 0.0))
    made.own(0, 1)

    def ages(after: float) -> dict[tuple[str, ...], float]:
        now[0] += after
        return samples(made.condition._families(), "sentinel_snapshot_age_seconds")

    assert ages(0) == ages(100) == {("0",): 0.0, ("1",): 0.0}
    made.owned[1].head = Head(5)
    assert ages(30)["1",] == 30.0
    assert ages(30) == {("0",): 0.0, ("1",): 60.0}
    made.owned[1].snapshot_sequence, made.owned[1].head = 5, Head(6)
    assert ages(10)["1",] == 0.0
    del made.owned[1]
    assert ages(5) == {("0",): 0.0}


def stage_counts() -> dict[str, float]:
    """How often each stage was timed."""
    (family,) = telemetry.STAGES.collect()
    return {s.labels["stage"]: s.value for s in family.samples if s.name.endswith("_count")}


def test_a_worker_becomes_ready_and_times_its_stages(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """On servers: ready once it owns its partitions, nothing left waiting, and each batch timed at every stage;
    publishing only if there is a topic for decisions.
    """
    on = stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, decisions_topic="")
    on.create_topics()
    before = stage_counts()
    with Threaded(on) as running, on.log() as log:
        worker = running.worker
        wait_for(lambda: worker.partitions, "partitions")
        wait_for_decisions(on, log, count(on.produce(synthetic(120)), "transactions"), running.check)
        wait_for(lambda: not any(worker._health.results().values()), "the worker to be ready")
        lags = worker._condition._fetcher.lags()
        assert lags.keys() == {(role, str(p)) for role in ("transactions", "feedback") for p in range(4)}
        wait_for(lambda: not any(worker._condition._fetcher.lags().values()), "all lag to be gone")
        info = samples(worker._condition._families(), "sentinel_model_info")
        assert [name[0] for name in info] == ["champion"]
    made = {name: number - before[name] for name, number in stage_counts().items()}
    assert made["decide"] == made["append"] > 0
    assert made["fetch"] > 0 and made["publish"] == 0
