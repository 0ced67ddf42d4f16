"""`sentinel up`, `status`, `logs` and `down` as a user types them, on the local stack's real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.background import check_sample
from console.process_ids import ProcessId, is_alive, process_id, send
from console.processes import chosen
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
from console.run_logs import BYTES_MAX, chosen_files, follow, last_error, shorten
from console.run_status import status
from console.service import ROOT
from console.stack import free_port
from core.errors import BadInput
from tests.builders.bank import until

WAIT_S = 120.0


class Typed:
    """A person in a folder who types commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / ".sentinel/local"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA", "REDIS", "SENTINEL"))}
        self.environment = {**clean, "PYTHONPATH": str(ROOT)}

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "console.cli", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def does(self, *arguments: str) -> tuple[int, str]:
        """(exit code, output) of a command."""
        process = self.begin(*arguments)
        output, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, output

    def status(self) -> Any:
        return msgspec.json.decode(self.does("status", "--json")[1].splitlines()[-1])


@pytest.fixture
def typed(tmp_path: Path) -> Any:
    """A person whose run ends with the test."""
    person = Typed(tmp_path)
    yield person
    person.does("down")


def processes(data: Path) -> dict[str, ProcessId]:
    state = read_state(data)
    assert state is not None
    return {each.name: each.process for each in state.processes if each.process is not None}


def test_a_stack_stays_up_heals_itself_and_goes_down(typed: Typed) -> None:
    """Up in the background; up again says so; a killed worker comes back; a killed supervisor leaves nothing behind,
    and up goes on from there; down ends all.
    """
    port = str(free_port())
    code, said = typed.does("up", "--port", port)
    assert code == 0, said
    assert f"open http://127.0.0.1:{port}/#login=" in said
    found = typed.status()  # `up` returns once it is so, not before
    assert (found["state"], found["undecided"]) == ("up", 0)
    names = ["valkey", "broker", *(process.name for process in chosen(frozenset()))]
    assert [each["name"] for each in found["processes"]] == names
    health = {each["name"]: each["health"] for each in found["processes"]}
    assert "owns 4 partitions" in health["worker"]
    assert all(health[process.name] == "answers" for process in chosen(frozenset()) if process.name != "worker")
    assert typed.does("up") == (0, f"it is up already: console at http://127.0.0.1:{port}\n")
    with pytest.raises(BadInput, match="without the sample bank: run sentinel down"):
        check_sample(read_state(typed.data), wanted=True)

    running = processes(typed.data)
    os.kill(running["worker"].pid, signal.SIGKILL)
    ill = until(lambda: found if (found := status(typed.data)).state == "not ready" else None)
    until(lambda: status(typed.data).state == "up", WAIT_S)
    worker, again = (
        next(each for each in found.processes if each.name == "worker") for found in (ill, status(typed.data))
    )
    assert worker.health == "was killed by signal 9" or worker.health.startswith(
        ("not ready: it has just ended", "not ready: it does not answer")
    )
    assert (again.restarts, again.pid) == (1, processes(typed.data)["worker"].pid)
    assert "worker was killed by signal 9; it is started again in 1 s" in typed.does("logs", "supervisor")[1]

    first, running = status(typed.data).pid, processes(typed.data)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: not any(map(is_alive, running.values())))
    dead = status(typed.data)
    assert (dead.state, dead.processes) == ("killed", [])
    assert str(first) in dead.why
    assert typed.does("up", "--port", port)[0] == 0
    running = processes(typed.data)
    code, said = typed.does("down")
    assert (code, said.splitlines()[-1]) == (0, "stopped")
    assert not any(map(is_alive, running.values()))
    code, said = typed.does("status")
    assert (code, said) == (1, "down: .sentinel/local\n")
    assert typed.does("down") == (0, "nothing runs on .sentinel/local\n")


def test_down_ends_a_stack_that_is_only_starting(typed: Typed) -> None:
    """From the first moment at which `up` has the folder."""
    up = typed.begin("up", "--port", str(free_port()))
    run = until(lambda: holder(typed.data), WAIT_S)
    assert typed.does("down")[0] == 0
    assert not is_alive(run)
    output, _ = up.communicate(timeout=WAIT_S)
    assert (up.returncode, output.splitlines()[-1]) == (4, "sentinel: it was ended before everything was ready")


def test_up_says_what_prevents_it_and_leaves_nothing(typed: Typed) -> None:
    """A port in use: the same line and exit code as in a terminal, and status repeats it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = typed.does("up", "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert said.startswith("sentinel: the console can't listen on 127.0.0.1:")
    found = typed.status()
    assert (found["state"], found["pid"]) == ("down", None)
    assert "choose another port" in found["why"]


def sleeping() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"])


def test_a_number_that_another_process_has_now_is_not_signalled() -> None:
    """The number alone says nothing: the process must have started when it was written down."""
    with sleeping() as child:
        found = process_id(child.pid)
        assert found is not None
        send(ProcessId(child.pid, "at another time"), signal.SIGKILL)
        time.sleep(0.1)
        assert child.poll() is None
        assert is_alive(found)
        send(found, signal.SIGKILL)
        assert child.wait(10.0) == -signal.SIGKILL
        assert not is_alive(found)
        assert process_id(child.pid) is None
        send(found, signal.SIGKILL)  # has no effect, and raises nothing


def test_what_a_killed_run_left_is_ended_and_nothing_else(tmp_path: Path) -> None:
    """The process that the state names is ended; one that only has the same number is not."""
    with sleeping() as left, sleeping() as other:
        named = process_id(left.pid)
        assert named is not None
        states = [
            ProcessState("worker", "ready", 1, 0, "", named),
            ProcessState("loop", "ready", 1, 0, "", ProcessId(other.pid, "before the reboot")),
        ]
        state = RunState(ProcessId(1, "before the reboot"), "http://x", 1, None, True, states)
        (tmp_path / STATE).write_bytes(msgspec.json.encode(state))
        assert [each.name for each in status(tmp_path).processes] == ["worker"]
        assert end_left_over(tmp_path) == ["worker"]
        assert left.wait(10.0) == -signal.SIGTERM
        assert other.poll() is None
        assert end_left_over(tmp_path) == []
        other.kill()


def test_a_lock_is_handed_over_and_names_its_holder(tmp_path: Path) -> None:
    """While `up` has it, and the run that inherited it: nobody else can take it. Afterwards it names nobody alive."""
    with only_run(tmp_path) as lock:
        with sleeping() as child:
            name_holder(lock, child.pid)
            assert holder(tmp_path) == process_id(child.pid)
            with pytest.raises(BadInput, match=r"running on .* already"), only_run(tmp_path):
                pass
            with only_run(tmp_path, os.dup(lock)):  # as the child does
                assert holder(tmp_path) == process_id(os.getpid())
            name_holder(lock, child.pid)
            child.kill()
        assert holder(tmp_path) is None
    (tmp_path / LOCK).write_bytes(b"{")
    assert holder(tmp_path) is None


def test_logs_are_followed_while_they_grow_and_are_emptied(tmp_path: Path) -> None:
    """Complete lines only; a log that became too long is put aside, and what follows is read from its beginning."""
    file = tmp_path / "worker.log"
    file.write_text("old\n")
    with pytest.raises(BadInput, match="did you mean worker"):
        chosen_files(tmp_path, ["wroker"])
    lines = follow(chosen_files(tmp_path, ["worker"]), {"worker": 4})
    with file.open("a") as opened:
        opened.write("one\ntw")
        opened.flush()
        assert [next(lines), next(lines)] == [("worker", "one"), ("", "")]
        opened.write("o\n" + "x" * BYTES_MAX + "\n")
        opened.flush()
        assert next(lines) == ("worker", "two")
        assert len(next(lines)[1]) == BYTES_MAX
        shorten(file)
        assert (file.stat().st_size, (tmp_path / "worker.log.1").stat().st_size) == (0, BYTES_MAX + 13)
        opened.write("new\n")
        opened.flush()
        assert [next(lines), next(lines)] == [("", ""), ("worker", "new")]
    file.write_text("sentinel: no space\n")
    assert last_error(file) == "no space"
