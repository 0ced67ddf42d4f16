"""Appends by WATCH, MULTI and EXEC: what a lane has proven, and every way in which that can cease to hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from console.stack import Valkey
from core.errors import ConcurrencyError, Unavailable
from core.events import Position
from core.log import seals
from core.log.base import STREAMS, Entry, Head
from core.log.redis_streams import RedisLog, connect
from core.log.watched_append import ATTEMPTS_MAX, added
from tests.builders.batches import batch_after, contents, filled, verify
from tests.builders.proxy import through


@pytest.fixture
def raw_valkey(valkey_server: Valkey) -> Iterator[redis.Redis]:
    """A plain client of the server of `redis_log`."""
    with redis.Redis(port=valkey_server.port) as client:
        yield client


def commands(admin: redis.Redis) -> dict[str, int]:
    """Calls of each command since the server's start."""
    stats = admin.info("commandstats")
    return {name.removeprefix("cmdstat_").partition("|")[0]: found["calls"] for name, found in stats.items()}


@given(st.binary(max_size=9), st.lists(st.tuples(st.integers(0, 2**64), st.binary(max_size=300)), max_size=4))
def test_entries_are_packed_as_hiredis_packs_them(key: bytes, entries: list[tuple[int, bytes]]) -> None:
    """The same bytes, whatever a key or a payload holds."""
    found = [Entry(Position(1, offset), payload) for offset, payload in entries]
    ids = seals.id_texts(found)
    packed = [hiredis.pack_command((b"XADD", key, i, b"e", e.payload)) for i, e in zip(ids, found, strict=True)]  # type: ignore[arg-type]
    assert added(key, ids, found) == packed


def test_a_proven_partition_is_appended_to_without_a_check(tmp_path: Path) -> None:
    """The first append to a partition reads its streams; every later one sends a single message and no check."""
    with Valkey(tmp_path) as server, redis.Redis(port=server.port) as admin:
        log = connect(server.host, server.port)
        head = log.append(0, batch_after(Head()), Head())
        checked = commands(admin)["xinfo"]
        for _ in range(3):
            head = log.append(0, batch_after(head), head)
        assert commands(admin)["xinfo"] == checked
        assert log.head(0) == head
        log.close()


def test_a_stream_that_is_trimmed_meanwhile_costs_a_second_try_only(
    redis_log: RedisLog, raw_valkey: redis.Redis
) -> None:
    """An archiver that trims between two appends touches what is watched: the append is checked and sent again."""
    head = filled(redis_log)
    for _ in range(3):
        raw_valkey.xtrim(redis_log.key(0, "scores"), maxlen=1, approximate=False)
        head = redis_log.append(0, batch_after(head), head)
    assert redis_log.head(0) == head


def test_a_writer_between_two_appends_is_a_conflict_for_its_partition_alone(
    redis_log: RedisLog, redis_prefix: str, valkey_server: Valkey
) -> None:
    """Of two proven partitions one is written to by somebody else: its append is refused, the other's goes through."""
    heads = {p: redis_log.append(p, batch_after(Head()), Head()) for p in (0, 1)}
    other = connect(valkey_server.host, valkey_server.port, prefix=redis_prefix)
    taken = other.append(0, batch_after(heads[0], tag="other"), heads[0])
    results = redis_log.append_many([(p, batch_after(heads[p], tag="ours"), heads[p]) for p in (0, 1)])
    assert isinstance(results[0], ConcurrencyError)
    assert results[1] == redis_log.head(1)
    assert redis_log.head(0) == taken
    other.close()


def test_an_entry_deleted_again_is_found_before_anything_is_written(
    redis_log: RedisLog, raw_valkey: redis.Redis
) -> None:
    """An ID that was generated and deleted can't be seen by reading the stream, but XADD would trip over it."""
    head = filled(redis_log)
    raw_valkey.xadd(redis_log.key(0, "scores"), {"e": "x"}, id="9-9")
    raw_valkey.xdel(redis_log.key(0, "scores"), "9-9")
    before = contents(redis_log, 0)
    with pytest.raises(ConcurrencyError, match="which no seal covers"):
        redis_log.append(0, batch_after(head), head)
    assert contents(redis_log, 0) == before


def test_two_halves_of_an_append_are_the_whole(redis_log: RedisLog) -> None:
    """What was started is in the log once its results are asked for, even if another append ran in between."""
    started = redis_log.start_append([(0, seals.sealed(batch_after(Head()), Head()))])
    between = redis_log.append(1, batch_after(Head()), Head())
    assert started.results() == [redis_log.head(0)]
    assert redis_log.head(1) == between


def test_streams_that_change_before_every_try_are_unavailable_and_nothing_follows(
    redis_log: RedisLog, raw_valkey: redis.Redis, redis_prefix: str, valkey_server: Valkey
) -> None:
    """EXEC refused as often as it may be: Unavailable, and no further try is on its way that nobody waits for."""
    head = filled(redis_log)
    with through(valkey_server, redis_prefix, ["release first"] * ATTEMPTS_MAX) as (log, proxy):
        proxy.release = lambda: raw_valkey.expire(redis_log.key(0, "scores"), 1_000)  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="keeps changing"):
            log.append(0, batch_after(head, tag="late"), head)
        assert proxy.seen == ATTEMPTS_MAX
        assert redis_log.head(0) == head
        assert log.append(0, batch_after(head), head) == redis_log.head(0)


def test_a_connection_that_was_closed_by_its_pool_watches_nothing(
    redis_log: RedisLog, redis_prefix: str, valkey_server: Valkey
) -> None:
    """redis-py opens a closed connection again by itself: what was proven on the former one must be checked anew."""
    client = redis.Redis(port=valkey_server.port, protocol=2)
    log = RedisLog(client, redis_prefix)
    head = filled(log)
    client.connection_pool.disconnect()
    taken = redis_log.append(0, batch_after(head, tag="other"), head)
    with pytest.raises(ConcurrencyError):
        log.append(0, batch_after(head, transactions=9, tag="ours"), head)
    assert verify(contents(redis_log, 0)) == taken
    log.close()


def test_appends_that_nobody_waits_for_leave_their_connections(
    redis_prefix: str, redis_log: RedisLog, valkey_server: Valkey
) -> None:
    """A started append that is dropped gives its connection back to the pool, which holds a bounded number of them."""
    log = RedisLog(redis.Redis(port=valkey_server.port, protocol=2, max_connections=3), redis_prefix)
    for partition in range(10):
        log.start_append([(partition, seals.sealed(batch_after(Head()), Head()))])
    head = log.append(10, batch_after(Head()), Head())
    assert redis_log.head(10) == head
    log.close()


@pytest.mark.parametrize("command", ["watch", "multi", "exec", "discard", "xadd", "xinfo"])
def test_without_one_right_an_append_is_refused_whole(tmp_path: Path, command: str) -> None:
    """A user who may not do one of an append's commands: Unavailable that names the rights, and no entry is there."""
    with Valkey(tmp_path) as server, redis.Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "writer", "on", ">secret", "~ss:*", "+@all", f"-{command}")
        log = connect(server.host, server.port, username="writer", password="secret")
        for _ in range(2):
            with pytest.raises(Unavailable, match="the user may not do this"):
                log.append(0, batch_after(Head()), Head())
        assert all(admin.exists(log.key(0, stream)) == 0 for stream in STREAMS)
        log.close()


def test_a_right_that_is_taken_away_meanwhile_is_told(tmp_path: Path) -> None:
    """MULTI refused on a proven connection: each XADD runs by itself, so the log is read back to know what is in it."""
    with Valkey(tmp_path) as server, redis.Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "writer", "on", ">secret", "~ss:*", "+@all")
        log = connect(server.host, server.port, username="writer", password="secret")
        head = filled(log)
        admin.execute_command("ACL", "SETUSER", "writer", "-multi")
        head = log.append(0, batch_after(head), head)
        assert verify(contents(log, 0)) == head
        with pytest.raises(Unavailable, match="the user may not do this"):
            log.append(0, batch_after(head), head)
        assert verify(contents(log, 0)) == head
        log.close()
