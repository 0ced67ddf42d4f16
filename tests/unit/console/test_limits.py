"""The limits of `verify` and `replay --verify`."""

from __future__ import annotations

import pytest

from console.limits import exceeded


@pytest.mark.parametrize(
    ("decisions", "degraded", "late", "lines"),
    [
        (0, 0, 0, 0),
        (1000, 10, 0, 0),
        (1000, 11, 0, 1),
        (1000, 0, 1, 1),
        (10**9, 0, 1, 1),
        (7, 7, 7, 2),
    ],
)
def test_a_limit_is_a_share_that_may_be_reached(decisions: int, degraded: int, late: int, lines: int) -> None:
    """At the limit is allowed; one more is not; no decision exceeds nothing. Zero allows none of any number."""
    found = exceeded(decisions, degraded, late, 1.0, 0.0)
    assert len(found) == lines
    assert all(option in line for option, line in zip(("--max-degraded", "--max-late"), found[-2:], strict=False)) or (
        lines < 2
    )
