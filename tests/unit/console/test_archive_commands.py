"""`sentinel archive` and `sentinel verify` as a user runs them, on a log in Valkey."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from console.commands import project
from console.commands.archive import reading
from console.stack import Valkey
from console.wiring import load_scorer
from core.context import Resolver
from core.errors import BadInput
from core.log.redis_streams import connect
from ingest.offline import OfflineIngest
from projections import catalogue
from projections.engine.base import DecidedTransaction
from projections.engine.checkpoints import CheckpointStore
from projections.views.cases import CASES
from projections.views.profiles.projection import PROFILES
from tests.builders.archiving import Sentinel, begun
from tests.builders.logs import records
from tests.builders.models import ARTIFACT, deployed


@pytest.fixture
def sentinel(
    valkey_server: Valkey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Sentinel:
    return begun(valkey_server, monkeypatch, capsys, tmp_path)


def test_archive_trim_verify_and_replay(sentinel: Sentinel) -> None:
    """Archived and trimmed, the hot log is small, the whole verifies, and every decision replays identically."""
    before = {p: sentinel.log.length(p, "transactions") for p in range(2)}
    found = sentinel("archive", "--json").json
    assert found["transactions"] == sum(before.values()) > 300 and found["trimmed_entries"] == 0
    assert sentinel.log.length(0, "transactions") == before[0]
    assert sentinel("verify").code == 0
    again = sentinel("archive", "--trim", "--json").json
    assert again["segments"] == 0 and again["trimmed_entries"] > 2 * sum(before.values())
    assert [sentinel.log.length(p, "transactions") for p in range(2)] == [0, 0]
    assert [sentinel.log.length(p, "seals") for p in range(2)] == [1, 1]
    checked = sentinel("verify", "--json")
    assert checked.code == 0 and checked.json["ok"] and checked.json["segments"] == 2
    replayed = sentinel("replay", "--verify", "--json", "--jobs", "1")
    assert replayed.code == 0
    assert replayed.json["identical"] == replayed.json["decisions"] == sum(before.values())
    assert sentinel("archive", "--trim", "--json").json["trimmed_entries"] == 0


def test_hot_hours_keep_what_is_younger(sentinel: Sentinel) -> None:
    """The stream is years old; with more hours than that nothing is archived."""
    found = sentinel("archive", "--hot-hours", "1e6", "--trim", "--json").json
    copied = {"copied_blobs", "copied_blob_bytes", "control_events", "archive_bytes"}
    assert {name for name, figure in found.items() if figure} == copied


def test_a_trimmed_log_is_not_read_without_its_archive(sentinel: Sentinel) -> None:
    """Every reader would silently miss what is gone, so it is refused in one line."""
    sentinel("archive", "--trim")
    ran = sentinel("replay", "--verify", archive=False)
    assert ran.code == 2 and "SENTINEL_ARCHIVE" in ran.err
    ran = sentinel("verify", archive=False)
    assert ran.code == 3 and "no archive holds what came before" in ran.err
    assert sentinel("archive", archive=False).code == 2
    assert sentinel("archive", "--trim", "--directory", str(sentinel.directory), archive=False).code == 2
    elsewhere = sentinel("archive", "--trim", "--directory", str(sentinel.directory / "elsewhere"))
    assert elsewhere.code == 2 and "workers would not find there" in elsewhere.err


def test_verify_names_the_place_and_exits_3(sentinel: Sentinel) -> None:
    """A flipped bit in a segment, and one in the hot log: the file and the seal are named."""
    sentinel("archive")
    file = next(sentinel.directory.glob("p01/*.decisions.parquet"))
    content = file.read_bytes()
    file.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    ran = sentinel("verify")
    assert ran.code == 3 and f"partition 1: p01/{file.name} is not what was archived" in ran.err
    assert sentinel("verify", "--partition", "0").code == 0
    file.write_bytes(content)
    held = sentinel.log.read(0, "scores")
    middle = held[len(held) // 2]
    key = sentinel.log.key(0, "scores")
    sentinel.server.xdel(key, str(middle.id))
    ran = sentinel("verify", "--json")
    assert ran.code == 3 and not ran.json["ok"]
    assert ran.json["faults"][0].startswith("partition 0: hot log: seal ")


def test_anchors(sentinel: Sentinel, tmp_path: Path) -> None:
    """What is unanchored is said; with the public key alone, a cut tail is found, and other keys and folders are."""
    assert "\nunanchored: " in sentinel("verify").out
    key = sentinel("anchor", "--new-key", "notary.key").out.strip()
    (tmp_path / "notary.pub").write_text(key)
    assert sentinel("anchor", "--key", "notary.key", "--directory", "worm").code == 0
    sentinel("archive")
    ran = sentinel("verify", "--public-key", key, "--anchors", "worm")
    assert ran.code == 0 and "checkpoint 1, 1 anchors; unanchored since " in ran.out and ": 0 decisions" in ran.out
    found = sentinel("verify", "--public-key", "notary.pub", "--anchors", "worm", "--json").json
    assert (found["checkpoint"], found["anchors"], found["unanchored"]) == (1, 1, 0)
    other = sentinel("anchor", "--new-key", "other.key").out.strip()
    ran = sentinel("verify", "--public-key", other, "--anchors", "worm")
    assert ran.code == 3 and "is not signed by any of the given keys" in ran.err
    for arguments in (("--public-key", key), ("--anchors", "worm"), ("--incremental", "f"), ("--public-key", "none")):
        assert sentinel("verify", *arguments).code == 2
    assert sentinel("verify", "--public-key", key, "--anchors", "empty").code == 2
    last = sentinel.log.head(0)
    sentinel.server.delete(sentinel.log.key(0, "seals"))
    ran = sentinel("verify", "--public-key", key, "--anchors", "worm", archive=False)
    assert ran.code == 3 and f"has {last.sequence:,} seals, the log 0" in ran.err


def test_a_missing_anchor_is_said(sentinel: Sentinel, tmp_path: Path) -> None:
    """The log names a newer checkpoint than the directories hold: it may be on its way, or somebody removed it."""
    key = sentinel("anchor", "--new-key", "notary.key").out.strip()
    anchor = ("anchor", "--key", "notary.key", "--directory", "worm")
    assert sentinel(*anchor).code == 0
    sentinel.offline.follow_control()
    sentinel.offline.feed(records(3, 650)[600:])
    sentinel.offline.flush()
    assert sentinel(*anchor).code == 0
    next(tmp_path.glob("worm/*/000000002.checkpoint")).unlink()
    ran = sentinel("verify", "--public-key", key, "--anchors", "worm")
    assert ran.code == 0 and "the log names checkpoint 2, which is not among the anchors" in ran.out


def test_incremental_verification(sentinel: Sentinel, tmp_path: Path) -> None:
    """The first run checks everything, the second what came after the newest checkpoint; what was checked can't change
    either, and the file is not believed.
    """
    arguments = ["--public-key", sentinel("anchor", "--new-key", "notary.key").out.strip(), "--anchors", "worm"]
    arguments += ["--incremental", "progress", "--json"]
    anchor = ("anchor", "--key", "notary.key", "--directory", "worm")
    assert sentinel(*anchor).code == 0
    first = sentinel("verify", *arguments).json
    assert (first["since"], first["checkpoint"]) == (None, 1) and first["decisions"] > 300
    again = sentinel("verify", *arguments).json
    assert (again["since"], again["decisions"], again["entries"], again["ok"]) == (1, 0, 0, True)
    sentinel.offline.feed(records(3, 700)[600:])
    sentinel.offline.flush()
    assert sentinel("verify", *arguments).json["unanchored"] > 50
    assert sentinel(*anchor).code == 0
    sentinel("archive", "--trim")
    third = sentinel("verify", *arguments).json
    assert (third["since"], third["checkpoint"], third["unanchored"], third["ok"]) == (1, 2, 0, True)
    assert 0 < third["decisions"] < first["decisions"]
    newest = sorted(tmp_path.glob("worm/*/*.checkpoint"))
    stateless = ["verify", *arguments[:4], "--json", "--since"]
    found = sentinel(*stateless, str(newest[0])).json
    assert (found["since"], found["decisions"], found["ok"]) == (1, third["decisions"], True)
    assert sentinel(*stateless, "none").code == sentinel(*stateless, "notary.key").code == 2
    assert sentinel(*stateless, str(newest[0]), "--incremental", "progress").code == 2
    content = (tmp_path / "progress").read_bytes()
    (tmp_path / "progress").write_bytes(content.replace(b'"size":', b'"size":1'))
    assert sentinel("verify", *arguments).code == 2
    (tmp_path / "progress").write_bytes(content)
    sentinel.server.delete(sentinel.log.key(1, "seals"))
    assert sentinel("verify", *arguments).code == 3
    assert sentinel(*stateless, str(newest[1])).code == 3


def test_trimming_waits_for_every_projection(sentinel: Sentinel, tmp_path: Path) -> None:
    """With --projections nothing goes that a checkpoint has yet to take in; an unreadable checkpoint stops it."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    prefix, header = f"archive-{tmp_path.name}", b'{"magic":"m","name":"%s","version":%d,"sources":%s}\nbody'
    for projection, sources in ((PROFILES, b'{"0":{"sequence":7,"mark":""}}'), (CASES, b'{"1":{"sequence":99}}')):
        content = header % (projection.name.encode(), projection.version, sources)
        (folder / f"{prefix}-{projection.label}.checkpoint").write_bytes(content)
    assert reading(folder, prefix) == [{1: 99}, {0: 7}]
    ran = sentinel("archive", "--trim", "--projections", str(folder), "--json")
    assert ran.json["segments"] == 2 and ran.json["trimmed_entries"] == 0
    (folder / "c.checkpoint").write_bytes(b"nonsense")
    with pytest.raises(BadInput):
        reading(folder, prefix)
    assert sentinel("archive", "--trim", "--projections", str(folder)).code == 2


def test_what_nobody_continues_holds_nothing_back(sentinel: Sentinel, tmp_path: Path) -> None:
    """A checkpoint of a version that this release does not have is named and ignored: else nothing would ever be
    trimmed again. Another log's is none of its business. What was trimmed is still read, from the archive.
    """
    folder = tmp_path / "checkpoints"
    assert sentinel("project", "--checkpoint-directory", str(folder)).code == 0
    prefix = f"archive-{tmp_path.name}"
    header = b'{"magic":"m","name":"%s","version":%d,"sources":{"0":{"sequence":1}}}\n'
    (folder / f"{prefix}-profiles-77.checkpoint").write_bytes(header % (b"profiles", 77))
    (folder / f"{prefix}-vanished-1.checkpoint").write_bytes(header % (b"vanished", 1))
    (folder / f"other-{prefix}-profiles-1.checkpoint").write_bytes(header % (b"profiles", 1))
    ran = sentinel("archive", "--trim", "--hot-hours", "0", "--projections", str(folder), "--json")
    assert ran.code == 0 and ran.json["trimmed_entries"] > 0
    told = ran.err.splitlines()
    assert len(told) == 2 and "no projection profiles-77" in told[0] and "no projection vanished-1" in told[1]
    (folder / f"{prefix}-profiles-1.checkpoint").unlink()
    assert sentinel("project", "--checkpoint-directory", str(folder)).code == 0


def test_superseded_tables_leave_the_log_server(sentinel: Sentinel) -> None:
    """They are archived, verified and read there; the models and the newest tables stay. A damaged copy is named."""
    key = f"{sentinel.prefix}:blob:*"
    before = len(sentinel.server.keys(key))
    found = sentinel("archive", "--json").json
    assert found["copied_blobs"] > 5 and found["copied_blob_bytes"] > 0 and found["removed_blobs"] == 0
    assert len(sentinel.server.keys(key)) == before
    found = sentinel("archive", "--trim", "--hot-hours", "0", "--json").json
    assert found["copied_blobs"] == 0 and found["removed_blobs"] > 2 and found["removed_blob_bytes"] > 0
    assert len(sentinel.server.keys(key)) == before - found["removed_blobs"]
    assert sentinel("archive", "--trim", "--json").json["removed_blobs"] == 0
    assert sentinel("verify").code == 0 and sentinel("replay", "--verify", "--jobs", "1").code == 0
    gone = next(p for p in (sentinel.directory / "blobs").iterdir() if not sentinel.log.held_blobs([p.name]))
    content = gone.read_bytes()
    gone.write_bytes(content + b"x")
    ran = sentinel("verify")
    assert ran.code == 3 and f"blobs/{gone.name} is not what was archived" in ran.err
    gone.unlink()
    ran = sentinel("verify")
    assert ran.code == 3 and f"holds no blob {gone.name}, and its archive" in ran.err


def test_trimming_beside_projections_happens(sentinel: Sentinel, tmp_path: Path) -> None:
    """Once all projections have taken everything in, trimming frees the hot log: those that read only the control
    stream have no place in any partition, and hold nothing back.
    """
    folder = tmp_path / "checkpoints"
    assert sentinel("project", "--checkpoint-directory", str(folder)).code == 0
    assert any(not each.reads_partitions for each in catalogue.ALL)
    ran = sentinel("archive", "--trim", "--hot-hours", "0", "--projections", str(folder), "--json")
    assert ran.json["segments"] == 2 and ran.json["trimmed_entries"] > 0


def test_a_new_version_of_a_projection_is_swapped_in(
    sentinel: Sentinel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--swap makes an equal version current, refuses one that differs, takes it if told to, and needs a later one."""
    folder = tmp_path / "views"
    where = ("--checkpoint-directory", str(folder))
    store = CheckpointStore(folder, f"archive-{tmp_path.name}")
    assert sentinel("project", *where).code == 0
    ran = sentinel("project", *where, "--swap", "profiles")
    assert (ran.code, store.current("profiles")) == (2, None)
    assert "profiles-1 is already current" in ran.err

    without = {kind: handler for kind, handler in PROFILES.handlers.items() if kind is not DecidedTransaction}
    same, other = replace(PROFILES, version=2), replace(PROFILES, version=3, handlers=without)
    everything = [*catalogue.ALL, same, other]
    monkeypatch.setattr(project, "ALL", everything)
    ran = sentinel("project", *where, "--swap", "profiles", "--json")
    assert ran.json == {"projection": "profiles", "was": 1, "current": 2, "equal": True}
    assert store.current("profiles") == 2
    states = {s["projection"] + str(s["version"]): s["current"] for s in sentinel("project", *where, "--json").json}
    assert (states["profiles1"], states["profiles2"], states["profiles3"]) == (False, True, False)

    ran = sentinel("project", *where, "--swap", "profiles")
    assert (ran.code, store.current("profiles")) == (2, 2)
    assert "profiles-3 differs from profiles-2" in ran.err
    ran = sentinel("project", *where, "--swap", "profiles", "--accept-difference")
    assert (ran.code, store.current("profiles")) == (0, 3)
    assert "version 3 is now current, was 2; states differ" in ran.out
    assert sentinel("project", *where, "--swap", "nothing").code == 2
    assert sentinel("project", *where, "--accept-difference").code == 2


def test_segments_older_than_the_days_kept_move_to_the_cold_store(
    sentinel: Sentinel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--keep-days needs a cold store that every command finds; then old segments lie there and all is as before."""
    cold = tmp_path / "cold"
    sentinel("archive", "--hot-hours", "0", "--trim")
    assert "missing cold store" in sentinel("archive", "--keep-days", "1").err
    assert "SENTINEL_ARCHIVE_COLD" in sentinel("archive", "--keep-days", "1", "--cold", str(cold)).err
    monkeypatch.setenv("SENTINEL_ARCHIVE_COLD", str(cold))
    assert sentinel("archive", "--keep-days", "1e5", "--json").json["moved_segments"] == 0
    found = sentinel("archive", "--keep-days", "1e-9", "--json").json
    assert found["moved_segments"] == 2 and found["moved_blobs"] > 2 and found["moved_blob_bytes"] > 0
    assert found["moved_bytes"] == sum(path.stat().st_size for path in cold.rglob("*.parquet")) > 1000
    assert not list(sentinel.directory.rglob("*.parquet"))
    assert sentinel("verify").code == 0
    replayed = sentinel("replay", "--verify", "--json", "--jobs", "1").json
    assert replayed["identical"] == replayed["decisions"] > 300


def test_too_many_degraded_decisions_fail_until_they_are_allowed(sentinel: Sentinel, valkey_server: Valkey) -> None:
    """Decided without the deployed model, as reported: every decision replays and the log is intact, but both commands
    count them and exit with 1, unless --max-degraded allows so many.
    """
    prefix = f"degraded-{sentinel.directory.parent.name}"
    sentinel.setenv("SENTINEL_LOG_PREFIX", prefix)
    log = connect(valkey_server.host, valkey_server.port, prefix=prefix)
    log.put_blob(ARTIFACT)  # which is no model to the real loader
    offline = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=2, start=[deployed()])
    offline.feed(records(3, 100))
    offline.flush()
    count = log.length(0, "scores") + log.length(1, "scores")
    for command in (["verify"], ["replay", "--verify", "--jobs", "1"]):
        failed = sentinel(*command, archive=False)
        assert failed.code == 1 and f"{count} of {count} decisions (100 %) lacked a model" in failed.err
        found = sentinel(*command, "--max-degraded", "100", "--json", archive=False)
        assert (found.code, found.json["degraded"], found.json["late"], found.json["exceeded"]) == (0, count, 0, [])
        assert found.json["decisions"] == count
