"""One frozen Settings for every command: a settings file, then the environment, then flags. Bad values fail at startup.

A file is read only if somebody names it: `--config FILE`, or the environment variable SENTINEL_CONFIG. What happens to
lie in the current folder may be a stranger's. Environment names are the fields' names in capitals, with the prefix
SENTINEL_ except for those in `_PLAIN_NAMES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from core.errors import BadInput
from core.identity import ACCOUNTS_MAX, ACCOUNTS_MAX_RANGE
from core.private_files import SECRET_MODES
from core.tokens import PREFIXES
from core.toml_text import parse_toml

_PLAIN_NAMES = {
    "environment": "STREAM_SENTINEL_ENV",
    "kafka_servers": "KAFKA_SERVERS",
    "kafka_username": "KAFKA_USERNAME",
    "kafka_password": "KAFKA_PASSWORD",
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

    environment: Literal["development", "staging", "production"] = "development"
    """The profile: what must be set before a service starts (`console/profiles.py`)."""
    kafka_servers: str = "127.0.0.1:9092"
    kafka_tls: bool = False
    kafka_ca_file: str = ""
    kafka_certificate_file: str = ""
    """The client's certificate, for brokers that ask for one (mTLS); `kafka_key_file` is its private key."""
    kafka_key_file: str = ""
    kafka_sasl: Literal["", "SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"] = ""
    """How clients log in; "" does not. OAUTHBEARER: user name and password are the client's ID and secret."""
    kafka_username: str = ""
    kafka_password: str = ""
    kafka_password_file: str = ""
    consumer_group: str = "stream-sentinel"
    transactions_topic: str = "transactions"
    feedback_topic: str = "feedback"
    decisions_topic: str = ""
    """Publish every decision here; "" publishes none."""
    dead_letter_topic: str = "transactions.rejects"
    """Copies of rejected messages; "" sends none (they are kept in the log in any case)."""
    schema_registry: str = ""
    """URL of the schema registry whose IDs messages in its wire format name; "" for none: messages are JSON."""
    schema_registry_ca_file: str = ""
    schema_registry_username: str = ""
    schema_registry_password_file: str = ""
    partitions: int = 12
    partitioner: Literal["murmur2", "crc32"] = "murmur2"
    """How the topics' producers choose a key's partition: murmur2 is the default of Java's client, crc32 that of
    librdkafka's. A log's is fixed when it is created.
    """
    assignment_strategy: str = "cooperative-sticky"
    """How partitions are shared: cooperative-sticky moves only those that must move, and nobody stops meanwhile. All
    workers of a group need the same one, or at least both of one kind: range and roundrobin are eager.
    """
    group_instance_id: str = ""
    """Static membership; "" is dynamic."""
    session_timeout_ms: int = 6_000
    kafka: dict[str, str | int | float | bool] = {}
    """Further librdkafka properties for every client, of those that `ingest.kafka_properties` allows."""

    redis_host: str = "127.0.0.1"
    redis_port: int = 6379
    redis_cluster: bool = False
    redis_username: str = ""
    redis_password: str = ""
    redis_password_file: str = ""
    redis_tls: bool = False
    redis_ca_file: str = ""
    redis_certificate_file: str = ""
    """The client's certificate, for servers that ask for one (mTLS); `redis_key_file` is its private key."""
    redis_key_file: str = ""
    log_prefix: str = "ss"
    identity_key: str = ""
    """File of the private key that control events are signed with (`sentinel identity`); "" signs none."""
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
    card_data: Literal["mask", "reject"] = "mask"
    """What becomes of a message with a card number or a security code, which is never stored: mask takes it out, reject
    rejects the message.
    """
    tokenise: bool = False
    """Whether a new log holds tokens of accounts, cards, devices and IP addresses instead of their raw IDs, and
    personal attributes only sealed; in production by default. A log's is fixed when it is created.
    """
    vault: str = ".sentinel/vault"
    """The file with the keys of tokens and sealed values, which all processes on one log share."""
    vault_key: str = ""
    """The vault's key, 64 hexadecimal digits; "" keeps it in the vault itself."""
    vault_key_file: str = ""
    """A file with the vault's key instead, which only its owner may read."""
    sealed_attributes: tuple[str, ...] = ()
    """Attributes with personal data, which a log with tokens holds only sealed, beside a program's personal fields."""
    card_free_fields: tuple[str, ...] = ()
    """Identifying fields whose numbers are never taken for card numbers, because they are known to be none, such as
    transaction_id; in the environment separated by commas.
    """
    unavailable_timeout_s: float = 60.0
    """How long the worker keeps trying an unreachable log server before it gives up."""
    metrics_port: int = 0
    """Where a process answers /metrics, /livez and /readyz, on `metrics_host`; 0 is off."""
    metrics_host: str = "127.0.0.1"
    ready_lag_max: int = 100_000
    """How many messages (of a worker) or entries (of whoever follows the log) may wait before it is not ready."""
    log_level: str = "info"
    tracing: bool = False
    """Whether payments are traced with OpenTelemetry; its own variables (OTEL_…) say where to and how many."""
    learn: dict[str, Any] = {}
    """The adaptive loop's thresholds, a table (learners/loop/settings.py); only from the file."""

    cases: dict[str, Any] = {}
    """Casework's macros and checks, a table (responders/cases/settings.py); only from the file."""
    oidc: dict[str, Any] = {}
    """Login by an OpenID Connect provider, a table (console/api/oidc_settings.py); only from the file."""
    anchors: dict[str, Any] = {}
    """Who signs checkpoints, and where copies go, a table (console/anchoring/settings.py); only from the file."""
    responders: dict[str, Any] = {}
    """Channels, actions and limits of responders, a table (responders/settings.py); only from the file."""

    def is_given(self, name: str) -> bool:
        """Whether somebody set it: in the file, the environment or by a flag, even to its default."""
        return name in self.__dict__.get("given", ()) or getattr(self, name) != getattr(Settings(), name)

    @property
    def secrets_in_file(self) -> tuple[str, ...]:
        """The secrets that the settings file itself holds, by name."""
        found: tuple[str, ...] = self.__dict__.get("in_file", ())
        return found


FILE_VARIABLE = "SENTINEL_CONFIG"
"""Names the settings file, as `--config` does."""
UNREAD = Path("sentinel.toml")
"""Earlier releases read this file of the current folder without being asked."""
TABLES = ("kafka", "learn", "cases", "oidc", "anchors", "responders")
"""Settings that are tables: they can be set only in a file."""
_RANGES: dict[str, tuple[float, float]] = {
    "partitions": (1, 10_000),
    "session_timeout_ms": (1_000, 3_600_000),
    "redis_port": (1, 65_535),
    "metrics_port": (0, 65_535),
    "ready_lag_max": (1, 10**12),
    "accounts_max": ACCOUNTS_MAX_RANGE,
    "batch_size": (1, 100_000),
    "linger_ms": (0, 10_000),
    "snapshot_interval_s": (1.0, 86_400.0),
    "unavailable_timeout_s": (0.0, 86_400.0),
    "archive_hot_hours": (0.0, 1e6),
    "archive_keep_days": (0.0, 1e5),
}
_SECRET = ("redis_password", "kafka_password", "vault_key", "kafka", "responders")
"""Never shown in a message: `kafka` may contain sasl.password."""
SECRET_PROPERTIES = (
    *("sasl.password", "ssl.key.password", "ssl.key.pem", "ssl.keystore.password", "sasl.oauthbearer.client.secret"),
    "sasl.oauthbearer.assertion.private.key.pem",
)
"""Properties of the [kafka] table whose values are secrets."""
_LEVELS = ("debug", "info", "warning", "error", "critical")


def environment_name(field: str) -> str:
    """The environment variable of a field."""
    return _PLAIN_NAMES.get(field, f"SENTINEL_{field.upper()}")


def unknown_name(name: str, known: Iterable[str]) -> str:
    """The message for a setting that is not in `known`, with the closest match if one is close enough."""
    nearest = get_close_matches(name, list(known), n=1)
    return f"unknown setting {name!r}" + (f"; did you mean {nearest[0]}?" if nearest else "")


def settings_file(environ: Mapping[str, str], path: Path | None) -> Path | None:
    """The settings file that is named: `path`, or else the environment's; None for none."""
    named = environ.get(FILE_VARIABLE, "")
    return path or (Path(named) if named else None)


def load(environ: Mapping[str, str], path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from a TOML file (`settings_file`), the environment and `overrides`.

    Raises BadInput, in one line that names the setting and where it came from. The contents of tables are not checked
    here: only the users of a table know its settings (`console.wiring.settings` asks them).
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    file = settings_file(environ, path)
    in_file: list[str] = []
    if file is not None:
        for name, value in _read_toml(file).items():
            values[name], origin[name] = value, str(file)
        in_file = _secrets_in(values)
        _check_modes(file, in_file)
    for name in Settings.__struct_fields__:
        variable = environment_name(name)
        if variable in environ and name not in TABLES:
            values[name], origin[name] = environ[variable], variable
            if any("\ud800" <= c <= "\udfff" for c in environ[variable]):  # bytes that were not UTF-8
                raise BadInput(f"{variable} is not UTF-8")
    for name, value in (overrides or {}).items():
        if value is not None:
            values[name], origin[name] = value, f"--{name.replace('_', '-')}"
    for name, value in list(values.items()):
        if name not in Settings.__struct_fields__:
            raise BadInput(f"{origin[name]}: {unknown_name(name, Settings.__struct_fields__)}")
        kind = next(f.type for f in msgspec.structs.fields(Settings) if f.name == name)
        if isinstance(value, str) and kind == tuple[str, ...]:
            value = [part.strip() for part in value.split(",") if part.strip()]  # noqa: PLW2901
        try:
            values[name] = msgspec.convert(value, type=kind, strict=False)
        except msgspec.ValidationError as error:
            shown = "…" if name in _SECRET else repr(value)
            said = f"must be {_one_of(kind)}" if get_origin(kind) is Literal else f"is not valid: {error}"
            raise BadInput(f"{origin[name]}: {name} = {shown} {said}") from None
    settings = Settings(**values)
    settings.__dict__["given"] = frozenset(values)
    settings.__dict__["in_file"] = tuple(in_file)
    _check(settings, origin)
    return settings


def _one_of(kind: Any) -> str:
    """The values of a Literal, as words."""
    return ", ".join(repr(each) for each in get_args(kind)[:-1]) + f" or {get_args(kind)[-1]!r}"


def _secrets_in(values: Mapping[str, Any]) -> list[str]:
    """The secrets that stand in a file with these values, by the names that a person looks for."""
    table = values.get("kafka")
    properties = [name for name in table if name in SECRET_PROPERTIES] if isinstance(table, dict) else []
    return [
        *(name for name in ("redis_password", "kafka_password", "vault_key") if values.get(name)),
        *(f"kafka.{name}" for name in properties),
    ]


def _check_modes(file: Path, secrets: list[str]) -> None:
    """Raise BadInput if everybody may change the file, or if others may read or change one that holds secrets."""
    mode = file.stat().st_mode & 0o777
    if mode & 0o002:
        raise BadInput(f"{file}: everybody may change this file (mode {mode:o}): run chmod o-w {file}")
    if secrets and mode & SECRET_MODES:
        raise BadInput(
            f"{file}: holds {secrets[0]} and may be read or changed by others (mode {mode:o}): run chmod 600 {file},"
            " or keep the secret in the environment or a file of its own"
        )


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: not TOML: {error}") from None
    try:
        return parse_toml(text)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None


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
    if unknown := set(settings.card_free_fields) - set(PREFIXES):
        fail("card_free_fields", f"{min(unknown)!r} is none of {', '.join(PREFIXES)}")
    if settings.log_level.lower() not in _LEVELS:
        fail("log_level", f"must be one of {', '.join(_LEVELS)}")
    if not settings.kafka_servers.strip():
        fail("kafka_servers", "must name at least one host:port")
    for name in ("transactions_topic", "feedback_topic", "consumer_group", "log_prefix", "redis_host"):
        if not getattr(settings, name).strip():
            fail(name, "must not be empty")
    for server in ("kafka", "redis"):
        certificate, key = f"{server}_certificate_file", f"{server}_key_file"
        for name, other in ((certificate, key), (key, certificate)):
            if getattr(settings, name) and not getattr(settings, other):
                fail(name, f"{other} must be set too")
        for name in (f"{server}_ca_file", certificate):
            if getattr(settings, name) and not getattr(settings, f"{server}_tls"):
                fail(name, f"has no effect without {server}_tls = true")
    registry = settings.schema_registry
    scheme, _, rest = registry.partition("://")
    where = origin.get("schema_registry", "default")  # without the value: there may be a password in it
    if registry and (scheme not in ("http", "https") or not rest.partition("/")[0]):
        raise BadInput(f"{where}: schema_registry must be http:// or https:// and a host")
    if "@" in rest.partition("/")[0]:
        raise BadInput(
            f"{where}: schema_registry must not hold a password: set schema_registry_username and"
            " schema_registry_password_file"
        )
    for name in ("ca_file", "username", "password_file"):
        if getattr(settings, f"schema_registry_{name}") and not registry:
            fail(f"schema_registry_{name}", "has no effect without schema_registry")
    if settings.schema_registry_username and not settings.schema_registry_password_file:
        fail("schema_registry_username", "is of use only together with schema_registry_password_file")
    if settings.schema_registry_password_file and not settings.schema_registry_username:
        fail("schema_registry_password_file", "is of use only together with schema_registry_username")
    if settings.kafka_sasl and not settings.kafka_username:
        fail("kafka_sasl", "kafka_username must be set too")
