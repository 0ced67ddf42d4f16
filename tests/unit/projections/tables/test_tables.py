"""The log as tables: every entry is a row, once, whatever form the log has; and as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from core import control_stream
from core.errors import BadInput, Incomplete
from core.events import START, Position
from core.log.base import Batch, Entry, EventLog, Head, Stream
from core.log.memory import MemoryLog
from projections.engine.as_of import Cut, resolve
from projections.engine.feed import Bound, Place
from projections.tables import exporting
from projections.tables.catalogue import TABLES, table_named
from projections.tables.decisions import Period
from tests.builders.baseline_log import PARTITIONS
from tests.builders.halves import archived
from tests.builders.logs import Record, entries, filled

STREAMS: tuple[Stream, ...] = ("alerts", "feedback", "rejects", "seals")


def same(one: pa.Table, other: pa.Table) -> bool:
    """Whether the tables are equal, a missing feature (NaN) being equal to another."""
    frames: list[Any] = [pl.from_arrow(each) for each in (one, other)]
    return one.schema.equals(other.schema) and bool(frames[0].equals(frames[1]))


def cut_of(log: EventLog, as_of: str | None = None) -> Cut:
    """The log's end, or a moment."""
    return resolve(log, range(PARTITIONS), as_of)


def whole(log: EventLog, name: str, as_of: str | None = None, period: Period | None = None) -> pa.Table:
    """A whole table."""
    table = TABLES[name]
    parts = table.within(log, cut_of(log, as_of), table.schema.names, period or Period())
    return pa.concat_tables([table.schema.empty_table(), *parts])


def rows_of(log: EventLog, name: str) -> list[dict[str, Any]]:
    """The rows, without the zone of their times."""
    found = whole(log, name)
    times = [f.name for f in found.schema if pa.types.is_timestamp(f.type)]
    for name_ in times:
        found = found.set_column(found.schema.get_field_index(name_), name_, found[name_].cast(pa.int64()))
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_the_same_in_every_form(name: str, held: dict[str, EventLog]) -> None:
    """Hot, archived, or half of each: the same rows in the same order."""
    hot, half, archive = (whole(log, name) for log in held.values())
    assert same(hot, half) and same(hot, archive)
    assert len(hot) > 10 or name == "rejects"


@pytest.mark.parametrize("stream", STREAMS)
def test_a_row_is_an_entry(stream: Stream) -> None:
    """Its payload is the entry's JSON; every other column is the field of its name."""
    log = filled(3, 400)
    found = rows_of(log, stream)
    logged = [(p, e) for p in range(PARTITIONS) for e in entries(log, p, stream)]
    assert [row["payload"].encode() for row in found] == [e.payload for _, e in logged] and len(logged) > 3
    assert [row["partition"] for row in found] == [p for p, _ in logged]
    for row, (_, entry) in zip(found, logged, strict=True):
        event = msgspec.json.decode(entry.payload)
        for name, value in row.items():
            if name in ("key", "value"):
                assert value == (
                    None if event.get(name) is None else msgspec.json.decode(f'"{event[name]}"', type=bytes)
                )
            elif name in event:
                assert value == event.get(name), name


@pytest.mark.parametrize("value", [2**62, 2**63, -(2**62), 253_402_300_800_000, 10**400, True, 1.5, "2026", None])
def test_a_value_that_a_column_cannot_hold_is_null_in_it(value: Any) -> None:
    """A log may be of another release; times are those that every reader of a table knows."""
    payload = msgspec.json.encode({"type": "x"})[:-1] + b',"occurred_at":%b,"confidence":%b}' % (
        (json.dumps(value).encode(),) * 2
    )
    log = MemoryLog()
    batch = Batch(
        control=0,
        recorded_at=1,
        transactions_end=START,
        feedback_end=Position(1, 1),
        feedback=[Entry(Position(1, 1), payload)],
    )
    head = log.append(0, batch, Head())
    bound = Bound(Place(head.sequence), START, Position(1, 1))
    table = TABLES["feedback"]
    (found,) = table.read(log, Cut({0: bound}, 0, None), table.schema.names, Period())
    (row,) = found.to_pylist()
    assert row["occurred_at"] is None and row["payload"] == payload.decode() and row["type"] == "x"
    assert row["confidence"] == (value if value not in (10**400, "2026") else None)


def test_the_control_stream_hides_the_key_of_the_hashes(log: MemoryLog) -> None:
    """Every event is a row; who knew the key could choose names that collide."""
    found = rows_of(log, "control")
    assert [row["position"] for row in found] == [at for at, _ in log.read_control(count=10**6)]
    refused = {entry.position: entry.refused for entry in control_stream.history(log)}
    assert {row["position"]: row["refused"] for row in found} == refused
    key = msgspec.json.decode(log.read_control(count=1)[0][1])["hash_key"]
    assert len(key) == 32 and key not in str(found)


@pytest.mark.parametrize("name", TABLES)
def test_a_period_is_the_rows_of_its_time(name: str, held: dict[str, EventLog]) -> None:
    """From its start on, and before its end; nothing is lost where row groups are left out."""
    everything = whole(held["hot"], name)
    times = everything[TABLES[name].time].cast(pa.int64()).to_pylist()
    if not times:
        return
    start, end = sorted(times)[len(times) // 3], sorted(times)[2 * len(times) // 3] + 1
    wanted = everything.filter(pa.array([start <= time < end for time in times]))
    for log in held.values():
        assert same(whole(log, name, period=Period(start, end)), wanted)


@pytest.mark.parametrize("name", TABLES)
def test_as_of_a_moment_a_table_is_what_the_log_held(name: str, log: MemoryLog) -> None:
    """A prefix of each partition, which is smaller than the whole."""
    then, now = whole(log, name, "p01:1-200"), whole(log, name)
    if name == "rejects":
        return
    assert 0 < len(then) < len(now)
    if name == "control":
        assert same(then, now.slice(0, len(then)))
        return
    for p in range(PARTITIONS):
        mine = [table.filter(pa.compute.equal(table["partition"], p)) for table in (then, now)]
        assert same(mine[0], mine[1].slice(0, len(mine[0])))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("form", ["hot", "half", "archive"])
def test_a_file_holds_the_table(form: str, kind: Any, held: dict[str, EventLog], tmp_path: Path) -> None:
    """Read by other libraries, it is the same rows with the same types."""
    log = held[form]
    for name in TABLES:
        path = tmp_path / f"{name}.{kind}"
        written = exporting.write(log, cut_of(log), name, Period(), path, kind)
        read = pq.read_table(path) if kind == "parquet" else pa.ipc.open_file(path).read_all()
        assert same(read, whole(log, name)) and (written.rows, written.bytes) == (len(read), path.stat().st_size)


def test_a_file_is_written_in_groups_of_bounded_size(
    held: dict[str, EventLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large or small the parts of the log are."""
    monkeypatch.setattr(exporting, "GROUP_ROWS", 130)
    for form, log in held.items():
        path = tmp_path / f"{form}.parquet"
        exporting.write(log, cut_of(log), "decisions", Period(), path, "parquet")
        file = pq.ParquetFile(path)
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
        assert set(sizes[:-1]) == {130} and same(file.read(), whole(log, "decisions"))


def test_large_rejects_are_written_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others decide how large they are: neither a read nor a group holds as many as of other entries."""
    log = filled(1, fed=[Record("transactions", f"a{n % 40}", 1_000 + n, b"{" * 4_000) for n in range(900)])
    rejects = [len(entries(log, p, "rejects")) for p in range(PARTITIONS)]
    monkeypatch.setattr(exporting, "GROUP_BYTES", 600_000)
    wanted = whole(log, "rejects")
    read: list[int] = []
    before = log.read

    def counted(partition: int, stream: Stream, *rest: Any) -> list[Entry]:
        found = before(partition, stream, *rest)
        read.append(len(found))
        return found

    monkeypatch.setattr(log, "read", counted)
    exporting.write(log, cut_of(log), "rejects", Period(), tmp_path / "rejects.arrow", "arrow")
    assert max(read) <= 50 and sum(rejects) == 900 and sum(read) >= 900
    file = pa.ipc.open_file(tmp_path / "rejects.arrow")
    sizes = [file.get_batch(n).nbytes for n in range(file.num_record_batches)]
    assert len(sizes) > 9 and max(sizes) < 2 * 600_000 and same(file.read_all(), wanted)


def test_a_failure_leaves_the_file_as_it_was(log: MemoryLog, tmp_path: Path) -> None:
    """A log that turns out to lack entries after the first part was written: no file, or the former one."""
    broken = archived(log, tmp_path / "archive", 0.5).hot
    for before in (None, b"former"):
        path = tmp_path / "out" / "feedback.parquet"
        if before is not None:
            path.write_bytes(before)
        with pytest.raises(Incomplete):
            exporting.write(broken, cut_of(log), "feedback", Period(), path, "parquet")
        assert [p.name for p in path.parent.iterdir()] == ([] if before is None else ["feedback.parquet"])
        assert before is None or path.read_bytes() == before


def test_an_unknown_table_is_refused() -> None:
    """The message says which there are."""
    with pytest.raises(BadInput, match="there are decisions, transactions, scores"):
        table_named("payments")
