"""A checkpoint is believed only under the log's key: who can write its folder can't change what is shown (I17)."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from core import control_stream
from core.hashing import HashKey
from core.log.memory import MemoryLog
from projections.engine.base import CONTROL, Place
from projections.engine.checkpoints import Checkpoint, CheckpointStore
from projections.engine.runner import Runner
from projections.engine.states import open_states
from projections.views.cases import CASES
from tests.builders.logs import PARTITIONS
from tests.builders.views import shared_log, view_digests

END = Place(10**9)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """Holds the checkpoints of the whole log."""
    made = CheckpointStore(tmp_path, "t")
    runner = Runner(shared_log(), range(PARTITIONS), [CASES], made)
    runner.catch_up()
    runner.checkpoint()
    return made


def loaded(store: CheckpointStore, log: MemoryLog) -> dict[int, Checkpoint]:
    """Every source's checkpoint that is believed."""
    found = {p: store.load(CASES, log, p, END) for p in range(PARTITIONS)}
    return {source: held for source, held in found.items() if held is not None}


def severities(state: object) -> set[str]:
    """The severities in a state of the cases, wherever they stand."""
    return {
        each for each in ("critical", "high", "medium", "low") if f'"{each}"'.encode() in msgspec.json.encode(state)
    }


def test_a_forged_checkpoint_that_shows_critical_as_low_is_folded_again(
    store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forger knows everything that the file shows, and computes its codes without the log's key."""
    log = shared_log()
    held = loaded(store, log)
    assert len(held) == PARTITIONS
    grave = {"critical", "high", "medium"}
    assert any(severities(each.state) & grave for each in held.values())
    forged = {}
    for source, each in held.items():
        text = msgspec.json.encode(each.state)
        for word in grave:
            text = text.replace(f'"{word}"'.encode(), b'"low"')
        forged[source] = Checkpoint(each.place, msgspec.json.decode(text, type=CASES.state_type))
        assert not severities(forged[source].state) & grave
    guessed = control_stream.identity_of(log)._replace(key=HashKey.of("00" * 16))
    with monkeypatch.context() as forger:
        forger.setattr("core.control_stream.first_identity", lambda log: guessed, raising=False)
        other = CheckpointStore(tmp_path, "t")
        other.save(CASES, log, forged)
        assert len(loaded(other, log)) == PARTITIONS  # whole files
    fresh = CheckpointStore(tmp_path, "t")
    assert loaded(fresh, log) == {}
    states = open_states(log, [CASES], fresh, now_ms=0)
    digests = view_digests(log, CASES)
    assert {p: CASES.digest(states.of(CASES, p)) for p in range(PARTITIONS)} == {
        p: digests[p] for p in range(PARTITIONS)
    }


def test_a_state_can_not_be_moved_to_another_source_or_place(store: CheckpointStore) -> None:
    """Partition 1's state in partition 0's section, and an early state at the last place, are refused."""
    log = shared_log()
    path = store.path(CASES)
    good = path.read_bytes()
    line, _, body = good.partition(b"\n")
    header = msgspec.json.decode(line)
    swapped = {**header, "sources": {**header["sources"], "0": header["sources"]["1"]}}
    path.write_bytes(msgspec.json.encode(swapped) + b"\n" + body)
    assert 0 not in loaded(store, log) and 1 in loaded(store, log)
    early = Runner(log, range(PARTITIONS), [CASES], store, rebuild=["cases"])
    early.step(1)
    early.checkpoint()
    line, _, body = path.read_bytes().partition(b"\n")
    moved = msgspec.json.decode(line)
    for source, section in moved["sources"].items():
        section |= {name: header["sources"][source][name] for name in ("sequence", "mark")}
    path.write_bytes(msgspec.json.encode(moved) + b"\n" + body)
    assert loaded(store, log) == {}


def test_checkpoints_are_the_owners_alone(store: CheckpointStore) -> None:
    """They hold account data."""
    assert stat.S_IMODE(store.path(CASES).stat().st_mode) == 0o600


def test_a_log_without_identity_has_no_checkpoints(tmp_path: Path) -> None:
    """Nothing is decided in it yet, and there is no key: nothing is written, and a file that lies there is ignored."""
    store, empty = CheckpointStore(tmp_path, "t"), MemoryLog()
    runner = Runner(empty, range(PARTITIONS), [CASES], store)
    runner.catch_up()
    runner.checkpoint()
    assert not store.path(CASES).exists()
    assert store.load(CASES, empty, CONTROL, END) is None
