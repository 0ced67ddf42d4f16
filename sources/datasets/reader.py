"""A dataset as a source: rows in order of time, whatever the file's order, in bounded memory.

Two passes. The first reads only the time column (keeping 8 bytes per row) and determines the order and the number of
rows. The second streams the layout's columns in batches. Only a file that is not sorted by time is held in memory, and
then only those columns. A value that can't be converted raises BadInput, which names its row and column.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.errors import BadInput
from core.times import DAY_MS
from sources.datasets.files import scan
from sources.datasets.mapping import TIME_UNITS_MS, Layout
from sources.source import OPTIONAL_TEXT, Source, VerdictsFor

BATCH_ROWS = 16_384


class DatasetSource(Source):
    """The transactions of a file under a layout; each fraud is reported as a chargeback after a fixed delay.

    feedback_delay_days: from the transaction to its verdict. limit: read only the first `limit` by time. Raises
    BadInput for a file, column or value that is not valid.
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
    ) -> None:
        super().__init__(labels=labels, flush_feedback=flush_feedback)
        if not 0 < feedback_delay_days <= 3_660:
            raise BadInput(f"the feedback delay must be above 0 and at most 3,660 days, not {feedback_delay_days!r}")
        if limit is not None and limit < 1:
            raise BadInput(f"the limit must be at least one transaction, not {limit}")
        self.name = layout.name
        self._layout = layout
        self._path = path
        self._delay_ms = max(round(feedback_delay_days * DAY_MS), 1)
        self._frame, self._numeric = scan(layout, path)
        base = self._times()
        if len(base) == 0:
            raise BadInput(f"{path} contains no transactions")
        self._order: NDArray[np.int64] | None = None
        if (base[1:] < base[:-1]).any():
            self._order = np.argsort(base, kind="stable")
            base = base[self._order]
        self._sorted_times = _spread(base, TIME_UNITS_MS[layout.time_format]) if layout.spread else base
        self.total = len(base) if limit is None else min(limit, len(base))

    def tables(self) -> Iterator[pl.DataFrame]:
        """See Source."""
        done = 0
        for batch in self._batches():
            size = min(batch.height, self.total - done)
            if size:
                yield self._table(batch.head(size), self._sorted_times[done : done + size])
            done += size
            if done == self.total:
                return

    def _batches(self) -> Iterator[pl.DataFrame]:
        rows = self._frame.with_row_index("row")
        if self._order is None:
            yield from rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True, engine="streaming")
            return
        held = rows.collect(engine="streaming").sort("row")
        for first in range(0, self.total, BATCH_ROWS):
            yield held[pl.Series(self._order[first : first + BATCH_ROWS])]

    def _times(self) -> NDArray[np.int64]:
        parts: list[NDArray[np.int64]] = []
        row = 0
        column = self._frame.select(pl.col(self._layout.time_column))
        try:
            for batch in column.collect_batches(chunk_size=8 * BATCH_ROWS, maintain_order=True, engine="streaming"):
                parts.append(self._epoch_ms(batch.to_series(), row))
                row += batch.height
        except pl.exceptions.PolarsError as error:
            raise BadInput(f"{self._path} can't be read: {str(error).splitlines()[0]}") from error
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _epoch_ms(self, raw: pl.Series, first_row: int) -> NDArray[np.int64]:
        layout = self._layout
        if raw.dtype == pl.Date or raw.dtype == pl.Datetime:
            times = raw.dt.epoch("ms")
        elif layout.time_format == "iso" or "%" in layout.time_format:
            pattern = None if layout.time_format == "iso" else layout.time_format
            try:
                times = raw.cast(pl.String).str.to_datetime(pattern, time_unit="ms", strict=False).dt.epoch("ms")
            except pl.exceptions.ComputeError as error:
                raise BadInput(f"{self._path}: {layout.time_column}: {str(error).splitlines()[0]}") from error
        else:
            unit = {"epoch_s": 1_000, "epoch_ms": 1, **TIME_UNITS_MS}[layout.time_format]
            numbers = raw.cast(pl.Float64, strict=False)
            times = (numbers * unit).round().cast(pl.Int64, strict=False) + layout.origin
        self._refuse(raw, times.is_null(), range(first_row, first_row + len(raw)), "a time")
        return times.to_numpy()

    def _table(self, batch: pl.DataFrame, times: NDArray[np.int64]) -> pl.DataFrame:
        layout = self._layout
        rows = batch["row"].to_list()
        amounts = batch[layout.columns["amount"]].cast(pl.Float64, strict=False)
        self._refuse(batch[layout.columns["amount"]], amounts.is_null() | ~amounts.is_finite(), rows, "an amount")
        columns: dict[str, pl.Series | NDArray[np.int64]] = {
            "transaction_id": self._text(batch, "transaction_id"),
            "account_id": self._text(batch, "account_id"),
            "amount": amounts,
            "occurred_at": times,
        }
        for name in ("transaction_id", "account_id"):
            field = columns[name]
            assert isinstance(field, pl.Series)
            self._refuse(field.alias(layout.columns.get(name, name)), field == "", rows, f"a usable {name}")
        for name in OPTIONAL_TEXT:
            if name in layout.columns or name in layout.constants:
                columns[name] = self._text(batch, name)
        if layout.attributes:
            columns["attributes"] = self._attributes(batch, rows)
        return pl.DataFrame(columns).with_columns(*self._labels(batch))

    def _text(self, batch: pl.DataFrame, name: str) -> pl.Series:
        """One of our text fields, "" if the file has no value."""
        layout = self._layout
        if name in layout.columns:
            values = self._clean(batch[layout.columns[name]])
            if name in layout.values:
                values = values.replace(layout.values[name])
        elif name == "transaction_id":
            values = f"{layout.name}-" + batch["row"].cast(pl.String)
        else:
            values = pl.Series([layout.constants[name]]).new_from_index(0, batch.height)
        if name in layout.prefixes:
            values = layout.prefixes[name] + values
        return values

    def _clean(self, raw: pl.Series) -> pl.Series:
        return raw.cast(pl.String).fill_null("").str.strip_chars(f" {self._layout.strip}")

    def _attributes(self, batch: pl.DataFrame, rows: list[int]) -> pl.Series:
        fields: list[pl.Series] = []
        for name, column in self._layout.attributes.items():
            raw = batch[column]
            if column in self._numeric:
                values = raw.cast(pl.Float64, strict=False)
                self._refuse(raw, values.is_null() & raw.is_not_null(), rows, "a number")
                fields.append(pl.select(pl.when(values.is_finite()).then(values)).to_series().alias(name))
            else:
                text = self._clean(raw)
                fields.append(pl.select(pl.when(text != "").then(text)).to_series().alias(name))
        return pl.DataFrame(fields).to_struct("attributes")

    def _labels(self, batch: pl.DataFrame) -> list[pl.Expr | pl.Series]:
        layout = self._layout
        if layout.label is None:
            fraud = pl.Series("is_fraud", [None], dtype=pl.Boolean).new_from_index(0, batch.height)
        else:
            label = self._clean(batch[layout.label])
            known = pl.select(pl.when(label != "").then(label.is_in(layout.fraud_values))).to_series()
            fraud = known.alias("is_fraud")
        scenario: pl.Expr | pl.Series = pl.lit("").alias("scenario")
        if layout.scenario is not None:
            scenario = self._clean(batch[layout.scenario]).replace(layout.scenario_values).alias("scenario")
        return [
            fraud,
            scenario,
            pl.when(fraud.is_not_null()).then(pl.col("occurred_at") + self._delay_ms).alias("verdict_at"),
            pl.when(fraud).then(pl.lit("chargeback")).otherwise(pl.lit("analyst")).alias("verdict_source"),
        ]

    def _refuse(self, raw: pl.Series, bad: pl.Series, rows: list[int] | range, what: str) -> None:
        """Raise BadInput for the first row where `bad` is true. Rows are numbered from 1, without the header."""
        if bad.any():
            at = int(bad.arg_true()[0])
            raise BadInput(f"{self._path}: row {rows[at] + 1:,}: {raw.name} = {raw[at]!r} is not {what}")


def _spread(times: NDArray[np.int64], step_ms: int) -> NDArray[np.int64]:
    """Spread the rows of each time step evenly over it, in their order. times: sorted, epoch ms (n,)."""
    _, first, counts = np.unique(times, return_index=True, return_counts=True)
    rank = np.arange(len(times)) - np.repeat(first, counts)
    return times + rank * step_ms // np.repeat(counts, counts)
