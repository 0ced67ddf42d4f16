"""Writes tables of the log to files of Parquet or Arrow: streamed, in bounded memory, each file complete or absent.

Memory: GROUP_ROWS rows, GROUP_BYTES at most, and one part of the log (a segment of the archive, or a page of the hot
log).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import BadInput
from core.files import open_atomic
from core.log.base import EventLog
from projections.engine.as_of import Cut
from projections.tables.catalogue import table_named
from projections.tables.decisions import Period

Format = Literal["parquet", "arrow"]
GROUP_ROWS, GROUP_BYTES = 65_536, 64 * 2**20
"""Of a row group of Parquet, or a record batch of Arrow."""


class Written(NamedTuple):
    """A file, its rows and its size."""

    table: str
    file: str
    rows: int
    bytes: int


def format_of(path: Path) -> Format | None:
    """The format that a file's name says; None if it says none."""
    known: dict[str, Format] = {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}
    return known.get(path.suffix.lower())


def write(log: EventLog, cut: Cut, name: str, period: Period, path: Path, kind: Format) -> Written:
    """Write the rows of a table's period, up to the cut, in log order. Replaces the file if there is one. Raises
    BadInput for an unknown table or a file that can't be written; what reading the log raises.
    """
    table = table_named(name)
    rows = 0
    if path.is_dir():
        raise BadInput(f"{path} is a folder, not a file of {kind}")
    with open_atomic(path) as file, _writer(file, table.schema, kind) as writer:
        for group in _groups(table.within(log, cut, table.schema.names, period)):
            writer.write_table(group)
            rows += len(group)
    return Written(name, str(path), rows, path.stat().st_size)


def _writer(file: Any, schema: pa.Schema, kind: Format) -> Any:
    if kind == "parquet":
        return pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True)
    return pa.ipc.new_file(file, schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows again, GROUP_ROWS at a time; fewer where they reach GROUP_BYTES in memory."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while sum(map(len, held)) >= GROUP_ROWS:
            joined = pa.concat_tables(held)
            yield joined.slice(0, GROUP_ROWS).combine_chunks()
            held = [joined.slice(GROUP_ROWS)]
        if sum(table.nbytes for table in held) >= GROUP_BYTES:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if any(map(len, held)):
        yield pa.concat_tables(held).combine_chunks()
