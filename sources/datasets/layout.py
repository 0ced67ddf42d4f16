"""What a dataset's columns mean: a `Layout`. No data is read here; docs/datasets.md describes every part for users."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.errors import BadInput
from core.times import DAY_MS, HOUR_MS, SECOND_MS
from sources.datasets.numbers import DOT, NumberFormat
from sources.datasets.timestamps import TimeFormat
from sources.datasets.words import FRAUD_WORDS, LEGITIMATE_WORDS, UNLABELLED, label_key
from sources.source import OPTIONAL_TEXT

COLUMN_FIELDS = ("transaction_id", "account_id", "amount", *OPTIONAL_TEXT)
ID_FIELDS = ("transaction_id", "account_id", "merchant_id", "device_id", "card_id")
TIME_UNITS_MS = {"seconds": SECOND_MS, "hours": HOUR_MS, "days": DAY_MS}
DIRECTION = "direction"
"""The attribute that says which way money went, where the file tells payments from refunds: debit or credit."""


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How a file is written. None: found out when it is opened.

    kind: csv, jsonl, json, xlsx or parquet. header: the line of the column names, 0 if there is none (columns are then
    `column_1`, `column_2`, …). footer: lines at the end that are not data. nulls: words that mean "no value" in any
    column, besides nothing at all. strip: characters to remove from both ends of every text.
    """

    kind: str | None = None
    encoding: str | None = None
    separator: str | None = None
    quote: str = '"'
    escape: str | None = None
    header: int | None = None
    footer: int = 0
    sheet: str | None = None
    nulls: tuple[str, ...] = ()
    strip: str = ""


@dataclass(frozen=True, slots=True)
class Money:
    """Where amounts are and what their signs mean.

    debit, credit: two columns instead of `columns["amount"]`; a row fills one of them. negative: what a negative amount
    is: "reject" (not valid), "payment" (then a positive one is money that came in) or "refund". If signs mean
    something, the size is sent and the attribute DIRECTION tells. divide: 100 for amounts in cents. currency: take the
    currency from the code or symbol in the amount.
    """

    debit: str | None = None
    credit: str | None = None
    negative: str = "reject"
    divide: float = 1.0
    currency: bool = False

    @property
    def signed(self) -> bool:
        """Whether rows tell payments from money that came back."""
        return self.negative != "reject" or self.credit is not None


@dataclass(frozen=True, slots=True)
class Label:
    """Which rows are fraud. Values are compared in any case, and as numbers if they are (`1.00` is `1`); values in
    `unlabelled`, null words and nothing at all are no label. Any other value is an error.
    """

    column: str
    fraud: tuple[str, ...] = FRAUD_WORDS
    legitimate: tuple[str, ...] = LEGITIMATE_WORDS
    unlabelled: tuple[str, ...] = UNLABELLED


@dataclass(frozen=True, slots=True)
class Join:
    """A second file, whose columns are looked up by the value of the column `on`. main: the first one, if the dataset's
    path is their folder.
    """

    main: str
    file: str
    on: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read one kind of dataset. Columns named here must exist unless they are in `optional`; others are not
    read.

    columns: our field → their column, or several that are joined by "-"; account_id may be missing (then every row has
    `constants["account_id"]`), and so may transaction_id (then it is `<name>-<row of the file>`). prefixes: our field →
    text before the value. values: our field → {their value: ours}; other values are kept. whole: fields whose `123.0`
    is `123`. lossy: fields taken as they are although they hold numbers like `2.7E+15`, which have lost digits.
    first_seen: column with the days since an account's first payment; the day of that payment becomes part of
    account_id. aliases: a column's other names.
    """

    name: str
    columns: dict[str, str | tuple[str, ...]]
    time: TimeFormat
    file: FileFormat = FileFormat()
    numbers: NumberFormat = DOT
    money: Money = Money()
    label: Label | None = None
    scenario: str | None = None
    scenario_values: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    lossy: tuple[str, ...] = ()
    first_seen: str | None = None
    join: Join | None = None
    optional: frozenset[str] = frozenset()
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for group, allowed in (
            (self.columns, COLUMN_FIELDS),
            (self.constants, ("account_id", *OPTIONAL_TEXT)),
            (self.prefixes, ("transaction_id", "account_id", *OPTIONAL_TEXT)),
            (self.values, OPTIONAL_TEXT),
            (self.whole, ID_FIELDS),
            (self.lossy, ID_FIELDS),
        ):
            unknown = sorted(set(group) - set(allowed))
            if unknown:
                raise self._wrong(f"unknown field: {', '.join(unknown)}; known: {', '.join(allowed)}")
        if isinstance(self.columns.get("amount"), tuple):
            raise self._wrong("amount is one column; use [amount] debit and credit for two")
        if ("amount" in self.columns) == (self.money.debit is not None or self.money.credit is not None):
            raise self._wrong("[columns] must name the column for amount, or [amount] must name debit and credit")
        if (self.money.debit is None) != (self.money.credit is None):
            raise self._wrong("[amount] debit and credit go together")
        if self.money.negative not in ("reject", "payment", "refund"):
            raise self._wrong(f"[amount] negative is reject, payment or refund, not {self.money.negative!r}")
        if not self.money.divide > 0:
            raise self._wrong(f"[amount] divide must be above 0, not {self.money.divide!r}")
        if self.money.signed and DIRECTION in self.attributes:
            raise self._wrong(f"the attribute {DIRECTION} is ours where signs mean something; name yours differently")
        if "account_id" not in self.columns and "account_id" not in self.constants:
            raise self._wrong("account_id needs a column or a constant")
        self._check_label()

    def _check_label(self) -> None:
        if self.label is None:
            return
        fraud = {label_key(word) for word in self.label.fraud}
        both = [word for word in self.label.legitimate if label_key(word) in fraud]
        if both and self.label.legitimate is not LEGITIMATE_WORDS:
            raise self._wrong(f"[label] {both[0]!r} is both fraud and legitimate")

    def _wrong(self, what: str) -> BadInput:
        return BadInput(f"mapping {self.name!r}: {what}")

    @property
    def needed(self) -> tuple[str, ...]:
        """The distinct columns to read from the file itself, in a fixed order."""
        named: list[str | None] = []
        for columns in self.columns.values():
            named += [columns] if isinstance(columns, str) else columns
        named += [self.money.debit, self.money.credit, *self.time.columns, self.label.column if self.label else None]
        named += [self.scenario, self.first_seen, *self.attributes.values(), self.join.on if self.join else None]
        joined = self.join.columns if self.join else ()
        return tuple(dict.fromkeys(name for name in named if name is not None and name not in joined))
