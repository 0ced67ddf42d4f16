"""The notary: what it signs continues what it signed, whatever happens to it, its files or the log."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.anchoring import notary as notary_module
from core import control_stream
from core.errors import BadInput, Conflict, Corrupt
from core.events import CheckpointSigned, LogTrimmed
from core.files import write_atomic
from core.log import checkpoints, merkle
from core.log.checkpoints import NOTHING, TreeHead
from core.log.memory import MemoryLog
from tests.builders.anchors import NOW, OTHER_KEY, checkpoint_of, notary_of, public_key, signed
from tests.builders.batches import batch_after
from tests.builders.decisions import append_unchecked
from tests.builders.logs import PARTITIONS, entries, filled


@pytest.fixture(scope="module")
def made() -> MemoryLog:
    return filled(5, 500)


@pytest.fixture
def log(made: MemoryLog) -> MemoryLog:
    return made.clone()


def grow(log: MemoryLog, partition: int = 0) -> None:
    log.append(partition, batch_after(log.head(partition)), log.head(partition))


def stored(directory: Path) -> Path:
    return next(directory.glob("*/notary.json"))


def test_a_checkpoint_has_the_roots_of_the_whole_log(log: MemoryLog, tmp_path: Path) -> None:
    """Every seal is a leaf, and every control event; computed here from all of them at once."""
    with notary_of(log, tmp_path) as notary:
        found = signed(notary).checkpoint
    for p, head in enumerate(found.state.partitions):
        leaves = [merkle.leaf(entry.payload) for entry in entries(log, p, "seals")]
        assert head == TreeHead(len(leaves), merkle.root(leaves))
    assert len(found.state.partitions) == PARTITIONS
    control = [merkle.leaf(payload) for _, payload in log.read_control()]
    assert found.state.control == TreeHead(len(control), merkle.root(control))
    assert (found.number, found.state.previous, found.root) == (1, NOTHING, found.state.leaf)


def test_only_what_is_archived_is_signed(log: MemoryLog, tmp_path: Path) -> None:
    """If so asked: the checkpoint is that of the archive's end. What was signed beyond it waits for the archive."""
    older = log.clone()
    grow(log)
    with notary_of(log, tmp_path, archived=lambda: older) as notary:
        found = signed(notary).checkpoint
        assert found.state.partitions[0].size == older.head(0).sequence == log.head(0).sequence - 1
        assert notary.sign(NOW + 1) is None
    with notary_of(log, tmp_path) as notary:
        assert signed(notary, NOW + 2).checkpoint.state.partitions[0].size == log.head(0).sequence
    with notary_of(log, tmp_path, archived=lambda: older) as notary:
        assert notary.sign(NOW + 3) is None
    grow(log)
    with notary_of(log, tmp_path, archived=log.clone) as notary:
        assert signed(notary, NOW + 4).checkpoint.number == 3


def test_checkpoints_continue_over_restarts(log: MemoryLog, tmp_path: Path) -> None:
    """Each notary goes on where the last one stopped; the log's growth is all that it reads."""
    made = []
    for _ in range(4):
        with notary_of(log, tmp_path) as notary:
            made.append(signed(notary, NOW + 1000 * len(made)).checkpoint)
            assert notary.states == [each.state.leaf for each in made]
            notary.record(NOW)
        grow(log, 1)
    assert [each.number for each in made] == [1, 2, 3, 4]
    for older, newer in pairwise(made):
        assert checkpoints.backwards(older, newer) == "" and newer.state.previous == older.digest
    leaves = [each.state.leaf for each in made]
    assert merkle.is_consistent(2, 4, made[1].root, made[3].root, merkle.consistency(leaves, 2))
    assert control_stream.current(log).checkpoint == 4


def test_an_idle_log_gets_no_more_checkpoints(log: MemoryLog, tmp_path: Path) -> None:
    """The event that records a checkpoint is no reason for another one; any other event is."""
    with notary_of(log, tmp_path) as notary:
        first = signed(notary).checkpoint
        notary.record(NOW)
        notary.record(NOW)
        assert notary.sign(NOW + 1) is None
        append_unchecked(log, LogTrimmed(occurred_at=NOW, actor="ann", partition=0, up_to_sequence=1))
        assert signed(notary, NOW + 2).checkpoint.number == 2
    events = [event for _, event in control_stream.accepted(log) if isinstance(event, CheckpointSigned)]
    assert [(event.number, event.digest) for event in events] == [(1, first.digest)]


def test_time_never_goes_back(log: MemoryLog, tmp_path: Path) -> None:
    """A clock that was set back signs the time of the checkpoint before."""
    with notary_of(log, tmp_path) as notary:
        signed(notary, NOW)
        grow(log)
        assert signed(notary, NOW - 5000).checkpoint.state.time_ms == NOW


@pytest.mark.parametrize("what", ["a cut tail", "a changed seal", "a changed control event", "a lost control event"])
def test_a_log_that_goes_back_is_not_signed(log: MemoryLog, tmp_path: Path, what: str) -> None:
    """By a notary that runs, and by one that starts again."""
    with notary_of(log, tmp_path) as notary:
        signed(notary)
        if what == "a cut tail":
            log.truncate(1, log.head(1).sequence - 1)
        elif what == "a changed seal":
            last = entries(log, 1, "seals")[-1]
            log.tamper(1, "seals", last.id, last.payload.replace(b'"recorded_at":', b'"recorded_at":1'))
        elif what == "a changed control event":
            log.tamper_control(log.control_head(), log.read_control()[-1][1].replace(b'"actor":"', b'"actor":"x'))
        else:
            log.truncate_control(log.control_head() - 1)
        with pytest.raises((Corrupt, Conflict)):
            notary.sign(NOW + 1)
    with notary_of(log, tmp_path) as notary, pytest.raises((Corrupt, Conflict)):
        notary.sign(NOW + 1)


def test_nothing_stored_is_believed(log: MemoryLog, tmp_path: Path) -> None:
    """A note by another key, a changed note, and trees that do not fit it: the first two are refused, the trees are
    built again from the log, and a log that does not fit either is refused.
    """
    with notary_of(log, tmp_path) as notary:
        first = signed(notary).checkpoint
    content = stored(tmp_path).read_bytes()
    with pytest.raises(Corrupt, match="not signed by any"), notary_of(log, tmp_path, OTHER_KEY):
        pass
    stored(tmp_path).write_bytes(content.replace(b"2027-01-15", b"2026-01-15"))
    with pytest.raises(Corrupt), notary_of(log, tmp_path):
        pass
    decoded = msgspec.json.decode(content)
    decoded["places"]["partitions"][0]["last"] = "AAAA"
    stored(tmp_path).write_bytes(msgspec.json.encode(decoded))
    with notary_of(log, tmp_path) as notary:
        grow(log)
        second = signed(notary).checkpoint
        assert checkpoints.backwards(first, second) == "" and second.number == 2
    stored(tmp_path).write_bytes(msgspec.json.encode(decoded))
    early = entries(log, 0, "seals")[0]
    log.tamper(0, "seals", early.id, early.payload.replace(b'"recorded_at":', b'"recorded_at":1'))
    with pytest.raises(Corrupt, match="rewritten"), notary_of(log, tmp_path):
        pass


@pytest.mark.parametrize("lost", ["states", "everything"])
def test_what_is_lost_is_found_elsewhere(log: MemoryLog, tmp_path: Path, lost: str) -> None:
    """The states from the control stream; the newest checkpoint from an anchor, with the trees from the log."""
    with notary_of(log, tmp_path) as notary:
        for number in range(3):
            newest = signed(notary, NOW + number)
            notary.record(NOW)
            grow(log)
    assert newest.checkpoint.number == 3
    folder = stored(tmp_path).parent
    (folder / "states").unlink()
    if lost == "everything":
        stored(tmp_path).unlink()
    with notary_of(log, tmp_path) as notary:
        if lost == "everything":
            with pytest.raises(Conflict, match="names checkpoint 3"):
                notary.sign(NOW + 10)
            notary.adopt(newest.note.content)
        fourth = signed(notary, NOW + 10).checkpoint
        assert fourth.number == 4 and fourth.state.previous == newest.checkpoint.digest
        assert merkle.root(notary.states) == fourth.root


@pytest.mark.parametrize("step", ["before the states", "after the states", "after the note"])
def test_a_crash_loses_nothing(log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Killed at any step of the second checkpoint, the next run signs one that continues the first, or has it."""
    with notary_of(log, tmp_path) as notary:
        first = signed(notary)
        notary.record(NOW)
        grow(log)
        with monkeypatch.context() as patch:
            target = os if step == "before the states" else notary_module
            patch.setattr(target, "pwrite" if target is os else "write_atomic", _killed(step == "after the note"))
            with pytest.raises(KeyboardInterrupt):
                notary.sign(NOW + 1)
    with notary_of(log, tmp_path) as notary:
        assert notary.newest is not None
        assert notary.newest.checkpoint.number == (2 if step == "after the note" else 1)
        second = notary.sign(NOW + 2) or notary.newest
        assert second.checkpoint.number == 2
        assert checkpoints.backwards(first.checkpoint, second.checkpoint) == ""
        assert merkle.root(notary.states) == second.checkpoint.root
        notary.record(NOW)
        grow(log)
        assert signed(notary, NOW + 3).checkpoint.number == 3


def _killed(after: bool) -> Callable[..., None]:
    def kill(*arguments: Any, **named: Any) -> None:
        if after:
            write_atomic(*arguments, **named)
        raise KeyboardInterrupt

    return kill


def test_an_anchor_that_contradicts_is_refused(log: MemoryLog, tmp_path: Path) -> None:
    """Two checkpoints with one number were signed: somebody has a copy of the key, or the log was restored."""
    with notary_of(log, tmp_path / "a") as one, notary_of(log, tmp_path / "b") as two:
        signed(one, NOW)
        other = signed(two, NOW + 1)
        with pytest.raises(Corrupt, match="two different checkpoints 1"):
            one.adopt(other.note.content)


def test_one_notary_at_a_time(log: MemoryLog, tmp_path: Path) -> None:
    """A second process in the same directory is refused; one in another is, once the first has signed more."""
    with notary_of(log, tmp_path / "a") as notary:
        with pytest.raises(Conflict, match="another notary"), notary_of(log, tmp_path / "a"):
            pass
        signed(notary)
        notary.record(NOW)
        with notary_of(log, tmp_path / "b") as second, pytest.raises(Conflict, match="one notary only"):
            second.sign(NOW)


def test_a_log_without_identity_can_not_be_signed(tmp_path: Path) -> None:
    """There is no name to sign under."""
    with pytest.raises(BadInput, match="LogCreated"), notary_of(MemoryLog(), tmp_path):
        pass


def test_the_builders_checkpoint_is_the_notarys(log: MemoryLog, tmp_path: Path) -> None:
    """Tests that need no notary compare with the same."""
    with notary_of(log, tmp_path) as notary:
        found = signed(notary)
    assert found.checkpoint == checkpoint_of(log)
    assert checkpoints.read(found.note.content, [public_key(log)])[0] == found.checkpoint
