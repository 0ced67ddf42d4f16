"""Which process a number in a file means: the process ID together with when that process started.

The system gives a number to another process once its own has ended, and all numbers anew after a reboot. A process is
signalled only if it is the one that was written down.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import msgspec

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class ProcessId(msgspec.Struct, frozen=True):
    """A process. started: when, in the system's own words; they differ for every process that ever had the number."""

    pid: int
    started: str


def process_id(pid: int) -> ProcessId | None:
    """The process that has this number now; None if there is none."""
    started = _started(pid)
    return ProcessId(pid, started) if started else None


def is_alive(process: ProcessId) -> bool:
    """Whether it still runs. One that has ended and that its parent has not asked for yet does not."""
    return _started(process.pid) == process.started


def send(process: ProcessId, number: signal.Signals) -> None:
    """Send a signal to the process, or to none if it has ended."""
    with suppress(ProcessLookupError):
        if not hasattr(os, "pidfd_open"):
            if is_alive(process):
                os.kill(process.pid, number)
            return
        handle = os.pidfd_open(process.pid)  # means the same process from here on
        try:
            if is_alive(process):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _started(pid: int) -> str:
    """When the process with this number started; "" if none runs."""
    if not _BOOT.exists():
        asked = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        state, _, started = asked.stdout.strip().partition(" ")
        return "" if state.startswith("Z") else started.strip()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # its name may hold anything
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, ticks = fields[0], fields[19]
    return "" if state in "ZX" else f"{_BOOT.read_text().strip()} {ticks}"
