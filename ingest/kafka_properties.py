"""Which librdkafka properties the settings' [kafka] table may hold, and those that the settings themselves give.

An allow list: librdkafka has properties that load code (plugin.library.paths, ssl.engine.location, ssl.providers) or
run a command (sasl.kerberos.kinit.cmd, into which other Kerberos properties are pasted), and later versions may have
more. Everything that is not listed here is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, Producer

from core.errors import BadInput
from core.private_files import check_tls_files, read_secret
from core.settings import Settings, environment_name, unknown_name

ALLOWED = frozenset(
    (
        # Transport and identity.
        *("security.protocol", "enable.ssl.certificate.verification", "ssl.endpoint.identification.algorithm"),
        *("ssl.ca.location", "ssl.ca.pem", "ssl.crl.location", "ssl.certificate.location", "ssl.certificate.pem"),
        *("ssl.key.location", "ssl.key.pem", "ssl.key.password", "ssl.keystore.location", "ssl.keystore.password"),
        *("ssl.cipher.suites", "ssl.curves.list", "ssl.sigalgs.list", "https.ca.location", "https.ca.pem"),
        *("sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password"),
        *("sasl.oauthbearer.method", "sasl.oauthbearer.config", "sasl.oauthbearer.client.id"),
        *("sasl.oauthbearer.client.secret", "sasl.oauthbearer.scope", "sasl.oauthbearer.extensions"),
        "sasl.oauthbearer.token.endpoint.url",
        *("client.id", "client.rack"),
        # Connections and timeouts.
        *("client.dns.lookup", "broker.address.family", "broker.address.ttl", "socket.timeout.ms"),
        *("socket.keepalive.enable", "socket.nagle.disable", "socket.max.fails", "socket.connection.setup.timeout.ms"),
        *("socket.send.buffer.bytes", "socket.receive.buffer.bytes", "connections.max.idle.ms"),
        *("reconnect.backoff.ms", "reconnect.backoff.max.ms", "retry.backoff.ms", "retry.backoff.max.ms"),
        *("metadata.max.age.ms", "topic.metadata.refresh.interval.ms", "topic.metadata.refresh.fast.interval.ms"),
        *(
            "topic.metadata.propagation.max.ms",
            "metadata.recovery.strategy",
            "metadata.recovery.rebootstrap.trigger.ms",
        ),
        *("api.version.request", "api.version.request.timeout.ms", "allow.auto.create.topics"),
        # Consumers.
        *("group.protocol", "group.remote.assignor", "heartbeat.interval.ms", "max.poll.interval.ms"),
        *("coordinator.query.interval.ms", "isolation.level", "check.crcs"),
        *("fetch.min.bytes", "fetch.max.bytes", "fetch.wait.max.ms", "fetch.message.max.bytes"),
        *("max.partition.fetch.bytes", "fetch.error.backoff.ms", "fetch.queue.backoff.ms"),
        *("queued.min.messages", "queued.max.messages.kbytes", "receive.message.max.bytes"),
        # Producers.
        *("message.max.bytes", "message.copy.max.bytes", "message.timeout.ms", "delivery.timeout.ms"),
        *("request.timeout.ms", "retries", "message.send.max.retries", "max.in.flight"),
        *("max.in.flight.requests.per.connection", "linger.ms", "queue.buffering.max.ms", "batch.size"),
        *("batch.num.messages", "compression.type", "compression.codec", "compression.level"),
        *("queue.buffering.max.messages", "queue.buffering.max.kbytes", "sticky.partitioning.linger.ms"),
        # Diagnosis.
        *("debug", "statistics.interval.ms", "enable.metrics.push"),
    )
)
"""Nothing here loads code, runs a command, or changes what is read and committed."""

_INSTEAD = {
    "bootstrap.servers": "the setting kafka_servers",
    "metadata.broker.list": "the setting kafka_servers",
    "group.id": "the setting consumer_group",
    "group.instance.id": "the setting group_instance_id",
    "session.timeout.ms": "the setting session_timeout_ms",
    "partition.assignment.strategy": "the setting assignment_strategy",
    "partitioner": "the setting partitioner",
}
_FORBIDDEN = {
    "plugin.library.paths": "it would load code into this process",
    "ssl.engine.location": "it would load code into this process",
    "ssl.engine.id": "it would load code into this process",
    "ssl.providers": "it would load code into this process",
    "sasl.kerberos.kinit.cmd": "it would run a command",
    "enable.sasl.oauthbearer.unsecure.jwt": "it would accept tokens that nobody signed",
}
_END = "stream-sentinel.end"


def check_properties(table: Mapping[str, Any]) -> None:
    """Check that these properties are allowed, and that librdkafka accepts their values. Raises BadInput for the first
    that is not.
    """
    for name in table:
        _check_name(name)
    try:
        # The properties are checked in order. An unknown last one prevents the creation of a client.
        Producer({**table, _END: ""})
    except KafkaException as error:
        said = error.args[0].str().strip()
        if _END not in said:
            raise BadInput(f"kafka: {said}") from None


def _check_name(name: str) -> None:
    if name in ALLOWED:
        return
    if name in _FORBIDDEN:
        raise BadInput(f"kafka: {name} can't be set: {_FORBIDDEN[name]}")
    if name in _INSTEAD:
        raise BadInput(f"kafka: {name} can't be set here: use {_INSTEAD[name]}")
    if name.startswith("sasl.kerberos."):
        raise BadInput(f"kafka: {name} can't be set: the client would paste it into a command and run that")
    raise BadInput(f"kafka: {unknown_name(name, ALLOWED)}")


def secured(settings: Settings) -> dict[str, Any]:
    """The properties that follow from the settings kafka_tls, kafka_sasl and theirs, and the [kafka] table. Raises
    BadInput if a secret can't be read, or if the table contradicts a setting.
    """
    given = _from_settings(settings)
    for name, value in given.items():
        if name in settings.kafka and settings.kafka[name] != value:
            raise BadInput(f"kafka: {name} contradicts the settings kafka_tls and kafka_sasl: set it in one place only")
    return {**given, **settings.kafka}


def _from_settings(s: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if s.kafka_tls or s.kafka_sasl:
        found["security.protocol"] = f"{'SASL_' if s.kafka_sasl else ''}{'SSL' if s.kafka_tls else 'PLAINTEXT'}"
    if s.kafka_tls:
        found |= {"enable.ssl.certificate.verification": True, "ssl.endpoint.identification.algorithm": "https"}
    if s.kafka_ca_file:
        found["ssl.ca.location"] = s.kafka_ca_file
    if s.kafka_certificate_file:
        found |= {"ssl.certificate.location": s.kafka_certificate_file, "ssl.key.location": s.kafka_key_file}
    if s.kafka_sasl:
        found["sasl.mechanism"] = s.kafka_sasl
        names = ("sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret")
        user, password = names if s.kafka_sasl == "OAUTHBEARER" else ("sasl.username", "sasl.password")
        found |= {user: s.kafka_username, password: password_of(s)}
    return found


def password_of(s: Settings) -> str:
    """The password for Kafka, from `kafka_password` or the file. Raises BadInput if there is none."""
    if s.kafka_password_file:
        return read_secret(Path(s.kafka_password_file), "kafka_password_file")
    if not s.kafka_password:
        raise BadInput(
            f"kafka_sasl is set without a password: set kafka_password_file, or {environment_name('kafka_password')} in"
            " the environment"
        )
    return s.kafka_password


def check_secured(s: Settings) -> None:
    """Raise BadInput, naming the setting, if a file or a secret of the settings can't be used."""
    check_tls_files("kafka", s.kafka_ca_file, s.kafka_certificate_file, s.kafka_key_file)
    secured(s)


def logs_in(s: Settings) -> bool:
    """Whether the clients log in by SASL, so that brokers know users and may refuse them something."""
    return "SASL" in str(secured(s).get("security.protocol", "")).upper()


def is_encrypted(s: Settings) -> bool:
    """Whether the clients use TLS and verify whom they talk to."""
    properties = secured(s)
    verified = str(properties.get("enable.ssl.certificate.verification", "true")).lower() == "true"
    named = str(properties.get("ssl.endpoint.identification.algorithm", "https")).lower() == "https"
    return "ssl" in str(properties.get("security.protocol", "")).lower() and verified and named
