"""core/files.py: a file is there whole or not at all, and nothing is left beside it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from core import files
from core.files import PUBLIC, make_private_folder, open_private, write_atomic


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    """Folders are made on the way; the parts are joined; nothing else is in the folder."""
    path = tmp_path / "a" / "b" / "file.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two", b"", b" parts")
    assert path.read_bytes() == b"two parts"
    assert os.listdir(path.parent) == ["file.json"]


def test_new_files_and_folders_are_their_owners_alone(tmp_path: Path) -> None:
    """Whatever the umask lets others read; a public file obeys it. What exists keeps its permissions."""
    before = os.umask(0o022)
    try:
        tmp_path.chmod(0o755)
        write_atomic(tmp_path / "a" / "b" / "file", b"x")
        write_atomic(tmp_path / "public", b"x", mode=PUBLIC)
        with open_private(tmp_path / "text") as file:
            file.write("x")
        make_private_folder(tmp_path / "c" / "d")
    finally:
        os.umask(before)

    def mode(name: str) -> int:
        return (tmp_path / name).stat().st_mode & 0o777

    assert [mode(name) for name in ("a", "a/b", "c", "c/d")] == [0o700] * 4
    assert [mode("a/b/file"), mode("text"), mode("public"), mode("")] == [0o600, 0o600, 0o644, 0o755]
    with pytest.raises(NotADirectoryError):
        make_private_folder(tmp_path / "text")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A full disk before the rename: the old bytes stay and no temporary file does."""
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, refuse)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_the_file_and_every_folder_that_was_made_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that holds a new name must be on disk too; a file that need not outlive a crash syncs nothing."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, b"x")
    assert synced == [found.stat().st_ino for found in (path, path.parent, path.parent.parent, tmp_path)]
    synced.clear()
    write_atomic(path, b"y", durable=False)
    assert synced == []


def test_what_a_crash_left_goes_with_the_next_write(tmp_path: Path) -> None:
    """Old temporary files go with any write into the folder, since theirs may never be written again; a running
    writer's and files of other forms stay.
    """
    stale, running, of_another = (
        f".{name}.part" for name in ("file.000000000000", "file.000000000001", "x.0123456789ab")
    )
    others = [".file.part", "file.000000000000.part", ".file.00000000000g.part"]
    for name in (stale, running, of_another, *others):
        (tmp_path / name).write_bytes(b"half")
    for name in (stale, of_another, *others):
        os.utime(tmp_path / name, (0, 0))
    write_atomic(tmp_path / "file", b"x")
    assert sorted(os.listdir(tmp_path)) == sorted([running, "file", *others])


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_slow_writer_keeps_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_locks: bool) -> None:
    """However long it writes nothing, also between its last byte and the rename; where a file system has no locks, age
    alone decides.
    """
    if not has_locks:
        monkeypatch.setattr(fcntl, "flock", lambda *_: os.close(-1))
    kept: list[bool] = []
    replace = os.replace

    def write_beside() -> None:
        (temporary,) = tmp_path.glob(".slow.*")
        os.utime(temporary, (0, 0))
        write_atomic(tmp_path / "other", b"x")
        kept.append(temporary.exists())

    def look_and_replace(source: Path, target: Path) -> None:
        if target.name == "slow":
            write_beside()
        replace(source, target)

    for at_rename in (False, True):
        monkeypatch.setattr(os, "replace", look_and_replace if at_rename else replace)
        with suppress(FileNotFoundError), files.open_atomic(tmp_path / "slow") as file:
            file.write(b"all")
            if not at_rename:
                write_beside()
    assert kept == [has_locks] * 2
    assert not has_locks or (tmp_path / "slow").read_bytes() == b"all"
    assert not [*tmp_path.glob(".*.part")]


def test_a_killed_writers_file_goes(tmp_path: Path) -> None:
    """Its lock went with it."""
    code = (
        "import os, sys, pathlib; from core.files import open_atomic\n"
        "with open_atomic(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    assert done.returncode == -9 and left.name.startswith(".file.")
    os.utime(left, (0, 0))
    write_atomic(tmp_path / "file", b"x")
    assert os.listdir(tmp_path) == ["file"]


def test_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Two threads that write one file: at the end it is one of theirs, whole, and alone in its folder."""
    path, contents = tmp_path / "file", [bytes([i]) * 100_000 for i in range(2)]

    def write(content: bytes) -> None:
        for _ in range(20):
            files.write_atomic(path, content, durable=False)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents and os.listdir(tmp_path) == ["file"]
