"""Options shared by several commands, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.errors import BadInput
from projections.engine.as_of import parse_time

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file. Default: the one that SENTINEL_CONFIG names, if any.")
]
KafkaServers = Annotated[
    str | None, typer.Option("--kafka-servers", help="Kafka bootstrap servers, host:port[,host:port] (KAFKA_SERVERS).")
]
RedisHost = Annotated[str | None, typer.Option("--redis-host", help="Host of the log server (REDIS_HOST).")]
RedisPort = Annotated[int | None, typer.Option("--redis-port", help="Port of the log server (REDIS_PORT).")]
LogPrefix = Annotated[str | None, typer.Option("--log-prefix", help="Prefix of the log's keys (SENTINEL_LOG_PREFIX).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]


def moment(flag: str, text: str | None) -> int | None:
    """The time that an option gives, epoch ms; None if it is not given. Raises BadInput that names the option."""
    if text is None:
        return None
    found = parse_time(text)
    if found is None:
        raise BadInput(f"{flag} {text!r} is not a valid time; write 2026-03-01, 2026-03-01T12:00Z or epoch ms")
    return found
