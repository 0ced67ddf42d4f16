"""A program with aggregates of its own is proposed, prepared and deployed while a worker decides a stream: the stream
does not wait for the fold, nothing is lost, and a replay from the beginning gives the same bytes.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from console.stack import Broker, Valkey
from core import control_stream
from core.codec import decode_score
from core.events import START, ProgramRegistered
from ingest.partition import Pending
from ingest.worker import Worker
from learners.governance import programs as acts
from learners.governance.control_events import Act
from tests import worker_harness as h
from tests.builders.programs import stored

ANN, BOB = Act("ann", "declines in a row", 0), Act("bob", "checked", 0)


def test_a_program_takes_over_in_mid_stream(valkey_server: Valkey, broker: Broker, tmp_path: Path) -> None:
    """Workers report that they are prepared before the deployment, and decide by the program after it."""
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, batch_size=50)
    on.create_topics()
    records = h.synthetic(6_000)
    third = len(records) // 3
    on.produce(records[:third])
    with h.Threaded(on) as worker, on.log() as log:
        h.wait_for_decisions(on, log, h.count(records[:third], "transactions"), worker.check)
        loaded = stored(log)
        proposed = acts.propose(log, loaded.program, ANN)
        on.produce(records[third : 2 * third])
        partitions = [p for p in range(on.settings.partitions) if log.head(p).sequence]
        h.wait_for(lambda: not acts.unprepared(log, loaded.digest), "prepared partitions")
        prepared = control_stream.current(log).governance.programs.prepared[loaded.digest]
        assert set(partitions) <= set(prepared)
        h.wait_for_decisions(on, log, h.count(records[: 2 * third], "transactions"), worker.check)
        acts.approve(log, proposed.proposal_id, BOB)
        done = acts.deploy(log, proposed.proposal_id, BOB)
        h.wait_for(lambda: worker.worker.control_position >= done.position, "the worker to read the deployment")
        on.produce(records[2 * third :])
        h.wait_for_decisions(on, log, h.count(records, "transactions"), worker.check)
        scores = [decode_score(entry.payload) for p in partitions for entry in log.read(p, "scores", START, 10**6)]
        found = Counter(score.program for score in scores)
        assert found[loaded.digest[:16]] == h.count(records[2 * third :], "transactions")
        assert Counter(code for score in scores for code in score.rules)["AGAIN"] > 20
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)


def test_a_deployment_without_preparation_waits_for_the_fold(
    valkey_server: Valkey, broker: Broker, tmp_path: Path
) -> None:
    """Deployed at once, a partition pauses until its aggregates are folded, and goes on by the program."""
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, batch_size=50)
    on.create_topics()
    records = h.synthetic(2_000)
    half = len(records) // 2
    on.produce(records[:half])
    with h.Threaded(on) as worker, on.log() as log:
        h.wait_for_decisions(on, log, h.count(records[:half], "transactions"), worker.check)
        loaded = stored(log)
        acts.propose(log, loaded.program, ANN)
        done = acts.deploy(log, loaded.digest, ANN)
        h.wait_for(lambda: worker.worker.control_position >= done.position, "the worker to read the deployment")
        on.produce(records[half:])
        h.wait_for_decisions(on, log, h.count(records, "transactions"), worker.check)
        scores = [
            decode_score(entry.payload)
            for p in range(on.settings.partitions)
            for entry in log.read(p, "scores", START, 10**6)
        ]
        found = Counter(score.program for score in scores)
        assert found[loaded.digest[:16]] == h.count(records[half:], "transactions")
    h.assert_sound(on)


def test_a_deployment_between_taking_and_deciding_parks_nothing(
    valkey_server: Valkey, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages are taken, then a program is found to be in force for which the state is not prepared: they are fetched
    again once it is, and no partition is parked.
    """
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, batch_size=50)
    on.create_topics()
    records = h.synthetic(2_000)
    half = len(records) // 2
    on.produce(records[:half])
    with h.Threaded(on) as worker, on.log() as log:
        h.wait_for_decisions(on, log, h.count(records[:half], "transactions"), worker.check)
        loaded = stored(log)
        admitted, deployments = Worker._admit, [lambda: acts.deploy(log, loaded.digest, ANN)]

        def admit(self: Worker, pendings: list[Pending]) -> None:
            if deployments and len(pendings) == 1:
                deployments.pop()()
                self._read_control(now_due=True)
            admitted(self, pendings)

        monkeypatch.setattr(Worker, "_admit", admit)
        h.append_control(
            log, ProgramRegistered(occurred_at=1, actor="ann", name="cards", version="1.0.0", digest=loaded.digest)
        )
        for record in records[half:]:
            if not deployments:
                break
            on.produce([record])
            time.sleep(0.05)
        assert not deployments
        sent = records.index(record)
        on.produce(records[sent:])
        h.wait_for_decisions(on, log, h.count(records, "transactions"), worker.check)
        kinds = {type(entry.event).__name__ for entry in control_stream.history(log)}
        assert "ProgramDeployed" in kinds and "PartitionParked" not in kinds
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)
