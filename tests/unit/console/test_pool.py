"""Work in several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

CODE = """
import sys, time
import typer
from console import cli, pool

def work():
    print("started", flush=True)
    pool.each(time.sleep, [(30,), (0,)], jobs=2, title="sleeping", total=2, quiet=True)

app = typer.Typer()
app.command("x")(work)
app.callback()(lambda: None)
cli.application = lambda names: app
sys.argv = ["sentinel", "x"]
cli.main()
"""


@pytest.mark.parametrize("after_s", [0.0, 0.3, 2.0])
def test_ctrl_c_is_one_line(after_s: float) -> None:
    """Ctrl-C signals the whole process group, at any time: no child prints a traceback, and nothing is left running."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == "started\n"
        time.sleep(after_s)
        os.killpg(running.pid, signal.SIGINT)
        _, shown = running.communicate(timeout=20)
    assert (running.returncode, shown) == (130, "sentinel: interrupted\n")
