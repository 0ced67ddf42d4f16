"""`sentinel` as the first process of a container, which the kernel sends a signal only if it handles it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

CODE = """
import os, sys, time
if sys.argv[1] == "first":
    os.getpid = lambda: 1
from console import cli
cli.end_as_first_process()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("which", "code"), [("first", 128 + signal.SIGTERM), ("another", -signal.SIGTERM)])
def test_the_first_process_handles_sigterm(which: str, code: int) -> None:
    """It exits with what shells say of a terminated process; any other process is terminated as usual."""
    command = [sys.executable, "-c", CODE, which]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        child.terminate()
        assert child.wait(60) == code
