"""Workers of two releases on one log, as in a rolling upgrade: they decide as one, believe no snapshot of the other,
and stop at what they do not know.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from console.service import Service
from console.stack import Broker, Valkey
from core import control_stream
from core.codec import UnknownEvent
from ingest.snapshots import SnapshotStore
from tests import worker_harness as h
from tests.builders.releases import VERSION, another_release
from tests.worker_harness import Stage, Threaded

NEWER = b'{"type":"weather_changed.v1","occurred_at":1780000000000,"actor":"a newer release"}'


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    made = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, dead_letter_topic="")
    made.create_topics()
    return made


def newer(on: Stage) -> Service:
    """A worker of another release."""
    arguments = ["--config", str(on.config()), "--stats-file", str(on.directory / "newer.stats.json")]
    release = another_release(on.directory / "release")
    return Service("newer", ["ingest", *arguments], on.settings, on.directory, root=release)


def believed(on: Stage) -> list[int]:
    """The sequence of each partition's snapshot as far as this release believes it; 0 where it does not."""
    store = SnapshotStore(Path(on.settings.snapshot_directory), on.settings.log_prefix)
    with on.log() as log:
        identity = control_stream.identity_of(log)
        found = [store.load(p, log, log.head(p), identity) for p in range(on.settings.partitions)]
    return [known[0].sequence if known else 0 for known in found]


def test_two_releases_decide_one_log(on: Stage) -> None:
    """This release, then the other, then both beside each other, each with partitions of its own: every payment is
    decided once, and replays to the same bytes. Neither loads the other's snapshots.
    """
    records = h.synthetic(2_400)
    third = len(records) // 3
    on.produce(records[:third])
    on.drain()
    assert all(believed(on))
    on.produce(records[third : 2 * third])
    with newer(on) as other, on.log() as log:
        h.wait_for_decisions(on, log, h.count(records[: 2 * third], "transactions"), other.check)
        with Threaded(on) as own:
            h.wait_for(lambda: own.worker.partitions, "partitions of this release")
            h.wait_for(lambda: len(on.owned("newer")) + len(own.worker.partitions) == on.settings.partitions, "a share")
            assert on.owned("newer") and own.worker.partitions
            on.produce(records[2 * third :])
            h.wait_for_decisions(on, log, h.count(records, "transactions"), own.check)
        h.wait_for(lambda: len(on.owned("newer")) == on.settings.partitions, "all partitions")
        other.stop()
        assert other.exit_code == 0
    assert f'"release": "{VERSION}"' in other.log_path.read_text()
    assert not all(believed(on)), "this release believes snapshots of the other"
    h.assert_sound(on)
    h.assert_everything_once(on, records)


def test_a_worker_stops_at_a_control_event_that_it_does_not_know(on: Stage) -> None:
    """A newer release appended it: the worker decides nothing under it, and says what to do; a start does likewise."""
    on.produce(h.synthetic(200))
    worker = Threaded(on)
    worker.start()
    with on.log() as log:
        h.wait_for_decisions(on, log, 200, worker.check)
        position = log.append_control([NEWER], expected=log.control_head())
        with pytest.raises(UnknownEvent, match=r"weather_changed.v1.*newer one wrote it.*docs/upgrade.md"):
            worker.join()
        on.produce(h.synthetic(200, seed=8, start=1_780_000_000_000))
        with pytest.raises(UnknownEvent, match=r"weather_changed"):
            on.drain()
        assert h.total(on, log) == 200
        assert all(head.control < position for head in h.heads(on, log))
