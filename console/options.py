"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file (default: sentinel.toml here, if there is one).")
]
KafkaServers = Annotated[str | None, typer.Option("--kafka-servers", help="host:port[,host:port]; or KAFKA_SERVERS.")]
RedisHost = Annotated[str | None, typer.Option("--redis-host", help="Log server; or REDIS_HOST.")]
RedisPort = Annotated[int | None, typer.Option("--redis-port", help="Log server's port; or REDIS_PORT.")]
LogPrefix = Annotated[
    str | None, typer.Option("--log-prefix", help="Prefix of the log's keys; or SENTINEL_LOG_PREFIX.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
