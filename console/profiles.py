"""What each profile requires of a deployment, as a list of checks that each say what is missing.

`STREAM_SENTINEL_ENV` chooses the profile. In production a service whose requirements are not met does not start; in
staging it says what is missing and starts; in development nothing is required. `sentinel doctor` reports the same.

To add a requirement: a function that yields what is missing, and a line in REQUIREMENTS, or in LOG_REQUIREMENTS if only
the log can tell.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from console import wiring
from console.anchoring.settings import anchor_settings
from console.server_findings import Finding, Status
from core import control_stream
from core.control import ControlState
from core.errors import BadInput
from core.log.base import EventLog
from core.private_files import may_be_changed_by_others
from core.settings import Settings, environment_name


class Missing(NamedTuple):
    """Something that a profile requires and that is not there. remedy: what to do."""

    what: str
    remedy: str


Check = Callable[[Settings], Iterator[Missing]]
LogCheck = Callable[[ControlState], Iterator[Missing]]


def _log_server_transport(s: Settings) -> Iterator[Missing]:
    if not s.redis_tls:
        yield Missing("the log server is reached without TLS", "set redis_tls = true, and redis_ca_file")
    if not (s.redis_username and (s.redis_password or s.redis_password_file)):
        yield Missing(
            "the log server is reached without a user of its own", "set redis_username and redis_password_file"
        )


def _kafka_transport(s: Settings) -> Iterator[Missing]:
    from ingest.kafka_properties import is_encrypted, logs_in, secured

    if not is_encrypted(s):
        yield Missing(
            "Kafka is reached without TLS that verifies the brokers", "set kafka_tls = true, and kafka_ca_file"
        )
    properties = secured(s)
    has_certificate = properties.get("ssl.certificate.location") or properties.get("ssl.certificate.pem")
    if not logs_in(s) and not has_certificate:
        yield Missing(
            "clients have no identity on Kafka",
            "set kafka_sasl, kafka_username and kafka_password_file, or kafka_certificate_file and kafka_key_file",
        )


def _registry_transport(s: Settings) -> Iterator[Missing]:
    if s.schema_registry and not s.schema_registry.startswith("https://"):
        yield Missing("the schema registry is reached without TLS", "let schema_registry begin with https://")


def _secrets(s: Settings) -> Iterator[Missing]:
    for name in s.secrets_in_file:
        where = {
            "redis_password": "in a file of its own (redis_password_file)",
            "vault_key": f"in a file of its own (vault_key_file), or in {environment_name('vault_key')}",
        }.get(name, "in a file of its own (kafka_password_file or kafka_key_file)")
        yield Missing(f"the settings file holds the secret {name}", f"keep it {where}")


def folder_gaps(s: Settings) -> Iterator[Missing]:
    """Who else may change or read the snapshots."""
    folder = Path(s.snapshot_directory)
    if folder.is_dir() and (why := may_be_changed_by_others(folder)):
        yield Missing(f"others may change snapshots: {why}", f"chmod 700 {folder}, below folders of root or this user")
    if folder.is_dir() and stat.S_IMODE(folder.stat().st_mode) & 0o007:
        yield Missing(f"everybody may look into {folder}, which holds account data", f"chmod 700 {folder}")


def _identity(s: Settings) -> Iterator[Missing]:
    if not s.identity_key:
        yield Missing(
            "this process has no identity",
            "set identity_key to a key that `sentinel identity new` made (docs/identity.md)",
        )


def _tokens(s: Settings) -> Iterator[Missing]:
    from ingest.vault import tokenises

    if not tokenises(s):
        yield Missing("the log would hold raw identifiers", "set tokenise = true, or leave it out (docs/privacy.md)")
    elif not (s.vault_key or s.vault_key_file):
        yield Missing(
            "the vault's key lies in the vault",
            f"set vault_key_file or {environment_name('vault_key')} (docs/privacy.md)",
        )


def _anchors(s: Settings) -> Iterator[Missing]:
    if not anchor_settings(s.anchors).directories:
        yield Missing(
            "the log is anchored nowhere: nothing outside it would show that its past was changed",
            "run `sentinel anchor --follow`, and set directories in [anchors] (docs/anchors.md)",
        )


def _roster(state: ControlState) -> Iterator[Missing]:
    if state.identity is not None and not state.governance.roster.required:
        yield Missing(
            "the log takes unsigned control events",
            "fill the roster, then `sentinel identity require` (docs/identity.md)",
        )
    elif state.identity is not None and not state.governance.roster.feedback:
        yield Missing(
            "the log takes feedback from anybody who reaches the topic",
            "`sentinel identity require --feedback signed`, or named, with ACLs of the topic (docs/identity.md)",
        )


def _tokens_in_log(state: ControlState) -> Iterator[Missing]:
    if state.identity is not None and not state.identity.tokens:
        yield Missing(
            "the log was created without tokens", "begin a new log under another log_prefix (docs/privacy.md)"
        )


REQUIREMENTS: dict[str, Check] = {
    "TLS and a user on the log server": _log_server_transport,
    "TLS and a user on Kafka": _kafka_transport,
    "TLS to the schema registry": _registry_transport,
    "secrets outside the settings file": _secrets,
    "folders of this user alone": folder_gaps,
    "an identity": _identity,
    "tokens instead of identifiers": _tokens,
    "anchors outside the log": _anchors,
}
"""By name, in the order in which they are reported."""
WITHOUT_REGISTRY = frozenset({"TLS to the schema registry"})
"""Unused by all services but the worker: nobody else reads what producers send."""
WITHOUT_VAULT = WITHOUT_REGISTRY | {"tokens instead of identifiers"}
"""Unused by a service that makes no tokens and opens none: it should not have the vault's key."""
LOG_ONLY = WITHOUT_VAULT | {"TLS and a user on Kafka"}
"""Unused by a service that only reads and writes the log: it should have no password for Kafka either."""
LOG_REQUIREMENTS: dict[str, LogCheck] = {
    "identity required by the log": _roster,
    "tokens in the log": _tokens_in_log,
}
"""What only the log tells. One that nobody has begun yet meets them."""


def missing(s: Settings, unused: frozenset[str] = frozenset()) -> Iterator[tuple[str, Missing]]:
    """(requirement, what is missing), of all that production requires of the settings. unused: requirements of what a
    service never touches.
    """
    for name, check in REQUIREMENTS.items():
        if name not in unused:
            for each in check(s):
                yield name, each


def check_settings(s: Settings, unused: frozenset[str] = frozenset()) -> None:
    """In production, raise BadInput if the settings lack something; in staging, say it. For a service that starts.
    unused: as in `missing`.
    """
    if s.environment != "development":
        _judge(s, [each for _, each in missing(s, unused)])


def open_log(s: Settings, unused: frozenset[str] = frozenset()) -> EventLog:
    """`wiring.open_log` for a service that starts: also raises BadInput if the profile requires something that is
    missing, before anything is sent to a server if the settings tell it. unused: as in `missing`.
    """
    check_settings(s, unused)
    log = wiring.open_log(s)
    if s.environment != "development":
        state = control_stream.current(log)
        try:
            _judge(s, [each for check in LOG_REQUIREMENTS.values() for each in check(state)])
        except BadInput:
            log.close()
            raise
    return log


def _judge(s: Settings, gaps: list[Missing]) -> None:
    if not gaps:
        return
    found = [f"{each.what} → {each.remedy}" for each in gaps]
    if s.environment == "production":
        raise BadInput(
            f"production requires more than is set ({environment_name('environment')}=production): {'; '.join(found)}"
        )
    for line in found:
        print(f"sentinel: production would not start: {line}", file=sys.stderr)


def profile_findings(s: Settings) -> Iterator[Finding]:
    """What the profile requires of the settings, for `sentinel doctor`."""
    if s.environment == "development":
        yield Finding("profile", "ok", "development: no requirements")
        return
    found = [*missing(s)]
    yield from _findings(s, found)
    if not found:
        yield Finding("profile", "ok", f"{s.environment}: the settings have all that production requires")


def log_profile_findings(s: Settings, state: ControlState) -> Iterator[Finding]:
    """What the profile requires of the log."""
    if s.environment != "development":
        yield from _findings(s, [(name, each) for name, check in LOG_REQUIREMENTS.items() for each in check(state)])


def _findings(s: Settings, found: list[tuple[str, Missing]]) -> Iterator[Finding]:
    bad: Status = "fail" if s.environment == "production" else "warn"
    for name, each in found:
        yield Finding(f"profile {s.environment}", bad, f"{name}: {each.what}", each.remedy)


def markdown() -> str:
    """The table of docs/security.md."""
    rows = ["| production requires | told by |", "|---|---|"]
    rows += [f"| {name} | the settings |" for name in REQUIREMENTS]
    rows += [f"| {name} | the log |" for name in LOG_REQUIREMENTS]
    return "\n".join(rows) + "\n"
