"""Latency of `POST /v1/decisions`, open loop, with everything on this machine: broker, log server with fsync always,
worker, API and this client.

Request n is due n / rate after the start, whether or not earlier ones were answered; its latency is counted from then,
so a server that falls behind is not spared (no coordinated omission). Connections are kept alive; a request that finds
none free opens one. The worker fetches with `FETCH`: by default it waits up to 9 ms for a larger fetch, which saves the
broker's CPU at high rates and costs half of that in latency at low ones.

The first WARM_UP_S don't count. Errors: any answer but 200 with a decision, and requests that were not answered.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from console import wiring
from console.api import users
from console.api.users import UserFile
from console.bench import cpu
from console.service import Service, wait_for_partitions
from console.stack import LocalStack, free_port
from core.errors import Unavailable
from ingest import kafka_client

START_S = 300.0
WARM_UP_S = 3.0
DRAIN_S = 15.0
FETCH = {"fetch.wait.max.ms": 5, "fetch.min.bytes": 1}
LINGER_MS = 0
ACCOUNTS = 2_000
_REQUEST = b"\r\n".join(
    [
        b"POST /v1/decisions?wait_ms=10000 HTTP/1.1",
        b"host: bench",
        b"authorization: Bearer %s",
        b"content-length: %d",
        b"",
        b"%s",
    ]
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. rate: offered, requests/s; p50_ms … of the answered requests after the warm-up. …_cores: CPU
    seconds per second; foreign: of what is not the bench's.
    """

    rate: float
    seconds: float
    requests: int
    answered_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    errors: int
    connections: int
    worker_cores: float | None
    api_cores: float | None
    broker_cores: float | None
    log_cores: float | None
    client_cores: float
    foreign_cores: float | None

    def summary(self) -> dict[str, Any]:
        """The figures, rounded, for `--json`."""
        found = msgspec.to_builtins(self)
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


def run(rate: float, seconds: float) -> Figures:
    """Start everything in a temporary directory, measure, stop everything. Raises Unavailable."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))
        servers = stack.enter_context(LocalStack(directory))
        config = directory / "sentinel.toml"
        config.write_text(
            f'kafka_servers = "{servers.kafka_servers}"\nredis_host = "{servers.redis_host}"\n'
            f"redis_port = {servers.redis_port}\nlinger_ms = {LINGER_MS}\n"
            f'snapshot_directory = "{directory / "snapshots"}"\n[kafka]\n'
            + "".join(f'"{name}" = {value}\n' for name, value in FETCH.items())
        )
        s = wiring.settings(config)
        kafka_client.create_topics(s, [s.transactions_topic, s.feedback_topic, s.dead_letter_topic])
        stats = directory / "worker.json"
        arguments = ["ingest", "--config", str(config), "--stats-file", str(stats)]
        worker = stack.enter_context(Service("worker", arguments, s, directory))
        wait_for_partitions(worker, stats, s.partitions, START_S)
        file = UserFile(directory / "users.json")
        users.add(file, "bench", ["submitter"], 0)
        token = users.new_token(file, "bench", int(time.time() * 1000))
        port = free_port()
        files = ["--users", str(file.path), "--checkpoint-directory", str(directory / "projections")]
        served = ["serve", "--config", str(config), "--port", str(port), *files]
        quiet = msgspec.structs.replace(s, metrics_port=0)  # the port is the worker's
        server = stack.enter_context(Service("api", served, quiet, directory))
        _await_ready(server, port)
        pids = {"worker": worker.pid, "api": server.pid, "broker": servers.broker.pid, "log": servers.valkey.pid}
        before, began = _clocks(pids), time.perf_counter()
        measured = asyncio.run(_measure(port, token.encode(), rate, seconds))
        for service in (worker, server):
            service.check()
        return _figures(rate, seconds, measured, _spent(before, _clocks(pids), time.perf_counter() - began))


def _await_ready(server: Service, port: int) -> None:
    deadline = time.monotonic() + START_S
    while not asyncio.run(_is_ready(port)):
        server.check()
        if time.monotonic() > deadline:
            raise Unavailable(f"the API is not ready within {START_S:.0f} s; {server.last_words}")
        time.sleep(0.1)


async def _is_ready(port: int) -> bool:
    try:
        connection = await _Connection.opened(port)
        status, _ = await connection.asked(b"GET /readyz HTTP/1.1\r\nhost: bench\r\n\r\n")
        connection.close()
    except OSError:
        return False
    return status == 200


class _Connection:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def opened(cls, port: int) -> _Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def asked(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


def _clocks(pids: dict[str, int | None]) -> dict[str, float | None]:
    """CPU seconds of each process, this one and the machine."""
    found = {name: cpu.process_s(pid) for name, pid in pids.items()}
    return {**found, "client": time.process_time(), "machine": cpu.machine_s()}


def _spent(before: dict[str, float | None], after: dict[str, float | None], seconds: float) -> dict[str, float | None]:
    """Cores used by each, and by whatever is not ours ("foreign"); None where a clock is unknown."""
    used: dict[str, float | None] = {}
    for name, was in before.items():
        now = after[name]
        used[name] = None if was is None or now is None else (now - was) / seconds
    machine = used.pop("machine")
    ours = [value for value in used.values() if value is not None]
    used["foreign"] = None if machine is None or len(ours) < len(used) else machine - sum(ours)
    return used


@dataclass(slots=True)
class _Measured:
    """latencies: (due, seconds taken) of each answered request, due by perf_counter, from `started` on."""

    started: float
    requests: int = 0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    errors: int = 0
    connections: int = 0


async def _measure(port: int, token: bytes, rate: float, seconds: float) -> _Measured:
    free: list[_Connection] = []
    found = _Measured(time.perf_counter() + 0.5)
    wall = time.time() + 0.5

    async def one(number: int, due: float) -> None:
        account = f"a{number * 7919 % ACCOUNTS:05d}"
        body = msgspec.json.encode(
            {
                "transaction_id": f"b{number:08d}",
                "account_id": account,
                "amount": 5.0 + number % 200,
                "occurred_at": int((wall + number / rate) * 1000),
                "currency": "EUR",
                "merchant_id": f"m{number % 500:04d}",
                "merchant_category": "grocery",
                "country": "DE",
                "channel": "online",
                "device_id": f"d{account}",
            }
        )
        try:
            if free:
                connection = free.pop()
            else:
                found.connections += 1
                connection = await _Connection.opened(port)
            status, _ = await connection.asked(_REQUEST % (token, len(body), body))
        except (OSError, asyncio.IncompleteReadError):
            found.errors += 1
            return
        free.append(connection)
        found.latencies.append((due, time.perf_counter() - due))
        found.errors += status != 200

    tasks: set[asyncio.Task[None]] = set()
    while found.requests < int(rate * seconds):
        due = found.started + found.requests / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(found.requests, due))
        found.requests += 1
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    _, unanswered = await asyncio.wait(tasks, timeout=DRAIN_S) if tasks else (set(), set())
    found.errors += len(unanswered)
    for connection in free:
        connection.close()
    return found


def _figures(rate: float, seconds: float, measured: _Measured, cores: dict[str, float | None]) -> Figures:
    counted = np.array([took * 1000 for due, took in measured.latencies if due >= measured.started + WARM_UP_S])
    if not len(counted):
        raise Unavailable("no request was answered after the warm-up: measure for longer")
    p50, p95, p99, p999 = np.percentile(counted, [50, 95, 99, 99.9])
    last = max(due + took for due, took in measured.latencies)
    return Figures(
        rate=rate,
        seconds=seconds,
        requests=measured.requests,
        answered_per_s=len(measured.latencies) / (last - measured.started),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        p999_ms=float(p999),
        errors=measured.errors,
        connections=measured.connections,
        worker_cores=cores["worker"],
        api_cores=cores["api"],
        broker_cores=cores["broker"],
        log_cores=cores["log"],
        client_cores=cores["client"] or 0.0,
        foreign_cores=cores["foreign"],
    )
