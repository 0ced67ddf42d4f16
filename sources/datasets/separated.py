"""Separated text (CSV and its like) → chunks of rows with line numbers. Converts nothing.

A row that spans lines has the number of its first. Blank rows are nothing; a row of another width is bad.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import cast

import numpy as np
import polars as pl

from core.errors import BadInput
from sources.datasets.chunks import CHUNK_CELLS, CHUNK_ROWS, BadRow, Chunk, Wanted, resolve, unique_names
from sources.datasets.layout import FileFormat
from sources.datasets.parts import Part
from sources.lines import LINE_MAX, bounded_lines

ROW_MAX = 4 * LINE_MAX
"""Characters of a row, whose quoted fields may span lines."""
SEPARATORS = (",", ";", "\t", "|")
_SPACES = " \t\u00a0"
_NOTHING = f"{_SPACES}\0\x1a\ufeff"
"""What a blank last line may hold: zeros, and the end-of-file mark of old systems."""


def encoding_of(first: bytes) -> str:
    """The encoding that a file's first bytes show: UTF-16 and UTF-32 by their mark or their zeros, else UTF-8."""
    if first[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return "utf-32"
    if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    even, odd = first[0::2], first[1::2]
    if len(odd) >= 4 and odd.count(0) > 0.4 * len(odd) and even.count(0) < 0.1 * len(even):
        return "utf-16-le"
    if len(odd) >= 4 and even.count(0) > 0.4 * len(even) and odd.count(0) < 0.1 * len(odd):
        return "utf-16-be"
    return "utf-8-sig"


@contextlib.contextmanager
def opened_text(part: Part, encoding: str | None) -> Iterator[io.TextIOWrapper]:
    """The file as text, without its byte-order mark. Bytes that are not of the encoding become lone surrogates. Lines
    are read by `bounded_lines`.
    """
    with part.open() as raw:
        buffered = cast(io.BufferedReader, raw if hasattr(raw, "peek") else io.BufferedReader(cast(io.RawIOBase, raw)))
        first = buffered.peek(4_096)[:4_096]
        seen = encoding_of(first)
        try:
            used = (
                seen
                if encoding is None or (encoding.lower().replace("_", "-") in ("utf-8", "utf8") and seen == "utf-8-sig")
                else encoding
            )
            yield io.TextIOWrapper(buffered, encoding=used, errors="surrogateescape", newline="")
        except LookupError:
            raise BadInput(f"unknown encoding {encoding!r}; for example utf-8, cp1252, latin-1, utf-16") from None


def separated(part: Part, form: FileFormat, wanted: Wanted | None) -> Iterator[Chunk]:
    with opened_text(part, form.encoding) as file:
        text = bounded_lines(file, part.name)
        skipped = max((form.header or 1) - 1, 0)
        for _ in range(skipped):
            if not next(text, ""):
                raise BadInput(f"{part.name} has no line {form.header}, which the mapping names as its header")
        first = next(text, "")
        while form.header is None and first and not first.strip(_SPACES + "\r\n\ufeff"):
            skipped += 1
            first = next(text, "")
        if not first:
            raise BadInput(f"{part.name} can't be read: the file is empty")
        first = first.removeprefix("\ufeff")
        hint = separator_hint(first) if form.header is None else None
        if hint is not None:
            skipped, first = skipped + 1, next(text, "")
        separator = form.separator or hint or _separator(first, wanted)
        rows = Lines(chain([first], text), form, separator, skipped, part.name)
        head = next(rows, None)
        if head is None or rows.error:
            raise BadInput(f"{part.name}: {rows.error or 'the header is empty'}")
        names = unique_names(head[1])
        again: list[tuple[int, list[str]]] = []
        if form.header == 0:
            names, again = [f"column_{number}" for number in range(1, len(head[1]) + 1)], [head]
        places = resolve(names, wanted, part)
        yield from cells_chunks(part, form, chain(again, rows), rows, names, places)


def separator_hint(line: str) -> str | None:
    """The separator of a first line `sep=;`, which is a hint for Excel."""
    text = line.removeprefix("\ufeff").rstrip("\r\n")
    return text[4] if len(text) == 5 and text[:4].lower() == "sep=" else None


def _separator(line: str, wanted: Wanted | None) -> str:
    """The separator under which a header has all wanted columns, else the one that it has most of."""
    if wanted is not None:
        for separator in SEPARATORS:
            names = unique_names(next(csv.reader([line], delimiter=separator), []))
            with contextlib.suppress(BadInput):
                resolve(names, wanted, Part("", "csv", io.BytesIO))
                return separator
    return max(SEPARATORS, key=line.count)


class Lines:
    """A csv reader that knows the first line of each row, and continues after one that it can't parse (`error`). Raises
    BadInput for a row of more than ROW_MAX characters.
    """

    def __init__(
        self, text: Iterable[str], form: FileFormat, separator: str, skipped: int, name: str = "the file"
    ) -> None:
        self._name = name
        self._room = ROW_MAX
        try:
            self._reader = csv.reader(
                self._bounded(text),
                delimiter=separator,
                quotechar=form.quote or None,
                quoting=csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE,
                escapechar=form.escape or None,
                skipinitialspace=True,
                strict=True,
            )
        except (TypeError, ValueError) as error:
            raise BadInput(f"[file] separator, quote and escape are one character each: {error}") from None
        self._skipped = skipped
        self.error = ""

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> tuple[int, list[str]]:
        line = self._skipped + self._reader.line_num + 1
        self.error = ""
        self._room = ROW_MAX
        try:
            return line, next(self._reader)
        except csv.Error as error:
            last = self._skipped + self._reader.line_num
            self.error = f"not separated text: {error}" + (f" (up to line {last:,})" if last > line else "")
            return line, []

    def _bounded(self, text: Iterable[str]) -> Iterator[str]:
        for line in text:
            self._room -= len(line)
            if self._room < 0:
                last = self._skipped + self._reader.line_num + 1
                raise BadInput(
                    f"{self._name}, line {last:,}: a row of more than {ROW_MAX:,} characters; are its quotes closed?",
                    reason="line_too_long",
                )
            yield line


def cells_chunks(
    part: Part,
    form: FileFormat,
    rows: Iterable[tuple[int, list[str]]],
    state: Lines,
    names: list[str],
    places: dict[str, int],
) -> Iterator[Chunk]:
    """Chunks of rows of cells; blank rows are left out, and those of the wrong width are bad."""
    width, count = len(names), 0
    full = min(CHUNK_ROWS, max(CHUNK_CELLS // width, 1))
    kept: list[list[str]] = []
    lines: list[int] = []
    ordinals: list[int] = []
    bad: list[BadRow] = []
    held: deque[tuple[int, list[str], str]] = deque()
    for line, cells in rows:
        error = state.error
        if (not error and not any(cells)) or (len(cells) == 1 and not cells[0].strip(_NOTHING)):
            continue
        if form.footer:
            held.append((line, cells, error))
            if len(held) <= form.footer:
                continue
            line, cells, error = held.popleft()  # noqa: PLW2901
        if error:
            bad.append(BadRow(part.name, part.unit, line, "not_csv", error))
        elif len(cells) == width or (len(cells) > width and not any(cells[width:])):
            kept.append(cells)
            lines.append(line)
            ordinals.append(count)
        else:
            bad.append(BadRow(part.name, part.unit, line, "wrong_cells", f"{len(cells)} cells under {width} columns"))
        count += 1
        if len(kept) + len(bad) >= full:
            yield _text_chunk(part, kept, lines, ordinals, places, bad, count)
            kept, lines, ordinals, bad = [], [], [], []
    if kept or bad:
        yield _text_chunk(part, kept, lines, ordinals, places, bad, count)


def _text_chunk(
    part: Part,
    kept: list[list[str]],
    lines: list[int],
    ordinals: list[int],
    places: dict[str, int],
    bad: list[BadRow],
    end: int,
) -> Chunk:
    def frame(rows: list[list[str]]) -> pl.DataFrame:
        return pl.DataFrame(
            [pl.Series(name, [row[place] for row in rows], dtype=pl.String) for name, place in places.items()]
        )

    try:
        columns = frame(kept)
    except UnicodeEncodeError:
        good: list[int] = []
        for at, row in enumerate(kept):
            try:
                "".join(row[place] for place in places.values()).encode()
                good.append(at)
            except UnicodeEncodeError as error:
                byte = f"0x{ord(error.object[error.start]) & 0xFF:02x}"
                detail = f"the byte {byte} is not of the file's encoding; [file] encoding names another"
                bad.append(BadRow(part.name, part.unit, lines[at], "not_text", detail))
        kept, lines, ordinals = [kept[i] for i in good], [lines[i] for i in good], [ordinals[i] for i in good]
        columns = frame(kept)
    return Chunk(part, np.array(lines, np.int64), np.array(ordinals, np.int64), columns, bad, end)


csv.field_size_limit(LINE_MAX)
