"""Workers are killed while an experiment between programs runs: what they decide is what a fold of the log decides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from console.stack import Broker, Valkey
from core import control_stream
from core.codec import decode_score
from core.events import START, ModelDeployed
from learners.governance import experiments, programs
from learners.governance.control_events import Act, ArmPlan, Plan
from tests import worker_harness as h
from tests.builders.programs import stored

ANN = Act("ann", "fewer reviews", 0)


def test_arms_survive_kills(valkey_server: Valkey, broker: Broker, tmp_path: Path) -> None:
    """Prepared, started in mid-stream, killed and restarted twice, stopped: every payment once, each decided by its
    arm's program, and a replay from the beginning gives the same bytes.
    """
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, batch_size=40)
    on.create_topics()
    records = h.synthetic(8_000)
    cut = [len(records) * share // 8 for share in (2, 4, 6)]
    on.produce(records[: cut[0]])
    worker = on.worker("worker-0")
    worker.start()
    try:
        with on.log() as log:
            h.wait_for_decisions(on, log, h.count(records[: cut[0]], "transactions"))
            loaded = stored(log)
            programs.propose(log, loaded.program, ANN)
            champion = next(e for _, e in control_stream.accepted(log) if isinstance(e, ModelDeployed))
            label = f"{champion.name}-{champion.version}"
            arms = (ArmPlan("control", label, 5_000), ArmPlan("cards", label, 5_000, loaded.digest))
            plan = Plan(experiment_id="e", arms=arms)
            assert set(experiments.to_start(log, plan, ANN)) == {loaded.digest}
            h.wait_for(lambda: not programs.unprepared(log, loaded.digest), "prepared partitions")
            experiments.start(log, plan, ANN)
            for number, (begin, end) in enumerate(zip(cut, [*cut[1:], len(records)], strict=True), start=1):
                on.produce(records[begin:end])
                goal = h.count(records[:begin], "transactions") + h.count(records[begin:end], "transactions") // 3
                h.wait_for_decisions(on, log, goal)
                if number == 3:
                    experiments.stop(log, ANN)
                worker.kill()
                worker = on.worker(f"worker-{number}")
                worker.start()
            h.wait_for_decisions(on, log, h.count(records, "transactions"))
            partitions = range(on.settings.partitions)
            scores = [decode_score(entry.payload) for p in partitions for entry in log.read(p, "scores", START, 10**6)]
    finally:
        worker.stop()
    worker.check()
    found = Counter((score.arm, score.program == loaded.digest[:16]) for score in scores)
    assert set(found) == {("champion", False), ("e/control", False), ("e/cards", True)}
    assert min(found.values()) > 300, found
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)
