"""A log that lacks its first entries is refused by everything that reads it, and never taken for the whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import core.log
from core import control_stream, replay, verification
from core.context import Resolver
from core.errors import Incomplete
from core.events import START, Position
from core.identity import FIXED
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.archiver import archive_partition
from core.log.base import EventLog, Head
from core.log.memory import MemoryLog
from core.log.paging import decision_pages, entries
from core.replay import Timeline
from core.settings import Settings
from ingest.ownership import Ownership
from ingest.snapshots import SnapshotStore
from learners.drift.windows import WindowReader
from learners.training.pages import score_pages, transaction_pages
from learners.training.reading import read as read_training_set
from projections.audit import blast_radius, lookup, redecide
from projections.catalogue import ALL
from projections.engine.base import Place
from projections.engine.columnar import fold_between
from projections.engine.states import open_states
from tests.builders import logs
from tests.builders.models import load_tiny

P = 1


@pytest.fixture(scope="module")
def whole() -> MemoryLog:
    return logs.filled()


def middle(log: EventLog, partition: int = P) -> Head:
    found = logs.heads(log, partition)  # type: ignore[arg-type]
    return found[len(found) // 2]


def timeline(log: EventLog) -> Timeline:
    return Timeline(control_stream.history(log), Resolver(log.get_blob, load_tiny))


def by_columns(log: EventLog) -> None:
    for projection in ALL:
        if projection.columnar is not None:
            fold_between(projection, log, P, Place(0), Place(log.head(P).sequence))


def no_labels() -> Any:
    raise AssertionError("nothing is affected")


def load(log: EventLog, directory: str = "/nowhere") -> None:
    settings = Settings(snapshot_directory=directory)
    Ownership(settings, log, Resolver(log.get_blob, load_tiny)).take([P], control_stream.current(log))


READERS: dict[str, Callable[[EventLog], Any]] = {
    "worker": load,
    "rebuild": lambda log: replay.rebuild(log, P, log.head(P), FIXED),
    "verify": lambda log: verification.verify(log, P, log.head(P), timeline(log)),
    "republish": lambda log: [*decision_pages(log, P)],
    "read models": lambda log: open_states(log, ALL, None, now_ms=0).of(ALL[0], P),
    "columns": by_columns,
    "training set": lambda log: read_training_set(log, [P]),
    "transaction pages": lambda log: [*transaction_pages(log, P, log.head(P).transactions, FIXED.key)],
    "score pages": lambda log: [*score_pages(log, P, START, log.head(P).transactions)],
    "look-up": lambda log: lookup.find_payments(log, [P], [("nobody", "")]),
    "audit": lambda log: redecide.check(log, P, [10**6 - 1, 0], timeline(log)),
    "blast radius": lambda log: [*blast_radius.affected(log, [P], "0" * 64, no_labels)],
    "drift": lambda log: WindowReader(log, [P]).oldest(),
}


def trimmed(log: MemoryLog) -> EventLog:
    """Trimmed, and nothing is known of an archive."""
    other = log.clone()
    other.trim(P, middle(other))
    return other


def first_batch_trimmed(log: MemoryLog) -> EventLog:
    """Only the first batch was trimmed: its seal is still there, and looks like the log's beginning."""
    other = log.clone()
    other.trim(P, logs.heads(other, P)[1])
    return other


def empty_archive(log: MemoryLog, directory: Path) -> EventLog:
    """Trimmed, beside an archive folder that lost its content."""
    other = log.clone()
    other.trim(P, middle(other))
    return ArchivedLog(other, open_archive(str(directory / "empty")))


def older_archive(log: MemoryLog, directory: Path) -> EventLog:
    """Trimmed, beside a copy of the archive from before its last segments."""
    other = log.clone()
    archive = open_archive(str(directory))
    archive_partition(other, archive, P, recorded_until=2**62, segment_transactions=60)
    rows = archive.rows(P)
    assert len(rows) > 3
    other.trim(P, rows[-1].end)
    manifest = directory / "p01" / "manifest.jsonl"
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:2]))
    return ArchivedLog(other, open_archive(str(directory)))


def foreign_archive(log: MemoryLog, directory: Path) -> EventLog:
    """Trimmed, beside the archive of another log."""
    other, stranger = log.clone(), logs.filled(seed=2)
    archive = open_archive(str(directory))
    stranger.truncate(P, middle(stranger).sequence)
    archive_partition(stranger, archive, P, recorded_until=2**62)
    other.trim(P, logs.heads(other, P)[archive.end(P).sequence])
    return ArchivedLog(other, open_archive(str(directory)))


LOSSES: dict[str, Callable[[MemoryLog, Path], EventLog]] = {
    "trimmed": lambda log, _: trimmed(log),
    "first batch": lambda log, _: first_batch_trimmed(log),
    "empty archive": empty_archive,
    "older archive": older_archive,
    "foreign archive": foreign_archive,
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reader", READERS)
def test_a_missing_prefix_is_refused_by_every_reader(whole: MemoryLog, tmp_path: Path, reader: str, loss: str) -> None:
    """Whatever is missing and whoever reads: an error that names the partition; the whole log is read as ever."""
    READERS[reader](whole)
    broken = LOSSES[loss](whole, tmp_path)
    with pytest.raises(Incomplete, match=f"partition {P}"):
        READERS[reader](broken)


def test_an_archive_that_joins_makes_the_log_whole(whole: MemoryLog, tmp_path: Path) -> None:
    """With its own archive a trimmed log is read by everybody as before."""
    other = whole.clone()
    archive = open_archive(str(tmp_path))
    archive_partition(other, archive, P, recorded_until=2**62, segment_transactions=60)
    other.trim(P, archive.rows(P)[-1].end)
    for reader in READERS.values():
        reader(ArchivedLog(other, open_archive(str(tmp_path))))


def test_a_snapshot_replaces_what_came_before_it(whole: MemoryLog, tmp_path: Path) -> None:
    """A worker needs only what follows its snapshot; a snapshot from before the trim does not help."""
    at = middle(whole)
    store = SnapshotStore(tmp_path, "ss")
    state = replay.rebuild(whole, P, at, FIXED)
    store.save(P, at, state)
    other = whole.clone()
    other.trim(P, at)
    control, resolver = control_stream.current(other), Resolver(other.get_blob, load_tiny)
    settings = Settings(snapshot_directory=str(tmp_path))
    owned = Ownership(settings, other, resolver).take([P], control)[0]
    assert owned.state.digest() == replay.rebuild(whole, P, whole.head(P), FIXED).digest()
    other.trim(P, logs.heads(whole, P)[at.sequence + 1])
    with pytest.raises(Incomplete, match="archive"):
        Ownership(settings, other, resolver).take([P], control)


@pytest.mark.parametrize("stream", ["transactions", "feedback"])
def test_a_stream_cut_by_hand_is_refused(whole: MemoryLog, stream: Any) -> None:
    """Entries removed while all seals remain, at the front or in the middle: their number does not match the seals'."""
    held = logs.entries(whole, P, stream)
    for at in (0, len(held) // 2):
        other = whole.clone()
        for name in ("transactions", "scores") if stream == "transactions" else (stream,):
            other.tamper(P, name, held[at].id, None)  # type: ignore[arg-type]
        with pytest.raises(Incomplete, match=stream):
            replay.rebuild(other, P, other.head(P), FIXED)


def test_a_follower_overtaken_by_a_trim_is_told(whole: MemoryLog) -> None:
    """A trim between two pages of one walk removes what the walk has yet to read: it ends with an error."""
    other = whole.clone()
    walk = entries(other, P, "rejects")
    next(walk)
    other.trim(P, other.head(P))
    with pytest.raises(Incomplete):
        [*entries(other, P, "rejects", Position(1, 0))]


def test_the_proof_costs_little(whole: MemoryLog) -> None:
    """Two small reads a page."""
    asked: list[tuple[Any, ...]] = []

    class Spied(MemoryLog):
        def read(self, *arguments: Any, **named: Any) -> Any:
            asked.append(arguments)
            return super().read(*arguments, **named)

    log = whole.clone()
    log.__class__ = Spied
    pages = [*decision_pages(log, P)]
    assert len(pages) == 1
    assert len(asked) <= 2 * len(pages) + 2 * (len(pages) + 1) + 1


UNPROVEN = {"core/log", "ingest/snapshots.py", "core/verification.py", "ingest/ownership.py"}
"""The log itself; a snapshot's seal by its number; orphans at the very end; the first entry of a log without seals."""


def test_nobody_reads_a_stream_without_the_proof() -> None:
    """Every package reads streams by `core.log.paging`, except where one known entry is looked up."""
    root = Path(core.log.__file__).parents[2]
    for package in ("core", "models", "projections", "learners", "ingest", "sources", "console", "benchmarks"):
        for path in (root / package).rglob("*.py"):
            name = str(path.relative_to(root))
            if not any(name.startswith(allowed) for allowed in UNPROVEN):
                assert not re.search(r"\blog\.read\(", path.read_text()), f"{name}: use core.log.paging.read"


@pytest.mark.parametrize("lost", ["the last seal", "everything", "another history"])
def test_no_state_is_made_for_a_head_that_the_log_has_lost(whole: MemoryLog, lost: str) -> None:
    """The server lost its tail, or all it had, between the reading of the head and that of the entries. Nothing there
    contradicts, so the state would be an earlier or an empty one, and its snapshot would bear that head's name.
    """
    log = whole.clone()
    head = log.head(0)
    if lost == "another history":
        head = msgspec.structs.replace(head, digest="f" * 64)
    else:
        log.truncate(0, head.sequence - 1 if lost == "the last seal" else 0)
    with pytest.raises(Incomplete, match=f"no longer holds seal {head.sequence}"):
        replay.rebuild(log, 0, head, FIXED)
