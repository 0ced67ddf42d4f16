"""A labelled dataset through the entire product: produce, ingest --drain, replay --verify, audit --sample, on local or
on Apache servers.

    python -m benchmarks.real_input handbook PATH [--servers local|apache] [--limit N] [--audits N]

Runs the commands as a user would, prints their results, and exits 1 unless transactions + rejects = produced and every
decision, and every audit of the random sample, is identical. `apache` needs Java, Maven and redis-server
(docs/development.md): Apache Kafka in KRaft mode and Debian's redis-server.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from console.stack import LocalStack


@contextmanager
def servers(kind: str, directory: Path) -> Iterator[tuple[str, int]]:
    """Start Kafka and a log server; yields (bootstrap servers, Redis port)."""
    if kind == "local":
        with LocalStack(directory) as stack:
            yield stack.kafka_servers, stack.redis_port
        return
    from tests.integration.apache_kafka import ApacheKafka
    from tests.integration.servers import RedisServer

    kafka, redis = ApacheKafka(directory / "kafka"), RedisServer(directory / "redis")
    kafka.start()
    try:
        redis.start()
        try:
            yield kafka.bootstrap, redis.port
        finally:
            redis.stop()
    finally:
        kafka.stop()


def command(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """Run `sentinel ARGUMENTS --json`; print its last line and its wall time. Returns the object in that line."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", *arguments, "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        check=False,
    )
    seconds = time.monotonic() - started
    last = done.stdout.decode().strip().splitlines()[-1] if done.stdout.strip() else "{}"
    result: dict[str, Any] = msgspec.json.decode(last)
    shown = {key: value for key, value in result.items() if key != "state"}
    print(f"$ sentinel {' '.join(arguments)} --json   ({seconds:.1f} s, exit {done.returncode})\n  {shown}", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="A dataset through the complete product.")
    parser.add_argument("dataset")
    parser.add_argument("path")
    parser.add_argument("--servers", choices=("local", "apache"), default="local")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--audits", type=int, default=1000, help="decisions audited after the run")
    arguments = parser.parse_args()
    limit = ["--limit", str(arguments.limit)] if arguments.limit else []
    with tempfile.TemporaryDirectory(prefix="sentinel-real-input-") as folder:
        directory = Path(folder)
        with servers(arguments.servers, directory) as (kafka, redis_port):
            environment = {
                **os.environ,
                "KAFKA_SERVERS": kafka,
                "REDIS_HOST": "127.0.0.1",
                "REDIS_PORT": str(redis_port),
                "SENTINEL_SNAPSHOT_DIRECTORY": str(directory / "snapshots"),
            }
            dataset = ["--dataset", arguments.dataset, arguments.path, "--feedback-delay-days", "7"]
            produced = command(environment, "produce", *dataset, *limit)
            ingested = command(environment, "ingest", "--drain", "--create-topics")
            replayed = command(environment, "replay", "--verify")
            audited = command(environment, "audit", "--sample", str(arguments.audits))
    accounted = ingested["transactions"] + ingested["rejects"] == produced["produced"]
    identical = replayed["identical"] == replayed["decisions"] == ingested["transactions"]
    print(
        f"{produced['produced']:,} produced = {ingested['transactions']:,} transactions"
        f" + {ingested['rejects']:,} rejects: {'yes' if accounted else 'NO'};"
        f" {replayed['decisions']:,} decisions, {replayed['identical']:,} identical"
    )
    print(f"{audited['audited']:,} audited, {audited['identical']:,} identical")
    audits = audited["identical"] == audited["audited"] == min(arguments.audits, replayed["decisions"])
    sys.exit(0 if accounted and identical and audits else 1)


if __name__ == "__main__":
    main()
