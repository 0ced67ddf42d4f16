"""Workers killed with SIGKILL in mid-stream: nothing is lost, nothing is decided twice, every byte is as if nothing had
happened (I6).
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from console.stack import Broker, Valkey
from sources.record import Record
from tests import worker_harness as h
from tests.worker_harness import Stage


@pytest.mark.parametrize("seed", [11])
def test_workers_killed_in_mid_stream_leave_the_same_log(
    valkey_server: Valkey, broker: Broker, tmp_path: Path, seed: int
) -> None:
    """Two workers, one killed again and again at random moments: the log is, byte for byte, that of an undisturbed
    run.
    """
    chance = random.Random(seed)
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, batch_size=30)
    records = on.produce(h.synthetic(12_000))
    produced = h.count(records, "transactions")
    on.create_topics()
    workers = [on.worker(f"worker-{n}") for n in range(2)]
    for worker in workers:
        worker.start()
    try:
        with on.log() as log:
            for number, share in enumerate((0.1, 0.5), start=2):
                goal = int(produced * (share + 0.2 * chance.random()))
                h.wait_for_decisions(on, log, goal)
                assert h.total(on, log) < produced, "the stream was over before the kill"
                victim = workers.pop(chance.randrange(len(workers)))
                victim.kill()
                workers.append(on.worker(f"worker-{number}"))
                workers[-1].start()
            h.wait_for_decisions(on, log, produced)
            h.wait_for(lambda: all(on.owned(worker.name) for worker in workers), "partitions for every worker")
    finally:
        for worker in workers:
            worker.stop()
    for worker in workers:
        worker.check()
    assert_as_undisturbed(on, records)


def assert_as_undisturbed(on: Stage, records: list[Record]) -> None:
    """The log is sound, holds every record once, and every score and alert has the bytes of an undisturbed run."""
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)
    assert all(sum(len(getattr(part, name)) for part in h.log_of(on)) for name in ("scores", "alerts", "feedback"))
    for partition, (mine, other) in enumerate(zip(h.log_of(on), h.undisturbed(on), strict=True)):
        assert mine == other, f"partition {partition} differs"
