"""What a dataset's columns mean: a `Layout`, and how to read one from a TOML file. No data is read here.

A mapping file (docs/datasets.md has a complete one):

    name = "mybank"
    [columns]                 # our field = their column
    account_id = "customer"
    amount = "amt"
    [time]                    # column, and format: "iso", a strftime pattern, "epoch_s", "epoch_ms" or
    column = "when"           # "seconds" | "hours" | "days" since `origin`
    format = "%d.%m.%Y %H:%M"
    [label]
    column = "is_fraud"
    fraud = ["1", "yes"]
    [constants]               # our field = value
    currency = "EUR"
    [attributes]              # attribute = their column
    age = "customer_age"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from core.errors import BadInput
from core.times import DAY_MS, HOUR_MS, SECOND_MS, parse_iso
from sources.source import OPTIONAL_TEXT

COLUMN_FIELDS = ("transaction_id", "account_id", "amount", *OPTIONAL_TEXT)
TIME_UNITS_MS = {"seconds": SECOND_MS, "hours": HOUR_MS, "days": DAY_MS}
FRAUD_VALUES = ("1", "1.0", "true", "True", "yes")


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read one kind of dataset. Columns named here must exist; others are not read.

    columns: our field → their column; account_id may be missing (then every row has `constants["account_id"]`), and so
    may transaction_id (then it is `<name>-<row of the file>`). prefixes: our field → text before the value.
    values: our field → {their value: ours}; other values are kept. time_format: "iso", "epoch_s", "epoch_ms", a
    strftime pattern (UTC), or a unit of TIME_UNITS_MS counted from `origin` (epoch ms). spread: spread the rows of a
    time step evenly over it, in file order. label: their column, None if not labelled; fraud_values: its values that
    mean fraud. strip: characters to strip from both ends of every text (BankSim quotes its values).
    """

    name: str
    columns: dict[str, str]
    time_column: str
    time_format: str
    origin: int = 0
    spread: bool = False
    label: str | None = None
    fraud_values: tuple[str, ...] = FRAUD_VALUES
    scenario: str | None = None
    scenario_values: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    strip: str = ""

    def __post_init__(self) -> None:
        for group, allowed in (
            (self.columns, COLUMN_FIELDS),
            (self.constants, ("account_id", *OPTIONAL_TEXT)),
            (self.prefixes, ("transaction_id", "account_id", *OPTIONAL_TEXT)),
            (self.values, OPTIONAL_TEXT),
        ):
            unknown = sorted(set(group) - set(allowed))
            if unknown:
                raise BadInput(
                    f"mapping {self.name!r}: unknown field: {', '.join(unknown)}; known: {', '.join(allowed)}"
                )
        if "amount" not in self.columns:
            raise BadInput(f"mapping {self.name!r}: [columns] must name the column for amount")
        if "account_id" not in self.columns and "account_id" not in self.constants:
            raise BadInput(f"mapping {self.name!r}: account_id needs a column or a constant")
        if self.time_format not in ("iso", "epoch_s", "epoch_ms", *TIME_UNITS_MS) and "%" not in self.time_format:
            raise BadInput(
                f"mapping {self.name!r}: unknown time format {self.time_format!r}: use iso, epoch_s, epoch_ms, "
                f"{', '.join(TIME_UNITS_MS)}, or a pattern such as %Y-%m-%d %H:%M:%S"
            )

    @property
    def needed(self) -> tuple[str, ...]:
        """The distinct columns to read, in a fixed order."""
        named = [*self.columns.values(), self.time_column, self.label, self.scenario, *self.attributes.values()]
        return tuple(dict.fromkeys(name for name in named if name is not None))


class _Time(msgspec.Struct, forbid_unknown_fields=True):
    column: str
    format: str = "iso"
    origin: str = "1970-01-01T00:00:00Z"
    spread: bool = False


class _Label(msgspec.Struct, forbid_unknown_fields=True):
    column: str
    fraud: tuple[str, ...] = FRAUD_VALUES


class _Scenario(msgspec.Struct, forbid_unknown_fields=True):
    column: str
    values: dict[str, str] = {}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    columns: dict[str, str]
    time: _Time
    name: str = ""
    label: _Label | None = None
    scenario: _Scenario | None = None
    constants: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {}
    attributes: dict[str, str] = {}


def load(path: Path) -> Layout:
    """The layout in a TOML mapping file. Raises BadInput, which names the file and what is wrong with it."""
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        file = msgspec.convert(content, _File)
        return Layout(
            name=file.name or path.stem,
            columns=file.columns,
            time_column=file.time.column,
            time_format=file.time.format,
            origin=parse_iso(file.time.origin),
            spread=file.time.spread,
            label=file.label.column if file.label else None,
            fraud_values=file.label.fraud if file.label else FRAUD_VALUES,
            scenario=file.scenario.column if file.scenario else None,
            scenario_values=file.scenario.values if file.scenario else {},
            constants=file.constants,
            prefixes=file.prefixes,
            values=file.values,
            attributes=file.attributes,
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise BadInput(f"mapping file {path}: {error}") from error
