"""`sentinel ingest`: runs one worker."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer

from console import profiles, wiring
from console.gc_tuning import tune_for_deciding
from console.options import Config, Json, KafkaServers, LogPrefix, RedisHost, RedisPort
from console.server_findings import log_server_findings
from core.errors import Unavailable
from core.settings import Settings
from ingest import kafka_client, ownership, telemetry
from ingest.health import Health, serve
from ingest.stats import Stats
from ingest.worker import Worker


def ingest(
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    consumer_group: Annotated[str | None, typer.Option("--group", help="Consumer group (CONSUMER_GROUP).")] = None,
    group_instance_id: Annotated[
        str | None, typer.Option("--instance-id", help="Static group membership: keep partitions across a restart.")
    ] = None,
    decisions_topic: Annotated[str | None, typer.Option(help="Publish every decision to this topic.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Maximum number of messages per batch.")] = None,
    linger_ms: Annotated[
        int | None, typer.Option(help="Maximum wait for a fuller batch after an append, in ms.")
    ] = None,
    snapshot_directory: Annotated[str | None, typer.Option(help="Directory for snapshots of account state.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error.")] = None,
    create_topics: Annotated[bool, typer.Option("--create-topics", help="Create missing topics first.")] = False,
    new_log: Annotated[
        str,
        typer.Option(
            metavar="REASON",
            help="Begin a new log although snapshots, the archive or committed offsets prove that there was one. The"
            " reason is recorded.",
        ),
    ] = "",
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only write a snapshot of every partition, before an upgrade.")
    ] = False,
    drain: Annotated[bool, typer.Option("--drain", help="Exit at the end of all owned partitions.")] = False,
    stats_file: Annotated[
        Path | None, typer.Option(help="Write counts and latency to this file twice a second.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read transactions and feedback from Kafka, decide every transaction, and append the decisions to the log.

    Start as many workers as you like: Kafka's consumer group assigns the partitions. A worker may be killed at any
    time; the next owner of its partitions continues from the log. SIGTERM and Ctrl-C first finish the batch in flight.
    """
    s = wiring.settings(
        config,
        kafka_servers=kafka_servers,
        redis_host=redis_host,
        redis_port=redis_port,
        log_prefix=log_prefix,
        consumer_group=consumer_group,
        group_instance_id=group_instance_id,
        decisions_topic=decisions_topic,
        batch_size=batch_size,
        linger_ms=linger_ms,
        snapshot_directory=snapshot_directory,
        log_level=log_level,
    )
    telemetry.configure_logging(s)
    profiles.check_settings(s)
    if create_topics:
        wanted = [s.transactions_topic, s.feedback_topic, s.decisions_topic, s.dead_letter_topic]
        kafka_client.create_topics(s, [name for name in wanted if name])
    log = profiles.open_log(s)
    if prepare:
        count = ownership.prepare(log, s, wiring.open_resolver(log))
        print(f"snapshots of {count} partitions are in {s.snapshot_directory}")
        return
    _warn_of_server(s)
    health = Health()
    serve(s, health)
    stats = Stats(stats_file)
    worker = Worker(s, log, wiring.open_resolver(log), drain=drain, stats=stats, new_log=new_log, health=health)
    _run(worker)
    log.close()
    _report(stats, as_json)


def _warn_of_server(s: Settings) -> None:
    """Say what `sentinel doctor` fails on of the log's server, if this user may ask. One that may evict, for example,
    would lose parts of the log without a word.
    """
    with suppress(Unavailable):  # the worker waits for it
        for finding in log_server_findings(s):
            if finding.status == "fail":
                telemetry.logger().warning(
                    "ingest.log_server_unsafe", server=finding.check, problem=finding.message, remedy=finding.remedy
                )


def _run(worker: Worker) -> None:
    """Run the worker until it has drained its partitions or is asked to stop."""

    def stop(signum: int, frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    tune_for_deciding()
    worker.run()


def _report(stats: Stats, as_json: bool) -> None:
    summary = {
        "transactions": stats.transactions,
        "rejects": sum(stats.rejects.values()),
        "feedback": stats.feedback,
        "alerts": stats.alerts,
        "rejects_by_reason": stats.rejects,
        "decisions": stats.decisions,
        "latency_p50_ms": stats.latency.quantile(0.5) if stats.latency.count else None,
        "latency_p99_ms": stats.latency.quantile(0.99) if stats.latency.count else None,
    }
    if as_json:
        print(msgspec.json.encode(summary).decode())
    else:
        print(
            f"{stats.transactions:,} transactions decided, {sum(stats.rejects.values()):,} messages rejected,"
            f" {stats.feedback:,} feedback events, {stats.alerts:,} alerts",
            file=sys.stdout,
        )
