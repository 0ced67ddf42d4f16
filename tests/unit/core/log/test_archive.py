"""The archive: entries come back byte for byte, readers don't see the seam, and a crash between any two steps of
archiving and trimming loses nothing.
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from core import codec, control_stream, replay
from core.context import Resolver
from core.errors import BadInput, Conflict, Corrupt, Incomplete, SentinelError
from core.events import START, Position, TransactionReceived, TransactionScored
from core.features import packing, spec
from core.log.archive import archiver, segment
from core.log.archive.archive import Archive, open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.columns import feature_column, feature_columns, feature_rows
from core.log.archive.store import Store, open_store
from core.log.archive.verifying import check_partition
from core.log.base import STREAMS, Entry, EventLog, Head, Stream
from core.log.memory import MemoryLog
from core.log.seals import head_from_entry
from core.replay import Timeline, rebuild
from core.verification import verify
from tests.builders.batches import batch_after, contents
from tests.builders.events import fuzz
from tests.builders.killed_writers import Fuse, Killed, copy_view
from tests.builders.logs import PARTITIONS, filled, heads
from tests.builders.models import load_tiny

EVER = 2**62


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    """A log of random decisions, with alerts, feedback, rejects and reference tables."""
    return filled(1, 1200)


def archived(log: MemoryLog, directory: Path, size: int = 100) -> ArchivedLog:
    """The log with everything archived in segments of about `size` transactions."""
    archive = open_archive(str(directory))
    for p in range(PARTITIONS):
        archiver.archive_partition(log, archive, p, recorded_until=EVER, segment_transactions=size)
    return ArchivedLog(log, archive)


def round_trip(streams: dict[Stream, list[Entry]]) -> tuple[segment.Segment, pq.ParquetFile]:
    """The streams written as a segment and read again, and the file of its decisions."""
    files = segment.encode(streams)
    held = segment.Segment(files[segment.DECISIONS], files[segment.EVENTS])
    for stream in STREAMS:
        assert held.read(stream, count=10**9) == streams[stream]
        assert all(held.get(stream, entry.id) == entry.payload for entry in streams[stream][:20])
    return held, pq.ParquetFile(io.BytesIO(files[segment.DECISIONS]))


# --- segments -----------------------------------------------------------------------------------------------------


def test_decisions_need_no_raw_payload(decided: MemoryLog) -> None:
    """What the pipeline wrote is held by the typed columns alone."""
    for p in range(PARTITIONS):
        _, file = round_trip(contents(decided, p))
        raw = file.read(["raw_transaction", "raw_score"])
        assert raw["raw_transaction"].null_count == raw["raw_score"].null_count == raw.num_rows > 200


def test_columns_are_typed_sorted_compressed_and_have_statistics(decided: MemoryLog) -> None:
    """Numbers are numbers, times are times, row groups say their range and order, each feature is a column."""
    files = segment.encode(contents(decided, 0))
    held = segment.Segment(files[segment.DECISIONS], files[segment.EVENTS])
    file = pq.ParquetFile(io.BytesIO(files[segment.DECISIONS]))
    schema = {field.name: str(field.type) for field in file.schema_arrow}
    assert schema["amount"] == schema["margin"] == "double"
    assert schema["occurred_at"] == "timestamp[ms, tz=UTC]"
    names = feature_columns(spec.WIDTH)
    assert [name for name in schema if name.startswith("feature_")] == names
    assert {schema[name] for name in names} == {"float"}
    group = file.metadata.row_group(0)
    assert [column.column_index for column in group.sorting_columns] == [0, 1]
    for i in range(group.num_columns):
        assert group.column(i).compression == "ZSTD"
    by_name = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert by_name["occurred_at"].statistics.has_min_max
    scores = [codec.decode_score(e.payload) for e in decided.read(0, "scores", count=10**6)]
    table = held.table(["margin", "width", *names, feature_column(spec.WIDTH)])
    assert table["margin"].to_pylist() == [s.margin for s in scores]
    values, present = feature_rows(table, spec.WIDTH)
    assert [row.tobytes() for row in values.T] == [packing.plain(s.features) for s in scores]
    assert present.all() and table[feature_column(spec.WIDTH)].null_count == len(scores)
    assert pq.ParquetFile(io.BytesIO(files[segment.EVENTS])).schema_arrow.names[0] == "stream"


_text = st.text(max_size=6)
_number = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 5e-324, 1e308])
_transactions = st.builds(
    TransactionReceived,
    recorded_at=st.integers(-(2**70), 2**70),
    transaction_id=_text,
    account_id=_text,
    amount=_number,
    occurred_at=st.integers(-(2**63), 2**63 - 1),
    currency=_text,
    ip=_text,
    attributes=st.dictionaries(_text, _number | _text, max_size=3),
)
_codes = st.lists(st.sampled_from(["A", "B", "C,D", ""]), max_size=3).map(tuple)
_vectors = st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=4).map(
    lambda bits: packing.pack(np.array([bits], dtype=np.uint32).view(np.float32))[0]
)
_scores = st.builds(
    TransactionScored,
    feedback_position=st.builds("{}-{}".format, st.integers(0, 2**65), st.integers(0, 2**64)) | _text,
    control_position=st.integers(0, 2**65),
    model=_text,
    digest=_text,
    spec=st.integers(0, 9),
    engine=st.integers(0, 2**63 - 1),
    program=_text,
    margin=_number,
    probability=_number,
    decision=st.sampled_from(["approve", "review", "decline"]),
    features=_vectors | st.binary(max_size=9),
    rules=_codes,
    shadow_rules=_codes,
    effects=st.integers(0, 7),
    severity=st.none() | st.just("low"),
    arm=st.sampled_from(["champion", "shadow", ""]),
    degraded=st.none() | _text,
    shadow_model=st.just("") | _text,
    shadow=st.none() | _number,
)
_payloads = st.binary(max_size=20)


@fuzz(max_examples=80)
@given(
    transactions=st.lists(_transactions.map(codec.encode) | _payloads, max_size=8),
    scores=st.lists(_scores.map(codec.encode) | _payloads, min_size=8, max_size=8),
    others=st.lists(_payloads, max_size=5),
    step=st.sampled_from([1, 2**31, 2**60]),
)
def test_any_entries_come_back_byte_for_byte(
    transactions: list[bytes], scores: list[bytes], others: list[bytes], step: int
) -> None:
    """Whatever bytes the log held, with whatever fields, types and lengths, the segment returns them."""
    ids = [Position(1 + i // 5, 1 + i * step) for i in range(8)]
    streams: dict[Stream, list[Entry]] = {
        "transactions": list(map(Entry, ids, transactions)),
        "scores": list(map(Entry, ids, scores))[: len(transactions)],
    }
    for stream in segment.OTHERS:
        streams[stream] = list(map(Entry, ids, others))
    round_trip(streams)


def test_other_forms_of_the_same_json_are_kept_as_they_are() -> None:
    """An unknown field, spaces, a number written otherwise, or features that are not packed: the raw bytes are
    kept. A NaN with a payload is held by the columns.
    """
    plain = codec.encode(
        TransactionReceived(recorded_at=1, transaction_id="t", account_id="a", amount=2.0, occurred_at=3, received_at=3)
    )
    row = np.array([[0x7FC00001, 0x80000000]], "<u4").view(np.float32)
    score = TransactionScored(
        feedback_position="0-0", control_position=1, model="m", digest="d", spec=1, engine=1, program="p",
        margin=0.0, probability=0.5, decision="approve", features=packing.pack(row)[0],
    )  # fmt: skip
    unpacked = codec.encode(msgspec.structs.replace(score, features=row.tobytes()))
    variants = [plain, plain.replace(b"2.0", b"2"), plain[:-1] + b',"later":1}', plain.replace(b":", b": "), b"\xff"]
    ids = [Position(1, n + 1) for n in range(len(variants))]
    streams: dict[Stream, list[Entry]] = {stream: [] for stream in STREAMS}
    streams["transactions"] = list(map(Entry, ids, variants))
    streams["scores"] = [Entry(i, codec.encode(score)) for i in ids[:-1]] + [Entry(ids[-1], unpacked)]
    _, file = round_trip(streams)
    table = file.read(["raw_transaction", "raw_score", "amount"])
    assert [raw is None for raw in table["raw_transaction"].to_pylist()] == [True, False, False, False, False]
    assert [raw is None for raw in table["raw_score"].to_pylist()] == [True, True, True, True, False]
    assert table["amount"].to_pylist() == [2.0, 2.0, 2.0, 2.0, None]


def test_a_segment_from_before_shadows_is_read(decided: MemoryLog) -> None:
    """Files without the columns that came later give the same bytes, for no score of their time had the fields."""
    streams = contents(decided, 0)
    files = segment.encode(streams)
    table = pq.read_table(pa.BufferReader(files[segment.DECISIONS]))
    sink = io.BytesIO()
    pq.write_table(table.drop_columns(["shadow_model", "shadow"]), sink, row_group_size=segment.ROW_GROUP)
    old = segment.Segment(sink.getvalue(), files[segment.EVENTS])
    segment.compare(old, streams)
    assert len(old.read("scores", count=10**6)) == len(streams["scores"]) > 100


def test_reads_cross_row_groups(monkeypatch: pytest.MonkeyPatch, decided: MemoryLog) -> None:
    """Windows that begin and end in any row group are the same, whatever size the groups were written with."""
    monkeypatch.setattr(segment, "ROW_GROUP", 64)
    held, file = round_trip(contents(decided, 0))
    monkeypatch.undo()
    assert file.metadata.num_row_groups > 3
    rng = random.Random(4)
    for stream in STREAMS:
        entries = decided.read(0, stream, count=10**6)
        for _ in range(60):
            a, b = sorted(rng.choices([START, *(e.id for e in entries), Position(9, 9)], k=2))
            count = rng.choice([1, 63, 64, 65, 1000])
            assert held.read(stream, a, count, b) == [e for e in entries if a < e.id <= b][:count]


def test_a_trim_during_a_count_is_no_loss(decided: MemoryLog, tmp_path: Path) -> None:
    """A reader that knows an older manifest finds the hot log trimmed: it reads the manifest again."""
    hot, expected = decided.clone(), decided.length(0, "scores")
    reader, writer = ArchivedLog(hot, open_archive(str(tmp_path))), open_archive(str(tmp_path))
    times = [codec.decode_seal(e.payload).recorded_at for e in contents(decided, 0)["seals"]]
    archiver.archive_partition(hot, writer, 0, recorded_until=times[len(times) // 3], segment_transactions=100)
    assert reader.length(0, "scores") == expected
    archiver.archive_partition(hot, writer, 0, recorded_until=EVER, segment_transactions=100)
    ArchivedLog(hot, writer).trim(0, writer.end(0))
    assert reader.length(0, "scores") == expected


def test_groups_are_the_table_in_pieces(monkeypatch: pytest.MonkeyPatch, decided: MemoryLog) -> None:
    """Columns read a row group at a time are those read at once, and no piece is larger than a group."""
    monkeypatch.setattr(segment, "ROW_GROUP", 64)
    held, _ = round_trip(contents(decided, 0))
    entries = decided.read(0, "transactions", count=10**6)
    columns, rng = ["offset", "account_id", "amount", "decision"], random.Random(5)
    for _ in range(40):
        a, b = sorted(rng.choices([START, *(e.id for e in entries), Position(9, 9)], k=2))
        pieces = [piece.to_pylist() for piece in held.groups(columns, a, b)]
        assert [row for piece in pieces for row in piece] == held.table(columns, a, b).to_pylist()
        assert all(0 < len(piece) <= 64 for piece in pieces)


# --- one log across the seam --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [30, 150, 10**6])
def test_the_seam_may_be_anywhere(decided: MemoryLog, tmp_path: Path, size: int) -> None:
    """Archived to some place and trimmed to another, the two logs read as the one that they were."""
    rng = random.Random(size)
    everything = {p: contents(decided, p) for p in range(PARTITIONS)}
    hot, archive = decided.clone(), open_archive(str(tmp_path))
    log = ArchivedLog(hot, archive)
    for p in range(PARTITIONS):
        marks = heads(decided, p)
        until = marks[rng.randrange(len(marks) // 2, len(marks))]
        times = [codec.decode_seal(e.payload).recorded_at for e in everything[p]["seals"]]
        archiver.archive_partition(hot, archive, p, recorded_until=times[until.sequence - 1], segment_transactions=size)
        log.trim(p, marks[rng.randrange(archive.end(p).sequence + 1)])
        assert contents(log, p) == everything[p]
        assert [log.length(p, s) for s in STREAMS] == [len(everything[p][s]) for s in STREAMS]
        for stream in STREAMS:
            entries = everything[p][stream]
            for _ in range(40):
                a, b = sorted(rng.choices([START, *(e.id for e in entries), Position(9, 9)], k=2))
                count = rng.choice([1, 7, 100])
                assert log.read(p, stream, a, count, b) == [e for e in entries if a < e.id <= b][:count]
            some = rng.sample(entries, min(20, len(entries)))
            for entry in some:
                assert log.get(p, stream, entry.id) == entry.payload
            asked = [*(entry.id for entry in some), Position(99, 1)]
            assert log.get_many(p, stream, asked) == [*(entry.payload for entry in some), None]
        tables = list(log.tables(p, ["offset", "margin"]))
        assert sum(t.num_rows for t in tables) == len(everything[p]["scores"])
        assert [o for t in tables for o in t["offset"].to_pylist()] == [e.id.offset for e in everything[p]["scores"]]


def test_the_entries_at_the_seam_are_found(decided: MemoryLog, tmp_path: Path) -> None:
    """Trimmed as far as it may be, the last archived and the first hot entry of every stream are there by ID."""
    hot, archive = decided.clone(), open_archive(str(tmp_path))
    times = [codec.decode_seal(e.payload).recorded_at for e in decided.read(0, "seals", count=10**6)]
    archiver.archive_partition(hot, archive, 0, recorded_until=times[len(times) // 2])
    log = ArchivedLog(hot, archive)
    assert log.trim(0, archive.end(0)) > 0
    for stream in STREAMS:
        entries, count = decided.read(0, stream, count=10**6), archive.count(0, stream)
        assert 0 < count < len(entries)
        for entry in entries[count - 2 : count + 2]:
            assert log.get(0, stream, entry.id) == entry.payload
            assert log.read(0, stream, entry.id, 3) == [e for e in entries if e.id > entry.id][:3]


def test_replay_of_a_trimmed_log_is_identical(decided: MemoryLog, tmp_path: Path) -> None:
    """Every decision verified and every state rebuilt across the seam, as without one."""
    log = archived(decided.clone(), tmp_path)
    for p in range(PARTITIONS):
        log.trim(p, log.archive.rows(p)[-2].end)
        assert log.hot.length(p, "transactions") < decided.length(p, "transactions")
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, load_tiny))
    for p in range(PARTITIONS):
        result = verify(log, p, log.head(p), timeline)
        assert result.first_difference is None
        assert result.identical == result.decisions == decided.length(p, "scores") > 0
        assert result.state_digest == rebuild(decided, p, decided.head(p), timeline.identity).digest()


def test_replay_loads_each_segment_once(decided: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read up to a position loads no segment behind it, however few entries its stream has there."""
    whole = archived(decided, tmp_path, 30)
    loaded: list[str] = []
    read = whole.archive.store.read

    def spied(name: str) -> bytes | None:
        loaded.append(name)
        return read(name)

    monkeypatch.setattr(whole.archive.store, "read", spied)
    monkeypatch.setattr(replay, "CHUNK", 20)
    rows = whole.archive.rows(0)
    assert len(rows) > 8
    timeline = Timeline(control_stream.history(whole), Resolver(whole.get_blob, load_tiny))
    assert verify(whole, 0, whole.head(0), timeline).first_difference is None
    segments = [name for name in loaded if name.endswith(segment.DECISIONS)]
    assert sorted(segments) == sorted(row.files[0].name for row in rows)


def test_a_trim_during_a_read_is_noticed(decided: MemoryLog, tmp_path: Path) -> None:
    """Between a look at the manifest and the hot read another process archives and trims: the read is made again."""

    class Racing:
        def __init__(self, log: MemoryLog) -> None:
            self._log, self.races = log, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._log, name)

        def read(self, *arguments: Any, **named: Any) -> list[Entry]:
            if self.races == 0:
                self.races += 1
                other = archived(self._log, tmp_path)
                other.trim(0, other.archive.end(0))
            return self._log.read(*arguments, **named)

    hot: Any = Racing(decided.clone())
    log = ArchivedLog(hot, open_archive(str(tmp_path)))
    assert log.archive.end(0) == Head()
    assert log.read(0, "transactions", count=10**6) == decided.read(0, "transactions", count=10**6)
    assert hot.races == 1 and hot.length(0, "transactions") == 0


def test_an_archive_on_another_file_system(decided: MemoryLog, tmp_path: Path) -> None:
    """Any pyarrow file system serves: here one that is not recognised as a local disk."""
    remote = Store(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "bucket/log")
    assert not remote.local
    archive = Archive(remote)
    with remote.locked():
        archiver.archive_partition(decided, archive, 0, recorded_until=EVER)
    assert contents(ArchivedLog(MemoryLog(), Archive(remote)), 0) == contents(decided, 0)
    with pytest.raises(BadInput):
        open_store("nonsense://x/y")
    with pytest.raises(BadInput):
        open_store("")


def test_only_one_archiver_at_a_time(tmp_path: Path) -> None:
    """A second one is told so."""
    store = open_store(str(tmp_path))
    with store.locked(), pytest.raises(Conflict), open_store(str(tmp_path)).locked():
        pass
    with store.locked():
        pass


def test_retention_decides_what_is_archived_and_trimmed(decided: MemoryLog, tmp_path: Path) -> None:
    """Batches recorded later than asked stay hot; trimming stops at the slowest projection and at a segment's end."""
    times = [codec.decode_seal(e.payload).recorded_at for e in decided.read(0, "seals", count=10**6)]
    archive = open_archive(str(tmp_path))
    middle = times[len(times) // 2]
    rows = archiver.archive_partition(decided, archive, 0, recorded_until=middle, segment_transactions=40)
    assert archive.end(0).sequence == sum(t <= middle for t in times) < len(times)
    assert archiver.archive_partition(decided, archive, 0, recorded_until=middle) == []
    assert archiver.trim_point(archive, 0, EVER) == rows[-1].end
    assert archiver.trim_point(archive, 0, rows[1].last_recorded_at) == rows[1].end
    assert archiver.trim_point(archive, 0, EVER, [rows[2].last_sequence - 1, 10**6]) == rows[1].end
    assert archiver.trim_point(archive, 0, EVER, [0]) == Head()
    with pytest.raises(Conflict):
        archiver.trim(decided.clone(), archive, 0, head_from_entry(decided.read(0, "seals")[0]), 0)


# --- killed between any two steps ---------------------------------------------------------------------------------


def one_run(hot: MemoryLog, directory: Path, fuse: Fuse | None = None) -> None:
    """What `sentinel archive --trim` does, on partition 0, with new objects as a new process has."""
    archive = open_archive(str(directory))
    log: EventLog = copy_view(hot)
    if fuse is not None:
        archive.store.write = fuse.around(archive.store.write)  # type: ignore[method-assign]
        log.append_control = fuse.around(log.append_control)  # type: ignore[method-assign]
        log.trim = fuse.around(log.trim)  # type: ignore[method-assign]
    times = [codec.decode_seal(e.payload).recorded_at for e in log.read(0, "seals", count=10**6)]
    until = times[-1] - 1 if len(times) > 1 else times[-1]
    with archive.store.locked():
        archiver.archive_partition(log, archive, 0, recorded_until=until, segment_transactions=6)
        archiver.record(log, archive, [0], now=1)
        archiver.trim(log, archive, 0, archiver.trim_point(archive, 0, until), now=1)


@pytest.mark.parametrize("after", [False, True])
def test_killed_between_any_two_steps_nothing_is_lost(tmp_path: Path, after: bool) -> None:
    """Ended before or after any write, the log reads as before and is whole; the next run finishes the work."""
    at = 0
    while True:
        at += 1
        hot = MemoryLog()
        head = Head()
        for _ in range(5):
            head = hot.append(0, batch_after(head), head)
        everything = contents(hot, 0)
        directory = tmp_path / str(at)
        fuse = Fuse(at, after)
        try:
            one_run(hot, directory, fuse)
        except Killed:
            pass
        else:
            break
        for _ in range(2):
            log = ArchivedLog(hot, open_archive(str(directory)))
            assert contents(log, 0) == everything and log.head(0) == head
            checked = check_partition(hot, log.archive, 0, archiver.archived_rows(hot))
            assert checked.fault == "" and checked.head == head
            if hot.read(0, "seals")[0].id.generation > 1:
                assert archiver.trimmed(hot) == {0: hot.read(0, "seals")[0].id.generation}
            one_run(hot, directory)
        assert hot.length(0, "transactions") == 3
        assert len(archiver.archived_rows(hot)) == 2
        assert list(archiver.trimmed(hot)) == [0]
    assert at > 8


def test_what_was_decided_under_lost_control_events_is_not_archived(tmp_path: Path) -> None:
    """The server was emptied, and a worker that had not noticed appended a batch: it will not be in the log once its
    backup is restored, and an archive that held it would not continue that log.
    """
    log = MemoryLog()
    first = msgspec.structs.replace(batch_after(Head()), control=7, control_digest="1" * 64)
    log.append(0, first, Head())
    archive = open_archive(str(tmp_path))
    with pytest.raises(Incomplete, match="decided under control event 7, but the control stream ends at 0"):
        archiver.archive_partition(log, archive, 0, recorded_until=EVER)
    assert archive.rows(0) == ()


def test_a_damaged_segment_is_never_trimmed_for_nor_read(tmp_path: Path, decided: MemoryLog) -> None:
    """If what would be relied upon was damaged since, trimming is refused, and reading raises instead."""
    hot = decided.clone()
    log = archived(hot, tmp_path)
    file = tmp_path / log.archive.rows(0)[0].files[0].name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    fresh = open_archive(str(tmp_path))
    with pytest.raises(Corrupt, match="SHA-256"):
        archiver.trim(hot, fresh, 0, fresh.end(0), 0)
    assert contents(hot, 0) == contents(decided, 0)
    with pytest.raises(SentinelError, match="SHA-256"):
        ArchivedLog(hot, fresh).read(0, "transactions")
