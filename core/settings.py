"""One frozen Settings for every command: `sentinel.toml`, then the environment, then flags. Bad values fail at startup.

Environment names are the fields' names in capitals, with the prefix SENTINEL_ except for those in `_PLAIN_NAMES`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec

from core.errors import BadInput
from core.identity import ACCOUNTS_MAX, ACCOUNTS_MAX_RANGE

_PLAIN_NAMES = {
    "environment": "STREAM_SENTINEL_ENV",
    "kafka_servers": "KAFKA_SERVERS",
    "consumer_group": "CONSUMER_GROUP",
    "redis_host": "REDIS_HOST",
    "redis_port": "REDIS_PORT",
    "redis_username": "REDIS_USERNAME",
    "redis_password": "REDIS_PASSWORD",
    "fraud_threshold": "FRAUD_THRESHOLD",
    "log_level": "LOG_LEVEL",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Every setting. Times end in their unit; sizes are counts unless they say otherwise."""

    environment: str = "local"
    kafka_servers: str = "127.0.0.1:9092"
    consumer_group: str = "stream-sentinel"
    transactions_topic: str = "transactions"
    feedback_topic: str = "feedback"
    decisions_topic: str = ""
    """Publish every decision here; "" publishes none."""
    dead_letter_topic: str = "transactions.rejects"
    """Copies of rejected messages; "" sends none (they are kept in the log in any case)."""
    partitions: int = 12
    partitioner: Literal["murmur2", "crc32"] = "murmur2"
    """How the topics' producers choose a key's partition: murmur2 is the default of Java's client, crc32 that of
    librdkafka's. A log's is fixed when it is created.
    """
    assignment_strategy: str = "range"
    group_instance_id: str = ""
    """Static membership; "" is dynamic."""
    session_timeout_ms: int = 6_000
    kafka: dict[str, str | int | float | bool] = {}
    """Any further librdkafka property (security.protocol, sasl.mechanism, …), for every client."""

    redis_host: str = "127.0.0.1"
    redis_port: int = 6379
    redis_cluster: bool = False
    redis_username: str = ""
    redis_password: str = ""
    redis_tls: bool = False
    redis_ca_file: str = ""
    log_prefix: str = "ss"
    archive: str = ""
    """Directory or URI of the archive, which is then read together with the hot log; "" for none."""
    archive_cold: str = ""
    """Directory or URI to which `sentinel archive --keep-days` moves old segments, and from which they are read."""
    archive_hot_hours: float = 24.0
    """Batches younger than this stay in the hot log only; 0 archives everything."""
    archive_keep_days: float = 0.0
    """Segments older than this are moved to `archive_cold`; 0 keeps all in `archive`."""

    fraud_threshold: float = 0.8
    """Decline threshold written when the log is first started; later changes are control events. The review threshold
    starts at half of it.
    """
    base_currency: str = ""
    """Base currency written when the log is first started (`core.currency`); "" sets none. Later: `sentinel rates`."""
    accounts_max: int = ACCOUNTS_MAX
    """Accounts that a partition holds in memory, 5 kB each, before it evicts. A log's is fixed when it is created."""
    batch_size: int = 1_000
    linger_ms: int = 2
    snapshot_directory: str = ".sentinel/snapshots"
    snapshot_interval_s: float = 60.0
    unavailable_timeout_s: float = 60.0
    """How long the worker keeps trying an unreachable log server before it gives up."""
    metrics_port: int = 0
    """Prometheus endpoint on `metrics_host`; 0 is off."""
    metrics_host: str = "127.0.0.1"
    log_level: str = "info"
    learn: dict[str, Any] = {}
    """The adaptive loop's thresholds, a table (learners/loop/settings.py); only from the file."""

    cases: dict[str, Any] = {}
    """Casework's macros and checks, a table (responders/cases/settings.py); only from the file."""
    oidc: dict[str, Any] = {}
    """Login by an OpenID Connect provider, a table (console/api/oidc_settings.py); only from the file."""
    responders: dict[str, Any] = {}
    """Channels, actions and limits of responders, a table (responders/settings.py); only from the file."""

    def is_given(self, name: str) -> bool:
        """Whether somebody set it: in the file, the environment or by a flag, even to its default."""
        return name in self.__dict__.get("given", ()) or getattr(self, name) != getattr(Settings(), name)


DEFAULT_FILE = Path("sentinel.toml")
_TABLES = ("kafka", "learn", "cases", "oidc", "responders")
"""Settings that are tables: they can be set only in a file."""
_RANGES: dict[str, tuple[float, float]] = {
    "partitions": (1, 10_000),
    "session_timeout_ms": (1_000, 3_600_000),
    "redis_port": (1, 65_535),
    "metrics_port": (0, 65_535),
    "accounts_max": ACCOUNTS_MAX_RANGE,
    "batch_size": (1, 100_000),
    "linger_ms": (0, 10_000),
    "snapshot_interval_s": (1.0, 86_400.0),
    "unavailable_timeout_s": (0.0, 86_400.0),
    "archive_hot_hours": (0.0, 1e6),
    "archive_keep_days": (0.0, 1e5),
}
_SECRET = ("redis_password", "kafka", "responders")
"""Never shown in a message: `kafka` may contain sasl.password."""
_LEVELS = ("debug", "info", "warning", "error", "critical")


def environment_name(field: str) -> str:
    """The environment variable of a field."""
    return _PLAIN_NAMES.get(field, f"SENTINEL_{field.upper()}")


def unknown_name(name: str, known: Iterable[str]) -> str:
    """The message for a setting that is not in `known`, with the closest match if one is close enough."""
    nearest = get_close_matches(name, list(known), n=1)
    return f"unknown setting {name!r}" + (f"; did you mean {nearest[0]}?" if nearest else "")


def load(environ: Mapping[str, str], path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from a TOML file (`path`, or `sentinel.toml` in the current folder if it exists), the environment and
    `overrides`.

    Raises BadInput, in one line that names the setting and where it came from. The contents of tables are not checked
    here: only the users of a table know its settings (`console.wiring.settings` asks them).
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    file = path or DEFAULT_FILE
    if path is not None or file.exists():
        for name, value in _read_toml(file).items():
            values[name], origin[name] = value, str(file)
    for name in Settings.__struct_fields__:
        variable = environment_name(name)
        if variable in environ and name not in _TABLES:
            values[name], origin[name] = environ[variable], variable
    for name, value in (overrides or {}).items():
        if value is not None:
            values[name], origin[name] = value, f"--{name.replace('_', '-')}"
    for name, value in list(values.items()):
        if name not in Settings.__struct_fields__:
            raise BadInput(f"{origin[name]}: {unknown_name(name, Settings.__struct_fields__)}")
        kind = next(f.type for f in msgspec.structs.fields(Settings) if f.name == name)
        try:
            values[name] = msgspec.convert(value, type=kind, strict=False)
        except msgspec.ValidationError as error:
            shown = "…" if name in _SECRET else repr(value)
            raise BadInput(f"{origin[name]}: {name} = {shown} is not valid: {error}") from None
    settings = Settings(**values)
    settings.__dict__["given"] = frozenset(values)
    _check(settings, origin)
    return settings


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{file}: can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: not TOML: {error}") from None


def _check(settings: Settings, origin: Mapping[str, str]) -> None:
    def fail(name: str, rule: str) -> None:
        raise BadInput(f"{origin.get(name, 'default')}: {name} = {getattr(settings, name)!r}: {rule}")

    for name, (low, high) in _RANGES.items():
        if not low <= getattr(settings, name) <= high:
            fail(name, f"must be between {low:g} and {high:g}")
    if not 0.0 < settings.fraud_threshold <= 1.0:
        fail("fraud_threshold", "must be above 0 and at most 1")
    base = settings.base_currency
    if base and not (base.isascii() and base.isalnum() and 3 <= len(base) <= 10):
        fail("base_currency", "must be a currency code such as EUR, or empty")
    if settings.log_level.lower() not in _LEVELS:
        fail("log_level", f"must be one of {', '.join(_LEVELS)}")
    if not settings.kafka_servers.strip():
        fail("kafka_servers", "must name at least one host:port")
    for name in ("transactions_topic", "feedback_topic", "consumer_group", "log_prefix", "redis_host"):
        if not getattr(settings, name).strip():
            fail(name, "must not be empty")
