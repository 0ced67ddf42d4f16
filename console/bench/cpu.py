"""CPU time of the processes that a bench compares, and of all other processes on the machine.

A figure that a platform or server does not report is None, never a guess. Processes and the machine are read from
Linux's /proc, the log server from its own INFO, which also works remotely.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import redis

from console import wiring
from core.log.redis_transport import open_client
from core.settings import Settings

_PROC = Path("/proc")
_LISTEN = "0A"
_UTIME = 11
"""Index of utime in /proc/PID/stat, counted from the field after the command's closing parenthesis; stime follows."""
_IDLE, _IOWAIT, _STEAL = 3, 4, 7
"""Columns of the line `cpu` in /proc/stat; the ones after steal are already included in user."""


def process_s(pid: int | None) -> float | None:
    """CPU seconds (user and system, all threads) of a process since its start; None if unknown or ended."""
    if pid is None:
        return None
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_UTIME + 1])) / os.sysconf("SC_CLK_TCK")


def machine_s() -> float | None:
    """CPU seconds that all cores were busy, or stolen by the hypervisor, since boot; None if not on Linux."""
    try:
        first = (_PROC / "stat").read_text().partition("\n")[0].split()
    except OSError:
        return None
    ticks = [int(field) for field in first[1 : _STEAL + 2]]
    return (sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]) / os.sysconf("SC_CLK_TCK")


def broker(servers: str) -> int | None:
    """The process ID of the first of Kafka's `bootstrap.servers`; None unless it runs on this machine and outside a
    container (for a container, a proxy listens on the port).
    """
    host, _, port = servers.split(",", maxsplit=1)[0].strip().rpartition(":")
    if not (host in ("localhost", "[::1]") or host.startswith("127.")) or not port.isdecimal():
        return None
    pid = listener(int(port))
    return None if pid is None or (_PROC / str(pid) / "comm").read_text().strip() == "docker-proxy" else pid


def listener(port: int) -> int | None:
    """The ID of the local process that listens on a TCP port; None if there is none or it is not visible."""
    inodes = {
        f"socket:[{columns[9]}]"
        for table in ("tcp", "tcp6")
        for columns in _sockets(_PROC / "net" / table)
        if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port
    }
    if not inodes:
        return None
    for link in _PROC.glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) in inodes:
                return int(link.parts[2])
        except OSError:  # the process has ended, or belongs to another user
            continue
    return None


def _sockets(table: Path) -> list[list[str]]:
    try:
        return [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []


def log_client(settings: Settings) -> Any:
    """A redis-py client for the configured log server. Raises Unavailable if a cluster does not answer."""
    return open_client(**wiring.server(settings))


class LogServer:
    """The log server's CPU clock and its number of seals. Call `close` when done."""

    def __init__(self, settings: Settings) -> None:
        """Raises Unavailable if a cluster does not answer."""
        self._client = log_client(settings)
        self._seals = [f"{settings.log_prefix}:{{p{p:02d}}}:seals" for p in range(settings.partitions)]
        self._is_cluster = settings.redis_cluster

    def cpu_s(self) -> float | None:
        """CPU seconds since start (user and system, all threads; in a cluster, all primaries); None if not reported."""
        try:
            info = self._client.info("cpu", **({"target_nodes": "primaries"} if self._is_cluster else {}))
        except redis.RedisError:
            return None
        nodes = list(info.values()) if self._is_cluster and "used_cpu_user" not in info else [info]
        return float(sum(node["used_cpu_user"] + node["used_cpu_sys"] for node in nodes))

    def seals(self) -> int:
        """Number of seals in the log: a worker seals each batch of a partition. Raises redis.RedisError."""
        with self._client.pipeline(transaction=False) as asked:
            for key in self._seals:
                asked.xlen(key)
            return int(sum(asked.execute()))

    def close(self) -> None:
        self._client.close()
