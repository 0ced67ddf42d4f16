"""Ends a child process when the program that started it has died without ending it, for example by SIGKILL.

A shell waits for the end of a pipe whose other end only the program holds, and then ends the child. Linux's
PR_SET_PDEATHSIG does not fit: it fires when the *thread* that forked ends, needs code between fork and exec (unsafe
with librdkafka's threads), and does not exist on other systems. A process forked without exec holds a copy of the pipe
and delays the watchdog.
"""

from __future__ import annotations

import subprocess

_SCRIPT = 'read -r _; kill -9 "$1"'


class Watchdog:
    """Watches one child process, until `end`."""

    def __init__(self, pid: int) -> None:
        """pid: the child's."""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "watchdog", str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The shell's process ID."""
        return self._process.pid

    def end(self) -> None:
        """End the watchdog, not the child. Call it once the child has ended: its number may be another's then."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
