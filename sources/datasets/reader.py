"""A dataset as a source: rows in order of time, whatever the file's order.

The first pass reads the whole file: it finds every row that can't be used, the order, the number of rows, and which
attributes are numbers. So nothing is sent from a file with a bad row in its last line. A dataset below HELD_BYTES stays
in memory; a larger one that is in order of time is read again in batches; only a larger one out of order must be held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.errors import BadInput
from core.times import DAY_MS
from sources.datasets import numbers
from sources.datasets.chunks import BadRow
from sources.datasets.decode import ATTRIBUTE, Decoded
from sources.datasets.layout import Layout
from sources.datasets.reading import Reading, Rejects
from sources.datasets.words import NULL_WORDS
from sources.source import Source, VerdictsFor

BATCH_ROWS = 16_384
HELD_BYTES = 256 << 20
_LEADING_ZERO = r"^[+-]?0[0-9]"

BadRows = Literal["stop", "reject"]


class DatasetSource(Source):
    """The transactions of a file under a layout; each fraud is reported as a chargeback after a fixed delay.

    feedback_delay_days: from the transaction to its verdict. limit: read only the first `limit` by time. bad_rows:
    "stop" raises BadInput if any row can't be used, with the first one and how many there are of each kind; "reject"
    leaves them out. on_bad is called with each of them before that. rejects: their numbers. lossy: see Layout. Its
    tables have two more columns: `file` and `line`, where the row stands (see sources.datasets.rows). Raises BadInput
    for a file or column that is not valid.
    """

    total: int

    def __init__(
        self,
        layout: Layout,
        path: Path,
        *,
        feedback_delay_days: float = 7.0,
        limit: int | None = None,
        labels: VerdictsFor = "fraud",
        flush_feedback: bool = False,
        bad_rows: BadRows = "stop",
        on_bad: Callable[[BadRow], None] | None = None,
    ) -> None:
        super().__init__(labels=labels, flush_feedback=flush_feedback)
        if not 0 < feedback_delay_days <= 3_660:
            raise BadInput(f"the feedback delay must be above 0 and at most 3,660 days, not {feedback_delay_days!r}")
        if limit is not None and limit < 1:
            raise BadInput(f"the limit must be at least one transaction, not {limit}")
        if bad_rows not in ("stop", "reject"):
            raise BadInput(f"bad rows: stop or reject, not {bad_rows!r}")
        self.name = layout.name
        self.rejects = Rejects()
        self.lossy = layout.lossy
        self._layout = layout
        self._delay_ms = max(round(feedback_delay_days * DAY_MS), 1)
        self._reading = Reading(layout, path)
        self.parts = self._reading.parts
        self._held: list[pl.DataFrame] | None = []
        self._texts: set[str] = set()
        base = self._first_pass(on_bad)
        if self.rejects.total and bad_rows == "stop":
            raise BadInput(_refusal(self.rejects))
        if len(base) == 0 and self.rejects.total:
            raise BadInput(f"no row can be used: {self.rejects.summary()}, the first at {self.rejects.first()}")
        if len(base) == 0:
            raise BadInput(f"{path} contains no transactions")
        self._order: NDArray[np.int64] | None = None
        if (base[1:] < base[:-1]).any():
            self._order = np.argsort(base, kind="stable")
            base = base[self._order]
        self._sorted_times = _spread(base, layout.time.step_ms) if layout.time.spread else base
        self.total = len(base) if limit is None else min(limit, len(base))

    @property
    def last(self) -> int:
        """See Source."""
        return int(self._sorted_times[self.total - 1]) + (self._delay_ms if self.flush_feedback else 0)

    def tables(self) -> Iterator[pl.DataFrame]:
        """See Source."""
        done = 0
        for batch in self._batches():
            size = min(batch.height, self.total - done)
            if size:
                yield self._finished(batch.head(size), self._sorted_times[done : done + size])
            done += size
            if done == self.total:
                return

    def _first_pass(self, on_bad: Callable[[BadRow], None] | None) -> NDArray[np.int64]:
        """The usable rows' times in file order, epoch ms (n,)."""
        parts: list[NDArray[np.int64]] = []
        size = 0
        for decoded in self._reading.decoded():
            self._count(decoded, on_bad)
            parts.append(decoded.table["occurred_at"].to_numpy())
            size += int(decoded.table.estimated_size())
            if self._held is not None:
                self._held.append(decoded.table)
                if size > HELD_BYTES:
                    self._held = None
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _count(self, decoded: Decoded, on_bad: Callable[[BadRow], None] | None) -> None:
        self.rejects.add(decoded.bad)
        if on_bad is not None:
            for row in decoded.bad:
                on_bad(row)
        for name in decoded.table.columns:
            if name.startswith(ATTRIBUTE) and name not in self._texts and not self._is_numeric(decoded.table[name]):
                self._texts.add(name)

    def _is_numeric(self, values: pl.Series) -> bool:
        """Whether all values that are no null words are numbers. `007` is text."""
        if values.dtype != pl.String:
            return True
        given = values.drop_nulls()
        if given.str.contains(_LEADING_ZERO).any():
            return False
        odd = given.filter(numbers.parse(given, self._layout.numbers).is_null())
        return bool(odd.str.to_lowercase().is_in(NULL_WORDS).all())

    def _batches(self) -> Iterator[pl.DataFrame]:
        if self._order is None:
            if self._held is None:
                yield from (decoded.table for decoded in self._reading.decoded())
                return
            yield from self._held
            return
        held = self._held if self._held is not None else [decoded.table for decoded in self._reading.decoded()]
        whole = pl.concat(held, how="diagonal_relaxed")
        for first in range(0, self.total, BATCH_ROWS):
            yield whole[pl.Series(self._order[first : first + BATCH_ROWS])]

    def _finished(self, table: pl.DataFrame, times: NDArray[np.int64]) -> pl.DataFrame:
        """The table with its final times, verdicts and attributes."""
        attributes = [name for name in table.columns if name.startswith(ATTRIBUTE)]
        fields = [self._attribute(table[name]).alias(name.removeprefix(ATTRIBUTE)) for name in attributes]
        table = table.drop(attributes).with_columns(pl.Series("occurred_at", times))
        fraud = pl.col("is_fraud")
        table = table.with_columns(
            pl.when(fraud.is_not_null()).then(pl.col("occurred_at") + self._delay_ms).alias("verdict_at"),
            pl.when(fraud).then(pl.lit("chargeback")).otherwise(pl.lit("analyst")).alias("verdict_source"),
        )
        return table.with_columns(pl.DataFrame(fields).to_struct("attributes")) if fields else table

    def _attribute(self, values: pl.Series) -> pl.Series:
        if values.name not in self._texts:
            return numbers.parse(values, self._layout.numbers)
        return values if values.dtype == pl.String else values.cast(pl.String)


def _refusal(rejects: Rejects) -> str:
    others = ""
    if rejects.total > 1:
        others = f"; {rejects.summary()} can't be used. To leave them out: --bad-rows reject --rejects-file FILE"
    return f"{rejects.first()}{others}"


def _spread(times: NDArray[np.int64], step_ms: int) -> NDArray[np.int64]:
    """Spread the rows of equal time evenly up to the end of the step, or the next time if that is earlier, in their
    order. times: sorted, epoch ms (n,).
    """
    distinct, first, counts = np.unique(times, return_index=True, return_counts=True)
    room = np.minimum(np.append(np.diff(distinct), step_ms), step_ms)
    rank = np.arange(len(times)) - np.repeat(first, counts)
    spread: NDArray[np.int64] = times + rank * np.repeat(room, counts) // np.repeat(counts, counts)
    return spread
