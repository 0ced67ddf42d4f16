"""A stream run through the edge before it is sent: what would be rejected, repeated, or is easily mistaken.

`rehearse` decodes every message of a source with the worker's own validation, and counts rejects by reason, repeated
IDs, and values that differ only in spelling. `accepted` is the stream without the messages that would be rejected.

Held are the IDs and 24 bytes a row, and the distinct accounts and merchants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.canonical import canonical
from core.errors import BadInput
from core.events import ListKind
from core.hiding import masked
from core.text import visible
from core.validation import decode_feedback, decode_transaction
from sources.record import Record
from sources.source import Source, transaction_records, verdict_records

EXAMPLES = 5
SPELLED: dict[str, ListKind] = {"account_id": "account", "merchant_id": "merchant"}
"""Columns whose values are compared in canonical form: spellings of one account are different accounts to the edge."""


class Example(msgspec.Struct, frozen=True):
    """One row: where it stands ("data.csv: line 7", "" for a stream that is no file), and what is the matter."""

    where: str
    detail: str


class Group(msgspec.Struct):
    """Rows with the same finding: how many, and the first EXAMPLES."""

    count: int = 0
    examples: list[Example] = []

    def add(self, where: str, detail: str, count: int = 1) -> None:
        """Count more rows of this kind."""
        self.count += count
        if len(self.examples) < EXAMPLES:
            self.examples.append(Example(where, detail))


class EdgeReport(msgspec.Struct, kw_only=True):
    """What the edge would do with a source.

    rows: transactions; verdicts: messages of the feedback topic. rejects: messages by reason code (docs/bad-input.md).
    duplicates: rows that repeat an ID of their account with equal content, which are rejected as well. conflicts: such
    rows with other content, which are scored and raise an alert. shared_ids: IDs of several accounts. spellings: values
    by column that differ from another only in case, white space or the form of characters.
    """

    rows: int = 0
    verdicts: int = 0
    rejects: dict[str, Group] = {}
    duplicates: Group = msgspec.field(default_factory=Group)
    conflicts: Group = msgspec.field(default_factory=Group)
    shared_ids: Group = msgspec.field(default_factory=Group)
    spellings: dict[str, Group] = {}

    @property
    def rejected(self) -> int:
        """Messages with a reject reason."""
        return sum(group.count for group in self.rejects.values())

    def refusal(self) -> str:
        """Why the stream is not fit to be sent, in one line: reasons with counts, and the first rows."""
        reasons = "; ".join(
            f"{group.count:,} {reason} (first: {_shown(group.examples[0])})" for reason, group in self.rejects.items()
        )
        total = self.rows + self.verdicts
        return f"{self.rejected:,} of {total:,} messages would be rejected at the edge: {reasons}"

    def lines(self) -> list[str]:
        """The report as text, one finding a line."""
        total = self.rows + self.verdicts
        out = [f"edge: {total - self.rejected:,} of {total:,} messages would be accepted, {self.rejected:,} rejected"]
        for reason, group in self.rejects.items():
            out += _told(group, f"rejected, {reason}")
        out += _told(self.duplicates, "repeats an earlier row, and is rejected as duplicate_transaction")
        out += _told(self.conflicts, "has the ID of an earlier row of its account with other content: an alert")
        out += _told(self.shared_ids, "transaction ID of several accounts")
        for column, group in self.spellings.items():
            out += _told(group, f"{column} differs from another only in spelling")
        return out


def _told(group: Group, what: str) -> list[str]:
    if not group.count:
        return []
    return [f"{group.count:,} × {what}", *(f"    {_shown(example)}" for example in group.examples)]


def _shown(example: Example) -> str:
    detail = masked(example.detail)
    return f"{example.where}: {detail}" if example.where else detail


def rehearse(source: Source, on_progress: Callable[[int], None] | None = None) -> EdgeReport:
    """Run the whole source through the edge; `on_progress` is called with the number of rows so far."""
    report = EdgeReport()
    seen = _Seen()
    for table in source.tables():
        if table.is_empty():
            continue
        places = _Places.of(table)
        records = transaction_records(table)
        for row, record in enumerate(records):
            if (error := refused(record)) is not None:
                reason = error.reason or "bad_input"
                report.rejects.setdefault(reason, Group()).add(places.of_row(row), visible(str(error)))
        for record in verdict_records(table, source.labels):
            report.verdicts += 1
            if (error := refused(record)) is not None:
                reason = error.reason or "bad_input"
                report.rejects.setdefault(reason, Group()).add("", f"verdict on {record.key}: {visible(str(error))}")
        seen.add(table, places, records)
        report.rows += table.height
        if on_progress is not None:
            on_progress(report.rows)
    seen.judge(report)
    return report


def refused(record: Record) -> BadInput | None:
    """Why the edge would reject a message; None if it would accept it."""
    decode = decode_transaction if record.topic == "transactions" else decode_feedback
    try:
        decode(record.value, record.key.encode(), record.timestamp)
    except BadInput as error:
        return error
    return None


def accepted(chunks: Iterable[list[Record]]) -> Iterator[list[Record]]:
    """The stream without the messages that the edge would reject."""
    for chunk in chunks:
        yield [record for record in chunk if refused(record) is None]


class _Places(NamedTuple):
    """Where the rows of a table stand: file names and lines, or None for a stream that is no file."""

    files: list[str] | None
    lines: list[int] | None

    @classmethod
    def of(cls, table: pl.DataFrame) -> _Places:
        if "line" not in table.columns:
            return cls(None, None)
        return cls(table["file"].to_list(), table["line"].to_list())

    def of_row(self, row: int) -> str:
        if self.files is None or self.lines is None:
            return ""
        return f"{self.files[row]}: line {self.lines[row]:,}"


class _Seen:
    """Hashes of every row's ID, of its account with its ID, and of its content; and spellings by canonical form."""

    def __init__(self) -> None:
        self._ids: list[NDArray[np.uint64]] = []
        self._keys: list[NDArray[np.uint64]] = []
        self._contents: list[NDArray[np.uint64]] = []
        self._places: list[_Places] = []
        self._texts: list[pl.DataFrame] = []
        self._spellings: dict[str, dict[str, list[str]]] = {column: {} for column in SPELLED}
        self._known: dict[str, set[str]] = {column: set() for column in SPELLED}

    def add(self, table: pl.DataFrame, places: _Places, records: list[Record]) -> None:
        """Add the rows of a table, with their messages."""
        names = table.select("account_id", "transaction_id")
        self._ids.append(names.select("transaction_id").hash_rows(seed=1).to_numpy())
        self._keys.append(names.hash_rows(seed=2).to_numpy())
        self._contents.append(np.array([_digest(r.value) for r in records], dtype=np.uint64))
        self._places.append(places)
        self._texts.append(names)
        for column, kind in SPELLED.items():
            if column in table.columns:
                known = self._known[column]
                for text in table[column].unique(maintain_order=True).to_list():
                    if text and text not in known:
                        known.add(text)
                        self._spellings[column].setdefault(canonical(kind, text), []).append(text)

    def judge(self, report: EdgeReport) -> None:
        """Add duplicates, conflicts, shared IDs and spellings to the report."""
        for column, forms in self._spellings.items():
            for texts in forms.values():
                if len(texts) > 1:
                    shown = ", ".join(repr(visible(text)) for text in texts[:4])
                    report.spellings.setdefault(column, Group()).add("", shown, len(texts) - 1)
        if not self._keys:
            return
        keys, ids, contents = (np.concatenate(parts) for parts in (self._keys, self._ids, self._contents))
        order = np.argsort(keys, kind="stable")
        first = order[np.flatnonzero(np.append(True, np.diff(keys[order]) != 0))]
        repeated = np.ones(len(keys), dtype=np.bool_)
        repeated[first] = False
        held: dict[int, set[int]] = {}
        wanted = set(keys[repeated].tolist())
        for row in np.flatnonzero(np.isin(keys, list(wanted))).tolist() if wanted else ():
            known = held.setdefault(int(keys[row]), set())
            if repeated[row]:
                group = report.duplicates if int(contents[row]) in known else report.conflicts
                group.add(*self._row(row))
            known.add(int(contents[row]))
        self._shared(keys[first], ids[first], first, report)

    def _shared(
        self, keys: NDArray[np.uint64], ids: NDArray[np.uint64], rows: NDArray[np.int64], report: EdgeReport
    ) -> None:
        _, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
        several = np.flatnonzero(counts > 1)
        report.shared_ids.count = len(several)
        for number in several[:EXAMPLES].tolist():
            row = int(rows[inverse == number].min())
            report.shared_ids.examples.append(Example(*self._row(row)))

    def _row(self, row: int) -> tuple[str, str]:
        for places, names in zip(self._places, self._texts, strict=True):
            if row < names.height:
                account, transaction = names.row(row)
                return places.of_row(row), f"transaction {visible(transaction)} of account {visible(account)}"
            row -= names.height
        raise IndexError(row)


def _digest(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")
