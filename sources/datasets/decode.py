"""Rows of a file → our fields, under a layout. A value that can't be used makes its row a `BadRow`; nothing is guessed.

The only place that says what a usable row is. Whether the edge would then accept it is for core.validation to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from core.times import DAY_MS
from sources.datasets import numbers, timestamps
from sources.datasets.chunks import BadRow, Chunk
from sources.datasets.layout import DIRECTION, ID_FIELDS, Layout
from sources.datasets.words import label_key
from sources.source import OPTIONAL_TEXT

REASONS = {
    "not_csv": "quotes that are opened and never closed, or the like",
    "not_json": "the line is not a JSON object",
    "not_text": "bytes that are not of the file's encoding",
    "wrong_cells": "more or fewer cells than columns",
    "bad_time": "the time is empty or not of the mapping's format",
    "bad_amount": "the amount is empty or not a number in the mapping's format",
    "negative_amount": "the amount is negative, and the mapping doesn't say what that means",
    "empty_id": "the account or the transaction ID is empty",
    "digits_lost": "an ID is written like 2.7E+15: its last digits are lost",
    "unknown_label": "the label is neither fraud nor legitimate nor unlabelled in the mapping",
}
"""Why a row of a dataset can't be used. docs/datasets.md repeats them; a code never changes its meaning."""
ATTRIBUTE = "attribute:"
SCIENTIFIC = r"^[0-9](?:\.[0-9]+)?[eE]\+[0-9]{2,3}$|^[0-9]\.[0-9]+[eE][0-9]{1,3}$"
WHOLE = r"^([+-]?[0-9]+)\.0+$"
_UNUSUAL = r"[\p{Z}\p{Cc}\p{Cf}&&[^ ]]"


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows in file order. table: transaction_id, account_id, amount, occurred_at (epoch ms), the layout's optional
    texts, is_fraud, scenario, `file`, `line`; attributes as columns `attribute:NAME`, not yet told numbers from text.
    """

    table: pl.DataFrame
    bad: list[BadRow]


class _Rows:
    """One chunk and what is wrong with its rows; a row's first fault counts."""

    def __init__(self, chunk: Chunk, layout: Layout) -> None:
        self.chunk = chunk
        self.layout = layout
        self.size = chunk.columns.height
        self.faults: dict[int, tuple[str, str]] = {}
        self._nulls = [word.strip().casefold() for word in layout.file.nulls]
        self._clean: dict[str, pl.Series] = {}

    def has(self, column: str | None) -> bool:
        return column is not None and column in self.chunk.columns.columns

    def mark(self, bad: pl.Series, reason: str, detail: Callable[[int], str]) -> None:
        for row in bad.fill_null(True).arg_true().to_list():
            self.faults.setdefault(row, (reason, detail(row)))

    def refuse(self, bad: pl.Series, reason: str, columns: tuple[str, ...], what: str) -> None:
        """Mark rows by their values in these columns."""

        def detail(row: int) -> str:
            values = [self.chunk.columns[c][row] for c in columns if self.has(c)]
            shown = " ".join(str(v) for v in values if v is not None)
            return f"{' + '.join(columns)} = {shown!r} {what}"

        self.mark(bad, reason, detail)

    def text(self, column: str, *, keep: str = "") -> pl.Series:
        """The column's values as text, stripped, "" for none. keep: a null word that is a value here."""
        if column in self._clean and not keep:
            return self._clean[column]
        raw = self.chunk.columns[column]
        text = (plain_text(raw) if raw.dtype != pl.String else raw).fill_null("")
        if text.str.contains(_UNUSUAL).any():
            text = text.str.replace_all(r"[\p{Z}\s]", " ").str.replace_all(r"[\p{Cc}\p{Cf}]", "")
        text = text.str.strip_chars(f" {self.layout.file.strip}")
        nulls = [word for word in self._nulls if word and word != keep]
        if nulls:
            text = text.set(text.str.to_lowercase().is_in(nulls), "")
        if not keep:
            self._clean[column] = text
        return text

    def values(self, column: str) -> pl.Series:
        """The column with its type if it has one; text is cleaned, and null for none."""
        raw = self.chunk.columns[column]
        if raw.dtype != pl.String:
            return raw
        text = self.text(column)
        return text.set(text == "", None)


def plain_text(raw: pl.Series) -> pl.Series:
    """Typed values as text: whole floats without a point, as IDs are written. Floats of 2^53 and more
    keep an exponent.
    """
    if not raw.dtype.is_float():
        return raw.cast(pl.String)
    raw = raw.fill_nan(None)
    whole = (raw == raw.floor()) & (raw.abs() < 2**53)
    integer = raw.set(~whole.fill_null(False), None).cast(pl.Int64).cast(pl.String)
    return integer.zip_with(whole.fill_null(False), raw.map_elements(repr, return_dtype=pl.String))


def decode(chunk: Chunk, layout: Layout, first_row: int) -> Decoded:
    """The chunk's usable rows, and the others with the reason. first_row: the number of its first data row in the whole
    dataset minus that in its file.
    """
    rows = _Rows(chunk, layout)
    times = _times(rows, first_row)
    amounts, currency, direction = _amounts(rows)
    columns = {
        "transaction_id": _field(rows, "transaction_id", first_row),
        "account_id": _account(rows, times),
        "amount": amounts,
        "occurred_at": times,
    }
    for name in OPTIONAL_TEXT:
        if name in layout.columns or name in layout.constants:
            columns[name] = _field(rows, name, first_row)
    if currency is not None:
        known = columns.get("currency", pl.Series([""]).new_from_index(0, rows.size))
        columns["currency"] = currency.zip_with(currency != "", known)
    columns["is_fraud"] = _labels(rows)
    columns["scenario"] = _scenario(rows)
    for name, column in layout.attributes.items():
        if rows.has(column):
            columns[ATTRIBUTE + name] = _attribute(rows, column)
    if direction is not None:
        columns[ATTRIBUTE + DIRECTION] = direction
    columns["file"] = pl.Series([chunk.part.name]).new_from_index(0, rows.size)
    columns["line"] = pl.Series(chunk.lines)
    table = pl.DataFrame([series.alias(name) for name, series in columns.items()])
    if not rows.faults:
        return Decoded(table, chunk.bad)
    bad = [
        BadRow(chunk.part.name, chunk.part.unit, int(chunk.lines[r]), *why) for r, why in sorted(rows.faults.items())
    ]
    keep = pl.Series([True]).new_from_index(0, rows.size).scatter(list(rows.faults), False)
    return Decoded(table.filter(keep), sorted([*chunk.bad, *bad], key=lambda row: row.line))


def _times(rows: _Rows, first_row: int) -> pl.Series:
    form = rows.layout.time
    if not form.columns:
        numbers_ = pl.Series(rows.chunk.rows + first_row)
        return (numbers_ * form.every_s * 1_000).round().cast(pl.Int64) + form.origin
    times = timestamps.parse([rows.values(column) for column in form.columns], form)
    rows.refuse(times.is_null(), "bad_time", form.columns, f"is not a time ([time] format {' or '.join(form.formats)})")
    return times


def _amounts(rows: _Rows) -> tuple[pl.Series, pl.Series | None, pl.Series | None]:
    """(amounts, currencies in them or None, directions or None)."""
    money, form = rows.layout.money, rows.layout.numbers
    how = "is not an amount"
    if not (form.decimal == "." and not form.thousands):
        how += f" ([numbers] decimal {form.decimal!r}, thousands {form.thousands!r})"
    if money.debit is not None and money.credit is not None:
        pair = [rows.values(column) for column in (money.debit, money.credit)]
        (debit, unit), (credit, unit2) = (numbers.parse_money(v, form, currency=money.currency) for v in pair)
        for name, given, read in zip((money.debit, money.credit), pair, (debit, credit), strict=True):
            rows.refuse(given.is_not_null() & read.is_null(), "bad_amount", (name,), how)
        empty = debit.is_null() & credit.is_null()
        rows.refuse(empty, "bad_amount", (money.debit, money.credit), "is not an amount: both are empty")
        both = (debit.fill_null(0.0) != 0.0) & (credit.fill_null(0.0) != 0.0)
        rows.refuse(both, "bad_amount", (money.debit, money.credit), "is not an amount: both are filled")
        from_credit = (credit.fill_null(0.0) != 0.0) | debit.is_null()
        amounts = _divided(credit.zip_with(from_credit, debit).abs(), money.divide)
        if unit is not None and unit2 is not None:
            unit = unit2.fill_null("").zip_with(from_credit, unit.fill_null(""))
        return amounts, unit, _directions(from_credit)
    column = rows.layout.columns["amount"]
    assert isinstance(column, str)
    amounts, unit = numbers.parse_money(rows.values(column), form, currency=money.currency)
    rows.refuse(amounts.is_null(), "bad_amount", (column,), how)
    if unit is not None:
        unit = unit.fill_null("")
    negative = amounts < 0.0
    if money.negative == "reject":
        what = "is negative; [amount] negative says whether that is a payment or a refund"
        rows.refuse(negative.fill_null(False), "negative_amount", (column,), what)
        return _divided(amounts, money.divide), unit, None
    credit_is = negative if money.negative == "refund" else ~negative
    return _divided(amounts.abs(), money.divide), unit, _directions(credit_is.fill_null(False))


def _divided(amounts: pl.Series, by: float) -> pl.Series:
    """Correctly rounded; polars would multiply by the reciprocal. Nulls become NaN: their rows are already marked."""
    return amounts if by == 1.0 else pl.Series(amounts.to_numpy() / by)


def _directions(credit: pl.Series) -> pl.Series:
    return pl.select(pl.when(credit).then(pl.lit("credit")).otherwise(pl.lit("debit"))).to_series()


def _account(rows: _Rows, times: pl.Series) -> pl.Series:
    account = _field(rows, "account_id", 0)
    column = rows.layout.first_seen
    if column is None or not rows.has(column):
        return account
    since = numbers.parse(rows.values(column), rows.layout.numbers)
    day = (times - rows.layout.time.origin) // DAY_MS
    first = (day - since).floor().cast(pl.Int64, strict=False).cast(pl.String).fill_null("")
    return pl.select(pl.concat_str([account, first], separator="-")).to_series()


def _field(rows: _Rows, name: str, first_row: int) -> pl.Series:
    """One of our text fields, "" if the file has no value."""
    layout = rows.layout
    columns = layout.columns.get(name)
    present = [c for c in ((columns,) if isinstance(columns, str) else columns or ()) if rows.has(c)]
    if not present:
        text = pl.Series([layout.constants.get(name, "")]).new_from_index(0, rows.size)
        if name == "transaction_id":
            text = f"{layout.name}-" + pl.Series(rows.chunk.rows + first_row).cast(pl.String)
        return (layout.prefixes.get(name, "") + text).set(text == "", "")
    texts = [_identifier(rows, name, column) for column in present]
    text = texts[0]
    if len(texts) > 1:
        empty = pl.select(pl.all_horizontal([each == "" for each in texts])).to_series()
        text = pl.select(pl.concat_str(texts, separator="-")).to_series().set(empty, "")
    if name in layout.values:
        text = text.replace(layout.values[name])
    if name in ("transaction_id", "account_id"):
        rows.refuse(text == "", "empty_id", tuple(present), f"is not a usable {name}")
    if name in layout.prefixes:
        text = (layout.prefixes[name] + text).set(text == "", "")
    return text


def _identifier(rows: _Rows, name: str, column: str) -> pl.Series:
    """A text field of one column; IDs that lost digits are refused unless the mapping takes them as they are."""
    text = rows.text(column, keep="na" if name == "country" else "")
    if name not in ID_FIELDS:
        return text
    if name in rows.layout.whole:
        text = text.str.replace(WHOLE, "${1}")
    scientific = text.str.contains(SCIENTIFIC)
    if not scientific.any():
        return text
    exact = text.filter(scientific).unique()
    written = {value: whole for value in exact.to_list() if (whole := exact_integer(value)) is not None}
    text = text.replace(written)
    if name not in rows.layout.lossy:
        lost = text.str.contains(SCIENTIFIC)
        what = f"has lost digits: as {name} it would mix up accounts; export the column as text, or see [ids] lossy"
        rows.refuse(lost, "digits_lost", (column,), what)
    return text


def exact_integer(text: str) -> str | None:
    """The integer that a number like 1.234E+03 stands for; None if it has fewer digits than its exponent."""
    mantissa, exponent = text.lower().split("e")
    whole, _, digits = mantissa.partition(".")
    power = int(exponent)
    return (whole + digits[:power]) if len(digits) >= power and not digits[power:].strip("0") else None


def _attribute(rows: _Rows, column: str) -> pl.Series:
    raw = rows.chunk.columns[column]
    if raw.dtype.is_numeric():
        values = raw.cast(pl.Float64, strict=False)
        return pl.select(pl.when(values.is_finite()).then(values)).to_series()
    return rows.values(column) if raw.dtype == pl.String else raw.cast(pl.String)


def _labels(rows: _Rows) -> pl.Series:
    label = rows.layout.label
    if label is None or not rows.has(label.column):
        return pl.Series([None], dtype=pl.Boolean).new_from_index(0, rows.size)
    text = rows.text(label.column)
    fraud = {label_key(word) for word in label.fraud}
    legitimate = {label_key(word) for word in label.legitimate} - fraud
    unlabelled = {"", *(label_key(word) for word in label.unlabelled)} - fraud - legitimate
    means: dict[str, bool | None] = {}
    unknown: list[str] = []
    for value in text.unique().to_list():
        key = label_key(value)
        means[value] = True if key in fraud else False if key in legitimate else None
        if means[value] is None and key not in unlabelled:
            unknown.append(value)
    if unknown:
        what = "is neither fraud nor legitimate nor unlabelled; [label] says which values are"
        rows.refuse(text.is_in(unknown), "unknown_label", (label.column,), what)
    return text.replace_strict(means, default=None, return_dtype=pl.Boolean)


def _scenario(rows: _Rows) -> pl.Series:
    column = rows.layout.scenario
    if column is None or not rows.has(column):
        return pl.Series([""]).new_from_index(0, rows.size)
    return rows.text(column).replace(rows.layout.scenario_values)
