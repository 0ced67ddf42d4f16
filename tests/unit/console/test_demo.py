"""The demo and the doctor as a user runs them: whole processes, exit codes, last lines, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import redis
from typer.testing import CliRunner

from console.cli import application
from console.stack import LocalStack, Valkey
from core.errors import BadInput

SENTINEL = [sys.executable, "-m", "console.cli"]
ROOT = Path(__file__).resolve().parents[3]


def environment(tmp_path: Path, **changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), **changes}


def processes_of(tmp_path: Path) -> list[str]:
    """Command lines of processes that work in the test's temporary folder."""
    found: list[str] = []
    if not Path("/proc").exists():  # not Linux: nothing to look at
        return found
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = os.readlink(entry / "cwd")
        except OSError:
            continue
        if entry.name.isdigit() and (str(tmp_path) in line or folder.startswith(str(tmp_path))):
            found.append(line)
    return found


def test_the_loop_is_seen(tmp_path: Path) -> None:
    """Exit 0; told, promoted, rolled back, every decision identical; no process and no file is left."""
    done = subprocess.run(
        [*SENTINEL, "demo", "--loop", "--json"],
        env=environment(tmp_path, REDIS_PASSWORD="of-another-server"),
        cwd=tmp_path,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    result = msgspec.json.decode(done.stdout.splitlines()[-1])
    assert 0 < result["detected_after_h"] <= 96
    assert result["promoted"] and result["promoted_model"] == "card-1.1.0"
    assert result["rolled_back"] and result["rolled_back_after_h"] <= 48 and result["poisoned_decisions"] > 500
    assert result["decisions"] == result["identical"] > 50_000
    assert b"mallory deploys" in done.stderr and b"decides again" in done.stderr
    assert not processes_of(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("sentinel-demo-")]


def test_the_loop_takes_no_options_of_another_stream(tmp_path: Path) -> None:
    """The month is told as it is: a seed or a count that would be ignored is refused, the usual values too."""
    for given in (["--seed", "7"], ["--transactions", "60000"], ["--rate", "10", "--limit", "9"]):
        done = CliRunner().invoke(application(["demo"]), ["demo", "--loop", *given])
        assert isinstance(done.exception, BadInput) and given[0] in str(done.exception)


def test_the_demo_accounts_for_everything_and_leaves_nothing(tmp_path: Path) -> None:
    """Exit 0; produced = transactions + rejects; every decision identical; no process and no file is left. Also where
    the settings have another log server's password.
    """
    done = subprocess.run(
        [*SENTINEL, "demo", "--json", "--transactions", "3000"],
        env=environment(tmp_path, REDIS_PASSWORD="of-another-server"),
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    result = msgspec.json.decode(done.stdout.splitlines()[-1])
    assert result["produced"] == 3020 == result["transactions"] + result["rejects"]
    assert result["rejects"] == 20
    assert result["decisions"] == result["identical"] == result["transactions"] == 3000
    assert 0.0 <= result["precision"] <= 1.0
    assert 0.0 <= result["recall"] <= 1.0
    assert 0.0 <= result["value_detection_rate"] <= 1.0
    assert processes_of(tmp_path) == []
    assert list(tmp_path.glob("sentinel-demo-*")) == []


def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle: exit 130, no traceback, no process left."""
    # A shell's background jobs ignore SIGINT, and children inherit that.
    demo = subprocess.Popen(
        [*SENTINEL, "demo", "--json"],
        env=environment(tmp_path),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("sentinel-demo-*/worker.log")) and time.monotonic() < deadline:
            time.sleep(0.1)
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=60)
    finally:
        demo.kill()
    assert demo.returncode == 130, errors.decode()
    assert b"Traceback" not in errors
    assert processes_of(tmp_path) == []


def test_the_doctor_names_what_must_be_mended(tmp_path: Path) -> None:
    """Missing topics and an evicting, unpersistent log server are found, each with a remedy, and the exit code is 1."""
    with LocalStack(tmp_path / "stack") as servers, Valkey(tmp_path / "other") as log_server:
        client = redis.Redis(port=log_server.port)
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        client.close()
        done = subprocess.run(
            [*SENTINEL, "doctor"],
            env=environment(tmp_path, KAFKA_SERVERS=servers.kafka_servers, REDIS_PORT=str(log_server.port)),
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            check=False,
        )
    text = done.stdout.decode()
    assert done.returncode == 1
    assert "FAIL  topic transactions: missing" in text
    assert "maxmemory-policy is allkeys-lru" in text
    assert "appendonly is off" in text
    assert text.count("→") >= 4
