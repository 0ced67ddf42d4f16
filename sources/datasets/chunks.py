"""What the readers of every kind of file have in common: chunks of rows, rows that can't be used, and
names of columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.errors import BadInput
from core.hiding import masked
from sources.datasets.parts import Part

CHUNK_ROWS = 16_384
CHUNK_CELLS = 1 << 20
"""Rows of wide files come in smaller chunks: a cell takes some 60 bytes while it is read."""


class BadRow(NamedTuple):
    """A row that can't be used, and why: a reason code of `decode.REASONS`, and words that name column and value."""

    file: str
    unit: str
    line: int
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.file}: {self.unit} {self.line:,}: {masked(self.detail)}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The columns to read. dataset: its name, for the message about missing ones. Others: see Layout."""

    columns: tuple[str, ...]
    dataset: str = ""
    optional: frozenset[str] = frozenset()
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one file. lines, rows: (n,), the rows' numbers in the file for people, and among its data, from 0.
    columns: n rows of the wanted columns that the file has, under the wanted names. end: how many data rows, bad ones
    too, the file had up to here.
    """

    part: Part
    lines: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: pl.DataFrame
    bad: list[BadRow]
    end: int


def resolve(names: Sequence[str], wanted: Wanted | None, part: Part) -> dict[str, int]:
    """Wanted column → its place among `names`: the exact name, else the only one that is equal without case and spaces,
    else an alias. Raises BadInput for columns that are missing.
    """
    if wanted is None:
        return {name: place for place, name in enumerate(names)}
    exact: dict[str, int] = {}
    loose: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        exact.setdefault(name, place)
        loose.setdefault(plain_name(name), []).append(place)
    found: dict[str, int] = {}
    missing: list[str] = []
    for column in wanted.columns:
        for name in (column, *wanted.aliases.get(column, ())):
            places = loose.get(plain_name(name), [])
            if name in exact or len(places) == 1:
                found[column] = exact.get(name, places[0])
                break
        else:
            if column not in wanted.optional:
                missing.append(column)
    if missing:
        shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        what = f"is not a {wanted.dataset} dataset" if wanted.dataset else "has other columns than the first file"
        advice = "`sentinel map` finds out what a file is" if wanted.dataset else "move it elsewhere, or map it alone"
        raise BadInput(
            f"{part.name} {what}: missing columns {', '.join(missing)}; it has {shown} ({advice})",
            reason="missing_columns",
        )
    return found


def plain_name(name: str) -> str:
    """A column's name without case, spaces and punctuation."""
    return "".join(c for c in name.casefold() if c.isalnum()) or name.strip()


def unique_names(cells: Sequence[str]) -> list[str]:
    """Column names of a header: stripped; an empty one is `column_<number>`, a repeated one gets `_2`, `_3`, …"""
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = cell.strip().strip("\ufeff") or f"column_{number}"
        candidate, again = name, 1
        while candidate in names:
            again += 1
            candidate = f"{name}_{again}"
        names.append(candidate)
    return names
