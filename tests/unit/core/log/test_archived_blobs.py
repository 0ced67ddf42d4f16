"""Blobs in the archive: all are copied, only tables that nothing hot was decided with are removed, and a crash between
any two steps loses nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from core import control_stream
from core.errors import BadInput, Corrupt
from core.events import ReferencePublished
from core.log.archive import archiver, blobs, control_files, retention
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.control_chain import check_control
from core.log.memory import MemoryLog
from core.program.library import default_blobs
from tests.builders.decisions import append_unchecked
from tests.builders.killed_writers import Fuse, Killed, copy_view
from tests.builders.logs import PARTITIONS, assert_identical, filled, heads

EVER = 2**62
MIDDLE = 12


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    """A log of random decisions, with tables of several days."""
    return filled(1, 400)


def tables(log: MemoryLog) -> list[str]:
    """The tables that the control stream publishes, oldest first."""
    events = [event for _, event in control_stream.accepted(log)]
    return list(dict.fromkeys(event.digest for event in events if isinstance(event, ReferencePublished)))


def archived(log: MemoryLog, folder: Path, up_to: int | None = None) -> ArchivedLog:
    """Everything archived, blobs too; trimmed up to the seal `up_to` of each partition, by default to the end."""
    archive = open_archive(str(folder / "warm"), str(folder / "cold"))
    whole = ArchivedLog(log, archive)
    for p in range(PARTITIONS):
        archiver.archive_partition(log, archive, p, recorded_until=EVER, segment_transactions=10)
    blobs.copy(whole, control_stream.history(log))
    for p in range(PARTITIONS):
        rows = [row for row in archive.rows(p) if up_to is None or row.last_sequence <= up_to]
        archiver.trim(log, archive, p, rows[-1].end, 1)
    return whole


def remove(log: ArchivedLog) -> blobs.Removed:
    return blobs.remove_superseded(log, control_stream.history(log), range(PARTITIONS))


def digests(log: MemoryLog) -> set[str]:
    """The blobs that the log holds, of those that its control stream names."""
    named = [found.digest for e in control_stream.history(log) if (found := blobs.named(e.event)) is not None]
    return set(log.held_blobs(named))


def test_every_named_blob_is_copied_once(decided: MemoryLog, tmp_path: Path) -> None:
    """Models, tables, the log's program and its libraries; what no event names is not copied; again copies nothing."""
    log = decided.clone()
    stray = log.put_blob(b"nobody names it")
    whole = ArchivedLog(log, open_archive(str(tmp_path)))
    copied = blobs.copy(whole, control_stream.history(log))
    held = whole.archive.blobs()
    assert len(held) == copied.blobs > 5 and copied.missing == ()
    assert {*tables(log), *log.held_blobs(held)} == set(held) and stray not in held
    assert copied.bytes == sum(len(log.get_blob(each)) for each in held)
    assert all(whole.archive.blob(each) == log.get_blob(each) for each in held)
    assert blobs.copy(whole, control_stream.history(log)) == blobs.Copied(0, 0)


def test_only_what_nothing_hot_was_decided_with_is_removed(decided: MemoryLog, tmp_path: Path) -> None:
    """Tables in force at the oldest hot batch, and later ones, stay; everything is read, verified and decided again."""
    log = decided.clone()
    whole = archived(log, tmp_path, MIDDLE)
    before = digests(log)
    position = blobs.oldest_position(log, range(PARTITIONS), log.control_head())
    hot = {
        head.control
        for p in range(PARTITIONS)
        for head in heads(decided, p)
        if head.sequence > log.read(p, "seals")[0].id.generation
    }
    assert position == min(hot) < log.control_head()
    removed = remove(whole)
    gone = before - digests(log)
    used = {d for c in hot for d, _ in control_stream.current(log, c).references.values()}
    assert gone and gone == set(tables(log)) - used - {
        event.digest
        for at, event in control_stream.accepted(log)
        if at > position and isinstance(event, ReferencePublished)
    }
    assert removed == blobs.Removed(len(gone), sum(len(decided.get_blob(each)) for each in gone))
    assert remove(whole) == blobs.Removed(0, 0)
    assert check_control(whole).fault == "" and "holds no blob" in check_control(log).fault
    assert all(whole.get_blob(each) == decided.get_blob(each) for each in before)


def test_all_decided_and_trimmed_only_the_newest_tables_stay(decided: MemoryLog, tmp_path: Path) -> None:
    """The next decision needs those in force at the stream's end, and nothing else of the tables."""
    log = decided.clone()
    remove(archived(log, tmp_path))
    state = control_stream.current(log)
    assert set(tables(log)) & digests(log) == {digest for digest, _ in state.references.values()}


def test_the_log_is_decided_again_from_the_archive(decided: MemoryLog, tmp_path: Path) -> None:
    """Every decision is identical though its tables are gone from the hot log."""
    log = decided.clone()
    whole = archived(log, tmp_path)
    assert remove(whole).blobs > 0
    assert_identical(whole)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"its archive .* does not either"):
        whole.get_blob("0" * 64)


def test_nothing_is_removed_from_a_log_that_was_never_trimmed(decided: MemoryLog, tmp_path: Path) -> None:
    """It may be read without its archive."""
    log = decided.clone()
    archive = open_archive(str(tmp_path))
    whole = ArchivedLog(log, archive)
    blobs.copy(whole, control_stream.history(log))
    assert remove(whole) == blobs.Removed(0, 0)


def test_a_table_that_is_also_a_model_stays(decided: MemoryLog, tmp_path: Path) -> None:
    """Whoever publishes a model's or program's digest as a table can't have it removed."""
    log = decided.clone()
    control_stream.append(
        log,
        lambda known: [
            ReferencePublished(occurred_at=1, actor="x", kind="device", digest=digest, as_of=n, rows=1)
            for n, digest in enumerate([known.state.champion.digest, known.state.identity.program, "1" * 64], 2**50)
        ],
    )
    state = control_stream.current(log)
    remove(archived(log, tmp_path))
    assert {state.champion.digest, state.identity.program} <= digests(log)  # type: ignore[union-attr]


def test_a_lost_blob_is_told_and_stops_nothing(decided: MemoryLog, tmp_path: Path) -> None:
    """The log decides on without it; verification says so."""
    log = decided.clone()
    lost, bad = tables(log)[:2]
    log.tamper_blob(lost, None)
    log.tamper_blob(bad, b"other")
    whole = ArchivedLog(log, open_archive(str(tmp_path)))
    copied = blobs.copy(whole, control_stream.history(log))
    assert [lost in line or bad in line for line in copied.missing] == [True, True]
    assert not {lost, bad} & set(whole.archive.blobs())
    assert "holds no blob" in check_control(whole).fault


def test_a_damaged_copy_is_never_relied_upon(decided: MemoryLog, tmp_path: Path) -> None:
    """Its blob stays in the hot log, and verification names the file."""
    log = decided.clone()
    whole = archived(log, tmp_path)
    first = tables(log)[0]
    path = tmp_path / "warm" / "blobs" / first
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(Corrupt, match=f"blobs/{first} is not what was archived"):
        remove(whole)
    assert first in digests(log)
    assert blobs.faults(whole.archive) == [f"blobs/{first} is not what was archived: its SHA-256 differs"]
    with pytest.raises(Corrupt):
        whole.remove_blob(first)
    path.unlink()
    blobs.copy(whole, control_stream.history(log))
    remove(whole)
    assert first not in digests(log) and whole.get_blob(first) == good


@pytest.mark.parametrize("after", [False, True])
def test_killed_between_any_two_steps_no_blob_is_lost(tmp_path: Path, after: bool) -> None:
    """Ended before or after any write, every blob is read as before, and the next run finishes the work."""
    decided = filled(1, 150)
    at = 0
    while True:
        at += 1
        log = decided.clone()
        archive = open_archive(str(tmp_path / str(at)))
        view = copy_view(log)
        fuse = Fuse(at, after)
        archive.store.write = fuse.around(archive.store.write)  # type: ignore[method-assign]
        view.append_control = fuse.around(view.append_control)  # type: ignore[method-assign]
        view.trim = fuse.around(view.trim)  # type: ignore[method-assign]
        view.remove_blob = fuse.around(view.remove_blob)  # type: ignore[method-assign]
        try:
            whole_run(view, ArchivedLog(view, archive))
        except Killed:
            ended = False
        else:
            ended = True
        fresh = ArchivedLog(log, open_archive(str(tmp_path / str(at))))
        assert all(fresh.get_blob(each) == decided.get_blob(each) for each in digests(decided))
        assert check_control(fresh).fault == ""
        whole_run(log, fresh)
        state = control_stream.current(log)
        assert set(tables(log)) & digests(log) == {digest for digest, _ in state.references.values()}
        if ended:
            break
    assert at > 20


def whole_run(hot: MemoryLog, log: ArchivedLog) -> None:
    """What `sentinel archive --trim` does."""
    for p in range(PARTITIONS):
        archiver.archive_partition(hot, log.archive, p, recorded_until=EVER)
    archiver.record(hot, log.archive, range(PARTITIONS), 1)
    blobs.copy(log, control_stream.history(hot))
    for p in range(PARTITIONS):
        archiver.trim(hot, log.archive, p, archiver.trim_point(log.archive, p, EVER), 1)
    blobs.remove_superseded(log, control_stream.history(hot), range(PARTITIONS))


def test_tables_of_old_segments_move_to_the_cold_store(decided: MemoryLog, tmp_path: Path) -> None:
    """Once the segments that were decided with them have; readers, copying and removing find them there."""
    log = decided.clone()
    whole = archived(log, tmp_path)
    history = control_stream.history(log)
    assert retention.oldest_position(whole.archive, range(PARTITIONS), 0) == 0
    assert blobs.superseded(history, 0) == []
    for p in range(PARTITIONS):
        retention.move_old(whole.archive, p, EVER)
    position = retention.oldest_position(whole.archive, range(PARTITIONS), EVER)
    assert position == min(whole.archive.rows(p)[-1].control for p in range(PARTITIONS))
    old = blobs.superseded(history, position)
    moved, size = retention.move_blobs(whole.archive, old)
    cold = {path.name: path.read_bytes() for path in (tmp_path / "cold" / "blobs").iterdir()}
    assert moved == len(old) == len(cold) > 0 and size == sum(map(len, cold.values()))
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in cold.items())
    assert not {path.name for path in (tmp_path / "warm" / "blobs").iterdir()} & cold.keys()
    assert retention.move_blobs(whole.archive, old) == (0, 0)
    assert blobs.copy(whole, history) == blobs.Copied(0, 0)
    assert remove(whole).blobs > 0 and blobs.faults(whole.archive) == []
    assert all(whole.get_blob(each) == decided.get_blob(each) for each in old)


def test_an_archived_event_has_its_blob_beside_it(decided: MemoryLog, tmp_path: Path) -> None:
    """Wherever an archiver ends, and whatever is published while it works: copying events copies what they name."""
    log = decided.clone()
    archive = open_archive(str(tmp_path))
    for position in range(1, log.control_head() + 1):
        control_files.cover(log, archive, position)
        events = [entry.event for entry in control_stream.history(log, position)]
        named = {found.digest for event in events if (found := blobs.named(event)) is not None}
        assert named <= set(archive.blobs())


def test_a_library_stays_though_a_table_has_its_bytes(decided: MemoryLog, tmp_path: Path) -> None:
    """What a program uses is no superseded table, whatever an event calls it."""
    log = decided.clone()
    (library,) = default_blobs()[:1]
    digest = log.put_blob(library)
    about = {"occurred_at": 1, "actor": "ann", "kind": "merchant", "as_of": 1, "rows": 0}
    append_unchecked(log, ReferencePublished(**about, digest=digest))
    append_unchecked(log, ReferencePublished(**about, digest=log.put_blob(b"a newer table")))
    whole = archived(log, tmp_path)
    assert digest in blobs.superseded(control_stream.history(log), log.control_head())
    remove(whole)
    assert log.get_blob(digest) == library
