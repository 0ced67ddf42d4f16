"""A dataset's rows in file order: files, joined tables, decoding, and what is wrong with rows. Whole-file passes start
here.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from core.errors import BadInput
from core.files import open_private
from core.hiding import masked
from core.text import csv_cell
from sources.datasets.chunks import BadRow, Chunk, Wanted
from sources.datasets.decode import Decoded, decode
from sources.datasets.layout import Layout
from sources.datasets.parts import parts
from sources.datasets.rows import read

EXAMPLES = 5


class Rejects:
    """The rows of a dataset that can't be used: how many by reason, and the first EXAMPLES of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[BadRow]] = {}

    @property
    def total(self) -> int:
        """How many rows."""
        return sum(self.counts.values())

    def add(self, bad: Iterable[BadRow]) -> None:
        """Count more rows."""
        for row in bad:
            self.counts[row.reason] += 1
            examples = self.examples.setdefault(row.reason, [])
            if len(examples) < EXAMPLES:
                examples.append(row)

    def first(self) -> BadRow:
        """The first of all."""
        return min((rows[0] for rows in self.examples.values()), key=lambda row: (row.file, row.line))

    def summary(self) -> str:
        """`3 rows (2 bad_amount, 1 bad_time)`."""
        kinds = ", ".join(f"{count:,} {reason}" for reason, count in self.counts.most_common())
        return f"{self.total:,} row{'s' if self.total != 1 else ''} ({kinds})"


class Reading:
    """A dataset under a layout, in file order, as often as needed. Raises BadInput for a missing or
    unsupported file.
    """

    def __init__(self, layout: Layout, path: Path) -> None:
        self.layout = layout
        self.path = path
        folder = path.is_dir()
        join = layout.join
        self.parts = parts(path / join.main if join and folder else path, layout.file.kind)
        self._joined = _lookup(layout, path if folder else path.parent, required=folder) if join else None

    def decoded(self) -> Iterator[Decoded]:
        """All rows, usable or not. Raises BadInput for a missing column, or a file that can't be read on."""
        first_row = 0
        for part in self.parts:
            end = 0
            for chunk in read(part, self.layout.file, self._wanted()):
                yield decode(self._with_joined(chunk), self.layout, first_row)
                end = chunk.end
            first_row += end

    def _wanted(self) -> Wanted:
        layout = self.layout
        return Wanted(layout.needed, layout.name, layout.optional, layout.aliases)

    def _with_joined(self, chunk: Chunk) -> Chunk:
        join = self.layout.join
        if join is None or self._joined is None:
            return chunk
        columns = chunk.columns.join(self._joined, on=join.on, how="left", maintain_order="left")
        return replace(chunk, columns=columns)


def _lookup(layout: Layout, folder: Path, *, required: bool) -> pl.DataFrame | None:
    """The second file's columns by its key, first row of each; None if there is none and none is required."""
    join = layout.join
    assert join is not None
    path = folder / join.file
    if not path.exists() and not required:
        return None
    wanted = Wanted((join.on, *join.columns), layout.name)
    frames = [chunk.columns for part in parts(path) for chunk in read(part, layout.file, wanted)]
    if not frames:
        return None
    return pl.concat(frames).unique(join.on, keep="first", maintain_order=True)


class RejectsFile:
    """A CSV file of rows that can't be used: file, line, reason, detail. Raises BadInput if it can't be written."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = open_private(path, newline="")
        except OSError as error:
            raise BadInput(f"{path} can't be written: {error.strerror or error}") from error
        self._writer = csv.writer(self._file)
        self._writer.writerow(("file", "line", "reason", "detail"))

    def __enter__(self) -> RejectsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: BadRow) -> None:
        """Write one row."""
        self._writer.writerow(map(csv_cell, (row.file, row.line, row.reason, masked(row.detail))))
