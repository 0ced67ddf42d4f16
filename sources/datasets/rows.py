"""The rows of a dataset's files, whatever their kind: chunks of the wanted columns, with line numbers. Converts
nothing.

Text formats give String columns; Parquet gives its own types. A row that can't be read at all (too many cells, bytes
that are no text, broken JSON) becomes a `BadRow`, and reading continues after it. Line numbers are those of the file:
they start at 1 and count the header.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import pyarrow as pa

from core.errors import BadInput
from sources.datasets.chunks import Chunk, Wanted
from sources.datasets.documents import json_document, json_lines, parquet, sheet
from sources.datasets.layout import FileFormat
from sources.datasets.parts import Part
from sources.datasets.separated import separated

_UNREADABLE = (
    OSError,
    EOFError,
    UnicodeError,
    MemoryError,
    NotImplementedError,
    pa.ArrowException,
    pl.exceptions.PolarsError,
    zipfile.BadZipFile,
    zlib.error,
)
_READERS = {"csv": separated, "jsonl": json_lines, "json": json_document, "xlsx": sheet, "parquet": parquet}


def read(part: Part, form: FileFormat, wanted: Wanted | None = None) -> Iterator[Chunk]:
    """The file's rows in chunks of at most CHUNK_ROWS; all columns if `wanted` is None. Raises BadInput if the file
    can't be opened or read on, or lacks a column.
    """
    with readable(part):
        yield from _READERS[part.kind](part, form, wanted)


@contextmanager
def readable(part: Part) -> Iterator[None]:
    """Raise BadInput for whatever a library says about a file that breaks off, is damaged or is not what it seems."""
    try:
        yield
    except _UNREADABLE as error:
        raise BadInput(f"{part.name} can't be read: {(str(error) or 'out of memory').splitlines()[0]}") from error
