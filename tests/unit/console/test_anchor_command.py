"""`sentinel anchor` as a user runs it, on a log in Valkey."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import redis

from console.stack import Valkey
from core import control_stream
from core.context import Resolver
from core.identity import FIXED
from core.log import checkpoints
from core.log.notes import PublicKey
from core.log.redis_streams import RedisLog, connect
from ingest.offline import OfflineIngest
from tests.builders.command_line import Ran, run_command
from tests.builders.logs import records
from tests.builders.models import deployed, load_tiny

Sentinel = Callable[..., Ran]


@pytest.fixture
def log(valkey_server: Valkey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RedisLog:
    prefix = f"anchor-{tmp_path.name}"
    monkeypatch.chdir(tmp_path)
    for name, value in {"REDIS_HOST": valkey_server.host, "REDIS_PORT": str(valkey_server.port)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SENTINEL_LOG_PREFIX", prefix)
    log = connect(valkey_server.host, valkey_server.port, prefix=prefix)
    feed(log, 300)
    return log


def feed(log: RedisLog, size: int) -> None:
    offline = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=2, start=[deployed()])
    offline.feed(records(3, size))
    offline.flush()


@pytest.fixture
def sentinel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sentinel:
    def run(*arguments: str) -> Ran:
        return run_command(monkeypatch, capsys, *arguments)

    return run


def test_a_key_a_checkpoint_and_its_anchor(log: RedisLog, sentinel: Sentinel, tmp_path: Path) -> None:
    """The public key that is printed verifies the file; the second checkpoint follows the first."""
    key = PublicKey.parse(sentinel("anchor", "--new-key", "notary.key").out)
    assert PublicKey.parse(sentinel("anchor", "--key", "notary.key", "--public").out) == key
    assert (tmp_path / "notary.key").stat().st_mode & 0o777 == 0o600
    ran = sentinel("anchor", "--key", "notary.key", "--directory", "worm", "--json")
    assert ran.code == 0 and msgspec.json.decode(ran.out)["number"] == 1
    assert "checkpoint 1 of " in sentinel("anchor", "--key", "notary.key", "--directory", "worm").out  # nothing is new
    log.append_control([log.read_control()[1][1]], log.control_head())
    assert "checkpoint 2 of " in sentinel("anchor", "--key", "notary.key", "--directory", "worm").out
    files = sorted((tmp_path / "worm" / FIXED.log_id).iterdir())
    found = [checkpoints.read(path.read_bytes(), [key])[0] for path in files]
    assert [each.number for each in found] == [1, 2] and checkpoints.backwards(*found) == ""
    assert control_stream.current(log).checkpoint == 2


def test_mistakes_are_one_line(log: RedisLog, sentinel: Sentinel, tmp_path: Path) -> None:
    """No key, no directory, a key that others may read, one that exists, something that is no key."""
    assert "missing key" in sentinel("anchor", "--directory", "worm").err
    assert sentinel("anchor", "--new-key", "notary.key").code == 0
    assert "exists" in sentinel("anchor", "--new-key", "notary.key").err
    assert "at least one directory" in sentinel("anchor", "--key", "notary.key").err
    (tmp_path / "notary.key").chmod(0o644)
    assert "chmod 600" in sentinel("anchor", "--key", "notary.key", "--directory", "worm").err
    (tmp_path / "other.key").write_text("x")
    (tmp_path / "other.key").chmod(0o600)
    for name, said in (("other.key", "not an Ed25519 key"), ("none.key", "--new-key")):
        ran = sentinel("anchor", "--key", name, "--directory", "worm")
        assert ran.code == 2 and said in ran.err and len(ran.err.splitlines()) == 1


def test_a_destination_that_fails_is_said(log: RedisLog, sentinel: Sentinel, tmp_path: Path) -> None:
    """Exit code 1, and the others have the checkpoint."""
    sentinel("anchor", "--new-key", "notary.key")
    (tmp_path / "file").write_text("")
    ran = sentinel("anchor", "--key", "notary.key", "--directory", "worm", "--directory", "file")
    assert ran.code == 1 and "can't write" in ran.err and "worm" in ran.out


def test_a_log_that_goes_back_exits_3(log: RedisLog, sentinel: Sentinel, valkey_server: Valkey) -> None:
    """A log restored from an old backup is not signed again."""
    sentinel("anchor", "--new-key", "notary.key")
    assert sentinel("anchor", "--key", "notary.key", "--directory", "worm").code == 0
    last = log.read(0, "seals", count=10**6)[-1].id
    redis.Redis(valkey_server.host, valkey_server.port).xdel(log.key(0, "seals"), str(last))
    ran = sentinel("anchor", "--key", "notary.key", "--directory", "worm")
    assert ran.code == 3 and "no longer in the log" in ran.err
