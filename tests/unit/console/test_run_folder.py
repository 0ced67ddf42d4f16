"""Who holds a run's folder, and what is ended there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from console import background
from console.process_ids import ProcessId, is_alive, process_id
from console.run_folder import (
    LOCK,
    STATE,
    ProcessState,
    RunState,
    end_left_over,
    holder,
    name_holder,
    only_run,
    read_state,
)
from core.errors import BadInput


def written(folder: Path, run: ProcessId, child: ProcessId) -> None:
    """`state.json` of a run with one process."""
    state = RunState(run, "http://x", 1, None, True, [ProcessState("worker", "ready", 1, 0, "", child)])
    (folder / STATE).write_bytes(msgspec.json.encode(state))


@pytest.fixture
def child() -> Iterator[ProcessId]:
    """A process that sleeps."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    found = process_id(process.pid)
    assert found is not None
    yield found
    process.kill()
    process.wait()


def test_whoever_takes_over_is_named_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two calls that write it down, a reader sees a holder that is alive."""
    with only_run(tmp_path) as lock:
        seen = []
        truncate = os.ftruncate
        monkeypatch.setattr(os, "ftruncate", lambda *given: (seen.append(holder(tmp_path)), truncate(*given)))
        name_holder(lock, os.getppid())
    assert seen == [process_id(os.getppid())] == [holder(tmp_path)]


def test_what_a_later_run_started_is_left_alone(tmp_path: Path, child: ProcessId) -> None:
    """Whoever ended one run ends nothing of a run that began since."""
    later = ProcessId(2, "later")
    written(tmp_path, later, child)
    assert end_left_over(tmp_path, ProcessId(1, "earlier")) == []
    assert is_alive(child) and read_state(tmp_path) is not None
    assert end_left_over(tmp_path, later) == ["worker"]
    assert not is_alive(child) and read_state(tmp_path) is None


def test_down_takes_the_folder_before_it_ends_what_is_left(tmp_path: Path, child: ProcessId) -> None:
    """A run that holds the folder and has not said so yet keeps its processes."""
    written(tmp_path, ProcessId(1, "killed"), child)
    with only_run(tmp_path) as lock:
        os.ftruncate(lock, 0)  # as if it had not come to that
        with pytest.raises(BadInput, match="running"):
            background.down(tmp_path, print)
        assert is_alive(child)
    assert background.down(tmp_path, print) and not is_alive(child)


def test_down_leaves_no_trace_where_nothing_ran(tmp_path: Path) -> None:
    """It neither makes the folder nor a lock in it."""
    assert not background.down(tmp_path / "never", print)
    assert not (tmp_path / "never" / LOCK).exists()
