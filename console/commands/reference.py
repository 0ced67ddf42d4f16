"""`sentinel reference`: publishes the merchant and device tables that all workers share."""

from __future__ import annotations

from typing import Annotated

import typer

from console import profiles, wiring
from console.follower_health import followed
from console.following import run_steps
from console.options import Config, LogPrefix, RedisHost, RedisPort
from console.tables import time_text
from core.events import SourceQuarantined
from core.partitions import partitions_of
from ingest import telemetry
from projections.reference.publisher import ReferencePublisher

HOUR_S = 3600.0
"""How long a step may take: the first folds the whole log."""


def reference(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    follow: Annotated[bool, typer.Option("--follow", help="Keep running; publish tables when they are due.")] = False,
    every_hours: Annotated[int, typer.Option(help="Hours of event time between publications; must divide 24.")] = 24,
    interval_s: Annotated[float, typer.Option(help="With --follow: polling interval in seconds.", min=0.1)] = 1.0,
) -> None:
    """Fold all partitions into reference tables (counts, fraud shares of mature payments) and publish them.

    Run one process beside the workers. A second one is harmless: publishing is conditional, and equal tables are not
    published again.
    """
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    telemetry.configure_logging(s)
    log = profiles.open_log(s, profiles.LOG_ONLY)
    publisher = ReferencePublisher(log, partitions_of(log), every_hours)
    health = followed(s, log, HOUR_S) if follow else None
    run_steps(lambda: _publish(publisher), follow=follow, interval_s=interval_s, health=health)


def _publish(publisher: ReferencePublisher) -> None:
    for event in publisher.step():
        if isinstance(event, SourceQuarantined):
            hour = time_text(event.hour_start)
            print(
                f"{event.source} {event.name}: quarantined for exceeding its rate in the hour from {hour}", flush=True
            )
            continue
        as_of = time_text(event.as_of)
        print(f"{event.kind}: published {event.rows:,} rows as of {as_of}, digest {event.digest[:16]}", flush=True)
