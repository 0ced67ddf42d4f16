"""What the tests of real faults share: what operators hear during one, and what must hold once it is over."""

from __future__ import annotations

import re
from contextlib import suppress

from console import findings, server_findings
from console.service import Service
from core.errors import SentinelError
from sources.record import Record
from tests import worker_harness as h
from tests.worker_harness import Stage


def failures(on: Stage) -> list[str]:
    """What `sentinel doctor` fails on, one text a finding."""
    return [f"{f.check}: {f.message}" for f in findings.findings(on.settings) if f.status == "fail"]


def log_server_failures(on: Stage) -> list[str]:
    """As `failures`, of the log server alone: for what is over soon."""
    found = findings.guarded(server_findings.log_server_findings, on.settings)
    return [f"{f.check}: {f.message}" for f in found if f.status == "fail"]


def complaints(on: Stage) -> list[str]:
    """What `sentinel doctor` fails on or warns of."""
    return [f"{f.check}: {f.message} {f.remedy}" for f in findings.findings(on.settings) if f.status != "ok"]


def assert_told(said: list[str], pattern: str) -> None:
    """One of the texts matches."""
    assert any(re.search(pattern, text) for text in said), said


def wait_until_said(service: Service, pattern: str, since: int = 0) -> str:
    """Wait until the service's log matches, behind its first `since` characters; returns all of that."""

    def matches() -> str | None:
        assert service.running, f"{service.name} ended with {service.exit_code}: {service.last_lines(20)}"
        text = service.log_path.read_text(errors="replace")[since:]
        return text if re.search(pattern, text) else None

    found: str = h.wait_for(matches, f"{service.name} to say {pattern}")
    return found


def halves(transactions: int) -> tuple[list[Record], list[Record]]:
    """One stream, cut in the middle: no transaction of the second half is in the first."""
    records = h.synthetic(transactions)
    return records[: len(records) // 2], records[len(records) // 2 :]


def wait_for_all(on: Stage, worker: Service, transactions: int) -> None:
    """Wait until so many are decided, by this worker and without a restart."""

    def done() -> bool:
        worker.check()
        assert worker.running, worker.last_lines(20)
        with suppress(SentinelError), on.log() as log:
            return h.total(on, log) >= transactions
        return False

    h.wait_for(done, f"{transactions} decisions", 120.0)


def assert_survived(on: Stage, worker: Service, records: list[Record], *, in_order: bool = True) -> None:
    """The worker ends in order and never showed a traceback; the log is sealed without a gap, holds every message once
    and nothing else, is replayed to the same bits, and is that of an undisturbed run. in_order: off if messages were
    sent while others were decided, so that the order of the two topics is not given.
    """
    worker.stop()
    said = worker.log_path.read_text(errors="replace")
    assert worker.exit_code == 0, said[-3000:]
    assert "Traceback" not in said
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)
    if in_order:
        assert h.log_of(on) == h.undisturbed(on)
