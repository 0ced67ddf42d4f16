"""`sentinel doctor`: checks that everything is reachable and configured so that no data can be lost. Each finding says
how to fix it.
"""

from __future__ import annotations

import sys

import msgspec
import typer

from console import wiring
from console.findings import findings
from console.options import Config, Json, KafkaServers, LogPrefix, RedisHost, RedisPort


def doctor(
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    as_json: Json = False,
) -> None:
    """Check servers, topics, persistence, the log and the model. Exit code 1 if a check fails.

    Reads only, except for a temporary file in the snapshot directory, and one in a local archive.
    """
    s = wiring.settings(
        config, kafka_servers=kafka_servers, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix
    )
    found = findings(s)
    if as_json:
        print(msgspec.json.encode([f._asdict() for f in found]).decode())
    else:
        for f in found:
            mark = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}[f.status]
            print(f"{mark}  {f.check}: {f.message}")
            if f.remedy:
                print(f"      → {f.remedy}")
    failed = sum(f.status == "fail" for f in found)
    if failed:
        if not as_json:
            print(f"{failed} problem{'s' if failed > 1 else ''} found", file=sys.stderr)
        raise typer.Exit(1)
