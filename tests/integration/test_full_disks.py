"""A disk that is full: the log server's, under both ways of syncing, and those of side outputs (I6, I7).

The log server's stops the stream until there is space again. Snapshots, archive and checkpoints only say that they are
late.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from console.service import Service
from core.errors import Unavailable
from tests import worker_harness as h
from tests.builders.command_line import run_command
from tests.integration import outages
from tests.integration.apache_kafka import ApacheKafka
from tests.integration.servers import RedisServer, ServerFailed
from tests.integration.small_disk import SmallDisk
from tests.worker_harness import Stage

PAYMENTS = 2_400
LEFT_BYTES = 1_500_000
"""Of the disk's space: what the log needs for a part of the payments."""


@pytest.fixture
def single(apache_kafka: ApacheKafka, redis_server: RedisServer, tmp_path: Path) -> Stage:
    """A stage on Apache Kafka and one redis-server, both with space."""
    return prepared(apache_kafka, redis_server, tmp_path)


@contextmanager
def server_on(disk: SmallDisk, folder: Path, appendfsync: str) -> Iterator[RedisServer]:
    """A log server whose data is on that disk."""
    server = RedisServer(folder, appendfsync=appendfsync, options={"dir": str(disk.folder)})
    server.start()
    try:
        yield server
    finally:
        server.kill()


def prepared(kafka: ApacheKafka, server: RedisServer, folder: Path, **changes: object) -> Stage:
    on = h.stage(kafka.bootstrap, "127.0.0.1", server.port, folder, batch_size=50, **changes)
    on.create_topics()
    return on


def test_a_log_server_that_ends_because_its_disk_is_full(
    apache_kafka: ApacheKafka, needs_redis: None, disk: SmallDisk, tmp_path: Path
) -> None:
    """With appendfsync always, Redis ends at a write that fails, and again each time it is started on the full disk.
    The worker waits through all of it, and goes on once there is space. What was acknowledged is there, also after one
    more restart.
    """
    with server_on(disk, tmp_path / "redis", "always") as server:
        on = prepared(apache_kafka, server, tmp_path)
        records = on.produce(h.synthetic(PAYMENTS))
        disk.fill(LEFT_BYTES)
        with on.worker("worker") as worker:
            for _ in range(2):
                h.wait_for(lambda: not server.running, "the server's end")
                assert "Can't recover from AOF write error" in server.log_tail()
                outages.wait_until_said(worker, "ingest.log_unavailable")
                outages.assert_told(outages.failures(on), f"127.0.0.1:{server.port}")
                with suppress(ServerFailed):  # the worker's next write may come before the server's first answer
                    server.start()
            disk.free()
            server.kill()
            server.start()
            outages.wait_for_all(on, worker, PAYMENTS)
            outages.assert_survived(on, worker, records)
        before = h.log_of(on)
        server.kill()
        server.start()
        assert h.log_of(on) == before


def test_a_log_server_that_refuses_writes_because_its_disk_is_full(
    apache_kafka: ApacheKafka, needs_redis: None, disk: SmallDisk, tmp_path: Path
) -> None:
    """With appendfsync everysec, Redis stays and refuses every write (MISCONF): worker and doctor say what to do, and
    once there is space both go on by themselves.
    """
    with server_on(disk, tmp_path / "redis", "everysec") as server:
        on = prepared(apache_kafka, server, tmp_path)
        records = on.produce(h.synthetic(PAYMENTS))
        disk.fill(LEFT_BYTES)
        with on.worker("worker") as worker:
            outages.wait_until_said(worker, "cannot write to its disk: free space there.*ingest.log_unavailable")
            said = outages.failures(on)
            outages.assert_told(said, "refuses to write: it cannot write to its disk: free space there")
            outages.assert_told(said, "last write to disk failed")
            disk.free()
            outages.wait_for_all(on, worker, PAYMENTS)
            outages.assert_survived(on, worker, records)
        assert not [text for text in outages.failures(on) if "log server" in text]
        before = h.log_of(on)
        server.kill()
        server.start()
        assert h.log_of(on) == before


def test_side_outputs_on_a_full_disk_do_not_hold_up_the_stream(
    single: Stage, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Snapshots, archive and checkpoints of read models: every payment is decided, and everybody says what is missing.
    Nothing is trimmed that is not archived, and with space all of it is made up for.
    """
    folders = {name: disk.folder / name for name in ("snapshots", "archive", "checkpoints")}
    on = single.changed(
        snapshot_directory=str(folders["snapshots"]), archive=str(folders["archive"]), snapshot_interval_s=1.0
    )
    for name, field in (("SENTINEL_ARCHIVE", "archive"), ("SENTINEL_SNAPSHOT_DIRECTORY", "snapshot_directory")):
        monkeypatch.setenv(name, getattr(on.settings, field))
    first, second = outages.halves(PAYMENTS)
    flags = [f"--redis-port={on.settings.redis_port}", f"--log-prefix={on.settings.log_prefix}"]
    archive = ["archive", *flags, "--hot-hours", "0", "--trim", "--json"]
    follow = ["project", *flags, "--follow", "--checkpoint-directory", str(folders["checkpoints"])]
    follow += ["--interval-s", "0.2", "--checkpoint-s", "1"]
    with on.worker("worker") as worker:
        on.produce(first)
        outages.wait_for_all(on, worker, h.count(first, "transactions"))
        with Service("projector", follow, on.settings, on.directory) as projector:
            h.wait_for(lambda: list(folders["snapshots"].glob("*.snapshot")), "snapshots")
            h.wait_for(lambda: list(folders["checkpoints"].glob("*.checkpoint")), "checkpoints")
            disk.fill()
            on.produce(second)
            outages.wait_for_all(on, worker, PAYMENTS)
            outages.wait_until_said(worker, "No space left on device.*ingest.snapshot_failed")
            outages.wait_until_said(projector, "No space left on device; trying again")
            ran = run_command(monkeypatch, capsys, *archive)
            assert ran.code == Unavailable.exit_code
            assert "No space left on device" in ran.err and len(ran.err.splitlines()) == 1
            said = outages.complaints(on)
            outages.assert_told(said, "^snapshots: .*No space left on device")
            outages.assert_told(said, "^archive: .*No space left on device")
            with on.log() as log:
                assert h.total(on, log) == PAYMENTS, "something was trimmed"
            disk.free()
            outages.wait_until_said(projector, "sentinel: continues")
        assert run_command(monkeypatch, capsys, *archive).json["transactions"] == PAYMENTS
        said = outages.complaints(on)
        assert not [text for text in said if text.startswith(("snapshots", "archive"))], said
        outages.assert_survived(on, worker, first + second, in_order=False)
