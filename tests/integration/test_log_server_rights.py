"""The shipped ACL files on a Redis with TLS: what each role can do with the log, and that it can do nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from console.least_rights import ROLES, Right
from core.events import START
from core.log.base import Entry, Head
from core.log.memory import MemoryLog
from core.log.redis_streams import RedisLog, connect
from core.log.redis_transport import NotPermitted
from tests.builders.batches import batch_after
from tests.integration.roles import LINES, opened
from tests.integration.secured_servers import ROOT_USER, Authority, SecuredRedis, password
from tests.integration.servers import RedisCluster


@pytest.fixture(scope="module")
def server(needs_redis: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredRedis]:
    """A Redis with the shipped users, and a log of some batches."""
    folder = tmp_path_factory.mktemp("roles")
    server = SecuredRedis(folder, Authority(folder / "certificates"), list(LINES.values()))
    server.start()
    with closing(opened(server, ROOT_USER)) as log:
        append(log)
        append(log)
        log.append_control([b"x"], 0)
        log.put_blob(b"model")
    yield server
    server.stop()


def read(log: RedisLog) -> None:
    """Everything that reading takes: ranges, heads, lengths, following, blobs, the server's clock."""
    head = log.head(0)
    assert log.read(0, "seals", START, 10)
    assert log.get_many(0, "transactions", [head.transactions])
    assert log.read_control(0, 10) and log.control_head()
    assert log.length(0, "seals") and log.begin(0, "seals")
    log.follow({(0, "seals"): START}, 10)
    log.get_blob(log_blob())


def log_blob() -> str:
    import hashlib

    return hashlib.sha256(b"model").hexdigest()


def first_seal() -> Entry:
    archived = MemoryLog()
    archived.append(0, batch_after(Head()), Head())
    return archived.read(0, "seals")[0]


SEAL = first_seal()


def append(log: RedisLog) -> None:
    head = log.head(0)
    assert log.append(0, batch_after(head), head) != head
    log.continue_after(1, SEAL)


def trim(log: RedisLog) -> None:
    head = log.head(0)
    earlier = log.read(0, "seals", START, 1)
    assert earlier
    log.trim(0, head)
    log.remove_blob("0" * 64)


def control(log: RedisLog) -> None:
    head = log.control_head()
    assert log.append_control([b"x"], head) == head + 1


def blobs(log: RedisLog) -> None:
    log.put_blob(b"another model")


TRIALS: dict[Right, Callable[[RedisLog], None]] = {
    "read": read,
    "partitions": append,
    "trim": trim,
    "control": control,
    "blobs": blobs,
}


def test_every_role_has_a_file_with_one_user() -> None:
    """Of its name, without a password, so that nobody can log in before one is set."""
    assert LINES.keys() == ROLES.keys()
    for role, line in LINES.items():
        assert line.startswith(f"user sentinel-{role} on ") and "\n" not in line
        assert "nopass" not in line and ">" not in line and "#" not in line


@pytest.mark.parametrize("right", list(TRIALS))
@pytest.mark.parametrize("role", list(ROLES))
def test_a_role_can_do_what_its_rights_say_and_nothing_else(server: SecuredRedis, role: str, right: Right) -> None:
    """The refusal is the project's error, which says that the user may not."""
    with closing(opened(server, f"sentinel-{role}")) as log:
        if right in ROLES[role]:
            TRIALS[right](log)
        else:
            with pytest.raises(NotPermitted, match="may not"):
                TRIALS[right](log)


@pytest.fixture(scope="module")
def cluster(redis_cluster: RedisCluster) -> RedisCluster:
    """A Redis Cluster whose nodes know the shipped users, and a log of some batches."""
    for node in redis_cluster.nodes:
        with node.client() as client:
            for line in LINES.values():
                _, user, *rules = re.findall(r"\(.*?\)|\S+", line)
                client.execute_command("ACL SETUSER", user, f">{password(user)}", *rules)
    with closing(connect("127.0.0.1", redis_cluster.port, cluster=True)) as log:
        append(log)
        append(log)
        log.append_control([b"x"], 0)
        log.put_blob(b"model")
    return redis_cluster


@pytest.mark.parametrize("right", list(TRIALS))
@pytest.mark.parametrize("role", list(ROLES))
def test_the_roles_are_the_same_on_a_cluster(cluster: RedisCluster, role: str, right: Right) -> None:
    """There appends are scripts, and clients ask for the map of slots."""
    user = f"sentinel-{role}"
    log = connect("127.0.0.1", cluster.port, cluster=True, username=user, password=password(user))
    with closing(log):
        if right in ROLES[role]:
            TRIALS[right](log)
        else:
            with pytest.raises(NotPermitted, match="may not"):
                TRIALS[right](log)
