"""Mapping files: a layout as TOML that a person can edit. docs/datasets.md has a complete one; no data is read here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from core.errors import BadInput
from core.times import parse_iso
from core.toml_text import parse_toml
from sources.datasets.layout import FileFormat, Join, Label, Layout, Money
from sources.datasets.numbers import NumberFormat
from sources.datasets.timestamps import TimeFormat
from sources.datasets.words import FRAUD_WORDS, LEGITIMATE_WORDS, UNLABELLED

KINDS = ("csv", "jsonl", "json", "xlsx", "parquet")


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _FileTable(_Strict, frozen=True):
    format: str | None = None
    encoding: str | None = None
    separator: str | None = None
    quote: str = '"'
    escape: str | None = None
    header: int | None = None
    footer: int = 0
    sheet: str | None = None
    null: tuple[str, ...] = ()
    strip: str = ""


class _Numbers(_Strict, frozen=True):
    decimal: str = "."
    thousands: str = ""


class _Amount(_Strict, frozen=True):
    debit: str | None = None
    credit: str | None = None
    negative: str = "reject"
    divide: float = 1.0
    currency: bool = False


class _Time(_Strict, frozen=True):
    column: str | None = None
    columns: tuple[str, ...] = ()
    format: str | tuple[str, ...] = "iso"
    origin: str = "1970-01-01T00:00:00Z"
    zone: str = "UTC"
    repeated: str = "first"
    spread: bool = False
    every_s: float = 1.0


class _Label(_Strict, frozen=True):
    column: str
    fraud: tuple[str, ...] = FRAUD_WORDS
    legitimate: tuple[str, ...] = LEGITIMATE_WORDS
    unlabelled: tuple[str, ...] = UNLABELLED


class _Scenario(_Strict, frozen=True):
    column: str
    values: dict[str, str] = {}


class _Ids(_Strict, frozen=True):
    whole: tuple[str, ...] = ()
    lossy: tuple[str, ...] = ()
    first_seen: str | None = None


class _Join(_Strict, frozen=True):
    main: str
    file: str
    on: str
    columns: tuple[str, ...]


class _File(_Strict, frozen=True):
    columns: dict[str, str | tuple[str, ...]]
    time: _Time
    name: str = ""
    file: _FileTable = _FileTable()
    numbers: _Numbers = _Numbers()
    amount: _Amount = _Amount()
    label: _Label | None = None
    scenario: _Scenario | None = None
    ids: _Ids = _Ids()
    join: _Join | None = None
    constants: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {}
    attributes: dict[str, str] = {}


def load(path: Path) -> Layout:
    """The layout in a TOML mapping file. Raises BadInput, which names the file and what is wrong with it."""
    try:
        return parse(path.read_text(encoding="utf-8-sig"), path.stem)
    except (OSError, UnicodeDecodeError, BadInput) as error:
        raise BadInput(f"mapping file {path}: {error}") from error


def parse(text: str, name: str) -> Layout:
    """The layout in a mapping's text; `name` if it states none. Raises BadInput."""
    try:
        content: dict[str, Any] = parse_toml(text)
        return _layout(msgspec.convert(content, _File), name)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadInput(str(error)) from error


def _layout(file: _File, name: str) -> Layout:
    t, label = file.time, file.label
    if t.column is not None and t.columns:
        raise BadInput("[time] has column or columns, not both")
    return Layout(
        name=file.name or name,
        columns=file.columns,
        time=TimeFormat(
            columns=(t.column,) if t.column is not None else t.columns,
            formats=(t.format,) if isinstance(t.format, str) else t.format,
            origin=parse_iso(t.origin),
            zone=t.zone,
            repeated=t.repeated,
            spread=t.spread,
            every_s=t.every_s,
        ),
        file=_file_format(file.file),
        numbers=_numbers(file.numbers),
        money=Money(**msgspec.structs.asdict(file.amount)),
        label=Label(label.column, label.fraud, label.legitimate, label.unlabelled) if label else None,
        scenario=file.scenario.column if file.scenario else None,
        scenario_values=file.scenario.values if file.scenario else {},
        constants=file.constants,
        prefixes=file.prefixes,
        values=file.values,
        attributes=file.attributes,
        whole=file.ids.whole,
        lossy=file.ids.lossy,
        first_seen=file.ids.first_seen,
        join=Join(**msgspec.structs.asdict(file.join)) if file.join else None,
    )


def _file_format(file: _FileTable) -> FileFormat:
    if file.format is not None and file.format not in KINDS:
        raise BadInput(f"[file] format is {', '.join(KINDS)}, not {file.format!r}")
    for key, value in (("separator", file.separator), ("quote", file.quote), ("escape", file.escape)):
        if value is not None and len(value) != 1 and (key, value) != ("quote", ""):
            raise BadInput(f"[file] {key} is one character, not {value!r}")
    if (file.header is not None and file.header < 0) or file.footer < 0:
        raise BadInput("[file] header and footer are numbers of lines, from 0")
    return FileFormat(
        kind=file.format,
        encoding=file.encoding,
        separator=file.separator,
        quote=file.quote,
        escape=file.escape,
        header=file.header,
        footer=file.footer,
        sheet=file.sheet,
        nulls=file.null,
        strip=file.strip,
    )


def _numbers(table: _Numbers) -> NumberFormat:
    if table.decimal not in (".", ","):
        raise BadInput(f'[numbers] decimal is "." or ",", not {table.decimal!r}')
    if table.thousands not in ("", ",", ".", "'", " ") or table.thousands == table.decimal:
        raise BadInput(
            f'[numbers] thousands is "", ",", ".", "\'" or " ", and not the decimal mark; not {table.thousands!r}'
        )
    return NumberFormat(table.decimal, table.thousands)
