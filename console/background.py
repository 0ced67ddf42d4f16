"""`sentinel up` and `down`: a run without a terminal, started and ended by its folder.

`up` takes the folder's lock and starts `sentinel run` in a session of its own, which inherits the lock: so two at once
can't both start, and `down` finds a run that has only just begun. What the run says goes to `supervisor.log`, each line
with its time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from console.process_ids import ProcessId, is_alive, send
from console.run_folder import RunState, end_left_over, holder, name_holder, only_run, read_state
from console.run_logs import POLL_S, SUPERVISOR, follow, last_error
from console.run_status import is_up, rows
from console.service import ROOT, python_environment
from core.errors import BadInput, SentinelError, Unavailable
from core.files import Lossy, last_lines
from core.times import utc

UP_S = 300.0
"""How long `up` waits for every process to be ready; the run goes on after that."""
DOWN_S = 150.0
"""How long `down` waits for a run to end in order, before it ends it at once."""
_TIMED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ?")


def say_with_time(line: str) -> None:
    """What the run says, in its log; on a full disk, nothing."""
    if line.strip():
        now = utc(int(time.time() * 1000)).strftime("%Y-%m-%dT%H:%M:%SZ")
        print(f"{now} {line}", file=Lossy(sys.stdout), flush=True)


def up(folder: Path, arguments: Sequence[str], say: Callable[[str], None]) -> None:
    """Start a run in the background and tell what it says until all is ready. arguments: of `sentinel run`. Raises the
    SentinelError that ended it before.
    """
    log = folder / f"{SUPERVISOR}.log"
    with only_run(folder) as lock:
        begin = last_lines(log, 0)[1]
        try:
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"can't write {log}: {error.strerror}") from None
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "console.cli", "run", *arguments, "--held-lock", str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=python_environment(ROOT),
                pass_fds=(lock,),
                start_new_session=True,
            )
        finally:
            os.close(output)
        name_holder(lock, process.pid)
    deadline = time.monotonic() + UP_S
    for name, line in follow({SUPERVISOR: log}, {SUPERVISOR: begin}):
        if name:
            if not line.startswith("sentinel: "):
                say(_TIMED.sub("", line))
            continue
        if process.poll() is not None:
            _failed(log, process.returncode)
        state = read_state(folder)
        if state is not None and state.pid == process.pid and is_up(rows(folder, state)):
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"not everything is ready after {UP_S:.0f} s: see sentinel status; it goes on trying")
        time.sleep(POLL_S)


def _failed(log: Path, code: int) -> NoReturn:
    if code in (0, -signal.SIGTERM):
        raise Unavailable("it was ended before everything was ready")
    said = last_error(log) or f"it ended with exit code {code}; see {log}"
    raise next((kind for kind in SentinelError.__subclasses__() if kind.exit_code == code), SentinelError)(said)


def check_sample(state: RunState | None, *, wanted: bool) -> None:
    """Raise BadInput if the sample bank is wanted and not part of the run."""
    if wanted and state is not None and all(each.name != "sample" for each in state.processes):
        raise BadInput("it is up without the sample bank: run sentinel down, then sentinel up --sample")


def down(folder: Path, say: Callable[[str], None]) -> bool:
    """End the folder's run, in order if it can; returns whether anything ran. Raises Unavailable if something of it
    can't be ended.
    """
    run = holder(folder)
    if run is None and read_state(folder) is None:
        return False
    if run is None:
        with only_run(folder):
            left = end_left_over(folder)
        if left:
            say(f"its supervisor was killed; ended what it had left: {', '.join(left)}")
        return bool(left)
    log = folder / f"{SUPERVISOR}.log"
    begin = last_lines(log, 0)[1]
    lines = follow({SUPERVISOR: log}, {SUPERVISOR: begin})
    for number, seconds in ((signal.SIGTERM, DOWN_S), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        send(run, number)
        if _ended(run, seconds, lines, say):
            end_left_over(folder, run)
            return True
        say(f"it did not end within {seconds:.0f} s; ending it at once")
    raise Unavailable(f"process {run.pid} can't be ended: see {log}")


def _ended(run: ProcessId, seconds: float, lines: Iterator[tuple[str, str]], say: Callable[[str], None]) -> bool:
    deadline = time.monotonic() + seconds
    for name, line in lines:
        if name:
            say(_TIMED.sub("", line))
        elif not is_alive(run):
            return True
        elif time.monotonic() > deadline:
            return False
        else:
            time.sleep(POLL_S)
    return False
