"""JSON, Excel and Parquet files → chunks of rows with their numbers. Converts nothing but cells to text.

JSON lines are numbered as lines; elements of an array and rows of a Parquet file from 1; rows of a sheet as Excel does.
Memory: a JSON array or a workbook is held whole.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import BadInput
from sources.datasets.chunks import CHUNK_ROWS, BadRow, Chunk, Wanted, resolve, unique_names
from sources.datasets.layout import FileFormat
from sources.datasets.parts import Part
from sources.datasets.separated import Lines, cells_chunks, opened_text
from sources.lines import bounded_lines

DOCUMENT_MAX = 1 << 30
"""Characters of a JSON document, which is decoded as a whole."""


def json_lines(part: Part, form: FileFormat, wanted: Wanted | None) -> Iterator[Chunk]:
    with opened_text(part, form.encoding) as text:
        lines = enumerate(bounded_lines(text, part.name), 1)
        yield from _objects(part, ((n, line) for n, line in lines if line.strip()), wanted)


def json_document(part: Part, form: FileFormat, wanted: Wanted | None) -> Iterator[Chunk]:
    with opened_text(part, form.encoding) as text:
        whole = text.read(DOCUMENT_MAX + 1).removeprefix("\ufeff")
    if len(whole) > DOCUMENT_MAX:
        raise BadInput(
            f"{part.name} is one JSON document of more than {DOCUMENT_MAX:,} characters, which would be held in memory;"
            " write one object a line, in a file called .jsonl",
            reason="document_too_long",
        )
    try:
        document = json.loads(whole, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error):  # one object a line, in a file called .json
            lines = ((n, line) for n, line in enumerate(io.StringIO(whole), 1) if line.strip())
            yield from _objects(part, lines, wanted)
            return
        raise BadInput(f"{part.name} is not JSON: {error}") from None
    if isinstance(document, dict):
        document = next(
            (v for v in document.values() if isinstance(v, list) and v and isinstance(v[0], dict)), [document]
        )
    if not isinstance(document, list):
        raise BadInput(f"{part.name}: the JSON is not an array of objects")
    yield from _objects(part, enumerate(document, 1), wanted)


def _objects(part: Part, rows: Iterable[tuple[int, Any]], wanted: Wanted | None) -> Iterator[Chunk]:
    """Chunks of JSON objects, as text or decoded. A column may be left out of some, but not of all."""
    objects: list[dict[str, str]] = []
    lines: list[int] = []
    ordinals: list[int] = []
    bad: list[BadRow] = []
    seen: dict[str, None] = {}
    count = 0

    def chunk() -> Chunk:
        names = list(dict.fromkeys(name for row in objects for name in row))
        seen.update(dict.fromkeys(names))
        soft = Wanted(wanted.columns, wanted.dataset, frozenset(wanted.columns), wanted.aliases) if wanted else None
        found = resolve(names, soft, part)
        columns = [
            pl.Series(
                name, [row.get(names[found[name]], "") if name in found else "" for row in objects], dtype=pl.String
            )
            for name in (wanted.columns if wanted else names)
        ]
        return Chunk(part, np.array(lines, np.int64), np.array(ordinals, np.int64), pl.DataFrame(columns), bad, count)

    for line, row in rows:
        try:
            value = json.loads(row, parse_float=str, parse_int=str) if isinstance(row, str) else row
            if not isinstance(value, dict):
                raise ValueError(f"it is of type {_KINDS.get(type(value), 'number')}")
            flat = dict(_flat(value, ""))
            "".join(flat.values()).encode()
            objects.append(flat)
            lines.append(line)
            ordinals.append(count)
        except (ValueError, RecursionError) as error:
            bad.append(BadRow(part.name, part.unit, line, "not_json", f"not a JSON object: {error}"))
        count += 1
        if len(objects) + len(bad) >= CHUNK_ROWS:
            yield chunk()
            objects, lines, ordinals, bad = [], [], [], []
    if objects or bad:
        yield chunk()
    resolve(list(seen), wanted, part)


_KINDS = {list: "array", str: "string", bool: "boolean", type(None): "null"}


def _flat(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{prefix}{name}.")
        elif inner is None:
            yield prefix + name, ""
        elif isinstance(inner, bool):
            yield prefix + name, "true" if inner else "false"
        else:
            yield prefix + name, inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)


def sheet(part: Part, form: FileFormat, wanted: Wanted | None) -> Iterator[Chunk]:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with part.open() as file:
            book = CalamineWorkbook.from_filelike(io.BytesIO(file.read()))
        names = [form.sheet] if form.sheet else book.sheet_names
        if form.sheet and form.sheet not in book.sheet_names:
            raise BadInput(f"{part.name} has no sheet {form.sheet!r}; it has {', '.join(book.sheet_names)}")
        sheet = next((s for s in map(book.get_sheet_by_name, names) if s.height), None)
    except CalamineError as error:
        raise BadInput(f"{part.name} can't be read as an Excel file: {error}") from None
    if sheet is None:
        raise BadInput(f"{part.name} can't be read: the sheet is empty")
    numbered = enumerate(([cell_text(cell) for cell in row] for row in sheet.iter_rows()), 1)
    rows = ((n, cells) for n, cells in numbered if n >= (form.header or 1) and any(cells))
    head = next(rows, None)
    if head is None:
        raise BadInput(f"{part.name} has no row {form.header}, which the mapping names as its header")
    columns = unique_names(head[1])
    if form.header == 0:
        columns, rows = [f"column_{n}" for n in range(1, len(head[1]) + 1)], chain([head], rows)  # type: ignore[assignment]
    state = Lines([], form, ",", 0)
    yield from cells_chunks(part, form, rows, state, columns, resolve(columns, wanted, part))


def cell_text(cell: Any) -> str:
    """An Excel cell as text: whole numbers without a point, times in ISO 8601."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ", timespec="milliseconds" if cell.microsecond else "seconds")
    if isinstance(cell, timedelta):
        return (datetime.min + cell).time().isoformat() if timedelta(0) <= cell < timedelta(days=1) else str(cell)
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    return "" if cell is None else str(cell)


def parquet(part: Part, form: FileFormat, wanted: Wanted | None) -> Iterator[Chunk]:
    with part.open() as raw, pq.ParquetFile(raw) as file:
        schema = file.schema_arrow
        places = resolve(list(schema.names), wanted, part)
        for name, place in places.items():
            kind = schema.field(place).type
            single = not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
            if wanted is not None and not single:
                raise BadInput(f"{part.name}: the column {name} holds {kind}, not single values")
        usable = [n for n, p in places.items() if not pa.types.is_nested(schema.field(p).type)]
        own = [schema.names[places[name]] for name in usable]
        first = 0
        for batch in file.iter_batches(CHUNK_ROWS, columns=own):
            batch.validate(full=True)  # text that is none would crash polars
            frame = pl.DataFrame(
                [_single(batch.column(name)).alias(ours) for name, ours in zip(own, usable, strict=True)]
            )
            rows = np.arange(first, first + batch.num_rows, dtype=np.int64)
            first += batch.num_rows
            yield Chunk(part, rows + 1, rows, frame, [], first)


def _single(column: Any) -> pl.Series:
    if pa.types.is_decimal256(column.type):  # polars has none so wide
        column = column.cast(pa.float64())
    values: Any = pl.from_arrow(column)
    series: pl.Series = values if isinstance(values, pl.Series) else values.to_series()
    if series.dtype in (pl.Categorical, pl.Enum, pl.Boolean):
        return series.cast(pl.String)
    return series
