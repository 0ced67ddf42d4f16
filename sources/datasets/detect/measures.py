"""One pass over all rows of the proposed columns: number formats, times, labels, IDs and null words, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from sources.datasets import numbers
from sources.datasets.chunks import Chunk
from sources.datasets.decode import SCIENTIFIC, WHOLE, exact_integer, plain_text
from sources.datasets.detect.dates import DateCounts
from sources.datasets.detect.questions import Answers, Question
from sources.datasets.layout import ID_FIELDS
from sources.datasets.numbers import NumberFormat
from sources.datasets.words import FRAUD_WORDS, LEGITIMATE_WORDS, NULL_WORDS, UNLABELLED, label_key

FORMS = tuple(
    NumberFormat(decimal, thousands)
    for decimal, thousands in (
        (".", ""),
        (",", ""),
        (".", ","),
        (",", "."),
        (".", " "),
        (",", " "),
        (".", "'"),
        (",", "'"),
    )
)
_VALUES_MAX = 10_000


@dataclass
class MoneyCounts:
    """How many amounts fit each form, what they add up to under it, and what is beside the digits."""

    given: int = 0
    negative: int = 0
    whole: int = 0
    texts: bool = False
    fits: Counter[NumberFormat] = field(default_factory=Counter)
    sums: dict[NumberFormat, float] = field(default_factory=lambda: dict.fromkeys(FORMS, 0.0))
    units: Counter[str] = field(default_factory=Counter)

    def add(self, values: pl.Series) -> None:
        """More amounts: stripped, null for none."""
        values = values.drop_nulls()
        self.given += len(values)
        if values.dtype != pl.String:
            amounts = numbers.parse(values, FORMS[0])
            self.negative += int((amounts < 0).sum())
            self.fits[FORMS[0]] += len(values)
            self.units[""] += len(values)
            self.whole += int((amounts == amounts.floor()).sum())
            return
        self.texts = True
        if values.str.contains(r"^-?[0-9]+(?:\.(?:[0-9]{1,2}|[0-9]{4,}))?$").all():
            self._plain(values)
            return
        parts = numbers.split(values)
        for form in FORMS:
            good = parts.amounts(form).drop_nulls()
            self.fits[form] += len(good)
            self.sums[form] += float(good.abs().sum())
        self.whole += int(values.str.contains(r"^-?[0-9]+$").sum())
        self.negative += int((parts.sign < 0).sum())
        for unit, count in parts.unit.value_counts().iter_rows():
            self.units[unit] += count

    def _plain(self, values: pl.Series) -> None:
        """Amounts with a decimal point and nothing else, or no mark at all, which fits every form."""
        amounts = values.cast(pl.Float64)
        unmarked = ~values.str.contains(".", literal=True)
        for form in FORMS:
            fitting = amounts if form.decimal == "." else amounts.filter(unmarked)
            self.fits[form] += len(fitting)
            self.sums[form] += float(fitting.abs().sum())
        self.whole += int(unmarked.sum())
        self.negative += int((amounts < 0).sum())
        self.units[""] += len(values)

    def form(self, answers: Answers, column: str, *, plain: bool) -> tuple[NumberFormat, int]:
        """(the form that fits most, how many it does not fit). plain: numbers come from a format with a decimal point.
        Raises Question if two forms fit equally and mean different sums.
        """
        forms = [form for form in FORMS if answers.decimal in (None, form.decimal)]
        best = max(self.fits[form] for form in forms)
        good = [form for form in forms if self.fits[form] == best]
        if plain and FORMS[0] in good:
            good = [FORMS[0]]
        different = [
            form for form in good if abs(self.sums[form] - self.sums[good[0]]) > 1e-6 * abs(self.sums[good[0]])
        ]
        if different and self.given:
            raise Question(
                f"the amounts in {column} can be read with a decimal {good[0].decimal!r} "
                f"(sum {self.sums[good[0]]:,.2f}) and with a decimal {different[0].decimal!r} "
                f"(sum {self.sums[different[0]]:,.2f})",
                "decimal",
                "--decimal . or --decimal ,",
                (".", ","),
            )
        return good[0], self.given - best


@dataclass
class IdCounts:
    """What an ID column holds."""

    given: int = 0
    floats: int = 0
    scientific: Counter[str] = field(default_factory=Counter)
    seen: list[pl.Series] = field(default_factory=list)

    def add(self, values: pl.Series, *, keep: bool) -> None:
        """More IDs. keep: remember them, to see which repeat."""
        text = (values if values.dtype == pl.String else plain_text(values)).drop_nulls()
        self.given += len(text)
        self.floats += int(text.str.contains(WHOLE).sum())
        odd = text.filter(text.str.contains(SCIENTIFIC))
        if len(odd):
            self.scientific.update(odd.to_list())
        if keep:
            self.seen.append(text)

    @property
    def lost(self) -> dict[str, int]:
        """Values that lost digits, and how many rows have each."""
        return {value: count for value, count in self.scientific.items() if exact_integer(value) is None}

    @property
    def distinct(self) -> int:
        """How many different IDs; only if they were kept."""
        return pl.concat(self.seen).n_unique() if self.seen else 0


class Measures:
    """All counts of one file. Feed it chunks of the columns in question."""

    def __init__(self, fields: dict[str, str], time: Sequence[str]) -> None:
        self.fields = fields
        self.rows = self.bad = 0
        self.money = {name: MoneyCounts() for name in ("amount", "debit", "credit") if name in fields}
        self.ids = {name: IdCounts() for name in ID_FIELDS if name in fields}
        self.labels: Counter[str] = Counter()
        self.nulls: Counter[str] = Counter()
        self.dates = DateCounts(time)
        self.empty: Counter[str] = Counter()

    def add(self, chunk: Chunk, strip: str) -> None:
        """Count one chunk."""
        self.rows += chunk.columns.height
        self.bad += len(chunk.bad)
        given: dict[str, pl.Series] = {}
        for name in chunk.columns.columns:
            given[name] = self._given(chunk.columns[name], strip, count_nulls=name != self.fields.get("label"))
        for name, money in self.money.items():
            money.add(given[self.fields[name]])
        for name, ids in self.ids.items():
            ids.add(given[self.fields[name]], keep=name == "transaction_id")
        for name, column in self.fields.items():
            self.empty[name] += given[column].null_count()
        label = self.fields.get("label")
        if label is not None and len(self.labels) <= _VALUES_MAX:
            raw = chunk.columns[label].cast(pl.String).fill_null("").str.strip_chars(f" \t\u00a0{strip}")
            for value, count in raw.value_counts().iter_rows():
                self.labels[value] += count
        if self.dates.columns:
            self.dates.add([given[name] for name in self.dates.columns])

    def _given(self, raw: pl.Series, strip: str, *, count_nulls: bool) -> pl.Series:
        """The column's values, text stripped, null where there is nothing or a null word."""
        if raw.dtype != pl.String:
            return raw
        text = raw.fill_null("").str.replace_all(r"[\p{Z}\s]", " ").str.strip_chars(f" {strip}")
        words = text.filter(text.str.to_lowercase().is_in(NULL_WORDS) & (text != ""))
        if len(words) and count_nulls:
            self.nulls.update(words.to_list())
        return text.set(text.str.to_lowercase().is_in(NULL_WORDS), None)


def label_meanings(labels: Counter[str], answers: Answers) -> tuple[dict[str, bool | None], list[str]]:
    """(value → fraud, legitimate or None, values whose meaning is not known). Values of the answers come first."""
    said = {
        **{label_key(value): None for value in answers.unlabelled},
        **{label_key(value): False for value in answers.legitimate},
        **{label_key(value): True for value in answers.fraud},
    }
    fraud, legitimate = {label_key(w) for w in FRAUD_WORDS}, {label_key(w) for w in LEGITIMATE_WORDS}
    keys = {label_key(value) for value in labels}
    if "f" in keys and keys & {"t", "true"}:
        legitimate |= {"f"}
    elif "f" in keys and keys & {"l", "g", "n", "0"}:
        fraud |= {"f"}
        legitimate |= {"l", "g"}
    means: dict[str, bool | None] = {}
    unknown: list[str] = []
    for value in labels:
        key = label_key(value)
        if key in said:
            means[value] = said[key]
        else:
            means[value] = True if key in fraud else False if key in legitimate else None
            if means[value] is None and key not in UNLABELLED:
                unknown.append(value)
    return means, unknown
