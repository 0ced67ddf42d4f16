"""`sentinel restore` as a user runs it, on a log in Valkey that was archived and lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.stack import Valkey
from core import control_stream
from core.events import ReferencePublished
from core.log.redis_streams import RedisLog
from tests.builders.archiving import Sentinel, begun
from tests.builders.killed_writers import Fuse, Killed
from tests.builders.logs import records


@pytest.fixture
def sentinel(
    valkey_server: Valkey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Sentinel:
    return begun(valkey_server, monkeypatch, capsys, tmp_path)


def test_a_destroyed_log_is_restored_from_its_archive(sentinel: Sentinel) -> None:
    """Control stream, blobs and places come back; what is missing, or not empty, is one line that says what to do."""
    why = ("--reason", "the disk burnt")
    assert sentinel("restore", *why, archive=False).code == 2
    assert "holds no control stream" in sentinel("restore", *why).err
    assert sentinel("archive", "--hot-hours", "0", "--json").json["archive_bytes"] > 10_000
    assert "the log server is not empty" in sentinel("restore", *why).err
    before = [sentinel.log.head(p) for p in range(2)]
    destroy(sentinel)
    assert sentinel("restore").code == 2 and sentinel("restore", "--reason", " ").code == 2
    ran = sentinel("restore", *why)
    assert ran.code == 0 and "partition   1  seal" in ran.out and "decisions restored from" in ran.out
    assert [sentinel.log.head(p) for p in range(2)] == before
    assert sentinel("verify").code == 0 and sentinel("replay", "--verify", "--jobs", "1").code == 0
    assert sentinel("replay", "--verify", archive=False).code == 2
    destroy(sentinel)
    path = next((sentinel.directory / "blobs").iterdir())
    path.write_bytes(b"another")
    ran = sentinel("restore", *why)
    assert ran.code == 3 and path.name in ran.err and sentinel.server.keys(f"{sentinel.prefix}:*") == []


def test_anchors_of_what_is_archived_can_be_restored(sentinel: Sentinel) -> None:
    """One that covers more is refused, told, and only then lost; --archived signs nothing that could be."""
    key = sentinel("anchor", "--new-key", "notary.key").out.strip()
    other = sentinel("anchor", "--new-key", "other.key").out.strip()
    arguments = ("--reason", "the disk burnt", "--public-key", key, "--anchors")
    sentinel("archive", "--hot-hours", "0")
    archived = ("anchor", "--archived", "--key", "notary.key", "--directory")
    assert sentinel(*archived, "worm", archive=False).code == 2
    held = sentinel(*archived, "worm", "--json").json
    assert held["control"] < sentinel.log.control_head()
    sentinel.offline.follow_control()
    sentinel.offline.feed(records(3, 650)[600:])
    sentinel.offline.flush()
    sentinel("anchor", "--key", "notary.key", "--directory", "beyond")
    destroy(sentinel)
    ran = sentinel("restore", *arguments, "beyond")
    assert ran.code == 2 and "checkpoint 2" in ran.err and "--accept-lost" in ran.err
    assert sentinel("restore", *arguments[:2], "--anchors", "worm").code == 2
    ran = sentinel("restore", *arguments[:2], "--anchors", "worm", "--public-key", other)
    assert ran.code == 3 and "is not signed by any of the given keys" in ran.err
    assert sentinel("restore", *arguments, "worm").code == 0
    assert sentinel("verify", *arguments[2:], "worm").code == 0
    destroy(sentinel)
    found = sentinel("restore", *arguments, "beyond", "--accept-lost", "--json").json
    assert len(found["lost"]) == 1 and found["checkpoint"] == 2
    assert sentinel("verify", *arguments[2:], "beyond").code == 3


def test_a_blob_that_the_archive_lacks_is_lost_only_if_that_is_accepted(sentinel: Sentinel) -> None:
    """One that the log had lost before it was archived does not make the whole log unrestorable; a damaged one does."""
    why = ("--reason", "the disk burnt")
    event = ReferencePublished(occurred_at=1, actor="x", kind="device", digest="1" * 64, as_of=2**50, rows=1)
    control_stream.append(sentinel.log, lambda known: [event])
    assert "warning: not archived" in sentinel("archive", "--hot-hours", "0").err
    destroy(sentinel)
    ran = sentinel("restore", *why)
    assert ran.code == 2 and f"lost: blob {'1' * 64}, which control event" in ran.err and "--accept-lost" in ran.err
    path = next((sentinel.directory / "blobs").iterdir())
    content = path.read_bytes()
    path.write_bytes(b"another")
    ran = sentinel("restore", *why, "--accept-lost")
    assert ran.code == 3 and path.name in ran.err and sentinel.server.keys(f"{sentinel.prefix}:*") == []
    path.write_bytes(content)
    assert len(sentinel("restore", *why, "--accept-lost", "--json").json["lost"]) == 1
    ran = sentinel("verify")
    assert ran.code == 3 and f"holds no blob {'1' * 64}" in ran.err
    assert sentinel("replay", "--verify", "--jobs", "1").code == 0


@pytest.mark.parametrize("after", [False, True])
def test_a_restored_log_says_so_wherever_the_restoring_is_killed(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Killed before or after any request that appends control events, the log holds none, or also that it was restored;
    so it does without any segment.
    """
    why = ("--reason", "the disk burnt")
    sentinel("archive", "--hot-hours", "1e6")
    destroy(sentinel)
    with monkeypatch.context() as patch:
        patch.setattr(RedisLog, "append_control", Fuse(1, after).around(RedisLog.append_control))
        with pytest.raises(Killed):
            sentinel("restore", *why)
    assert bool(sentinel.log.control_head()) == after
    assert sentinel("restore", *why).code == (2 if after else 0)
    said = [event for _, event in control_stream.accepted(sentinel.log) if event.actor == "sentinel restore"]
    assert [event.reason.partition(": ")[2] for event in said] == ["the disk burnt"] * 2
    assert sentinel("verify").code == 0


def test_segments_that_a_copy_lacks_are_lost_only_if_that_is_accepted(sentinel: Sentinel) -> None:
    """A manifest that is older than the control stream is told as lost, and restored as far as it goes."""
    why = ("--reason", "the disk burnt")
    sentinel("archive", "--hot-hours", "0")
    sentinel.offline.follow_control()
    sentinel.offline.feed(records(3, 650)[600:])
    sentinel.offline.flush()
    before = [sentinel.log.head(p) for p in range(2)]
    assert sentinel("archive", "--hot-hours", "0", "--json").json["segments"] == 2
    destroy(sentinel)
    manifest = sentinel.directory / "p00" / "manifest.jsonl"
    first, _ = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(first)
    ran = sentinel("restore", *why)
    assert ran.code == 2 and f"is at seal {before[0].sequence}, the archive ends before it" in ran.err
    found = sentinel("restore", *why, "--accept-lost", "--json").json
    assert len(found["lost"]) == 1 and sentinel.log.head(1) == before[1]
    assert 0 < sentinel.log.head(0).sequence == found["partitions"][0]["seal"] < before[0].sequence
    ran = sentinel("verify")
    assert ran.code == 3 and "the manifest does not have it" in ran.err
    assert sentinel("replay", "--verify", "--jobs", "1").code == 0


def test_whoever_restores_must_be_able_to_record_it(sentinel: Sentinel) -> None:
    """Where identity is required, by a key with the role of the archiver; else nothing is written."""
    why = ("--reason", "the disk burnt")
    made = {
        name: sentinel("identity", "new", name, "--out", f"{name}.pem", "--json").json["public_key"]
        for name in ("Ann", "vera", "worker-1")
    }
    sentinel.setenv("SENTINEL_IDENTITY_KEY", "Ann.pem")
    assert sentinel("identity", "add", "--role", "admin").code == 0
    for name, role in (("vera", "archiver"), ("worker-1", "worker")):
        assert sentinel("identity", "add", name, "--role", role, "--public-key", made[name]).code == 0
    assert sentinel("identity", "require", *why).code == 0
    sentinel.setenv("SENTINEL_IDENTITY_KEY", "vera.pem")
    found = sentinel("archive", "--hot-hours", "0", "--json").json
    assert found["control_events"] == sentinel.log.control_head() > 20
    destroy(sentinel)
    for key in ("", "Ann.pem"):
        sentinel.setenv("SENTINEL_IDENTITY_KEY", key)
        assert sentinel("restore", *why).code == 2
        assert sentinel.server.keys(f"{sentinel.prefix}:*") == []
    sentinel.setenv("SENTINEL_IDENTITY_KEY", "vera.pem")
    assert sentinel("restore", *why).code == 0
    history = control_stream.history(sentinel.log)
    assert [e.event.reason.partition(": ")[2] for e in history[-2:]] == ["the disk burnt"] * 2
    assert not any(entry.refused for entry in history) and sentinel("verify").code == 0


def destroy(sentinel: Sentinel) -> None:
    """Every key of the log is gone."""
    sentinel.server.delete(*sentinel.server.keys(f"{sentinel.prefix}:*"))
