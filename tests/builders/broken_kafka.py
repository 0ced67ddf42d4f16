"""Systems whose topics or groups only Apache Kafka breaks, for `broken_setups`; tests/integration runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from ingest import backlog, kafka_client
from tests import worker_harness as h
from tests.builders.broken_setups import NOBODY, Given, World, decide, setup
from tests.worker_harness import Stage


def configured(on: Stage, *topics: str, **values: str) -> None:
    """Give the topics these properties (`_` for a dot)."""
    admin: Any = AdminClient({"bootstrap.servers": on.settings.kafka_servers})
    for topic in topics:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        for name, value in values.items():
            entry = ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            resource.add_incremental_config(entry)
        admin.incremental_alter_configs([resource])[resource].result(30)


def recommend(on: Stage) -> None:
    """Give the topics the broker's times, as docs/history.md wants them."""
    configured(on, on.settings.transactions_topic, on.settings.feedback_topic, message_timestamp_type="LogAppendTime")


def broken(world: World, **values: str) -> Iterator[Given]:
    """A system that is well, but for these properties of its transactions topic."""
    on = world.own(decided=False)
    recommend(on)
    decide(on)
    configured(on, on.settings.transactions_topic, **values)
    yield on, ""


@setup("a topic that keeps messages for an hour", "warn", "topic .*", "for 1 h.*retention.ms", NOBODY, "apache")
def short_retention(world: World) -> Iterator[Given]:
    yield from broken(world, retention_ms="3600000")


@setup("a compacted topic", "fail", "topic .*", "is compacted.*cleanup.policy=delete", NOBODY, "apache")
def compacted(world: World) -> Iterator[Given]:
    yield from broken(world, cleanup_policy="compact")


@setup("a topic whose times are the producers'", "warn", "topic .*", "CreateTime.*LogAppendTime", NOBODY, "apache")
def producers_times(world: World) -> Iterator[Given]:
    yield from broken(world, message_timestamp_type="CreateTime")


@setup("workers that own nothing", "fail", "workers", "nobody owns 4 partitions.*restart them", servers="apache")
def owns_nothing(world: World) -> Iterator[Given]:
    on = world.own(decided=False)
    recommend(on)
    decide(on)
    idle = kafka_client.transactions_consumer(on.settings)
    idle.subscribe([on.settings.dead_letter_topic])

    def has_joined() -> bool:
        idle.consume(1, 0.1)
        group = backlog.group_of(on.settings)
        return group is not None and group.members == 1 and group.state == "stable"

    try:
        h.wait_for(has_joined, "a member")
        yield on, ""
    finally:
        idle.close()
