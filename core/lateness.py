"""Which decisions were made under an old context although a newer one was known elsewhere (I12). Pure.

A worker takes up a control event within a fraction of a second. When an event was appended is not in the log: its
`occurred_at` says when the actor acted, which can be hours earlier. But every seal says which control position its
worker knew at `recorded_at`. So a batch under c is late if a seal of any partition named a position after c more than
LATE_MS earlier.

What this can't show: a log in which every partition passed over an event at the same time. Clocks of workers that
differ by more than LATE_MS show as lateness; that is worth knowing, too.

Cost: 24 bytes and about 0.1 µs per batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.errors import Corrupt

LATE_MS = 60_000


@dataclass(slots=True)
class Pace:
    """One partition's batches: item i of every column belongs to batch i. control: the position that it was decided
    under; recorded_at: epoch ms; decisions: how many it has.
    """

    control: array[int] = field(default_factory=lambda: array("q"))
    recorded_at: array[int] = field(default_factory=lambda: array("q"))
    decisions: array[int] = field(default_factory=lambda: array("q"))

    def add(self, control: int, recorded_at: int, decisions: int) -> None:
        """Append one batch. Raises Corrupt if a seal's numbers are absurd."""
        try:
            self.control.append(control)
            self.recorded_at.append(recorded_at)
        except OverflowError:
            raise Corrupt(f"a seal's control position, {control}, or time, {recorded_at}, is absurd") from None
        self.decisions.append(decisions)


def late(paces: Sequence[Pace], allowed_ms: int = LATE_MS) -> int:
    """How many decisions of these partitions were late by more than `allowed_ms`."""
    control, recorded_at, decisions = (
        _joined([getattr(pace, name) for pace in paces]) for name in ("control", "recorded_at", "decisions")
    )
    if not len(control):
        return 0
    order = np.argsort(control, kind="stable")
    ordered = control[order]
    never = np.iinfo(np.int64).max - allowed_ms
    known = np.append(np.minimum.accumulate(recorded_at[order][::-1])[::-1], never)  # a position from here on was known
    newer = known[np.searchsorted(ordered, control, side="right")]
    return int(decisions[recorded_at > newer + allowed_ms].sum())


def _joined(columns: Sequence[array[int]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(np.frombuffer(column, np.int64) for column in columns if column)])
