"""What `sentinel doctor` says of anchors."""

from __future__ import annotations

from pathlib import Path

from console.anchoring.age import anchor_findings
from console.anchoring.settings import AnchorSettings
from core import control_stream
from tests.builders.anchors import NOW, notary_of, signed
from tests.builders.logs import filled

SET = AnchorSettings(directories=("worm",), every_s=120)


def test_the_age_of_the_newest_anchor_is_said(tmp_path: Path) -> None:
    """Nothing without anchors in the settings; else: never anchored, fresh, old."""
    log = filled(5, 100)
    assert list(anchor_findings(AnchorSettings(), control_stream.current(log), NOW)) == []
    ((_, status, message, remedy),) = anchor_findings(SET, control_stream.current(log), NOW)
    assert (status, "unanchored" in message, "--follow" in remedy) == ("warn", True, True)
    with notary_of(log, tmp_path) as notary:
        signed(notary)
        notary.record(NOW)
    state = control_stream.current(log)
    assert list(anchor_findings(SET, state, NOW + 1_199_000)) == [
        ("anchors", "ok", "checkpoint 1 is 19 minutes old", "")
    ]
    ((_, status, message, _),) = anchor_findings(SET, state, NOW + 86_400_000 * 3)
    assert status == "warn" and message.startswith("checkpoint 1 is 3 days old: ")
