"""What a run needs before its first process starts: its servers, and a free port.

`directory` holds, beside the local stack's data and what `console.run_folder` keeps: the ports of the last run, and
`env`, which gives other commands the same servers.
"""

from __future__ import annotations

import shlex
import socket
from pathlib import Path
from typing import NamedTuple

import msgspec

from console.processes import PROCESSES
from console.stack import LocalStack, free_port, is_free
from core.errors import UNDECODABLE, BadInput, Unavailable
from core.files import write_atomic
from core.settings import Settings, environment_name

LOOPBACK = "127.0.0.1"
PARTITIONS = 4
"""Of a log that the local stack begins, unless the settings say otherwise."""


class _Ports(msgspec.Struct, frozen=True):
    """metrics: the first of as many as there are processes (`console.processes.metrics_port`)."""

    kafka: int
    redis: int
    metrics: int = 0


class Servers(NamedTuple):
    """The servers to use. stack: None if they are the settings' own."""

    settings: Settings
    stack: LocalStack | None


def servers_of(s: Settings, directory: Path, *, local: bool) -> Servers:
    """The settings' servers if they name Kafka and the log server, else the local stack. Raises BadInput if they name
    only one.
    """
    known = _known(directory / "ports.json")
    is_own = known is not None and (s.kafka_servers, s.redis_port) == (f"{LOOPBACK}:{known.kafka}", known.redis)
    kafka = s.is_given("kafka_servers")
    redis = s.is_given("redis_host") or s.is_given("redis_port")
    if not local and not is_own and kafka and redis:  # its own: as the file `env` sets them
        return Servers(s, None)
    if not local and kafka != redis:
        given, other = ("KAFKA_SERVERS", "REDIS_HOST") if kafka else ("REDIS_HOST", "KAFKA_SERVERS")
        raise BadInput(f"{given} is set, but {other} is not: set both, or run with --local to use servers of its own")
    if secure := [name for name in s.kafka if name.startswith(("security.", "sasl.", "ssl."))]:
        raise BadInput(
            f"the [kafka] table sets {secure[0]}, which the local broker does not have: set KAFKA_SERVERS and"
            " REDIS_HOST to use your servers, or give another file with --config"
        )
    ports = _ports(directory / "ports.json", known)
    stack = LocalStack(directory, kafka_port=ports.kafka, redis_port=ports.redis)
    changed = msgspec.structs.replace(
        s,
        **stack.settings,
        partitions=s.partitions if s.is_given("partitions") else PARTITIONS,
        snapshot_directory=str(directory / "snapshots"),
        metrics_port=s.metrics_port or ports.metrics,
    )
    return Servers(changed, stack)


def _known(file: Path) -> _Ports | None:
    """The ports of the last run."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Ports)
    except (OSError, *UNDECODABLE):
        return None


def _ports(file: Path, known: _Ports | None) -> _Ports:
    """The known ports if they are free, so that other commands' settings stay right; else others."""
    kept = known or _Ports(0, 0)
    is_free_still = bool(kept.kafka) and is_free(kept.kafka) and is_free(kept.redis)
    kafka, redis = (kept.kafka, kept.redis) if is_free_still else (free_port(), free_port())
    metrics = kept.metrics
    while not metrics or not all(port not in (kafka, redis) and is_free(port) for port in _row(metrics)):
        metrics = free_port()
    found = _Ports(kafka, redis, metrics)
    if found == known:
        return found
    try:
        write_atomic(file, msgspec.json.encode(found), b"\n")
    except OSError as error:
        raise Unavailable(f"can't write {file}: {error.strerror}") from None
    return found


def _row(first: int) -> range:
    return range(first, first + len(PROCESSES))


def write_environment(servers: Servers, directory: Path) -> Path | None:
    """A file of shell exports that give other commands the local stack's servers; None if they are the settings'."""
    if servers.stack is None:
        return None
    shared = (*servers.stack.settings, "partitions", "snapshot_directory")
    lines = [
        f"export {environment_name(name)}={shlex.quote(str(getattr(servers.settings, name)))}\n" for name in shared
    ]
    file = directory / "env"
    try:
        write_atomic(file, "".join(lines).encode(), mode=0o600)
    except OSError as error:
        raise Unavailable(f"can't write {file}: {error.strerror}") from None
    return file


def environment(directory: Path) -> dict[str, str]:
    """What `write_environment` wrote there; nothing if it did not."""
    try:
        words = shlex.split((directory / "env").read_text(encoding="utf-8"))
    except OSError:
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)


def check_port(host: str, port: int) -> None:
    """Raise BadInput if the console can't listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInput(
                f"the console can't listen on {host}:{port} ({error.strerror}): choose another port with --port"
            ) from None
