"""Text that others chose (an account's ID, a model's name, a reason) where a person or a spreadsheet reads it. Pure.

A name must never move the cursor, change colours, reverse the reading direction, begin markup or become a formula.
Names of our own acts are refused if they could (`check_name`); what comes through the stream or stands in an old log is
made harmless where it is shown: `visible` for terminals, `csv_cell` for CSV files, `html_text` for pages. Everything
that the command line prints passes `core.files.Visible`, and rich consoles (`console.terminal`) read no markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TypeVar

from core.errors import BadInput

NAME_CHARACTERS_MAX = 128
REASON_CHARACTERS_MAX = 2_000

# C0 and C1 controls, line and paragraph separators, marks of direction, lone surrogates, annotation marks, tags.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_UNSAFE_IN_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")

LISTED_MAX = 10
MESSAGE_MAX = 4_000

V = TypeVar("V")


def listed(names: Sequence[str]) -> str:
    """Names for a message: the first ten, and how many more there are."""
    more = len(names) - LISTED_MAX
    return ", ".join(names[:LISTED_MAX]) + (f" and {more:,} more" if more > 0 else "")


def visible(text: str, *, lines: bool = False) -> str:
    """The text with unsafe characters as escapes (`\\u001b`), which also are what JSON would write.

    lines: line breaks and tabs are layout and stay.
    """
    return (_UNSAFE_IN_LINES if lines else _UNSAFE).sub(_escape, text)


def clipped(text: str) -> str:
    """A message that quotes what somebody sent: at most MESSAGE_MAX characters, its end left out."""
    return text if len(text) <= MESSAGE_MAX else f"{text[: MESSAGE_MAX - 1]}…"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def csv_cell(value: V) -> V | str:
    """A value for a CSV file: text that a spreadsheet would run as a formula gets a leading apostrophe (OWASP)."""
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if _FORMULA.match(shown) and not _NUMBER.fullmatch(shown) else shown


def html_text(text: str) -> str:
    """Text for a page of HTML."""
    return escape(visible(text))


def check_name(what: str, text: str, characters_max: int = NAME_CHARACTERS_MAX) -> None:
    """Raise BadInput unless the text may be recorded as a name: not empty, not too long, nothing invisible in it."""
    if not text.strip():
        raise BadInput(f"{what} must not be empty")
    if len(text) > characters_max:
        raise BadInput(f"{what} has {len(text):,} characters, more than {characters_max:,}")
    if found := _UNSAFE.search(text):
        raise BadInput(
            f"{what} holds the control character {visible(found[0])} at place {found.start() + 1}: {visible(text)}"
        )
