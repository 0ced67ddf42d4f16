"""`sentinel partition`: which partitions are parked or have lost messages, and how to go on without those."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from console import wiring
from console.acts import Actor, Reason, act_of
from console.options import Config, Json, KafkaServers, LogPrefix, RedisHost, RedisPort
from console.tables import print_fields, print_json, print_table, time_text
from core import control_stream
from core.events import MessagesSkipped, PartitionParked
from core.partitions import partitions_of
from ingest import losses

app = typer.Typer(
    help="Partitions that workers can't decide: show, accept-loss.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def show(
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    as_json: Json = False,
) -> None:
    """Show parked partitions and lost or skipped messages.

    Lost: Kafka deleted them before they were decided. Skipped: recorded as passed.
    """
    s = wiring.settings(
        config, kafka_servers=kafka_servers, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix
    )
    with closing(wiring.open_log(s)) as log:
        partitions_of(log)
        events = [event for _, event in control_stream.accepted(log)]
        still = control_stream.current(log).parked
        lost = losses.losses(log, s)
    last = {event.partition: event for event in events if isinstance(event, PartitionParked)}
    parked = [last[partition] for partition in sorted(still)]
    skipped = [event for event in events if isinstance(event, MessagesSkipped)]
    if as_json:
        print_json({"parked": parked, "lost": [loss._asdict() for loss in lost], "skipped": skipped})
        return
    rows = [
        {"partition": e.partition, "since": time_text(e.occurred_at), "code": e.code, "reason": e.reason}
        for e in parked
    ]
    print_table(("partition", "since", "code", "reason"), rows)
    print_table(("partition", "topic", "first offset", "next offset"), [_row(loss) for loss in lost])
    print_fields({"parked": len(parked), "lost": len(lost), "skipped": len(skipped)})


@app.command("accept-loss")
def accept_loss(
    partition: Annotated[int, typer.Argument(help="The partition whose worker is to continue without the messages.")],
    reason: Reason,
    actor: Actor = "",
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    as_json: Json = False,
) -> None:
    """Continue a partition after messages that Kafka deleted before they were decided. Recorded permanently.

    sentinel partition accept-loss 3 --reason "retention was one day; agreed with payments"
    """
    s = wiring.settings(
        config, kafka_servers=kafka_servers, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix
    )
    with closing(wiring.open_log(s)) as log:
        partitions_of(log, [partition])
        act = act_of(actor, reason, log)
        found = losses.accept(log, s, partition, act.actor, act.reason, act.now_ms)
    if as_json:
        print_json({"lost": [loss._asdict() for loss in found]})
        return
    for loss in found:
        print(f"{loss.role} {loss.partition}: {loss.first} … {loss.following - 1} are never decided")


def _row(loss: losses.Loss) -> dict[str, object]:
    return {
        "partition": loss.partition,
        "topic": loss.role,
        "first offset": loss.first,
        "next offset": loss.following,
    }
