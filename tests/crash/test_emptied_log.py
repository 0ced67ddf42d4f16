"""A log server that was emptied is not taken for a new log when anything outside it says that there was one."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from console import findings as doctor
from console.commands import archive as archive_command
from console.stack import Broker, Valkey
from core import control_stream
from core.errors import BadInput
from core.events import SourceGenerationStarted
from ingest import bootstrap
from tests import worker_harness as h
from tests.builders.events import HISTORY
from tests.worker_harness import Stage, Threaded


def decided(broker: Broker, server: Valkey, directory: Path, **changes: object) -> Stage:
    on = h.stage(broker.bootstrap, server.host, server.port, directory, **changes)
    on.create_topics()
    on.produce(h.synthetic(200))
    with Threaded(on) as worker, on.log() as log:
        h.wait_for_decisions(on, log, 200, worker.check)
    return on


def emptied(on: Stage) -> None:
    """Every key of the log's prefix is gone, as after FLUSHALL."""
    with redis.Redis(port=on.settings.redis_port) as client:
        for key in client.scan_iter(f"{on.settings.log_prefix}:*"):
            client.delete(key)


def refusal(on: Stage) -> str:
    with on.log() as log, pytest.raises(BadInput) as refused:
        bootstrap.ensure(log, on.settings)
    with pytest.raises(BadInput, match="new-log"), Threaded(on) as worker:
        worker.join()
    assert [f.status for f in doctor.guarded(doctor.log_findings, on.settings)] == ["fail"]
    return str(refused.value)


def test_snapshots_prove_an_earlier_log(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """Snapshots of the prefix are there: refused, with their directory and position."""
    on = decided(broker, valkey_server, tmp_path)
    emptied(on)
    said = refusal(on.changed(consumer_group="another"))
    assert str(on.settings.snapshot_directory) in said and "1-" in said


def test_committed_offsets_prove_an_earlier_log(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """The group's offsets are there: refused, with the group's name."""
    on = decided(broker, valkey_server, tmp_path)
    emptied(on)
    said = refusal(on.changed(snapshot_directory=str(tmp_path / "none")))
    assert f"consumer group {on.settings.consumer_group}" in said


def test_the_archive_proves_an_earlier_log(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """Segments are there: refused, with the archive's location."""
    on = decided(broker, valkey_server, tmp_path, archive=str(tmp_path / "archive"), archive_hot_hours=0.0)
    archive_command.run(on.settings, trim=False, quiet=True)
    emptied(on)
    said = refusal(on.changed(snapshot_directory=str(tmp_path / "none"), consumer_group="another"))
    assert str(tmp_path / "archive") in said


def test_a_new_log_is_begun_on_purpose(
    broker: Broker, valkey_server: Valkey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a reason it begins, under a generation that no position of the old log has, and says why; whoever leaves the
    option in the start command is told.
    """
    on = decided(broker, valkey_server, tmp_path)
    emptied(on)
    with on.log() as log:
        control_stream.append(log, lambda known: [HISTORY])
        with pytest.raises(BadInput, match="new-log"):  # a producer may have written before the first worker starts
            bootstrap.ensure(log, on.settings)
        capsys.readouterr()
        bootstrap.ensure(log, on.settings, "the volume is lost")
        assert "ingest.new_log_allowed" in capsys.readouterr().out
        started = [e for _, e in control_stream.accepted(log) if isinstance(e, SourceGenerationStarted)]
        assert {e.generation for e in started} == {2}
        assert all("the volume is lost" in e.reason and "snapshots" in e.reason for e in started)
    on.drain()
    h.assert_sound(on)
    with on.log() as log:
        assert h.total(on, log) == 200


def test_a_log_that_is_really_new_begins(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """Nothing speaks against it; the offsets at which the topics began are recorded. Another prefix is another log."""
    on = decided(broker, valkey_server, tmp_path)
    with on.log() as log:
        started = [e for _, e in control_stream.accepted(log) if isinstance(e, SourceGenerationStarted)]
        assert [e.starts for e in started] == [(0, 0, 0, 0)] * 2
    other = on.changed(log_prefix=f"{on.settings.log_prefix}-b", consumer_group=f"{on.settings.consumer_group}-b")
    with other.log() as log:
        assert bootstrap.ensure(log, other.settings).position > 0
