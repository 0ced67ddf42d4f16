"""Values of a document: each is read as what it must be, and what it is not is collected with its place. Pure.

A value that is wrong is reported, and something of its type is given instead, so that reading goes on.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from core.errors import BadInput
from core.program.document import Scalar
from core.program.errors import listed, meant
from core.program.names import name_fault
from core.program.places import Places
from core.program.problems import PROBLEMS_MAX, Path, Problem, shown
from core.text import check_name

EXPRESSION_CHARACTERS_MAX = 10_000
TEXT_CHARACTERS_MAX = 500
PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)(:,?(?:\.[0-9])?[f%]?)?\}")


class TooMany(Exception):
    """PROBLEMS_MAX problems were found."""


@dataclass(slots=True)
class Values:
    """A document's tables, and what is wrong with its values so far."""

    top: dict[str, Any]
    places: Places
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: Path, message: str) -> None:
        self.problems.append(Problem(message, path, self.places.line_of(path)))
        if len(self.problems) >= PROBLEMS_MAX:
            raise TooMany

    def table(self, path: Path, value: object, keys: Iterable[str] | None = None) -> dict[str, Any]:
        """The table, with unknown keys reported and left out; {} if it is none."""
        if not isinstance(value, dict):
            self.add(path, f"must be a table, not {_kind(value)}")
            return {}
        if keys is None:
            return value
        known = tuple(keys)
        for key in value:
            if key not in known:
                near = meant(key, known) or f"; known: {', '.join(known)}"
                self.add((*path, key), f"unknown key {shown(key)!r}{near}")
        return {key: found for key, found in value.items() if key in known}

    def named(self, name: str, count_max: int) -> dict[str, Any]:
        """A table whose keys are names that the document gives, ascending."""
        found = self.table((name,), self.top.get(name, {}))
        if len(found) > count_max:
            self.add((name,), f"{len(found):,} entries, more than {count_max:,}")
            return {}
        for key in found:
            if fault := name_fault(key):
                self.add((name, key), fault)
        return dict(sorted(found.items()))

    def text(self, path: Path, value: object, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
        """A text of one line without invisible characters, white space collapsed."""
        if not isinstance(value, str):
            self.add(path, f"must be text in quotes, not {_kind(value)}")
            return ""
        try:
            check_name("it", " ".join(value.split()), characters_max)
        except BadInput as error:
            self.add(path, str(error))
        return " ".join(value.split())

    def expression(self, path: Path, value: object) -> str:
        if isinstance(value, bool | int | float):
            self.add(path, f'must be an expression in quotes: "{str(value).lower()}"')
            return ""
        if not isinstance(value, str) or not value.strip():
            self.add(path, 'must be an expression in quotes, such as "amount > 500.0"')
            return ""
        if len(value) > EXPRESSION_CHARACTERS_MAX:
            self.add(path, f"an expression has at most {EXPRESSION_CHARACTERS_MAX:,} characters, not {len(value):,}")
        return value

    def words(self, path: Path, value: object) -> str:
        """Words for an alert, with placeholders."""
        text = self.text(path, value)
        if "{" in PLACEHOLDER.sub("", text) or "}" in PLACEHOLDER.sub("", text):
            self.add(path, "a brace begins or ends a placeholder such as {amount}, {amount:,.2f} or {share:.0%}")
        return text

    def number(self, path: Path, value: object, low: float, high: float, what: str = "a number") -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.add(path, f"must be {what}, not {_kind(value)}")
            return low
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if not isfinite(number) or not low <= number <= high:
            limits = f" from {low:g} to {high:g}" if isfinite(low) and isfinite(high) else ", finite"
            self.add(path, f"must be {what}{limits}, not {shown(str(value))}")
            return low
        return number + 0.0  # -0.0 is 0.0

    def flag(self, path: Path, value: object) -> bool:
        if not isinstance(value, bool):
            self.add(path, f"must be true or false, not {_kind(value)}")
        return value is True

    def choice(self, path: Path, value: object, known: Sequence[str]) -> str:
        if not isinstance(value, str) or value not in known:
            near = meant(value, known) if isinstance(value, str) else ""
            given = shown(repr(value)) if isinstance(value, str) else _kind(value)
            self.add(path, f"must be {listed(known)}, not {given}{near}")
            return known[0]
        return value

    def array(self, path: Path, value: object, count_max: int, what: str) -> list[Any]:
        if not isinstance(value, list):
            self.add(path, f"must be a list of {what}, not {_kind(value)}")
            return []
        if len(value) > count_max:
            self.add(path, f"{len(value):,} {what}, more than {count_max:,}")
            return []
        return value

    def scalar(self, path: Path, value: object) -> Scalar:
        if isinstance(value, bool | str):
            return value
        if isinstance(value, datetime.datetime):
            return self.time(path, value)
        return self.number(path, value, -1e300, 1e300, "a number, text, true or false")

    def time(self, path: Path, value: object) -> str:
        """A time as ISO 8601 in UTC with milliseconds."""
        try:
            when = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(str(value))
            if when.tzinfo is None:
                raise ValueError
            return _iso(when)
        except (ValueError, OverflowError):
            self.add(path, f"must be a time with its offset, such as 2026-03-01T12:00:00Z, not {shown(str(value))}")
            return ""

    def date(self, path: Path, value: object) -> str:
        try:
            if isinstance(value, datetime.datetime):
                raise ValueError
            return (value if isinstance(value, datetime.date) else datetime.date.fromisoformat(str(value))).isoformat()
        except ValueError:
            self.add(path, f"must be a date such as 2026-12-31, not {shown(str(value))}")
            return ""


def _kind(value: object) -> str:
    kinds = {dict: "a table", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "a date or time")


def _iso(when: datetime.datetime) -> str:
    return when.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
