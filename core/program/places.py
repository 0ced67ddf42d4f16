"""Where tables, keys and values stand in a TOML document: `tomllib` does not say. Pure.

Also the first look at a document of unknown origin: nesting, long keys and masses of tokens, which cost a parser much,
are refused here.

Cost: about 0.5 µs a token.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from core.errors import BadInput
from core.program.problems import Path

TOKENS_MAX = 100_000
DEPTH_MAX = 8
PARTS_MAX = 8

_TOKEN = re.compile(
    r'(?P<text>"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5}|\Z)'
    r"|'''(?:[^']|'(?!''))*+(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]|\\[^\n])*+"?'
    r"|'[^'\n]*+'?)"
    r"|(?P<skip>#[^\n]*+|[ \t\r]++)"
    r"|(?P<newline>\n)"
    r"|(?P<word>[^\s\[\]{}=,.\"'#]++)"
    r"|(?P<mark>.)",
    re.DOTALL,
)


class Place(NamedTuple):
    """Offsets of a key and of its value in the text."""

    key: int
    value: int


@dataclass(slots=True)
class Places:
    """Places by path; `line_of` for people."""

    text: str
    _places: dict[Path, Place] = field(default_factory=dict)
    _newlines: list[int] = field(default_factory=list)

    def __contains__(self, path: Path) -> bool:
        return path in self._places

    def value_of(self, path: Path) -> int | None:
        """The offset of a path's value; None if it is unknown."""
        place = self._places.get(path)
        return place.value if place is not None else None

    def line_of(self, path: Path, row: int = 1) -> int:
        """The line in which the path's key stands, or the nearest table's around it; 0 if unknown. row: of its value,
        for a text of several lines.
        """
        for length in range(len(path), 0, -1):
            if (place := self._places.get(path[:length])) is not None:
                if length < len(path) or (row == 1 and not self._is_block(place)):
                    return self.line_at(place.key)
                return self.line_at(place.value) + row - (0 if self._begins_below(place) else 1)
        return 0

    def line_at(self, offset: int) -> int:
        """The line of an offset, from 1."""
        return bisect_right(self._newlines, offset - 1) + 1

    def _is_block(self, place: Place) -> bool:
        return self.text.startswith(('"""', "'''"), place.value)

    def _begins_below(self, place: Place) -> bool:
        """Whether the text of several lines begins after the line of its quotes: TOML drops the first line break."""
        return self._is_block(place) and self.text.startswith(("\n", "\r\n"), place.value + 3)


@dataclass(slots=True)
class _Nest:
    """An inline table or a list that is open. path: its own, of a list that of its current item. parts, start: the key
    that is being read, and where it begins.
    """

    is_table: bool
    path: Path
    item: int = 0
    in_key: bool = True
    parts: list[str] = field(default_factory=list)
    start: int = 0


@dataclass(slots=True)
class _Scanner:
    places: Places
    header: Path = ()
    counts: dict[Path, int] = field(default_factory=dict)
    nests: list[_Nest] = field(default_factory=list)

    def scan(self) -> None:
        text = self.places.text
        parts: list[str] = []
        start = brackets = tokens = 0
        mode = "start"
        for found in _TOKEN.finditer(text):
            kind, at = found.lastgroup, found.start()
            if kind == "skip":
                continue
            tokens += 1
            if tokens > TOKENS_MAX:
                raise BadInput(f"the document has more than {TOKENS_MAX:,} tokens, too many for a program")
            if kind == "newline":
                if mode == "header":
                    self._table(tuple(parts), start, brackets)
                if not self.nests:
                    mode, parts, brackets = "start", [], 0
                continue
            token, is_word = found[0], kind in ("text", "word")
            if mode == "start":
                start, mode = at, "header" if token == "[" else "key"
            if mode == "value":
                self._inside(token, is_word, at)
            elif mode == "assigned":
                self._value((*self.header, *parts), start, token, at)
                mode = "value"
            elif is_word:
                parts.append(_bare(token))
            elif mode == "key" and token == "=":
                mode = "assigned"
            elif mode == "header":
                brackets += token == "["
            if len(self.nests) > DEPTH_MAX or len(parts) > PARTS_MAX or brackets > DEPTH_MAX:
                raise BadInput(f"line {self.places.line_at(at)}: tables and keys nest too deeply")
        if mode == "header":
            self._table(tuple(parts), start, brackets)

    def _value(self, path: Path, key: int, token: str, at: int) -> None:
        """The value of a path begins with this token."""
        self.places._places.setdefault(path, Place(key, at))
        if token in ("{", "["):
            self.nests.append(_Nest(token == "{", path))

    def _inside(self, token: str, is_word: bool, at: int) -> None:
        """A token after a value's first one."""
        if not self.nests:
            return
        nest = self.nests[-1]
        if not is_word and token in "]}":
            self.nests.pop()
        elif not is_word and token == ",":
            nest.item += 1
            nest.in_key, nest.parts = True, []
        elif not nest.is_table:
            self._value((*nest.path, nest.item), at, token, at)
        elif not nest.in_key:
            if nest.parts:
                path = (*nest.path, *nest.parts)
                nest.parts = []
                self._value(path, nest.start, token, at)
        elif is_word:
            nest.start = nest.start if nest.parts else at
            nest.parts.append(_bare(token))
        elif token == "=":
            nest.in_key = False

    def _table(self, parts: tuple[str, ...], start: int, brackets: int) -> None:
        path: Path = ()
        for part in parts[:-1]:
            path = (*path, part)
            if path in self.counts:
                path = (*path, self.counts[path])
        path = (*path, *parts[-1:])
        if brackets > 1:
            self.counts[path] = self.counts.get(path, -1) + 1
            path = (*path, self.counts[path])
        elif path in self.counts:
            path = (*path, self.counts[path])
        self.header = path
        self.places._places.setdefault(path, Place(start, start))


def _bare(token: str) -> str:
    return token[1:-1] if len(token) > 1 and token[0] in "\"'" and token[-1] == token[0] else token


def places_of(text: str) -> Places:
    """The places of a document. Raises BadInput if it nests too deeply or has too many tokens."""
    places = Places(text, {}, [found.start() for found in re.finditer("\n", text)])
    _Scanner(places).scan()
    return places


def token_at(text: str, offset: int) -> str:
    """The token that begins at an offset."""
    found = _TOKEN.match(text, offset)
    return found[0] if found is not None else ""
