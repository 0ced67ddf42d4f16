"""A snapshot is believed only under the log's key: whoever can write its folder can't change what is decided (I17)."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import numpy as np
import pytest

from console.edge_report import bound_findings
from core import control_stream, replay
from core.features.state import AccountState
from core.hashing import HashKey
from core.identity import LogIdentity
from core.log.memory import MemoryLog
from core.log.seals import head_from_entry
from core.settings import Settings
from ingest.snapshots import SnapshotStore
from tests.builders.logs import PARTITIONS, entries, filled

GUESSED = HashKey.of("00" * 16)


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return filled(seed=4)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path, "t")


def folded(log: MemoryLog, partition: int) -> AccountState:
    """The partition's state at its head."""
    return replay.rebuild(log, partition, log.head(partition), control_stream.identity_of(log))


def blocked(state: AccountState) -> int:
    """How many accounts are blocked."""
    return int(np.count_nonzero(state.records["blocked"][: len(state)]))


def path(folder: Path, partition: int) -> Path:
    return folder / f"t-p{partition:02d}.snapshot"


def test_a_true_snapshot_is_believed_and_is_the_owners_alone(
    log: MemoryLog, store: SnapshotStore, tmp_path: Path
) -> None:
    """What a worker wrote is loaded again; the file holds account data, so nobody else may read it."""
    state = folded(log, 0)
    store.save(0, log.head(0), state)
    known = store.load(0, log, log.head(0), state.identity)
    assert known is not None and known[1].digest() == state.digest()
    assert stat.S_IMODE(path(tmp_path, 0).stat().st_mode) == 0o600


def test_a_forged_state_that_unblocks_an_account_is_refused_and_folded_again(
    log: MemoryLog, store: SnapshotStore
) -> None:
    """The forger copies what the file shows (log ID, seal, layout) and computes its code, without the log's key."""
    identity = control_stream.identity_of(log)
    partition = next(p for p in range(PARTITIONS) if blocked(folded(log, p)))
    forged = folded(log, partition)
    forged.records["blocked"] = 0
    forged.identity = forged.identity._replace(key=GUESSED)
    store.save(partition, log.head(partition), forged)
    assert store.load(partition, log, log.head(partition), forged.identity) is not None  # a whole snapshot
    assert store.load(partition, log, log.head(partition), identity) is None
    assert blocked(replay.rebuild(log, partition, log.head(partition), identity))


@pytest.mark.parametrize("field", ["sequence", "transactions", "feedback", "control", "digest"])
def test_a_true_state_can_not_be_moved_to_another_place(
    log: MemoryLog, store: SnapshotStore, tmp_path: Path, field: str
) -> None:
    """A state from the log's beginning under the last seal's header would forget everything between."""
    end = log.head(0)
    early = head_from_entry(entries(log, 0, "seals")[end.sequence // 2 - 1])
    state = replay.rebuild(log, 0, early, control_stream.identity_of(log))
    store.save(0, early, state)
    assert store.load(0, log, end, state.identity) is not None
    line, _, body = path(tmp_path, 0).read_bytes().partition(b"\n")
    header = msgspec.json.decode(line)
    places = {"sequence", "transactions", "feedback", "digest"} if field != "control" else {"control"}
    for name in places:
        found = getattr(end, name)
        header[name] = found if isinstance(found, int) else str(found)
    path(tmp_path, 0).write_bytes(msgspec.json.encode(header) + b"\n" + body)
    assert store.load(0, log, end, state.identity) is None


def test_a_snapshot_can_not_be_moved_to_another_log_of_the_same_key(log: MemoryLog, store: SnapshotStore) -> None:
    """The code's key depends on the log's ID too."""
    state = folded(log, 0)
    other = state.identity._replace(log_id="f" * 32)
    assert other.mac_key("snapshot") != state.identity.mac_key("snapshot") != state.identity.mac_key("checkpoint")
    state.identity = other
    store.save(0, log.head(0), state)
    assert store.load(0, log, log.head(0), other._replace(log_id=control_stream.identity_of(log).log_id)) is None


def test_every_byte_counts(log: MemoryLog, store: SnapshotStore, tmp_path: Path) -> None:
    """Whichever byte is changed, a snapshot is refused: header, lengths, names, records, verdicts."""
    state = folded(log, 1)
    identity: LogIdentity = state.identity
    store.save(1, log.head(1), state)
    content = path(tmp_path, 1).read_bytes()
    rng = np.random.default_rng(7)
    names = content.index(b'"accounts"')
    some = {*range(names + 400), *rng.integers(0, len(content), 400).tolist(), len(content) - 1}
    for at in sorted(some):
        changed = bytearray(content)
        changed[at] ^= 1
        path(tmp_path, 1).write_bytes(changed)
        assert store.load(1, log, log.head(1), identity) is None, at


def test_what_a_snapshot_says_is_shown_only_under_the_logs_key(
    log: MemoryLog, store: SnapshotStore, tmp_path: Path
) -> None:
    """Its first line has a code of its own: a changed or invented one is told as not this log's, and so is another
    log's. It takes no look at the state that follows.
    """
    identity = control_stream.identity_of(log)
    store.save(0, log.head(0), folded(log, 0))
    path = tmp_path / "t-p00.snapshot"
    known = store.forgotten(identity)[0]
    assert known is not None and known.accounts > 0 and store.is_of(0, identity)
    other = identity._replace(log_id="f" * 32)
    assert store.forgotten(other) == {0: None} and not store.is_of(0, other)
    line, _, body = path.read_bytes().partition(b"\n")
    header = msgspec.json.decode(line)
    for change in ({"sequence": header["sequence"] + 1}, {"evicted": 7}, {"code": "0" * 64}, {"code": ""}):
        path.write_bytes(msgspec.json.encode(header | change) + b"\n" + body)
        assert store.forgotten(identity) == {0: None} and not store.is_of(0, identity), change
    state = control_stream.current(log)
    said = list(bound_findings(Settings(snapshot_directory=str(tmp_path), log_prefix="t"), state))
    assert len(said) == 1 and "belongs to another log, comes from an earlier build, or was changed" in said[0][2]
