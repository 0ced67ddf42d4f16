"""The local stack's servers: data and port outlive a restart, and no child outlives its program."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import redis
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from console.direct_http import open_url
from console.stack import Broker, LocalStack, Server, Valkey, free_port
from core.errors import BadInput, Unavailable


def answers(port: int, host: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process that is not our child ends in time; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_valkey_persists_and_never_evicts(tmp_path: Path) -> None:
    """The configuration that the log needs: append-only file, fsync as asked, no eviction, loopback only."""
    for appendfsync in ("always", "everysec"):
        with Valkey(tmp_path / appendfsync, appendfsync=appendfsync) as server, redis.Redis(port=server.port) as client:
            settings = client.config_get("*")
            assert settings["appendonly"] == "yes"
            assert settings["appendfsync"] == appendfsync
            assert settings["maxmemory-policy"] == "noeviction"
            assert settings["bind"] == "127.0.0.1"
            assert not answers(server.port, "127.0.0.2")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_valkey_comes_back_with_its_data_on_its_port(tmp_path: Path, end: str) -> None:
    """After a stop or a crash, the same object starts a server with the same data at the same address."""
    server = Valkey(tmp_path)
    port = server.port
    with server:
        with redis.Redis(port=port) as client:
            client.set("key", "value")
        getattr(server, end)()
        assert not server.running
        assert not answers(port)
        server.start()
        assert server.port == port
        with redis.Redis(port=port) as client:
            assert client.get("key") == b"value"
            assert client.info("server")["process_id"] == server.pid
    assert not answers(port)


def test_broker_serves_kafka_on_loopback(tmp_path: Path) -> None:
    """Topics can be made and written to through its bootstrap address; other addresses do not answer."""
    with Broker(directory=tmp_path) as server:
        assert not answers(server.port, "127.0.0.2")
        admin = AdminClient({"bootstrap.servers": server.bootstrap})
        for future in admin.create_topics([NewTopic("topic", 3, 1)]).values():
            future.result(10)
        assert len(admin.list_topics(timeout=10).topics["topic"].partitions) == 3
        producer = Producer({"bootstrap.servers": server.bootstrap})
        producer.produce("topic", b"value")
        assert producer.flush(10) == 0
    assert not answers(server.port)


def test_broker_restarts_on_its_port() -> None:
    """A killed broker starts again at the same address, with a temporary directory of its own if none is given."""
    with Broker() as server:
        server.kill()
        assert not answers(server.port)
        server.start()
        assert AdminClient({"bootstrap.servers": server.bootstrap}).list_topics(timeout=10).brokers


def test_a_taken_port_a_second_server_and_a_second_start_are_refused(tmp_path: Path) -> None:
    """What would end in two servers on one port or one file is the caller's mistake, in one line."""
    with Valkey(tmp_path) as server:
        with pytest.raises(BadInput, match="already running"):
            server.start()
        with pytest.raises(BadInput, match="port is in use"):
            Broker(port=server.port).start()
        with pytest.raises(BadInput, match="another valkey is running"):
            Valkey(tmp_path).start()
        assert server.running
    with pytest.raises(BadInput, match="appendfsync"):
        Valkey(tmp_path, appendfsync="sometimes")


def test_the_directory_stays_locked_while_an_orphan_runs(tmp_path: Path) -> None:
    """The lock is the server's, not its starter's: nobody else can start on the directory before the server is dead."""
    server = Valkey(tmp_path)
    server.start()
    process, watchdog = server._process, server._watchdog  # noqa: SLF001 - a starter that died has no handle on them
    server._process = server._watchdog = None  # noqa: SLF001
    try:
        with pytest.raises(BadInput, match="another valkey is running"):
            Valkey(tmp_path).start()
    finally:
        server._process, server._watchdog = process, watchdog  # noqa: SLF001
        server.kill()
    with Valkey(tmp_path):
        pass


def test_a_server_that_cannot_start_shows_why(tmp_path: Path) -> None:
    """Damaged files: Unavailable with the end of the server's own log, and no process left."""
    server = Valkey(tmp_path)
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(Unavailable, match=r"(?s)exited with 1 on startup.*AOF manifest"):
        server.start()
    assert not server.running
    assert server.pids == ()


def test_the_stack_starts_both_or_neither(tmp_path: Path) -> None:
    """Both servers answer at the stack's addresses; if the second can't start, the first is stopped again."""
    with LocalStack(tmp_path) as stack:
        assert answers(stack.redis_port, stack.redis_host)
        host, _, port = stack.kafka_servers.partition(":")
        assert answers(int(port), host)
        other = LocalStack(tmp_path / "other", kafka_port=int(port))
        with pytest.raises(BadInput, match="port is in use"):
            other.start()
        assert not other.valkey.running
    assert not answers(stack.redis_port)
    assert not answers(int(port))


def test_stop_leaves_no_process(tmp_path: Path) -> None:
    """Server and watchdog are both gone after stop, which may be called again."""
    server: Server
    for server in (Valkey(tmp_path), Broker(directory=tmp_path)):
        server.start()
        pids = server.pids
        assert len(pids) == 2
        server.stop()
        server.stop()
        assert all(gone(pid, 0.1) for pid in pids)
        with pytest.raises(Unavailable):
            _ = server.pid


def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """Starting from a short-lived thread is fine; the server is the program's, not the thread's."""
    server = Valkey(tmp_path)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    time.sleep(0.1)
    assert server.running
    server.stop()


_PROGRAM = """
import sys, time
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from console.stack import LocalStack
with LocalStack(Path(sys.argv[1])) as stack:
    try:
        print(*stack.valkey.pids, *stack.broker.pids, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.2)
        print(stack.valkey.running, stack.broker.running, flush=True)
"""


def _program(directory: Path) -> tuple[subprocess.Popen[str], list[int]]:
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(directory)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert program.stdout is not None
    return program, [int(pid) for pid in program.stdout.readline().split()]


def test_no_child_outlives_a_killed_program(tmp_path: Path) -> None:
    """SIGKILL to the program ends its servers and their watchdogs; the directory can be used again."""
    program, pids = _program(tmp_path)
    assert len(pids) == 4
    program.kill()
    program.wait()
    assert all(gone(pid) for pid in pids)
    with LocalStack(tmp_path):
        pass
    assert program.stdout is not None
    program.stdout.close()


def test_ctrl_c_reaches_the_program_alone(tmp_path: Path) -> None:
    """An interrupt of the whole foreground group leaves the servers to the program, which stops them in order."""
    program, pids = _program(tmp_path)
    os.killpg(program.pid, signal.SIGINT)
    output, _ = program.communicate(timeout=20)
    assert output.split() == ["True", "True"]
    assert program.returncode == 0
    assert all(gone(pid) for pid in pids)


def test_free_ports_are_free_and_not_for_outgoing_connections() -> None:
    """A listening port is not offered, and no port lies where the system takes outgoing connections from."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    offered = {free_port() for _ in range(50)}
    assert len(offered) == 50
    assert all(port < low for port in offered)


def test_a_server_that_loads_its_data_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes: a large log must not be killed while it is read from disk."""
    server = Valkey(tmp_path, appendfsync="no")
    with server, redis.Redis(port=server.port, socket_timeout=120.0) as client:
        client.eval("for i = 1, 700000 do redis.call('SET', i, i) end", 0)
    monkeypatch.setattr("console.stack.START_SECONDS_MAX", 0.25)
    began = time.monotonic()
    with server, redis.Redis(port=server.port) as client:
        assert client.dbsize() == 700_000
    assert time.monotonic() - began > 0.25


def test_no_watchdog_waits_for_a_number_that_is_free(tmp_path: Path) -> None:
    """Once it is known that a child has ended, its process ID may be another's."""
    with Valkey(tmp_path) as server:
        child, watchdog = server.pids
        os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + 10.0
        while server.running and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.pids == (child,)
        with pytest.raises(ProcessLookupError):
            os.kill(watchdog, 0)


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment could not reach a process here."""
    server = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with open_url(f"http://127.0.0.1:{server.server_port}/", 5.0) as answer:
        assert answer.status == 200
    server.server_close()
