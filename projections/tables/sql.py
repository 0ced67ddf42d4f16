"""SQL over the log: DuckDB reads the tables (`projections.tables.catalogue`) as record batches, as they are asked for.

A statement sees these tables and nothing else: no file, no network, no extension, no variable of this program, and it
writes nowhere. Columns that it does not name are not read, so a count over an archive is cheap; every mention of a
table in a statement reads it once. Memory has a limit, beyond which a statement fails: nothing is spilled to a disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from core.errors import BadInput, SentinelError
from core.log.base import EventLog
from core.partitions import partitions_of
from projections.engine.as_of import Cut, resolve
from projections.tables.catalogue import TABLES, Table
from projections.tables.decisions import Period

MEMORY_MB, MEMORY_MIN_MB = 1024, 64
LOOK_S = 0.1
ROWS = 10_000
"""Of a batch of the result."""
T = TypeVar("T")
_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_CONFIG = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}


@dataclass
class Result:
    """What a statement gives: its columns, and its rows in batches, which are computed as they are taken. A name that
    the statement gives to several columns is numbered: x, x_1.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    as_of: str


@dataclass
class _Source(ds.Dataset):  # type: ignore[misc]
    """One table of the log, as DuckDB reads data sets: by columns and a filter."""

    log: EventLog
    cut: Cut
    table: Table
    failures: list[SentinelError] = field(default_factory=list)

    @property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return self.table.schema

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: object) -> ds.Scanner:
        """Reads the columns of the rows that pass the filter."""
        names = self.schema.names
        wanted = list(names if columns is None else columns)
        compared = re.findall(r"\w+", str(filter)) if filter is not None else []
        read = [name for name in names if name in wanted or name in compared] or names[:1]
        schema = pa.schema([self.schema.field(name) for name in read])
        reader = pa.RecordBatchReader.from_batches(schema, self._batches(read))
        return ds.Scanner.from_batches(reader, columns=wanted, filter=filter, use_threads=False)

    def _batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            for table in self.table.read(self.log, self.cut, names, Period()):
                yield from table.to_batches()
        except SentinelError as error:  # DuckDB would make another one of it
            self.failures.append(error)
            raise


def query(log: EventLog, statement: str, *, as_of: str | None = None, memory_mb: int = MEMORY_MB) -> Result:
    """The answer to one SELECT over the log as of now or of a moment. Raises BadInput if the statement is none, is
    wrong, or needs more memory; what reading the log raises, also while batches are taken.
    """
    if memory_mb < MEMORY_MIN_MB:
        raise BadInput(f"memory_mb is {memory_mb}; a statement takes {MEMORY_MIN_MB} at least")
    cut = resolve(log, partitions_of(log), as_of)
    sources = {name: _Source(log, cut, table) for name, table in TABLES.items()}
    failures = [source.failures for source in sources.values()]
    with _Told(failures):
        connection = duckdb.connect(config={**_CONFIG, "memory_limit": f"{memory_mb}MB"})
        connection.execute("SET TimeZone = 'UTC'")
        for name, source in sources.items():
            connection.register(name, source)
        connection.execute("SET lock_configuration = true")
        _check_reads(statement)
        found = _stoppable(connection, lambda: connection.sql(statement).to_arrow_reader(ROWS))
    names = _distinct(found.schema.names)
    schema = pa.schema([column.with_name(name) for column, name in zip(found.schema, names, strict=True)])
    batches = (batch.rename_columns(names) for batch in _taken(connection, found, failures))
    return Result(schema, batches, str(cut))


def _distinct(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        numbered = (f"{name}_{n}" for n in count(1) if f"{name}_{n}" not in names)
        found.append(next(each for each in chain([name], numbered) if each not in found))
    return found


def _taken(
    connection: duckdb.DuckDBPyConnection, found: pa.RecordBatchReader, failures: Sequence[list[SentinelError]]
) -> Iterator[pa.RecordBatch]:
    try:
        while True:
            with _Told(failures):
                batch = _stoppable(connection, lambda: next(found, None))
            if batch is None:
                return
            yield batch
    finally:
        connection.close()


def _stoppable(connection: duckdb.DuckDBPyConnection, call: Callable[[], T]) -> T:
    """The call's result; Ctrl-C ends the statement. Not all calls of DuckDB look for signals, so a thread makes them,
    and this one wakes up to look.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        try:
            while not wait([future], LOOK_S).done:
                pass
        except KeyboardInterrupt:
            connection.interrupt()
            raise
        return future.result()


def _check_reads(text: str) -> None:
    """Raise BadInput unless the text is one statement, which only reads."""
    statements = duckdb.extract_statements(text)
    if [each.type for each in statements] == [duckdb.StatementType.MULTI]:
        raise BadInput(
            "give PIVOT its values, in IN (…): to find them itself, it would create a type, and nothing is"
            " written here. For example: pivot seals on partition in (0, 1) using count(*)"
        )
    if len(statements) != 1 or statements[0].type not in _READING:
        raise BadInput("give one SELECT: the log is only read here")


class _Told:
    """Inside it, errors of DuckDB become BadInput in one line, or what reading the log had raised."""

    def __init__(self, failures: Sequence[list[SentinelError]]) -> None:
        self._failures = failures

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if failed := [each for of in self._failures for each in of]:
            raise failed[0] from None
        if isinstance(error, duckdb.Error | pa.ArrowException | OSError):
            words = str(error).partition("\nLINE ")[0].partition("\n^")[0]
            raise BadInput(" ".join(words.split())) from None
