"""What `sentinel doctor` says of the log's server, and of the user's rights on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from console import findings
from console.server_findings import COMMANDS, Finding, log_server_findings, node_findings
from console.stack import Valkey
from core.log.base import Head
from core.log.redis_streams import connect
from core.settings import Settings
from tests.builders.batches import batch_after
from tests.builders.full_disk import no_room

DOCUMENTED = re.search(
    r"ACL SETUSER sentinel on >PASSWORD ~ss:\* (.+?)\n```", Path("docs/settings.md").read_text(), re.DOTALL
)
assert DOCUMENTED is not None
RIGHTS = DOCUMENTED[1].split()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server with the users `full`, with the documented rights, and `reader`, with fewer."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server, redis.Redis(port=server.port) as admin:
        for name, rights in (("full", RIGHTS), ("reader", ["+xrange", "+xrevrange"])):
            admin.execute_command("ACL", "SETUSER", name, "on", ">secret", "~ss:*", *rights)
        yield server


def settings(server: Valkey, user: str) -> Settings:
    return Settings(redis_port=server.port, redis_username=user, redis_password="secret")


def test_the_documented_rights_are_enough(server: Valkey) -> None:
    """A user with the rights of docs/settings.md can do all that the log does, and doctor misses nothing."""
    log = connect(server.host, server.port, username="full", password="secret")
    head = Head()
    for _ in range(2):
        head = log.append(0, batch_after(head), head)
    assert log.append_control([b"x"], log.control_head()) == 1
    assert log.get_blob(log.put_blob(b"model")) == b"model"
    assert log.trim(0, head) > 0
    log.remove_blob(log.put_blob(b"table"))
    assert log.append(0, batch_after(head), head) == log.head(0)
    log.close()
    assert [f.status for f in log_server_findings(settings(server, "full"))] == ["warn"]  # INFO is no right of its own


def test_no_documented_right_is_one_too_many() -> None:
    """The documented rights are those that doctor tries, and the archive's."""
    tried = {str(command).lower().replace(" ", "|") for _, commands in COMMANDS.values() for command, *_ in commands}
    assert {right.removeprefix("+") for right in RIGHTS} == tried | {"xtrim", "unlink"}


def test_missing_rights_are_named(server: Valkey) -> None:
    """A user who may only read is told what is missing, and nothing is written to find it out."""
    findings = list(log_server_findings(settings(server, "reader")))
    told = next(f for f in findings if f.status == "fail")
    assert "MULTI" in told.message and "XADD" in told.message and "XRANGE" not in told.message
    with redis.Redis(port=server.port) as admin:
        assert not list(admin.scan_iter(match="*no-such-key*"))


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (["~ss:{control}:*", "~ss:blob:*", "%R~ss:{p*"], "partitions"),
        (["~ss:{p*", "~ss:blob:*", "%R~ss:{control}:*"], "control stream"),
        (["~ss:{p*", "~ss:{control}:*", "%R~ss:blob:*"], "blobs"),
    ],
)
def test_every_kind_of_key_is_tried(server: Valkey, keys: list[str], what: str) -> None:
    """A user who may write some of the log's keys and only read the others is told which."""
    with redis.Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "partial", "reset", "on", ">secret", *keys, *RIGHTS)
    failures = [f.message for f in log_server_findings(settings(server, "partial")) if f.status == "fail"]
    assert len(failures) == 1 and f"on keys of the {what} " in failures[0]
    assert ("SET" if what == "blobs" else "XADD") in failures[0]


@pytest.mark.parametrize("user", ["full", "default"])
@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (["REPLICAOF", "127.0.0.1", "1"], "read-only replica"),
        (["CONFIG", "SET", "maxmemory", "1kb"], "out of memory"),
    ],
)
def test_a_server_that_refuses_to_write_is_a_failure(tmp_path: Path, begin: list[str], said: str, user: str) -> None:
    """A replica and a full server are found by what they refuse, even by a user who may not run INFO."""
    with Valkey(tmp_path) as server, redis.Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "full", "on", ">secret", "~ss:*", *RIGHTS)
        asks = settings(server, "full") if user == "full" else Settings(redis_port=server.port)
        assert not [f for f in log_server_findings(asks) if f.status == "fail"]
        admin.execute_command(*begin)
        failures = [f.message for f in log_server_findings(asks) if f.status == "fail"]
        assert any("refuses to write" in message and said in message for message in failures), failures
        assert (len(failures) > 1) == (user == "default")  # INFO says so too


class Node:
    """A server that says what it is told to."""

    def __init__(self, info: dict[str, Any], **settings: str) -> None:
        self._info = info
        self._settings = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always", **settings}

    def info(self) -> dict[str, Any]:
        return {"redis_version": "7.2.4", **self._info}

    def config_get(self, *patterns: str) -> dict[str, str]:
        return self._settings


@pytest.mark.parametrize(
    ("info", "truncated", "warns"),
    [
        ({"redis_version": "7.0.15"}, "yes", True),
        ({"redis_version": "7.0.15"}, "no", False),
        ({"valkey_version": "9.0.1"}, "yes", True),
        ({"valkey_version": "9.1.2"}, "yes", False),
    ],
)
def test_a_server_that_may_load_half_an_append_is_told(info: dict[str, Any], truncated: str, warns: bool) -> None:
    """Versions that cut their file within a transaction lose acknowledged appends at the restart after."""
    node: Any = Node(info, **{"aof-load-truncated": truncated})
    findings: list[Finding] = list(node_findings(node, "log server"))
    assert any("aof-load-truncated" in f.message for f in findings) == warns


def test_a_directory_on_a_full_disk_is_found(tmp_path: Path) -> None:
    """It takes a new file and no bytes: it is warned of for snapshots, and a failure for an archive that has begun."""
    s = Settings(snapshot_directory=str(tmp_path / "snapshots"), archive=str(tmp_path / "archive"))

    def found() -> dict[str, str]:
        checks = [check for check in findings.CHECKS if check.name in ("snapshots", "archive")]
        return {finding.check: finding.status for check in checks for finding in check.ask(s)}

    assert found() == {"snapshots": "ok"}
    (tmp_path / "archive").mkdir()
    assert found() == {"snapshots": "ok", "archive": "ok"}
    with no_room():
        assert found() == {"snapshots": "warn", "archive": "fail"}
    assert found() == {"snapshots": "ok", "archive": "ok"}
    assert [path.name for path in tmp_path.rglob("*")] == ["snapshots", "archive"]
