"""`sentinel run` as a user runs it: a living bank, a link that logs in, a crash, a stop, and going on from there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from console.processes import PROCESSES, Place, chosen, metrics_port
from console.run_folder import RunState, only_run
from console.run_place import PARTITIONS, check_port, environment, servers_of, write_environment
from console.run_status import status
from console.stack import free_port
from core.errors import BadInput
from core.settings import Settings, load

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 120.0


def until(condition: Callable[[], Any], seconds: float = WAIT_S) -> Any:
    """The condition's first true value; fails if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
    return found


class Running:
    """A `sentinel run` in a directory, and what it printed."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], output: Path) -> None:
        self.directory, self.process, self._output = directory, process, output

    def said(self, pattern: str) -> re.Match[str]:
        """The match once it was printed."""

        def found() -> re.Match[str] | None:
            assert self.process.poll() is None or re.search(pattern, self.text), self.text
            return re.search(pattern, self.text)

        return until(found)  # type: ignore[no-any-return]

    @property
    def text(self) -> str:
        return self._output.read_text()

    @property
    def state(self) -> RunState:
        return msgspec.json.decode((self.directory / ".sentinel/local/state.json").read_bytes(), type=RunState)

    def pid_of(self, name: str) -> int:
        found = next(process.pid for process in self.state.processes if process.name == name)
        assert found is not None
        return found


@contextmanager
def run(directory: Path, *arguments: str) -> Iterator[Running]:
    output = directory / f"output-{time.monotonic_ns()}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA", "REDIS", "SENTINEL"))}
    with output.open("wb") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-m", "console.cli", "run", *arguments],
            env={**clean, "PYTHONPATH": str(ROOT)},
            cwd=directory,
            stdout=stdout,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Running(directory, process, output)
    finally:
        process.kill()
        process.wait()


def alive(pids: list[int]) -> list[int]:
    """Those that run; a zombie does not."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            continue
        found += [pid] if state != "Z" else []
    return found


def decisions(url: str, session: str) -> int:
    answer = httpx.get(f"{url}/v1/stats", headers={"authorization": f"Bearer {session}"}, timeout=30.0)
    return int(answer.raise_for_status().json()["totals"]["transactions"])


def log_in(url: str, link: str) -> str:
    answer = httpx.post(f"{url}/v1/login/link", json={"token": link}, timeout=30.0)
    return str(answer.raise_for_status().json()["token"])


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
def test_a_bank_lives_crashes_stops_and_goes_on(tmp_path: Path) -> None:
    """Alerts by themselves, a login by link that works once, a killed worker, Ctrl-C, and the same log afterwards."""
    port = str(free_port())
    with run(tmp_path, "--sample", "--port", port) as first:
        url, link = first.said(r"open (http://\S+)/#login=(\S+)").groups()
        session = log_in(url, link)
        assert httpx.post(f"{url}/v1/login/link", json={"token": link}, timeout=30.0).status_code == 401
        assert httpx.get(f"{url}/v1/me", headers={"authorization": f"Bearer {link}"}, timeout=30.0).status_code == 401
        until(lambda: decisions(url, session) > 60_000)  # the weeks before, and the first live ones
        until(lambda: status(tmp_path / ".sentinel/local").state == "up")  # each process that can be asked is ready
        cases = httpx.get(f"{url}/v1/cases", headers={"authorization": f"Bearer {session}"}, timeout=30.0).json()
        assert cases["counts"]["open"] > 20
        words = rf"running on .* already: process {first.process.pid}, console at {url}"
        with pytest.raises(BadInput, match=words), only_run(tmp_path / ".sentinel/local"):
            pass
        os.kill(first.pid_of("worker"), signal.SIGKILL)
        first.said(r"worker was killed by signal 9; it is started again in 1 s")
        first.said(r"worker is ready again")
        before = decisions(url, session)
        until(lambda: decisions(url, session) > before)
        pids = [process.pid for process in first.state.processes if process.pid is not None]
        assert len(alive(pids)) == len(pids) == len(PROCESSES) + 2
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(60.0) == 0
        assert first.text.splitlines()[-1] == "stopped"
        assert alive(pids) == []
    with run(tmp_path, "--sample", "--port", port) as second:
        url, link = second.said(r"open (http://\S+)/#login=(\S+)").groups()
        session = log_in(url, link)
        resumed = decisions(url, session)
        assert resumed >= before  # nothing was lost, and the weeks before did not come again
        assert resumed < before + 30_000
        until(lambda: decisions(url, session) > resumed)
        pids = [process.pid for process in second.state.processes if process.pid is not None]
        second.process.kill()
        until(lambda: not alive(pids), 30.0)  # however it ends, nothing is left


def test_the_settings_servers_are_used_if_they_are_complete(tmp_path: Path) -> None:
    """Both named: those. One named: refused with the remedy. None, or --local: servers of its own."""
    both = load({"KAFKA_SERVERS": "kafka:9092", "REDIS_HOST": "log"})
    assert servers_of(both, tmp_path, local=False).stack is None
    for only in ({"KAFKA_SERVERS": "kafka:9092"}, {"REDIS_PORT": "6400"}):
        with pytest.raises(BadInput, match="set both, or run with --local"):
            servers_of(load(only), tmp_path, local=False)
    for s, local in ((load({}), False), (both, True)):
        found = servers_of(s, tmp_path, local=local)
        assert found.stack is not None
        assert found.settings.partitions == PARTITIONS
        assert found.settings.kafka_servers == found.stack.kafka_servers != "kafka:9092"
    secure = Settings(kafka={"security.protocol": "SASL_SSL"})
    with pytest.raises(BadInput, match=r"security.protocol.*--config"):
        servers_of(secure, tmp_path, local=False)


def test_the_ports_stay_the_same_and_env_leads_back_to_them(tmp_path: Path) -> None:
    """A second run has the first one's ports, also from a shell that took over its environment; a taken one changes."""
    first = servers_of(load({}), tmp_path, local=False)
    file = write_environment(first, tmp_path)
    assert file is not None
    exported = environment(tmp_path)
    again = servers_of(load(exported), tmp_path, local=False)
    assert again.stack is not None
    assert again.settings.redis_port == first.settings.redis_port
    assert again.settings.kafka_servers == first.settings.kafka_servers
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first.settings.redis_port))
        taken.listen()
        assert servers_of(load({}), tmp_path, local=False).settings.redis_port != first.settings.redis_port


def test_env_leads_to_the_local_servers_whatever_credentials_others_take(tmp_path: Path) -> None:
    """Beside a sentinel.toml with the production log's password, too: the local server would refuse it."""
    theirs = tmp_path / "sentinel.toml"
    theirs.write_text('redis_username = "u"\nredis_password = "p"\nredis_tls = true\nredis_ca_file = "ca.pem"\n')
    theirs.chmod(0o600)
    found = servers_of(load({}, theirs), tmp_path, local=True)
    file = write_environment(found, tmp_path)
    assert file is not None
    shell = load(environment(tmp_path), theirs)
    for name in ("redis_username", "redis_password", "redis_tls", "redis_ca_file"):
        assert getattr(shell, name) == getattr(found.settings, name) == getattr(Settings(), name)


def test_a_port_in_use_is_told_with_the_remedy() -> None:
    """Before anything is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="choose another port with --port"):
            check_port("127.0.0.1", taken.getsockname()[1])


def test_each_process_has_a_metrics_port_of_its_own() -> None:
    """From the setting's port on, the worker first, as docs/run.md says; without one, or beyond the last port, none."""
    found = {process.name: metrics_port(process, 9100) for process in PROCESSES}
    assert found == {
        "worker": 9100,
        "console": 9101,
        "sample": 0,  # serves none
        "reference": 9103,
        "responders": 9104,
        "loop": 9105,
    }
    assert {metrics_port(process, 0) for process in PROCESSES} == {0}
    assert [metrics_port(process, 65_535) for process in PROCESSES][:2] == [65_535, 0]


def test_every_process_is_complete(tmp_path: Path) -> None:
    """Names are unique, what each waits for comes before it, and every placeholder has a value."""
    place = Place(tmp_path, tmp_path / "p", tmp_path / "u", "127.0.0.1", 8700, tmp_path / "s.toml")
    seen: set[str] = set()
    for process in PROCESSES:
        assert set(process.after) <= seen
        assert process.name not in seen
        seen.add(process.name)
        command = process.command(place)
        assert command[1:3] == ["--config", str(place.config)]
        assert not any("{" in argument for argument in command)
    assert {p.name for p in PROCESSES} - {p.name for p in chosen(frozenset())} == {"sample"}
