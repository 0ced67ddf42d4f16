"""A layout as the text of a mapping file, with comments for the person who edits it. `mapping.parse`
reads it back equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from core.times import utc
from sources.datasets.detect.propose import Proposal
from sources.datasets.layout import FileFormat, Layout, Money
from sources.datasets.numbers import DOT
from sources.datasets.timestamps import UNITS_MS

_WIDTH = 34


def text(proposal: Proposal, source: str) -> str:
    """The mapping file. source: the data's path, for the first comment."""
    layout = proposal.layout
    lines = [f"# Mapping of {_plain(source)}, proposed by `sentinel map`. docs/datasets.md describes every key."]
    if proposal.unsure:
        lines += ["#", "# Please check:"]
        lines += [f"# - {_plain(each)}" for each in proposal.unsure]
    lines += ["", *_line("name", layout.name, "prefix of transaction IDs, if the data has none")]
    lines += _file(layout.file)
    if layout.numbers != DOT:
        lines += [
            "",
            "[numbers]",
            *_line("decimal", layout.numbers.decimal),
            *_line("thousands", layout.numbers.thousands),
        ]
    lines += ["", "[columns]", "# our field = your column"]
    for name, column in layout.columns.items():
        lines += _line(name, column)
    lines += _amount(layout.money)
    lines += _time(layout)
    lines += _label(proposal)
    if layout.scenario is not None:
        lines += ["", "[scenario]", *_line("column", layout.scenario, "the kind of fraud, for evaluation only")]
        lines += _line("values", layout.scenario_values) if layout.scenario_values else []
    lines += _ids(layout)
    if layout.join is not None:
        lines += ["", "[join]", "# columns of a second file, looked up by a key"]
        for key in ("main", "file", "on", "columns"):
            lines += _line(key, getattr(layout.join, key))
    lines += _tables(layout)
    if proposal.unused:
        lines += ["", "# Not read: " + ", ".join(_plain(name) for name in proposal.unused[:60])]
        lines += ['# To keep one with each transaction: [attributes], then a line such as age = "customer_age".']
    return "\n".join(lines) + "\n"


def _file(file: FileFormat) -> list[str]:
    lines: list[str] = []
    if file.kind:
        lines += _line("format", file.kind)
    if file.encoding:
        lines += _line("encoding", file.encoding)
    if file.separator:
        lines += _line("separator", file.separator)
    if file.quote != '"':
        lines += _line("quote", file.quote, "" if file.quote else "none")
    if file.escape:
        lines += _line("escape", file.escape)
    if file.header is not None:
        lines += _line(
            "header", file.header, "line of the column names" if file.header else "none: column_1, column_2, …"
        )
    if file.footer:
        lines += _line("footer", file.footer, "lines at the end that are not data")
    if file.sheet:
        lines += _line("sheet", file.sheet)
    if file.nulls:
        lines += _line("null", file.nulls, 'words that mean "no value"')
    if file.strip:
        lines += _line("strip", file.strip, "removed from both ends of every value")
    return ["", "[file]", *lines] if lines else []


def _amount(money: Money) -> list[str]:
    if money == Money():
        return []
    lines: list[str] = []
    if money.debit is not None:
        lines += [*_line("debit", money.debit), *_line("credit", money.credit or "")]
    if money.negative != "reject":
        lines += _line("negative", money.negative, "what a negative amount is: payment or refund")
    if money.divide != 1.0:
        lines += _line("divide", money.divide)
    if money.currency:
        lines += ["currency = true".ljust(_WIDTH) + "# taken from symbol or code in the amount"]
    return ["", "[amount]", *lines]


def _time(layout: Layout) -> list[str]:
    time = layout.time
    lines = ["", "[time]"]
    if time.columns:
        one = len(time.columns) == 1
        lines += _line("column" if one else "columns", time.columns[0] if one else time.columns)
    lines += _line("format", time.formats[0] if len(time.formats) == 1 else time.formats)
    if time.origin and (set(time.formats) & {*UNITS_MS, "rows"}):
        lines += _line("origin", utc(time.origin).isoformat().replace("+00:00", "Z"), "an assumption")
    if time.spread:
        lines += ["spread = true".ljust(_WIDTH) + "# rows of one step are spread evenly over it"]
    if time.formats == ("rows",):
        lines += _line("every_s", time.every_s, "seconds from row to row: an assumption")
    lines += _line("zone", time.zone, "of times without an offset")
    if time.repeated != "first":
        lines += _line("repeated", time.repeated)
    return lines


def _label(proposal: Proposal) -> list[str]:
    label = proposal.layout.label
    if label is None:
        return []

    def rows(meaning: bool | None) -> str:
        count = sum(n for n, means in proposal.labels.values() if means is meaning)
        return f"{count:,} rows"

    lines = ["", "[label]", *_line("column", label.column), *_line("fraud", label.fraud, rows(True))]
    lines += _line("legitimate", label.legitimate, rows(False))
    return [*lines, *_line("unlabelled", label.unlabelled, f"{rows(None)}, empty ones too")]


def _ids(layout: Layout) -> list[str]:
    lines: list[str] = []
    if layout.whole:
        lines += _line("whole", layout.whole, "123.0 is 123")
    if layout.lossy:
        lines += [
            "# DIGITS ARE LOST in these: values such as 2.7E+15 stand for several accounts. Better export them as text."
        ]
        lines += _line("lossy", layout.lossy)
    if layout.first_seen is not None:
        lines += _line("first_seen", layout.first_seen, "days since the account's first payment, part of its ID")
    return ["", "[ids]", *lines] if lines else []


def _tables(layout: Layout) -> list[str]:
    lines: list[str] = []
    for name, table in (
        ("constants", layout.constants),
        ("prefixes", layout.prefixes),
        ("attributes", layout.attributes),
    ):
        if table:
            lines += ["", f"[{name}]"]
            for key, value in table.items():
                lines += _line(key, value)
    for name, values in layout.values.items():
        lines += ["", f"[values.{_key(name)}]"]
        for theirs, ours in values.items():
            lines += _line(theirs, ours)
    return lines


def _line(key: str, value: object, comment: str = "") -> list[str]:
    written = f"{_key(key)} = {_value(value)}"
    return [written.ljust(_WIDTH - 1) + f" # {comment}" if comment else written]


def _key(key: str) -> str:
    bare = key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key)
    return key if bare else _value(key)


def _value(value: object) -> str:
    """A TOML value. JSON's strings are TOML's, but for DEL."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_value(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Iterable):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return repr(value)


def _plain(words: str) -> str:
    """For a comment: one line without control characters."""
    return "".join(c if c.isprintable() else " " for c in words)
