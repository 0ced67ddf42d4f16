"""JSON that is nested too deeply, or is no UTF-8, is refused like any other damage, whoever stored it."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.anchoring.reading import read_progress
from console.api.users import UserFile
from core import codec, control_stream
from core.errors import BadInput, Corrupt
from core.log.memory import MemoryLog
from ingest.snapshots import SnapshotStore
from projections.engine.base import Place
from projections.engine.checkpoints import CheckpointStore
from projections.views.cases import CASES
from tests.builders.logs import filled

DEEP = b'{"a":' * 5_000
NO_TEXT = b'{"a":"\xff"}'
HOSTILE = pytest.mark.parametrize("content", [DEEP, NO_TEXT, b"[" * 5_000])


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return filled(2, 60)


@HOSTILE
def test_a_log_entry(log: MemoryLog, content: bytes) -> None:
    """A reader of the log says which entry does not decode."""
    entry = content.replace(b'"a"', b'"type":"list_changed.v1","a"', 1)
    for payload in (content, entry):
        with pytest.raises(Corrupt):
            codec.decode_control(payload)
    copied = log.clone()
    copied.append_control([entry], copied.control_head())
    with pytest.raises(Corrupt):
        control_stream.current(copied)


@HOSTILE
def test_a_snapshot_and_a_checkpoint_count_as_missing(log: MemoryLog, tmp_path: Path, content: bytes) -> None:
    """Both are caches: what does not read is folded again."""
    identity = control_stream.identity_of(log)
    (tmp_path / "t-p00.snapshot").write_bytes(content + b"\n")
    snapshots = SnapshotStore(tmp_path, "t")
    assert snapshots.load(0, log, log.head(0), identity) is None
    assert snapshots.heads(1) == snapshots.forgotten(1) == {}
    checkpoints = CheckpointStore(tmp_path, "t")
    checkpoints.path(CASES).write_bytes(content + b"\n")
    assert checkpoints.load(CASES, log, 0, Place(10**9)) is None


@HOSTILE
def test_a_file_of_users_and_one_of_progress(tmp_path: Path, content: bytes) -> None:
    """A person gets one line that names the file."""
    path = tmp_path / "file.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Corrupt, match=r"file\.json"):
        UserFile(path).load()
    with pytest.raises(BadInput, match=r"file\.json"):
        read_progress(path, [])
