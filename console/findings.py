"""What is wrong with a system, and how to mend it: for `sentinel doctor` and the API.

Each check is a function of the settings that yields findings, and raises a SentinelError if it can't be made. Checks
that need a server are left out once it did not answer: its own check says so.

To add one: a function in a module of `*_findings`, a line in CHECKS, and a set-up that it finds in
tests/unit/console/test_doctor_setups.py, whose table docs/doctor.md prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from console import wiring
from console.certificate_findings import certificate_findings
from console.environment_findings import environment_findings
from console.log_findings import log_findings
from console.place_findings import archive_findings, disk_findings, port_findings, snapshot_findings, vault_findings
from console.profiles import profile_findings
from console.server_findings import Finding, log_server_findings
from console.stream_findings import kafka_findings, stream_findings
from core.errors import SentinelError, Unavailable
from core.settings import Settings

Ask = Callable[[Settings], Iterator[Finding]]


class Check(NamedTuple):
    """A check. name: of the finding if it can't be made; needs: names of checks whose servers it asks, too."""

    name: str
    ask: Ask
    needs: tuple[str, ...] = ()


KAFKA, LOG_SERVER = "kafka", "log server"
CHECKS = (
    Check("environment", environment_findings),
    Check("profile", profile_findings),
    Check("certificates", certificate_findings),
    Check("vault", vault_findings),
    Check(KAFKA, kafka_findings),
    Check(LOG_SERVER, log_server_findings),
    Check("log", log_findings, (LOG_SERVER,)),
    Check("decisions", stream_findings, (LOG_SERVER, KAFKA)),
    Check("snapshots", snapshot_findings),
    Check("archive", archive_findings),
    Check("disk", disk_findings),
    Check("metrics", port_findings),
)


def findings(s: Settings) -> list[Finding]:
    """All checks, those that could not be made as findings of their own. Takes seconds. Reads only, except for a
    temporary file in the snapshot directory, and one in a local archive.
    """
    found: list[Finding] = []
    silent: set[str] = set()
    for check in CHECKS:
        if silent.isdisjoint(check.needs):
            found += _asked(check, s, silent)
    return found


def guarded(ask: Ask, s: Settings) -> list[Finding]:
    """A check's findings; if it can't be made, why."""
    return list(_asked(Check(next((c.name for c in CHECKS if c.ask is ask), ""), ask), s, set()))


def _asked(check: Check, s: Settings, silent: set[str]) -> Iterator[Finding]:
    try:
        yield from check.ask(s)
    except SentinelError as error:
        if isinstance(error, Unavailable):
            silent.add(check.name)
        yield Finding(check.name, "fail", str(error), _remedy(check, error, s))


def _remedy(check: Check, error: SentinelError, s: Settings) -> str:
    """What to do, where the message does not say it itself."""
    if not isinstance(error, Unavailable):
        return ""
    if check.name == KAFKA and s.kafka_tls and "can't be reached" in str(error):
        return "does it speak TLS at this port? check kafka_tls, and the port in KAFKA_SERVERS"
    if check.name != LOG_SERVER:
        return ""
    return wiring.remedy(str(error), s) or "is it running at this address? check REDIS_HOST and REDIS_PORT"
