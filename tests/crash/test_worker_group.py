"""Partitions on the move: workers that come and go, and one that wakes up after its partitions were given away (I1,
I6).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from console.service import Service
from console.stack import Broker, Valkey
from core.log.base import PendingAppend, Sealed
from ingest.partition import Owned
from tests import worker_harness as h
from tests.worker_harness import Reload, Threaded


def slowed(worker: Threaded) -> Threaded:
    """The same worker on a log that takes its time, so that the stream outlasts the rebalances."""
    start = worker.worker._log.start_append

    def patient(appends: Sequence[tuple[int, Sealed]]) -> PendingAppend:
        time.sleep(0.015)
        return start(appends)

    worker.worker._log.start_append = patient  # type: ignore[method-assign]
    return worker


def pid(worker: Service) -> int:
    assert worker._process is not None
    return worker._process.pid


def test_workers_that_come_and_go_leave_the_same_log(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """Five rebalances under load, by joining and by leaving: as if one worker had done it all."""
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, batch_size=20)
    on.create_topics()
    records = on.produce(h.synthetic(3_200))
    produced = h.count(records, "transactions")
    moved: list[Threaded] = []
    present = [slowed(Threaded(on))]
    present[0].start()
    try:
        with on.log() as log:
            for step in range(5):
                goal = produced * (step + 1) // 8
                h.wait_for_decisions(on, log, goal)
                for worker in present:
                    worker.check()
                if step % 2 == 0:
                    present.append(slowed(Threaded(on)))
                    present[-1].start()
                    h.wait_for(lambda: present[-1].worker.partitions, "partitions of its own")
                else:
                    moved.append(present.pop(0))
                    moved[-1].stop()
            assert h.total(on, log) < produced, "the stream was over before the last move"
            h.wait_for_decisions(on, log, produced)
    finally:
        for worker in present:
            worker.stop()
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)
    assert h.log_of(on) == h.undisturbed(on)


def test_a_worker_that_wakes_up_after_it_was_replaced_writes_nothing(
    broker: Broker, valkey_server: Valkey, tmp_path: Path
) -> None:
    """A worker frozen past its session timeout, with a batch decided: its append is refused, and it rejoins or stands
    by.
    """
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, batch_size=40)
    on.create_topics()
    records = on.produce(h.synthetic(5_000))
    produced = h.count(records, "transactions")
    with on.worker("sleeper") as sleeper, on.log() as log:
        h.wait_for_decisions(on, log, 500)
        os.kill(pid(sleeper), signal.SIGSTOP)
        try:
            frozen_at = h.total(on, log)
            assert frozen_at < produced, "the stream was over before the worker was frozen"
            with Threaded(on):
                h.wait_for_decisions(on, log, frozen_at + 500)
                os.kill(pid(sleeper), signal.SIGCONT)
                h.wait_for_decisions(on, log, produced)
                sleeper.check()
        finally:
            os.kill(pid(sleeper), signal.SIGCONT)
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)
    assert h.log_of(on) == h.undisturbed(on)


def test_two_groups_on_one_log_disturb_but_never_damage_each_other(
    broker: Broker, valkey_server: Valkey, tmp_path: Path
) -> None:
    """Two workers that both believe to own every partition: each append of the slower is refused, and it loads anew."""
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, batch_size=40)
    on.create_topics()
    records = on.produce(h.synthetic(3_000))
    produced = h.count(records, "transactions")
    intruder = on.changed(consumer_group=f"{on.settings.consumer_group}-intruder")
    first, second = Threaded(on), Threaded(intruder)
    reloads: list[int] = []
    for worker in (first, second):
        reload = worker.worker._appending._reload

        def counted(owned: Owned, reason: Exception, reload: Reload = reload) -> None:
            reloads.append(owned.partition)
            reload(owned, reason)

        worker.worker._appending._reload = counted  # type: ignore[method-assign]
    with on.log() as log, first, second:
        h.wait_for_decisions(on, log, produced)
        first.check()
        second.check()
    assert reloads, "they never met"
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)
    assert h.log_of(on) == h.undisturbed(on)
