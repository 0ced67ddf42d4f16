"""Who runs on a folder: its lock, the state of its processes, and what a run left behind that was killed.

`run.lock` is held as long as the run lives, and names its process; `sentinel up` takes it and hands it to the process
that it starts. `state.json` says what every process does; a run that ends in order removes it, so a file without a
run tells that the last one was killed, or the machine switched off.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from console.process_ids import ProcessId, is_alive, process_id, send
from core.errors import UNDECODABLE, BadInput, Unavailable

STATE = "state.json"
LOCK = "run.lock"
END_S = 10.0
"""How long a process that outlived its run may take to end by itself."""


class ProcessState(msgspec.Struct, frozen=True):
    """A process in `state.json`. since: when it came into this state, epoch ms; restarts: how often it was started
    again; said: how it ended the last time, "" if it never did; process: None if it does not run; port: where it
    answers `/readyz`, 0 for nowhere.
    """

    name: str
    state: str
    since: int
    restarts: int
    said: str
    process: ProcessId | None
    port: int = 0

    @property
    def pid(self) -> int | None:
        """Its number."""
        return None if self.process is None else self.process.pid


class RunState(msgspec.Struct, frozen=True):
    """`state.json`. url: the console's; started_at: of the run, epoch ms; config: the settings file that it was given;
    is_local: whether the servers are its own; metrics_host: where processes answer `/readyz`.
    """

    supervisor: ProcessId
    url: str
    started_at: int
    config: str | None
    is_local: bool
    processes: list[ProcessState]
    metrics_host: str = "127.0.0.1"

    @property
    def pid(self) -> int:
        """The supervisor's number."""
        return self.supervisor.pid


def read_state(folder: Path) -> RunState | None:
    """What the folder's run wrote last; None if it ended in order, or there was none."""
    try:
        return msgspec.json.decode((folder / STATE).read_bytes(), type=RunState)
    except (OSError, *UNDECODABLE):
        return None


def holder(folder: Path) -> ProcessId | None:
    """The run that holds the folder now."""
    try:
        found = msgspec.json.decode((folder / LOCK).read_bytes(), type=ProcessId)
    except (OSError, *UNDECODABLE):
        return None
    return found if is_alive(found) else None


@contextmanager
def only_run(folder: Path, held: int | None = None) -> Iterator[int]:
    """Hold the folder for this run; gives the lock's file descriptor. held: one that `sentinel up` took before. Raises
    BadInput if another run holds it or another user owns it, Unavailable if it can't be written.
    """
    lock = _open_lock(folder) if held is None else held
    os.set_inheritable(lock, False)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        name_holder(lock, os.getpid())
        yield lock
    except BlockingIOError:
        raise BadInput(f"`sentinel run` or `sentinel up` is running on {folder} already{_other(folder)}") from None
    finally:
        os.close(lock)


def _open_lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.geteuid():
            raise BadInput(f"{folder} belongs to another user: give a directory of your own with --data")
        folder.chmod(0o700)  # data and addresses of servers; shells read its file `env`
        return os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"can't write to {folder}: {error.strerror}") from None


def name_holder(lock: int, pid: int) -> None:
    """Write down which process holds the lock; readers see the one before or this one. Raises Unavailable."""
    process = process_id(pid)
    try:
        content = b"" if process is None else msgspec.json.encode(process)
        os.pwrite(lock, content.ljust(os.fstat(lock).st_size), 0)
        os.ftruncate(lock, len(content))
    except OSError as error:
        raise Unavailable(f"can't write {LOCK}: {error.strerror}") from None


def _other(folder: Path) -> str:
    state = read_state(folder)
    return "" if state is None else f": process {state.pid}, console at {state.url}"


def end_left_over(folder: Path, run: ProcessId | None = None) -> list[str]:
    """End the processes of a run that was killed, if its watchdogs did not; returns their names. For whoever holds the
    folder, or ended `run`: what another run, begun since, has written and started is left alone.
    """
    state = read_state(folder)
    if run is not None and state is not None and state.supervisor != run:
        return []
    found = {each.name: each.process for each in state.processes if each.process} if state is not None else {}
    left = {name: process for name, process in found.items() if is_alive(process)}
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left.values():
            send(process, number)
        deadline = time.monotonic() + END_S
        while any(map(is_alive, left.values())) and time.monotonic() < deadline:
            time.sleep(0.05)
    (folder / STATE).unlink(missing_ok=True)
    return list(left)
