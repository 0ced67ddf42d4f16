"""`verify` finds any changed bit, any hole and, against a checkpoint, any missing tail, by place (I8, I16)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from core.errors import Corrupt
from core.events import Position
from core.log.anchored import Anchors
from core.log.archive import archiver, manifest, verifying
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.control_chain import check_control, check_named
from core.log.base import STREAMS, Stream
from core.log.checkpoints import Checkpoint
from core.log.memory import MemoryLog
from tests.builders.anchors import checkpoint_of
from tests.builders.batches import batch_after
from tests.builders.logs import PARTITIONS, entries, filled, heads
from tests.builders.models import deployed

EVER = 2**62


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryLog, Path]:
    """A log, archived but for its last tenth, trimmed to about half; do not change it."""
    log, directory = filled(5, 700), tmp_path_factory.mktemp("archive")
    archive = open_archive(str(directory))
    for p in range(PARTITIONS):
        marks = heads(log, p)
        cut = marks[len(marks) * 9 // 10]
        shorter = log.clone()
        shorter.truncate(p, cut.sequence)
        archiver.archive_partition(shorter, archive, p, recorded_until=EVER, segment_transactions=40)
    archiver.record(log, archive, range(PARTITIONS), now=1)
    for p in range(PARTITIONS):
        rows = archive.rows(p)
        archiver.trim(log, archive, p, rows[len(rows) // 2].end, now=1)
    return log, directory


def faults(log: MemoryLog, directory: Path | None, *signed: Checkpoint) -> list[str]:
    """Everything that `sentinel verify` would name."""
    anchors = Anchors(signed)
    control = check_control(log, anchors)
    found = [control.fault] if control.fault else []
    named = []
    try:
        archived = archiver.archived_rows(log)
    except Corrupt as error:
        return [*found, str(error)]
    for p in range(PARTITIONS):
        archive = open_archive(str(directory)) if directory else None
        checked = verifying.check_partition(log, archive, p, archived, (), control.log_id, anchors)
        found += [f"partition {p}: {checked.fault}"] if checked.fault else []
        named += checked.named
    if not control.fault and (fault := check_named(log, control, named)):
        found.append(f"control stream: {fault}")
    return found


def signed_at(log: MemoryLog, directory: Path) -> Checkpoint:
    return checkpoint_of(ArchivedLog(log, open_archive(str(directory))))


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_whole_log_has_no_fault(made: tuple[MemoryLog, Path]) -> None:
    """Trimmed and archived as it is, everything is counted once and the chain leads to the head."""
    log, directory = made
    assert faults(log, directory, signed_at(log, directory)) == []
    archive = open_archive(str(directory))
    for p in range(PARTITIONS):
        checked = verifying.check_partition(log, archive, p)
        assert checked.head == log.head(p) and checked.segments == len(archive.rows(p)) > 2
        assert checked.archived_seals == archive.end(p).sequence and checked.hot_seals > 0
        first = log.read(p, "seals", count=1)[0].id.generation
        assert 1 < first < archive.end(p).sequence < log.head(p).sequence
    whole = filled(5, 700)
    assert faults(whole, None, checkpoint_of(whole)) == []


def test_every_one_of_100_random_flipped_bits_is_found(made: tuple[MemoryLog, Path]) -> None:
    """One bit in any segment file, manifest, or entry of the hot log: a fault in that partition, each time."""
    log, directory = made
    rng = random.Random(20)
    files = sorted(path for path in directory.glob("p*/*") if path.is_file())
    places = [(p, s, i) for p in range(PARTITIONS) for s in STREAMS for i in range(log.length(p, s))]
    found = 0
    for number in range(100):
        if number % 2:
            path = rng.choice([f for f in files if f.suffix == ".jsonl"] if number % 4 == 1 else files)
            content = path.read_bytes()
            path.write_bytes(flip(content, rng.randrange(8 * len(content))))
            named = faults(log, directory)
            path.write_bytes(content)
            p = int(path.parent.name[1:])
        else:
            p, stream, i = rng.choice(places)
            damaged = log.clone()
            entry = entries(log, p, stream)[i]
            damaged.tamper(p, stream, entry.id, flip(entry.payload, rng.randrange(8 * len(entry.payload))))
            named = faults(damaged, directory)
        found += len(named) == 1 and named[0].startswith(f"partition {p}: ")
    assert found == 100
    assert faults(log, directory) == []


def test_every_manifest_bit_counts(made: tuple[MemoryLog, Path]) -> None:
    """There is no bit of a manifest that may change."""
    _, directory = made
    content = (directory / manifest.name_of(0)).read_bytes()
    for bit in range(0, 8 * len(content), 3):
        with pytest.raises(Corrupt, match=r"p00/manifest.jsonl, line \d"):
            manifest.decode(flip(content, bit), 0)


def test_a_removed_entry_is_found(made: tuple[MemoryLog, Path]) -> None:
    """An entry gone from any stream of the hot log, its first, middle or last, is a fault."""
    log, directory = made
    for stream in STREAMS:
        for place in (0, 0.5, 1):
            if stream == "seals" and place == 1:
                continue  # a cut tail: see below
            damaged, held = log.clone(), entries(log, 1, stream)
            damaged.tamper(1, stream, held[int(place * (len(held) - 1))].id, None)
            assert len(faults(damaged, directory)) == 1, (stream, place)


def test_an_entry_that_no_seal_covers_is_found(made: tuple[MemoryLog, Path]) -> None:
    """Entries after the last seal, within a batch, or left before the trim point, are faults."""
    log, directory = made
    head = log.head(0)
    end = Position(head.transactions.generation, head.transactions.offset + 1)
    early = Position(1, 1)
    places: list[tuple[Stream, Position]] = [("alerts", end), ("transactions", early), ("rejects", early)]
    for stream, position in places:
        damaged = log.clone()
        damaged.tamper(0, stream, position, b"{}")
        assert "no seal covers" in faults(damaged, directory)[0]


def test_a_removed_segment_is_found(made: tuple[MemoryLog, Path], tmp_path: Path) -> None:
    """A file gone, a line gone from the manifest's middle or end, or the whole manifest: each is a fault."""
    log, directory = made
    name = manifest.name_of(2)
    content = (directory / name).read_bytes()
    lines = content.splitlines(keepends=True)
    broken = [lines[1:], [*lines[:1], *lines[2:]], lines[:-1], lines[:-2], []]
    try:
        for remaining in broken:
            (directory / name).write_bytes(b"".join(remaining))
            assert len(faults(log, directory)) == 1
        (directory / name).unlink()
        assert "does not have it" in faults(log, directory)[0]
    finally:
        (directory / name).write_bytes(content)
    file = directory / open_archive(str(directory)).rows(2)[1].files[1].name
    file.rename(tmp_path / "elsewhere")
    try:
        assert faults(log, directory) == [f"partition 2: {file.relative_to(directory)} is missing"]
    finally:
        (tmp_path / "elsewhere").rename(file)
    assert "begins with seal" in faults(log, None)[0]


def test_a_missing_tail_is_found_against_a_checkpoint(made: tuple[MemoryLog, Path]) -> None:
    """The newest batches cut off cleanly are a whole log, but not the one that was signed."""
    log, directory = made
    signed = signed_at(log, directory)
    for keep in (1, 2):
        damaged = log.clone()
        damaged.truncate(0, log.head(0).sequence - keep)
        assert faults(damaged, directory) == []
        assert "the tail is missing: checkpoint 1 of 2027-01-15 08:00:00 has" in faults(damaged, directory, signed)[0]
    emptied = log.clone()
    emptied.truncate(0, 0)
    assert "hot log: empty" in faults(emptied, directory)[0]


def test_a_log_written_anew_is_not_the_signed_one(made: tuple[MemoryLog, Path]) -> None:
    """Another history of the same length is found by the signed root, at the first size that was signed."""
    log = made[0]
    logs = []
    for tag in "ab":
        other = log.clone()
        head = other.head(0)
        for _ in range(3):
            head = other.append(0, batch_after(head, tag=tag), head)
        logs.append(other)
    signed = signed_at(logs[0], made[1])
    assert faults(logs[0], made[1], signed) == []
    named = faults(logs[1], made[1], signed)
    assert len(named) == 1 and named[0].endswith(
        "differ from checkpoint 1 of 2027-01-15 08:00:00: the log was rewritten"
    )


def test_the_control_stream_is_held_by_the_checkpoint(made: tuple[MemoryLog, Path]) -> None:
    """A changed, a removed or a missing last control event is a fault against the checkpoint; so is a changed blob."""
    log, directory = made
    signed = signed_at(log, directory)
    for sequence, payload in log.read_control(count=10**6)[::3]:
        damaged = log.clone()
        damaged.tamper_control(sequence, payload.replace(b'"actor":"', b'"actor":"x'))
        assert "the log was rewritten" in faults(damaged, directory, signed)[0]
    for removed in (1, log.control_head()):
        damaged = log.clone()
        damaged.tamper_control(removed, None)
        assert faults(damaged, directory, signed)
    damaged = log.clone()
    digest = deployed().digest
    damaged.tamper_blob(digest, flip(damaged.get_blob(digest), 9))
    assert digest in faults(damaged, directory)[0]
