"""What benchmarks of a whole deployment share: commands on it, waiting, and how figures are printed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from console.service import ROOT
from core.settings import Settings, environment_name

NAMED = ("kafka_servers", "redis_host", "redis_port", "archive", "snapshot_directory")
"""Settings that commands get from a benchmark."""


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment of a command."""
    return os.environ | {environment_name(name): str(getattr(settings, name)) for name in NAMED}


def answer_of(settings: Settings, *arguments: str) -> dict[str, Any]:
    """What a command prints as its last line, JSON, whatever its exit code. Raises SystemExit if it prints nothing."""
    command = [sys.executable, "-m", "console.cli", *arguments]
    done = subprocess.run(command, env=environment_of(settings), cwd=ROOT, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr[-800:]}")
    found: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    return found


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 300.0) -> float:
    """Wait; returns the seconds it took. Raises SystemExit if it is not so in time."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise SystemExit(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.05)
    return time.monotonic() - started


def print_figures(found: Mapping[str, Any], *, as_json: bool, digits: int = 1) -> None:
    """One a line, or all as one line of JSON. digits: of fractions, after the point."""
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    for name, value in found.items():
        print(f"{name:<26} {value:,.{digits}f}" if isinstance(value, float) else f"{name:<26} {value}")


def per_call_us(run: Callable[[], object], calls: int, rounds: int = 5) -> float:
    """The best of some rounds, µs of this thread's CPU time per call."""
    best = float("inf")
    for _ in range(rounds):
        began = time.thread_time()
        for _ in range(calls):
            run()
        best = min(best, time.thread_time() - began)
    return best / calls * 1e6
