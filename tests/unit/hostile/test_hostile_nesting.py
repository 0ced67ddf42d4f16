"""JSON that is nested too deeply, or is no UTF-8, is refused like any other damage, whoever stored it, and by every
reader alike, however deep in the program it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from console.anchoring.reading import read_progress
from console.api.users import UserFile
from core import codec, control_stream
from core.errors import BadInput, Corrupt, SentinelError
from core.events import AccountBlocked, ChangeProposed, ListChanged
from core.log.memory import MemoryLog
from core.nesting import DEPTH_MAX, SMALL_BYTES, is_too_deep
from core.validation import decode_feedback
from ingest.snapshots import SnapshotStore
from projections.engine.base import Place
from projections.engine.checkpoints import CheckpointStore
from projections.views.cases import CASES
from tests.builders.events import T0
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
    assert snapshots.heads(1) == snapshots.forgotten(identity) == {}
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


def nested(event: msgspec.Struct, levels: int, opening: bytes = b"[") -> bytes:
    """The event with an unknown field, so that it has so many levels, and more than SMALL_BYTES."""
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    value = opening * (levels - 1) + b'"%s"' % (b"[{" * SMALL_BYTES) + closing * (levels - 1)
    return codec.encode(event)[:-1] + b',"x":' + value + b"}"


def from_depth(frames: int, read: Callable[[], object]) -> str:
    """What a reader gets that is called from so many frames further down: the kind of error, or "read"."""
    if frames:
        return from_depth(frames - 1, read)
    try:
        read()
    except SentinelError as error:
        return f"{type(error).__name__} {getattr(error, 'reason', '')}"
    return "read"


LISTED = ListChanged(occurred_at=T0, actor="ann", kind="country", effect="watch", add=("FR",))
BLOCKED = AccountBlocked(occurred_at=T0, account_id="a1", actor="ann", reason="r")
OPENINGS = pytest.mark.parametrize("opening", [b"[", b'{"a":'])


@OPENINGS
def test_every_reader_draws_the_line_at_the_same_depth(opening: bytes) -> None:
    """Near the decoder's own limit, which counts the caller's frames, as anywhere else."""
    for levels in (DEPTH_MAX, DEPTH_MAX + 1, 700, *range(880, 1_000, 3)):
        for frames in (0, 300):
            deep = levels > DEPTH_MAX
            entry = nested(LISTED, levels, opening)
            assert from_depth(frames, lambda: codec.decode_control(entry)) == ("Corrupt " if deep else "read")  # noqa: B023
            message = nested(BLOCKED, levels, opening)
            found = from_depth(frames, lambda: decode_feedback(message, b"a1"))  # noqa: B023
            assert found == ("BadInput too_deep" if deep else "BadInput unknown_field")


def test_what_is_small_has_few_levels() -> None:
    """What is not examined decodes at any depth of calls, and brackets in texts are no levels."""
    small = b"[" * (SMALL_BYTES // 2) + b"]" * (SMALL_BYTES // 2)
    assert not is_too_deep(small)
    assert from_depth(300, lambda: msgspec.json.decode(small)) == "read"
    assert not is_too_deep(msgspec.json.encode(['a "[" \\', "[{" * SMALL_BYTES, "\\"]))
    assert not is_too_deep(b"[%s{}]" % (b"[]," * SMALL_BYTES))
    assert is_too_deep(b"[%s{}]" % (b'["\\"",' * SMALL_BYTES))


def test_a_deep_control_event_is_not_written(log: MemoryLog) -> None:
    """Neither by itself, where only a proposal can hold one, nor by way of the control stream."""
    copied = log.clone()
    for levels in (200, 5_000):
        deep: dict[str, object] = {"type": "list_changed.v1"}
        for _ in range(levels):
            deep = {"deep": deep}
        event = ChangeProposed(occurred_at=T0, actor="ann", reason="r", proposal_id="p-1", change=deep)
        with pytest.raises(BadInput):
            codec.encode_control(event)
        with pytest.raises(BadInput):
            control_stream.append(copied, lambda known: [event])  # noqa: B023
    assert copied.control_head() == log.control_head()
