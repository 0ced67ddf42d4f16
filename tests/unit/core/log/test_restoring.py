"""The control stream in the archive, and a log restored from it: as it was when its segments end, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from core import control_stream
from core.codec import encode_control
from core.errors import BadInput, ConcurrencyError, Corrupt, Incomplete
from core.events import Control, ListChanged, SealPoint, SealsRecorded
from core.log.archive import archiver, blobs, control_files, restoring
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.control_chain import check_control
from core.log.archive.verifying import check_partition
from core.log.base import STREAMS, Head
from core.log.memory import MemoryLog
from core.program import document
from tests.builders.batches import batch_after
from tests.builders.killed_writers import Fuse, Killed, copy_view
from tests.builders.logs import PARTITIONS, assert_identical, control, filled

EVER = 2**62


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    """A log of random decisions, with tables of several days."""
    return filled(1, 400)


def archived(log: MemoryLog, folder: Path) -> ArchivedLog:
    """Everything archived, and recorded in the control stream; nothing trimmed."""
    whole = ArchivedLog(log, open_archive(str(folder)))
    for p in range(PARTITIONS):
        archiver.archive_partition(log, whole.archive, p, recorded_until=EVER, segment_transactions=20)
    archiver.record(log, whole.archive, range(PARTITIONS), 1)
    blobs.copy(whole, control_stream.history(log))
    copy_control(whole)
    return whole


def copy_control(log: ArchivedLog) -> int:
    """What `sentinel archive` does at its end."""
    ends = {p: log.archive.end(p).sequence for p in range(PARTITIONS)}
    reach = control_files.consistent_end(log.hot, ends, control_files.newest(log.archive).end)
    return control_files.cover(log.hot, log.archive, reach)


def note(log: MemoryLog, number: int) -> None:
    """Append some event."""
    event = ListChanged(
        occurred_at=number, actor="ann", reason="x", kind="merchant", effect="watch", add=(f"m{number}",)
    )
    control_stream.append(log, lambda known: [event])


def recorded(partition: int, head: Head, more: int = 0) -> Control:
    """What a worker records every hour."""
    return SealsRecorded(occurred_at=1, actor="w", seals=(SealPoint(partition, head.sequence + more, head.digest),))


def restored(folder: Path) -> ArchivedLog:
    """An empty log with the archive restored into it."""
    archive, log = open_archive(str(folder)), MemoryLog()
    found = restoring.restorable(archive)
    restoring.check_empty(log, found)
    restoring.write(log, archive, found, found.control)
    return ArchivedLog(log, archive)


# --- the control stream's files -----------------------------------------------------------------------------------


def test_the_control_stream_is_copied_as_it_grows(
    decided: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files hold their share of events and are replaced by longer ones; the whole is the stream byte for byte."""
    monkeypatch.setattr(control_files, "EVENTS", 7)
    log = decided.clone()
    whole = archived(log, tmp_path)
    for number in range(20):
        note(log, number)
        assert copy_control(whole) == 1 and copy_control(whole) == 0
        held = control_files.everything(whole.archive)
        assert held.payloads == tuple(control(log)) and held.digest == check_control(whole).end.digest
        assert control_files.newest(whole.archive).end == log.control_head()
        assert control_files.fault(log, whole.archive) == ""
    names = sorted(path.name for path in (tmp_path / "control").iterdir())
    assert names == [f"{first:012d}.events" for first in range(1, log.control_head() + 1, 7)]


def test_line_feeds_in_events_are_kept(tmp_path: Path) -> None:
    """Whatever another client may have written, the bytes come back."""
    log = MemoryLog()
    log.append_control([b"a\nb", b"", b"\n"], 0)
    archive = open_archive(str(tmp_path))
    assert control_files.cover(log, archive, 3) == 3
    assert control_files.everything(archive).payloads == (b"a\nb", b"", b"\n")


def test_events_that_name_what_is_not_archived_wait(decided: MemoryLog, tmp_path: Path) -> None:
    """The archive holds the stream up to there, so that what is restored was the log once; later they are copied."""
    log = decided.clone()
    whole = archived(log, tmp_path)
    head = log.head(0)
    control_stream.append(log, lambda known: [recorded(0, head)])
    assert copy_control(whole) == 1
    control_stream.append(log, lambda known: [recorded(1, log.head(1), more=1)])
    note(log, 1)
    assert copy_control(whole) == 0 and restoring.restorable(whole.archive).lost == []
    control_files.cover(log, whole.archive, log.control_head())
    [lost] = restoring.restorable(whole.archive).lost
    assert "partition 1" in lost and f"control event {log.control_head() - 1}" in lost


def test_every_changed_byte_of_a_file_is_found(decided: MemoryLog, tmp_path: Path) -> None:
    """And a file that is missing, or shorter; and a log that holds other events, or fewer."""
    log = decided.clone()
    whole = archived(log, tmp_path)
    path = tmp_path / "control" / "000000000001.events"
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(Corrupt, match=r"control/000000000001\.events"):
            control_files.everything(whole.archive)
    path.write_bytes(content[:-1])
    assert "000000000001" in control_files.fault(log, whole.archive)
    path.rename(path.with_name("000000000002.events"))
    with pytest.raises(Corrupt):
        control_files.everything(whole.archive)
    path.with_name("000000000002.events").unlink()
    path.write_bytes(content)
    log.tamper_control(3, control(log)[3])
    assert "are not those of the log" in control_files.fault(log, whole.archive)
    with pytest.raises(Corrupt, match="differs from what the archive"):
        control_files.cover(log, whole.archive, log.control_head())
    log.truncate_control(2)
    with pytest.raises(Incomplete, match="ends at 2"):
        control_files.cover(log, whole.archive, 2)


# --- restoring ----------------------------------------------------------------------------------------------------


def test_the_restored_log_is_the_log(decided: MemoryLog, tmp_path: Path) -> None:
    """Every entry, control event and head; it verifies, decides identically, and holds what the next decisions need."""
    log = decided.clone()
    archived(log, tmp_path)
    found = restored(tmp_path)
    assert control(found) == control(log)
    for p in range(PARTITIONS):
        assert found.head(p) == log.head(p)
        assert all(found.read(p, s, count=10**6) == log.read(p, s, count=10**6) for s in STREAMS)
        chain = check_control(found)
        evidence = chain.evidence_of(p)
        assert check_partition(found.hot, found.archive, p, archiver.archived_rows(found), evidence).fault == ""
        assert found.begin(p, "transactions") == log.begin(p, "transactions")
    assert check_control(found).fault == ""
    assert_identical(found)  # type: ignore[arg-type]
    state = control_stream.current(found)
    needed = [digest for digest, _ in state.references.values()] + [state.champion.digest]  # type: ignore[union-attr]
    assert found.hot.held_blobs(needed) == needed
    assert len(found.hot.held_blobs(found.archive.blobs())) < len(found.archive.blobs())


def test_archiving_goes_on_after_a_restoring(decided: MemoryLog, tmp_path: Path) -> None:
    """New batches and events continue the archive, and a second restoring has them."""
    archived(decided.clone(), tmp_path)
    first = restored(tmp_path)
    note(first.hot, 1)  # type: ignore[arg-type]
    assert copy_control(first) == 1
    assert control(restored(tmp_path)) == control(first)


def test_only_an_empty_server_is_restored(decided: MemoryLog, tmp_path: Path) -> None:
    """Anything else under the prefix is refused, and left as it was."""
    log = decided.clone()
    whole = archived(log, tmp_path)
    found = restoring.restorable(whole.archive)
    other = MemoryLog()
    other.append_control([b"x"], 0)
    with pytest.raises(BadInput, match="not empty: it holds 1 control events"):
        restoring.check_empty(other, found)
    note(log, 5)
    with pytest.raises(BadInput, match="not empty"):
        restoring.check_empty(log, found)
    other = decided.clone()
    other.truncate_control(0)
    other.truncate(0, 3)
    with pytest.raises(BadInput, match="holds partitions 0"):
        restoring.check_empty(other, found)
    with pytest.raises(ConcurrencyError):
        other.continue_after(0, found.seals[0])


def test_a_lost_blob_is_told_and_the_rest_can_be_restored(decided: MemoryLog, tmp_path: Path) -> None:
    """Also a library; not one that is damaged, and not one that only a refused event names."""
    log = decided.clone()
    claimed = replace(control_stream.history(log)[0].event, program="1" * 64)
    log.append_control([encode_control(claimed)], log.control_head())
    assert control_stream.history(log)[-1].refused
    archive = archived(log, tmp_path).archive
    found = restoring.restorable(archive)
    assert restoring.lost_blobs(archive, found) == {} and check_control(found.log(archive)).fault == ""
    program = control_stream.identity_of(log).program
    [library] = document.decode(log.get_blob(program)).uses.values()
    table = next(digest for digest, _ in control_stream.current(log).references.values())
    other = next(each for each in archive.blobs() if each not in (program, library, table))
    for each in (table, library):
        (tmp_path / "blobs" / each).unlink()
    lost = restoring.lost_blobs(archive, found)
    assert set(lost) == {table, library} and all("which control event" in line for line in lost.values())
    whole = found.log(archive)
    assert "holds no blob" in check_control(whole).fault and check_control(whole, without=lost).fault == ""
    target = MemoryLog()
    restoring.write(target, archive, found, found.control)
    assert target.held_blobs([table, library, program]) == [program]
    (tmp_path / "blobs" / other).write_bytes(b"another")
    assert set(restoring.lost_blobs(archive, found)) == {table, library}
    assert f"blobs/{other} is not what was archived" in check_control(whole, without=lost).fault


def test_a_damaged_blob_on_the_server_is_refused(decided: MemoryLog, tmp_path: Path) -> None:
    """It would stay, since what is there is not written again, and stop every worker."""
    archive, target = archived(decided.clone(), tmp_path).archive, MemoryLog()
    digest = control_stream.identity_of(decided).program
    target.tamper_blob(digest, b"rubbish")
    found = restoring.restorable(archive)
    restoring.check_empty(target, found)
    with pytest.raises(BadInput, match=f"holds the blob {digest}, damaged"):
        restoring.write(target, archive, found, found.control)
    assert target.control_head() == 0 and all(target.head(p) == Head() for p in range(PARTITIONS))


@pytest.mark.parametrize("after", [False, True])
def test_killed_between_any_two_steps_it_is_done_by_the_next_run(
    decided: MemoryLog, tmp_path: Path, after: bool
) -> None:
    """And until then no worker takes it for a log: the control stream comes last, whole."""
    log = decided.clone()
    archived(log, tmp_path)
    archive = open_archive(str(tmp_path))
    found = restoring.restorable(archive)
    at = 0
    while True:
        at += 1
        target = MemoryLog()
        view, fuse = copy_view(target), Fuse(at, after)
        view.put_blob = fuse.around(view.put_blob)  # type: ignore[method-assign]
        view.continue_after = fuse.around(view.continue_after)  # type: ignore[method-assign]
        view.append_control = fuse.around(view.append_control)  # type: ignore[method-assign]
        try:
            restoring.write(view, archive, found, found.control)
        except Killed:
            if target.control_head() == 0:
                restoring.check_empty(target, found)
                restoring.write(target, archive, found, found.control)
        else:
            break
        assert control(target) == control(log)
        assert all(target.head(p) == log.head(p) for p in range(PARTITIONS))
    assert at > PARTITIONS + 3


def test_a_writer_beside_it_is_noticed(decided: MemoryLog, tmp_path: Path) -> None:
    """A worker that starts too early, or one that nobody stopped."""
    archived(decided.clone(), tmp_path)
    archive, log = open_archive(str(tmp_path)), MemoryLog()
    found = restoring.restorable(archive)
    put = log.put_blob

    def disturbed(content: bytes) -> str:
        if log.control_head() == 0:
            log.append_control([b"x"], 0)
        return put(content)

    log.put_blob = disturbed  # type: ignore[method-assign]
    with pytest.raises(ConcurrencyError):
        restoring.write(log, archive, found, found.control)
    other = MemoryLog()
    other.append(0, batch_after(Head()), Head())
    with pytest.raises(ConcurrencyError):
        restoring.write(other, archive, found, found.control)
    assert other.control_head() == 0


def test_an_archive_without_a_control_stream_is_told(tmp_path: Path) -> None:
    """The wrong place, or an archive of an earlier release."""
    with pytest.raises(BadInput, match="holds no control stream"):
        restoring.restorable(open_archive(str(tmp_path)))
