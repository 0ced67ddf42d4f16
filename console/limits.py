"""The limits of `sentinel verify` and `sentinel replay --verify` on decisions that are valid, but should be rare."""

from __future__ import annotations

from typing import Annotated

import typer

from core.lateness import LATE_MS

MaxDegraded = Annotated[
    float,
    typer.Option(help="Fail if more than this percentage of decisions lacked a model or table.", min=0.0, max=100.0),
]
MaxLate = Annotated[
    float,
    typer.Option(
        help=f"Fail if more than this percentage of decisions was made under a context that another partition had"
        f" replaced more than {LATE_MS // 1000} s before.",
        min=0.0,
        max=100.0,
    ),
]
MAX_DEGRADED = 1.0
MAX_LATE = 0.0


def exceeded(decisions: int, degraded: int, late: int, max_degraded: float, max_late: float) -> list[str]:
    """A line for each limit (percent of the decisions) that is exceeded."""
    found = []
    for count, limit, what, option in (
        (degraded, max_degraded, "lacked a model or a reference table", "--max-degraded"),
        (late, max_late, "were made under a context replaced long before", "--max-late"),
    ):
        if 100.0 * count > limit * decisions:
            share = 100.0 * count / decisions
            found.append(f"{count:,} of {decisions:,} decisions ({share:.3g} %) {what}; {option} allows {limit:g} %")
    return found
