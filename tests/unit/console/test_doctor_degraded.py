"""`sentinel doctor` is not ok while decisions lack something: here, or in a partition whose worker said so."""

from __future__ import annotations

from console.log_findings import degraded_findings
from core import control_stream
from core.events import DegradationEnded, DegradationStarted, ModelDeployed
from models.shipped import shipped_baseline
from tests.builders.decisions import append_unchecked, created


def test_what_decisions_lack_is_a_failure() -> None:
    """No champion, one that does not load, and a partition that its worker reported: each is named; else nothing is."""
    log = created()
    content, _ = shipped_baseline()
    digest = log.put_blob(content)

    def found() -> list[str]:
        findings = list(degraded_findings(log, control_stream.current(log)))
        assert all(finding.status == "fail" for finding in findings)
        return [f"{finding.check}: {finding.message}" for finding in findings]

    assert found() == ["log: decisions would be degraded: no_model"]
    by = {"occurred_at": 1, "actor": "ann"}
    append_unchecked(log, ModelDeployed(**by, name="baseline", version="1", digest=digest))
    assert found() == []
    append_unchecked(log, DegradationStarted(**by, partitions=(3,), artifacts=(digest,)))
    assert found() == [f"partition 3: is decided without {digest[:16]}, which its worker could not load"]
    append_unchecked(log, DegradationEnded(**by, partitions=(3,)))
    append_unchecked(log, ModelDeployed(**by, name="ghost", version="1", digest="0" * 64))
    assert found() == ["log: decisions would be degraded: the log holds no blob " + "0" * 64]
