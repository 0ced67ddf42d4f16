"""How a text file is written: encoding, separator, quotes, header line. Reads bytes; knows nothing of
columns' meaning.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.errors import BadInput
from sources.datasets.detect.questions import Answers, Question
from sources.datasets.layout import FileFormat
from sources.datasets.parts import Part
from sources.datasets.separated import SEPARATORS, Lines, encoding_of, opened_text, separator_hint
from sources.datasets.timestamps import MONTHS
from sources.lines import bounded_lines

SAMPLE_LINES = 3_000
SAMPLE_CHARS = 1 << 24
_HEADER_ROWS = 30
_BLOCK = 1 << 20
_NOT_UTF8, _SPECIAL = re.compile("[\udc80-\udcff]"), re.compile("[^\x00-\x7f]")
_CP1252_LETTERS = frozenset(
    b"\x80\x82\x83\x84\x85\x86\x87\x8a\x8b\x8c\x8e\x91\x92\x93\x94\x95\x96\x97\x99\x9a\x9b\x9c\x9e\x9f"
)
_DIALECTS = (('"', None), ('"', "\\"), ("'", None), ("", None))


@dataclass(frozen=True, slots=True)
class Encoding:
    """name: None for UTF-8 and what a byte-order mark says. unsure: what was assumed, or ""."""

    name: str | None
    unsure: str = ""


def find_encoding(part: Part, answers: Answers) -> Encoding:
    """The encoding by all of the file's bytes. Raises Question if they fit neither Unicode nor Western
    European text.
    """
    if answers.encoding:
        return Encoding(answers.encoding)
    with part.open() as file:
        first = file.read(4_096)
        seen = encoding_of(first)
        if seen != "utf-8-sig":
            return Encoding(None)
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        counts = np.zeros(256, dtype=np.int64)
        wrong = right = 0
        block = first
        while block:
            counts += np.bincount(np.frombuffer(block, dtype=np.uint8), minlength=256)
            if not block.isascii():
                text = decoder.decode(block)
                wrong += len(_NOT_UTF8.findall(text))
                right += len(_SPECIAL.findall(text))
            block = file.read(_BLOCK)
    if not wrong:
        return Encoding(None)
    if wrong < 0.05 * right:
        return Encoding(None, f"{wrong:,} bytes are not UTF-8, the other {right - wrong:,} special characters are")
    return _eight_bit(counts)


def _eight_bit(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Encoding:
    low, high = counts[0x80:0xA0], int(counts[0xA0:].sum())
    letters = int(counts[0x41:0x5B].sum() + counts[0x61:0x7B].sum())
    strange = [byte for byte in range(0x80, 0xA0) if counts[byte] and byte not in _CP1252_LETTERS]
    if strange or int(low.sum()) > high + int(counts[0x80]) or high > 0.5 * letters:
        raise Question(
            "the file is neither Unicode nor Windows-1252 text",
            "encoding",
            "--encoding NAME (for example latin-1, cp850, cp1251, mac-roman, shift-jis, gb18030)",
        )
    return Encoding("cp1252", "the file is not Unicode; it is read as Windows-1252 (--encoding NAME for another)")


def find_form(part: Part, form: FileFormat, answers: Answers) -> FileFormat:
    """Separator, quotes and header line of separated text, by its first SAMPLE_LINES lines."""
    with opened_text(part, form.encoding) as text:
        lines = _sample(bounded_lines(text, part.name))
    if not any(line.strip() for line in lines):
        raise BadInput(f"{part.name} can't be read: the file is empty")
    start = 0
    hint = separator_hint(lines[0])
    if hint is not None:
        form, start = replace(form, separator=hint), 1
    separators = [answers.separator or form.separator or ""]
    if not separators[0]:
        separators = list(SEPARATORS)
    best: tuple[float, int] = (-1.0, 0)
    chosen, rows = form, list[tuple[int, list[str]]]()
    for separator in separators:
        share = -1.0
        for quote, escape in _DIALECTS:
            tried = replace(form, separator=separator, quote=quote, escape=escape)
            found = _rows(lines[start:], tried, start)
            if quote == "'" and not _quoted(found, lines):
                continue
            score = _score(found)
            # A later dialect must make more rows agree: wider rows alone are cells cut at a separator within quotes.
            if score[0] > share and score > best:
                best, chosen, rows = score, tried, found
            share = max(share, score[0])
    if chosen.quote == '"' and _enclosed(rows):
        chosen = replace(chosen, strip="'")
    header = header_line(rows) if answers.header is None else answers.header
    first = next((number for number, line in enumerate(lines, 1) if line.strip("\ufeff \t\r\n")), 1)
    return replace(chosen, header=None if header == first and answers.header is None else header)


def _sample(lines: Iterator[str]) -> list[str]:
    """The first SAMPLE_LINES lines; fewer, at least one, if they are so long that they have SAMPLE_CHARS."""
    found: list[str] = []
    room = SAMPLE_CHARS
    for line in itertools.islice(lines, SAMPLE_LINES):
        found.append(line)
        room -= len(line)
        if room <= 0:
            break
    return found


def _rows(lines: Sequence[str], form: FileFormat, skipped: int) -> list[tuple[int, list[str]]]:
    """(first line, cells) of rows that are not blank; rows that can't be parsed have no cells."""
    if lines and not skipped:
        lines = [lines[0].removeprefix("\ufeff"), *lines[1:]]
    rows = [(line, cells) for line, cells in Lines(lines, form, form.separator or ",", skipped)]
    if len(lines) + skipped >= SAMPLE_LINES or sum(map(len, lines)) >= SAMPLE_CHARS // 2:
        rows = rows[:-1]  # perhaps cut in the middle
    return [(line, cells) for line, cells in rows if any(cell.strip() for cell in cells) or not cells]


def _score(rows: Sequence[tuple[int, list[str]]]) -> tuple[float, int]:
    """(share of rows with the commonest width, in tenths · that width)."""
    width, count = _width(rows)
    if width < 2:
        return 0.0, width
    return round(count / len(rows), 2 if len(rows) > 20 else 1) // 0.05, width


def _width(rows: Sequence[tuple[int, list[str]]]) -> tuple[int, int]:
    """The commonest number of cells above one, and of how many rows."""
    counts = Counter(len(cells) for _, cells in rows if len(cells) > 1)
    return max(counts.items(), key=lambda item: (item[1], item[0]), default=(1, 0))


def _quoted(rows: Sequence[tuple[int, list[str]]], lines: Sequence[str]) -> bool:
    """Whether single quotes enclose values: as many of them as two a row, and none are left within the cells."""
    marks = sum(line.count("'") for line in lines)
    return bool(rows) and marks >= 2 * (len(rows) - 1) and '"' not in "".join(lines[:50])


def _enclosed(rows: Sequence[tuple[int, list[str]]]) -> bool:
    """Whether some column's values are all in single quotes."""
    width, _ = _width(rows)
    full = [cells for _, cells in rows if len(cells) == width][1:]
    columns = ([cells[place].strip() for cells in full if cells[place].strip()] for place in range(width))
    return any(len(c) > 1 and all(len(v) > 1 and v[0] == v[-1] == "'" for v in c) for c in columns)


def header_line(rows: Sequence[tuple[int, list[str]]]) -> int:
    """The line of the column names: the first full row, if it looks like names; 0 if it looks like data."""
    width, _ = _width(rows)
    values = 0
    for line, cells in rows[:_HEADER_ROWS]:
        while len(cells) > width and not cells[-1].strip():
            cells = cells[:-1]  # noqa: PLW2901
        filled = [cell.strip() for cell in cells if cell.strip()]
        if len(cells) != width or len(filled) < max(2, width / 2):
            continue
        if not _names(filled):  # data, or a title with a date in it if names that fill more cells follow
            values = max(values, len(filled))
        elif len(filled) > values:
            return line
    return 0 if values else (rows[0][0] if rows else 1)


def _names(cells: Sequence[str]) -> bool:
    """Whether cells look like names of columns: no number, date, time, address or lone value among them."""
    return not any(_is_value(cell) for cell in cells)


def _is_value(cell: str) -> bool:
    digits = sum(c.isdigit() for c in cell)
    if not any(c.isalpha() for c in cell):
        return digits > 0
    words = "".join(c if c.isalpha() else " " for c in cell).lower().split()
    return digits >= 4 and (digits >= len(cell) / 2 or any(word in MONTHS for word in words) or "T" in cell)
