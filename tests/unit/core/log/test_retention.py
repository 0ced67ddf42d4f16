"""Retention: old segments move to a cold store, are read from there, and survive a kill between any two steps."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core import control_stream
from core.context import Resolver
from core.errors import BadInput, Corrupt
from core.log.archive import archiver, manifest, retention
from core.log.archive.archive import Archive, open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.verifying import check_partition
from core.log.base import GENESIS_DIGEST, STREAMS
from core.log.memory import MemoryLog
from core.replay import Timeline
from core.verification import verify
from tests.builders.logs import filled
from tests.builders.models import load_tiny

EVER = 2**62


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    return filled(4, 500)


class Killed(BaseException):
    """What no handler catches."""


def trimmed(decided: MemoryLog, tmp_path: Path) -> ArchivedLog:
    """Partition 0 archived in small segments and trimmed, with an empty cold store beside the archive."""
    log = decided.clone()
    archive = open_archive(str(tmp_path / "warm"), str(tmp_path / "cold"))
    archiver.archive_partition(log, archive, 0, recorded_until=EVER, segment_transactions=20)
    log.trim(0, archive.end(0))
    return ArchivedLog(log, archive)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")}


def assert_whole(log: ArchivedLog, decided: MemoryLog, tmp_path: Path) -> None:
    """A reader that starts now gets every entry; the chain holds."""
    fresh = ArchivedLog(log.hot, open_archive(str(tmp_path / "warm"), str(tmp_path / "cold")))
    for stream in STREAMS:
        assert fresh.read(0, stream, count=10**6) == decided.read(0, stream, count=10**6)
    assert check_partition(fresh.hot, fresh.archive, 0).fault == ""


def test_old_segments_move_and_are_read_where_they_are(decided: MemoryLog, tmp_path: Path) -> None:
    """What is older goes, what is younger stays; readers, replay and the chain don't notice; again does nothing."""
    log = trimmed(decided, tmp_path)
    rows = log.archive.rows(0)
    names = [{file.name for file in row.files} for row in rows]
    middle = len(rows) // 2
    segments, size = retention.move_old(log.archive, 0, rows[middle].last_recorded_at)
    moved = segments
    assert 0 < moved < len(rows)
    assert files(tmp_path / "cold") == set().union(*names[:moved])
    assert files(tmp_path / "warm") == set().union(*names[moved:])
    assert size == sum(file.bytes for row in rows[:moved] for file in row.files)
    assert_whole(log, decided, tmp_path)
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, load_tiny))
    result = verify(log, 0, log.head(0), timeline)
    assert result.identical == result.decisions == decided.length(0, "scores")
    assert retention.move_old(log.archive, 0, rows[middle].last_recorded_at) == (0, 0)
    assert open_archive(str(tmp_path / "warm")).rows(0) == rows


def test_killed_between_any_two_steps_nothing_is_lost(
    decided: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before or after any write or removal, everything is still read, and the next run finishes."""
    log = trimmed(decided, tmp_path)
    archive = log.archive
    assert archive.cold is not None
    fuse = [0]

    def dying(act: Any) -> Any:
        def step(*arguments: Any) -> None:
            fuse[0] -= 1
            if fuse[0] == 0:
                raise Killed
            act(*arguments)
            fuse[0] -= 1
            if fuse[0] == 0:
                raise Killed

        return step

    monkeypatch.setattr(archive.cold, "write", dying(archive.cold.write))
    monkeypatch.setattr(archive.store, "delete", dying(archive.store.delete))
    kills = 0
    while True:
        fuse[0] = 1 + kills % 9
        try:
            retention.move_old(archive, 0, EVER)
        except Killed:
            kills += 1
            assert_whole(log, decided, tmp_path)
            continue
        break
    assert kills > 9
    assert files(tmp_path / "warm") == set()
    assert_whole(log, decided, tmp_path)


def test_a_file_leaves_only_for_a_copy_that_reads_back(
    decided: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold store that spoils a byte, or a warm file that is spoilt, moves nothing; and no cold store, no move."""
    log = trimmed(decided, tmp_path)
    archive = log.archive
    assert archive.cold is not None
    before = files(tmp_path / "warm")
    write = archive.cold.write
    monkeypatch.setattr(archive.cold, "write", lambda name, content: write(name, content[:-1] + b"?"))
    with pytest.raises(Corrupt, match="can't be read back"):
        retention.move_old(archive, 0, EVER)
    monkeypatch.setattr(archive.cold, "write", write)
    path = tmp_path / "warm" / archive.rows(0)[0].files[0].name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(Corrupt, match="was not moved"):
        retention.move_old(archive, 0, EVER)
    assert files(tmp_path / "warm") == before
    with pytest.raises(BadInput, match="no cold store"):
        retention.move_old(Archive(archive.store), 0, EVER)


def test_damage_in_the_cold_store_is_found(decided: MemoryLog, tmp_path: Path) -> None:
    """A changed or missing cold file is named by the chain check and never read."""
    log = trimmed(decided, tmp_path)
    retention.move_old(log.archive, 0, EVER)
    path = tmp_path / "cold" / log.archive.rows(0)[1].files[1].name
    content = path.read_bytes()
    for spoilt, words in ((content[:-1] + b"?", "its SHA-256 differs"), (None, "is missing")):
        path.unlink() if spoilt is None else path.write_bytes(spoilt)
        fresh = open_archive(str(tmp_path / "warm"), str(tmp_path / "cold"))
        fault = check_partition(log.hot, fresh, 0).fault
        assert words in fault
        assert log.archive.rows(0)[1].files[1].name in fault


@pytest.mark.parametrize(
    "name", ["../victim.txt", "p01/victim.txt", "/victim.txt", "p00/../../victim.txt", "p00/manifest.jsonl"]
)
def test_a_manifest_can_name_no_file_but_its_own(decided: MemoryLog, tmp_path: Path, name: str) -> None:
    """A manifest that was written anew, with right digests, to name another file: it is corrupt, and the file stays."""
    log = trimmed(decided, tmp_path)
    victim = Path(f"{log.archive.store}/{name}") if not name.startswith("/") else Path(f"{log.archive.store}{name}")
    victim.parent.mkdir(parents=True, exist_ok=True)
    content = victim.read_bytes() if victim.exists() else b"mine"
    victim.write_bytes(content)
    path = tmp_path / "warm" / manifest.name_of(0)
    rows, previous = [], GENESIS_DIGEST
    for row in log.archive.rows(0):
        other = manifest.File(name=name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        forged = manifest.sealed(msgspec.structs.replace(row, previous=previous, files=(*row.files[:1], other)))
        rows.append(forged)
        previous = forged.digest
    path.write_bytes(manifest.encode(rows))
    fresh = open_archive(str(tmp_path / "warm"), str(tmp_path / "cold"))
    with pytest.raises(Corrupt, match="names files that are not those of its segment"):
        retention.move_old(fresh, 0, EVER)
    assert victim.exists()


@pytest.mark.parametrize("how", ["the same path", "a link", "a URI"])
def test_an_archive_is_never_its_own_cold_store(decided: MemoryLog, tmp_path: Path, how: str) -> None:
    """However it is named: nothing is moved, so nothing is removed."""
    warm = tmp_path / "warm"
    whole = trimmed(decided, tmp_path)
    (tmp_path / "link").symlink_to(warm)
    cold = {"the same path": str(warm), "a link": str(tmp_path / "link"), "a URI": f"file://{warm}"}[how]
    archive = open_archive(str(warm), cold)
    blob = whole.hot.put_blob(b"a table")
    archive.write_blob(blob, b"a table")
    before = {path.relative_to(warm) for path in warm.rglob("*")}
    with pytest.raises(BadInput, match="is the archive"):
        retention.move_old(archive, 0, EVER)
    with pytest.raises(BadInput, match="is the archive"):
        retention.move_blobs(archive, [blob])
    assert {path.relative_to(warm) for path in warm.rglob("*")} == before
    assert_whole(whole, decided, tmp_path)
