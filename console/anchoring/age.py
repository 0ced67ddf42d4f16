"""How old the newest anchor is, for `sentinel doctor`: what the log itself says, not checked."""

from __future__ import annotations

from collections.abc import Iterator

from console.anchoring.settings import AnchorSettings
from core.control import ControlState

MISSED_MAX = 10
"""Rounds of anchoring that may be missed before it is said."""
AGE_MIN_S = 600.0


def anchor_findings(given: AnchorSettings, state: ControlState, now_ms: int) -> Iterator[tuple[str, str, str, str]]:
    """(check, status, message, remedy) if anchors are configured. A log that nothing is added to needs no new ones, so
    an old anchor is a warning.
    """
    if not given.directories:
        return
    remedy = "run `sentinel anchor --follow`, and see what it says of its destinations"
    if not state.checkpoint:
        yield "anchors", "warn", "the log is unanchored: no checkpoint was ever signed", remedy
        return
    age_s = max(now_ms - state.checkpoint_at, 0) / 1000
    message = f"checkpoint {state.checkpoint} is {_span(age_s)} old"
    if age_s <= max(MISSED_MAX * given.every_s, AGE_MIN_S):
        yield "anchors", "ok", message, ""
    else:
        yield "anchors", "warn", f"{message}: what was decided since then is unanchored", remedy


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds // size):,} {unit}"
    return f"{int(seconds):,} s"
