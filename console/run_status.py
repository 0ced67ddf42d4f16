"""What `sentinel status` says: each process of a folder's run, and what it says of itself.

States and restarts are the supervisor's; what is behind them is asked now: every process whether it is ready, the
worker which partitions it owns, and the servers how many messages are undecided.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError, URLError

import msgspec

from console import wiring
from console.direct_http import open_url
from console.process_ids import is_alive
from console.run_folder import ProcessState, RunState, holder, read_state
from console.run_logs import SUPERVISOR, last_error
from console.run_place import environment
from console.service import read_stats
from core.errors import UNDECODABLE, SentinelError
from core.settings import Settings, load
from ingest import backlog

ASK_S = 5.0
READY = "ready"


class ProcessRow(msgspec.Struct, frozen=True):
    """A process. since: when it came into this state, epoch ms; health: what it says of itself, or how it ended."""

    name: str
    state: str
    pid: int | None
    since: int
    restarts: int
    health: str


class StatusAnswer(msgspec.Struct, frozen=True):
    """state: up, not ready, starting (nothing runs yet), down, or killed (its supervisor was, and ended nothing).
    undecided: messages that the log does not have yet; None if that is not known. why: what ended it, or what is not
    known.
    """

    state: str
    url: str
    pid: int | None
    since: int
    undecided: int | None
    why: str
    processes: list[ProcessRow]


class _Readiness(msgspec.Struct, frozen=True):
    """What `/readyz` answers (`ingest.health`)."""

    checks: dict[str, str]


def status(folder: Path) -> StatusAnswer:
    """The state of the folder's run now. Takes seconds if servers don't answer."""
    run, state = holder(folder), read_state(folder)
    if run is None:
        left = [each for each in state.processes if each.process and is_alive(each.process)] if state else []
        why = last_error(folder / f"{SUPERVISOR}.log")
        if state is not None:
            why = f"its supervisor (process {state.pid}) was killed, or the machine switched off"
        return StatusAnswer("killed" if state else "down", "", None, 0, None, why, [_row(each, "") for each in left])
    if state is None or state.supervisor != run:
        return StatusAnswer("starting", "", run.pid, 0, None, "", [])
    found = rows(folder, state)
    undecided, why = _undecided(folder, state)
    said = "up" if is_up(found) else "not ready"
    return StatusAnswer(said, state.url, run.pid, state.started_at, undecided, why, found)


def rows(folder: Path, state: RunState) -> list[ProcessRow]:
    """Each process of a run, asked now."""
    return [_row(each, _health(folder, state, each)) for each in state.processes]


def is_up(found: list[ProcessRow]) -> bool:
    """Whether all of a run's processes are ready."""
    return all(each.state == READY and not each.health.startswith("not ready") for each in found)


def _row(each: ProcessState, health: str) -> ProcessRow:
    return ProcessRow(each.name, each.state, each.pid, each.since, each.restarts, health)


def _health(folder: Path, state: RunState, each: ProcessState) -> str:
    if each.process is not None and not is_alive(each.process):
        return "not ready: it has just ended"
    if each.state != READY:
        return each.said
    wrong = _not_ready(state, each)
    if wrong:
        return f"not ready: {wrong}"
    return _owned(folder / "worker.json") if each.name == "worker" else "answers" if each.port else ""


def _owned(stats_file: Path) -> str:
    stats = read_stats(stats_file)
    if stats is None or not stats["partitions"]:
        return "not ready: it owns no partition"
    return f"owns {len(stats['partitions'])} partitions, decided {stats['transactions']:,} payments since it started"


def _not_ready(state: RunState, each: ProcessState) -> str:
    """What the process says is wrong with it; "" for nothing, or if it can't be asked."""
    if not each.port:
        return ""
    host = state.metrics_host if ":" not in state.metrics_host else f"[{state.metrics_host}]"
    try:
        with open_url(f"http://{host}:{each.port}/readyz", timeout=ASK_S):
            return ""
    except HTTPError as error:
        try:
            checks = msgspec.json.decode(error.read(), type=_Readiness).checks
        except UNDECODABLE:
            return f"it answers {error.code}"
        return "; ".join(f"{name}: {wrong}" for name, wrong in checks.items() if wrong)
    except (URLError, OSError) as error:
        return f"it does not answer ({getattr(error, 'reason', error)})"


def _undecided(folder: Path, state: RunState) -> tuple[int | None, str]:
    try:
        s = _settings(folder, state)
        with closing(wiring.open_log(s)) as log:
            return backlog.undecided(s, log), ""
    except SentinelError as error:
        return None, f"how many messages are undecided is not known: {error}"


def _settings(folder: Path, state: RunState) -> Settings:
    """Those of the run's processes, as far as servers are concerned."""
    config = None if state.config is None else Path(state.config)
    return load({**os.environ, **(environment(folder) if state.is_local else {})}, config)


def age_ms(since: int) -> float:
    """How long ago, by this machine's clock."""
    return max(time.time() * 1000 - since, 0.0)
