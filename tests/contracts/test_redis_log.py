"""What only an event log on Redis can get wrong: foreign writes, trimming, restarts, refusals and lost replies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from console.stack import Valkey, free_port
from core.errors import BadInput, ConcurrencyError, Corrupt, SentinelError, Unavailable
from core.events import Position
from core.log import redis_streams, scripted_append, seals
from core.log.base import STREAMS, Batch, Entry, Head, Stream
from core.log.redis_streams import RedisLog, connect
from core.log.redis_transport import Lost, NotPermitted, Transport, _Exchange, request, translate
from tests.builders.batches import batch_after, contents, filled, verify
from tests.builders.proxy import Fault, through
from tests.conftest import RedisBackend


@pytest.fixture
def log(redis_backend: RedisBackend) -> Iterator[RedisLog]:
    """An empty log on every Redis in turn."""
    log = redis_backend.log()
    yield log
    log.close()


@pytest.fixture
def raw(redis_backend: RedisBackend) -> Iterator[redis.Redis]:
    """A plain client of the same server."""
    client = redis_backend.client()
    yield client  # type: ignore[misc]
    client.close()


# --- the keys, and what others may have done to them ------------------------------------------------------------


def test_keys_are_as_documented(log: RedisLog, raw: redis.Redis, redis_backend: RedisBackend) -> None:
    """Streams lie under one hash tag per partition, an entry is one field `e`, a blob is a string by its digest."""
    prefix = redis_backend.prefix.encode()
    batch = batch_after(Head())
    log.append(7, batch, Head())
    log.append(112, batch, Head())
    log.append_control([b"{}"], 0)
    digest = log.put_blob(b"blob")
    keys = {prefix + b":{control}:control", prefix + b":blob:" + digest.encode()}
    keys |= {prefix + b":{%s}:%s" % (p, stream.encode()) for p in (b"p07", b"p112") for stream in STREAMS}
    assert set(raw.scan_iter(match=prefix + b"*")) == keys
    stored = raw.xrange(prefix + b":{p07}:transactions")
    assert stored == [(str(e.id).encode(), {b"e": e.payload}) for e in batch.transactions]


@pytest.mark.parametrize("stream", STREAMS)
def test_a_foreign_entry_in_any_stream_stops_the_whole_append(log: RedisLog, raw: redis.Redis, stream: Stream) -> None:
    """An ID ahead of the log in any one stream, which XADD would trip over midway, is found before the first write."""
    head = filled(log)
    raw.xadd(log.key(0, stream), {"e": "foreign"}, id="9-9")
    before = contents(log, 0)
    with pytest.raises((ConcurrencyError, Corrupt)):
        log.append(0, batch_after(head), head)
    assert contents(log, 0) == before


@pytest.mark.parametrize("stream", STREAMS)
def test_a_key_of_another_type_stops_the_whole_append(log: RedisLog, raw: redis.Redis, stream: Stream) -> None:
    """A string where a stream should be raises Corrupt with nothing written to the other streams."""
    raw.set(log.key(0, stream), "not a stream")
    with pytest.raises(Corrupt, match="that the log does not write"):
        log.append(0, batch_after(Head()), Head())
    assert all(raw.exists(log.key(0, other)) == (other == stream) for other in STREAMS)


def test_streams_trimmed_to_empty_still_refuse_old_ids(log: RedisLog, raw: redis.Redis) -> None:
    """After trimming, the log goes on where it was; an ID that it once held is refused with nothing written."""
    head = filled(log)
    for stream in STREAMS[:-1]:
        raw.xtrim(log.key(0, stream), maxlen=0, approximate=False)
    forged = Head(head.sequence, Position(1, 2), Position(1, 1), head.control, head.published, head.digest)
    for batch in (batch_after(forged, feedback=0, rejects=0), batch_after(forged, transactions=0, alerts=0)):
        with pytest.raises(ConcurrencyError):
            log.append(0, batch, forged)
    assert [log.length(0, stream) for stream in STREAMS] == [0, 0, 0, 0, 0, 3]
    assert log.append(0, batch_after(head), head) == log.head(0)
    assert log.length(0, "transactions") == 3


def test_without_its_last_seal_a_log_is_corrupt_not_empty(log: RedisLog, raw: redis.Redis) -> None:
    """A trimmed stream of seals must not look like a new log, nor let anybody append."""
    head = filled(log)
    raw.xtrim(log.key(0, "seals"), maxlen=0, approximate=False)
    with pytest.raises(Corrupt, match="lost its head"):
        log.head(0)
    for expected in (Head(), head):
        with pytest.raises(ConcurrencyError):
            log.append(0, batch_after(expected), expected)


def test_an_emptied_control_stream_keeps_its_position(
    log: RedisLog, raw: redis.Redis, redis_backend: RedisBackend
) -> None:
    """The control stream's sequence goes on after its entries were trimmed."""
    log.append_control([b"one", b"two"], 0)
    raw.xtrim(f"{redis_backend.prefix}:{{control}}:control", maxlen=0, approximate=False)
    assert log.control_head() == 2
    assert log.append_control([b"three"], 2) == 3
    assert log.read_control() == [(3, b"three")]


def test_entries_of_another_form_are_corrupt(log: RedisLog, raw: redis.Redis) -> None:
    """An entry with other or more fields than the log writes is reported, not skipped."""
    raw.xadd(log.key(0, "alerts"), {"other": "x"}, id="1-1")
    raw.xadd(log.key(1, "alerts"), {"e": "x", "f": "y"}, id="1-1")
    for partition in (0, 1):
        with pytest.raises(Corrupt, match="1-1"):
            log.read(partition, "alerts")


def test_a_changed_blob_is_corrupt(log: RedisLog, raw: redis.Redis, redis_backend: RedisBackend) -> None:
    """One changed byte in a stored blob is found when it is read."""
    digest = log.put_blob(b"a model")
    raw.set(f"{redis_backend.prefix}:blob:{digest}", b"a modem")
    with pytest.raises(Corrupt, match=digest):
        log.get_blob(digest)


def test_ids_are_compared_as_numbers(log: RedisLog) -> None:
    """9 < 10, 2^53 < 2^53+1, up to 2^64-1, although the server's scripts know only doubles."""
    head = Head()
    edges = [9, 10, 99, 100, 2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**63, 2**64 - 2, 2**64 - 1]
    for offset in edges:
        ids = Position(1, offset)
        batch = Batch(0, 1, ids, head.feedback, transactions=[Entry(ids, b"{}")], scores=[Entry(ids, b"{}")])
        forged = Head(head.sequence, Position(1, 0), head.feedback, digest=head.digest)
        if head.sequence:
            again = Batch(0, 1, head.transactions, head.feedback)
            again.transactions = again.scores = [Entry(head.transactions, b"{}")]
            with pytest.raises(ConcurrencyError):
                log.append(0, again, forged)
        head = log.append(0, batch, head)
    assert [entry.id.offset for entry in log.read(0, "transactions")] == edges


@pytest.mark.parametrize("offset", [2**64, 2**70])
def test_an_id_that_redis_cannot_hold_is_refused_whole(log: RedisLog, offset: int) -> None:
    """An ID beyond 64 bits, which XADD would refuse midway, raises BadInput with nothing written."""
    batch = batch_after(Head(), alerts=0)
    batch.transactions_end = Position(2, 0)
    for entries in (batch.transactions, batch.scores):
        entries[2] = Entry(Position(1, offset), b"{}")
    with pytest.raises(BadInput):
        log.append(0, batch, Head())
    assert log.length(0, "transactions") == 0


def test_a_server_that_lost_its_scripts_gets_them_again(log: RedisLog, raw: redis.Redis) -> None:
    """After SCRIPT FLUSH, as after a restart, single and many appends and control events go through."""
    raw.script_flush()
    head = log.append(0, batch_after(Head()), Head())
    raw.script_flush()
    heads = log.append_many([(p, batch_after(Head()), Head()) for p in range(1, 5)])
    assert heads == [log.head(p) for p in range(1, 5)]
    raw.script_flush()
    assert log.append_control([b"x"], 0) == 1
    assert log.append(0, batch_after(head), head).sequence == 2


# --- unknown outcomes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "sent"),
    [
        (["drop reply"], 1),
        (["drop request"], 2),
        (["drop request", "drop reply"], 2),
        (["hold"], 2),
        (["hold", "release first"], 2),
    ],
)
def test_a_lost_reply_is_resolved_to_one_success(
    redis_log: RedisLog, redis_prefix: str, valkey_server: Valkey, plan: list[Fault], sent: int
) -> None:
    """Whether the request or its reply was lost, or the request arrives late: one success, written exactly once."""
    head = filled(redis_log)  # the server knows the script, so that each request is one EVALSHA or EVAL
    with through(valkey_server, redis_prefix, plan) as (log, proxy):
        done = log.append(0, batch_after(head), head)
        assert proxy.seen == sent
        proxy.release()
    assert done == redis_log.head(0)
    assert verify(contents(redis_log, 0)) == done
    assert done.sequence == head.sequence + 1


@pytest.mark.parametrize(("plan", "sent"), [(["drop reply"], 1), (["drop request"], 2), (["hold", "release first"], 2)])
def test_a_lost_reply_of_control_events_is_resolved(
    redis_log: RedisLog, redis_prefix: str, valkey_server: Valkey, plan: list[Fault], sent: int
) -> None:
    """Control events whose reply or request was lost are in the stream exactly once."""
    redis_log.append_control([b"zero"], 0)
    with through(valkey_server, redis_prefix, plan, b"EVAL") as (log, proxy):
        assert log.append_control([b"one", b"two"], 1) == 3
        assert proxy.seen == sent
    assert [payload for _, payload in redis_log.read_control()] == [b"zero", b"one", b"two"]


def test_a_lost_pipeline_is_resolved_batch_by_batch(
    redis_log: RedisLog, redis_prefix: str, valkey_server: Valkey
) -> None:
    """The replies of twelve batches lost together, one of them a conflict: eleven successes, each written once."""
    filled(redis_log, batches=2)
    batches = [(p, batch_after(Head()), Head()) for p in range(12)]
    for plan in (["drop reply"], ["drop request"]):
        prefix = redis_prefix + plan[0][-3:]
        with through(valkey_server, prefix, plan) as (log, _):  # type: ignore[arg-type]
            direct = connect(valkey_server.host, valkey_server.port, prefix=prefix)
            taken = direct.append(0, batch_after(Head(), tag="other"), Head())
            results = log.append_many(batches)
            assert isinstance(results[0], ConcurrencyError)
            assert results[1:] == [direct.head(p) for p in range(1, 12)]
            assert all(verify(contents(direct, p)).sequence == 1 for p in range(12))
            assert direct.head(0) == taken
            direct.close()


def test_a_lost_success_counts_even_if_others_followed(
    redis_log: RedisLog, redis_prefix: str, valkey_server: Valkey
) -> None:
    """Our batch was written and another writer came after it before we could look: still a success, not a conflict."""
    head = filled(redis_log)
    batch = batch_after(head)
    ours = seals.seal(batch, head)[0]
    followed = Event()

    def follow() -> None:
        proxy.release()
        redis_log.append(0, batch_after(ours), ours)
        followed.set()

    with through(valkey_server, redis_prefix, ["hold"]) as (log, proxy):
        proxy.when_held = follow
        assert log.append(0, batch, head) == ours
        assert followed.wait(10.0)
    assert verify(contents(redis_log, 0)).sequence == head.sequence + 2


def test_a_lost_request_that_another_writer_overtook_is_a_conflict(
    redis_log: RedisLog, redis_prefix: str, valkey_server: Valkey
) -> None:
    """The request was lost and somebody else appended: ConcurrencyError, and ours is nowhere."""
    head = filled(redis_log)
    with through(valkey_server, redis_prefix, ["hold"]) as (log, proxy):
        proxy.when_held = lambda: redis_log.append(0, batch_after(head, tag="other"), head)
        with pytest.raises(ConcurrencyError):
            log.append(0, batch_after(head, tag="ours"), head)
        proxy.release()
    held = contents(redis_log, 0)
    assert verify(held).sequence == head.sequence + 1
    assert not any(b"ours" in entry.payload for entries in held.values() for entry in entries)


def test_a_read_is_repeated_once(redis_log: RedisLog, redis_prefix: str, valkey_server: Valkey) -> None:
    """A read whose connection broke is asked again; a second failure is Unavailable."""
    head = filled(redis_log)
    with through(valkey_server, redis_prefix, ["drop reply"], b"XREVRANGE") as (log, _):
        assert log.head(0) == head
    with through(valkey_server, redis_prefix, ["drop reply"] * 2, b"XREVRANGE") as (log, _), pytest.raises(Lost):
        log.head(0)


def test_a_reply_never_answers_another_call(valkey_server: Valkey) -> None:
    """A call that is given up before its reply has come takes its connection with it."""
    client = redis.Redis(port=valkey_server.port)
    transport = Transport(client)
    exchange = _Exchange(client.connection_pool, [request(b"k", b"BLPOP", b"no such list", b"0.2").packed])
    exchange.close()
    assert transport.call(request(b"k", b"ECHO", b"mine")) == b"mine"
    transport.close()


def test_an_outcome_that_stays_unknown_is_unavailable(
    redis_log: RedisLog, redis_prefix: str, valkey_server: Valkey
) -> None:
    """Both the request and its repetition are lost: Unavailable, sent twice and never a third time."""
    head = filled(redis_log)
    with through(valkey_server, redis_prefix, ["drop request"] * 5) as (log, proxy):
        with pytest.raises(Unavailable):
            log.append(0, batch_after(head), head)
        assert proxy.seen == 2
    assert redis_log.head(0) == head


# --- refusals, in words -----------------------------------------------------------------------------------------


def every_call(log: RedisLog) -> Iterator[SentinelError]:
    """The error of each method of a log that can't work."""
    calls = [
        lambda: log.head(0),
        lambda: log.append(0, batch_after(Head()), Head()),
        lambda: log.read(0, "scores"),
        lambda: log.get(0, "scores", Position(1, 1)),
        lambda: log.length(0, "scores"),
        log.control_head,
        lambda: log.append_control([b"x"], 0),
        log.read_control,
        lambda: log.put_blob(b"x"),
        lambda: log.get_blob("0" * 64),
    ]
    for call in calls:
        with pytest.raises(SentinelError) as raised:
            call()
        yield raised.value
    for result in log.append_many([(p, batch_after(Head()), Head()) for p in range(3)]):
        assert isinstance(result, SentinelError)
        yield result


def test_no_server_is_unavailable_in_one_line_with_its_address() -> None:
    """Every method of a log without a server raises Unavailable and names host and port."""
    port = free_port()
    log = connect("127.0.0.1", port)
    for error in every_call(log):
        assert isinstance(error, Unavailable)
        assert f"127.0.0.1:{port}" in str(error)
        assert "\n" not in str(error)
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        connect("127.0.0.1", port, cluster=True)


def test_a_single_server_is_not_a_cluster(valkey_server: Valkey) -> None:
    """The cluster setting against a single server says so."""
    with pytest.raises(BadInput, match="not a Redis Cluster"):
        connect(valkey_server.host, valkey_server.port, cluster=True)


def test_wrong_credentials_are_named(valkey_server: Valkey) -> None:
    """A user that the server does not know is a refusal of the credentials, not a lost connection."""
    log = connect(valkey_server.host, valkey_server.port, username="nobody", password="wrong")
    for error in every_call(log):
        assert isinstance(error, Unavailable)
        assert not isinstance(error, Lost)
        assert "user name or password" in str(error)


def test_a_full_or_read_only_server_refuses_whole_and_recovers(tmp_path: Path) -> None:
    """Out of memory and read-only: Unavailable with the remedy, nothing written; afterwards appends go through."""
    with Valkey(tmp_path) as server, redis.Redis(port=server.port) as admin:
        log = connect(server.host, server.port)
        head = filled(log)
        before = contents(log, 0)
        for begin, end, word in (
            (["CONFIG", "SET", "maxmemory", "1mb"], ["CONFIG", "SET", "maxmemory", "0"], "maxmemory"),
            (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"], "read-only"),
        ):
            admin.execute_command(*begin)
            for result in [*log.append_many([(0, batch_after(head), head), (1, batch_after(Head()), Head())]), None]:
                if result is not None:
                    assert type(result) is Unavailable and word in str(result)
            with pytest.raises(Unavailable, match=word):
                log.append(0, batch_after(head), head)
            assert contents(log, 0) == before
            admin.execute_command(*end)
        assert log.append(0, batch_after(head), head) == log.head(0)
        log.close()


def test_a_full_server_can_still_be_trimmed(tmp_path: Path) -> None:
    """A server that refuses every batch takes control events and trimming, so `sentinel archive` frees its memory."""
    with Valkey(tmp_path) as server, redis.Redis(port=server.port) as admin:
        log = connect(server.host, server.port)
        head = Head()
        for _ in range(300):
            head = log.append(0, batch_after(head, 100), head)
        admin.config_set("maxmemory", int(admin.info()["used_memory"]) - 1)
        with pytest.raises(Unavailable, match=r"sentinel archive --trim"):
            log.append(0, batch_after(head), head)
        assert log.append_control([b"archived"], 0) == 1
        assert log.trim(0, head) > 0
        assert log.append_control([b"trimmed"], 1) == 2
        assert log.append(0, batch_after(head), head) == log.head(0)
        log.close()


def test_a_server_that_can_not_compile_flags_takes_control_events(
    log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis 6.2 does not know the flags in a script's first line: the script is sent without it."""
    unknown = "#!unknown\n"
    monkeypatch.setitem(scripted_append.DIGESTS, unknown + scripted_append.APPEND, b"0" * 40)
    monkeypatch.setattr(redis_streams, "ALWAYS", unknown)
    for sequence in range(3):
        assert log.append_control([b"x"], sequence) == sequence + 1


def test_a_user_without_rights_is_told(tmp_path: Path) -> None:
    """A user that may only read gets the log's entries, and Unavailable for an append."""
    with Valkey(tmp_path) as server, redis.Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~ss:*", "+@read", "+@connection")
        log = connect(server.host, server.port, username="reader", password="secret")
        assert log.head(0) == Head()
        for result in [*log.append_many([(p, batch_after(Head()), Head()) for p in range(2)])]:
            assert type(result) is NotPermitted and "the user may not do this" in str(result)
        with pytest.raises(Unavailable, match="the user may not do this"):
            log.append_control([b"x"], 0)
        log.close()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (redis.ConnectionError("gone"), Lost, "gone"),
        (redis.TimeoutError("slow"), Lost, "slow"),
        (InvalidResponse("Protocol error, got 'x' as reply type byte"), Lost, "can't be read (Protocol error"),
        (BusyLoadingError("Redis is loading the dataset in memory"), Unavailable, "still loading"),
        (AuthenticationError("no"), Unavailable, "user name or password"),
        (ResponseError("MISCONF Errors writing to the AOF file: No space left"), Unavailable, "free space"),
        (ResponseError("Error running script: @user_script:42: -OOM command not allowed"), Unavailable, "maxmemory"),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), Unavailable, "min-replicas"),
        (NoPermissionError("this user has no permissions"), NotPermitted, "the user may not do this"),
        (ClusterDownError("CLUSTERDOWN Hash slot not served"), Unavailable, "CLUSTER INFO"),
        (MovedError("3999 127.0.0.1:6381"), BadInput, "cluster setting"),
        (RedisClusterException("no node"), Unavailable, "no node"),
        (ResponseError("unknown command 'XADD'\nwith args"), Unavailable, "unknown command 'XADD' with args"),
    ],
)
def test_every_refusal_has_a_line(error: RedisError, kind: type[SentinelError], words: str) -> None:
    """redis-py's errors become ours, on one line, with the server's address and the remedy."""
    translated = translate(error, "10.0.0.5:6379")
    assert type(translated) is kind
    assert words in str(translated) and "10.0.0.5:6379" in str(translated) and "\n" not in str(translated)


def test_unsuitable_clients_and_prefixes_are_refused(valkey_server: Valkey) -> None:
    """A client that decodes replies would change the log's bytes; braces in the prefix would move the hash tag."""
    with pytest.raises(BadInput, match="decode_responses"):
        RedisLog(redis.Redis(port=valkey_server.port, decode_responses=True))
    for prefix in ("", "a{b", "s s", "s*"):
        with pytest.raises(BadInput, match="prefix"):
            connect(valkey_server.host, valkey_server.port, prefix=prefix)


def test_an_open_log_survives_a_restart_of_its_server(tmp_path: Path) -> None:
    """Connections that died with the server are replaced; the first read and append afterwards succeed."""
    server = Valkey(tmp_path)
    with server:
        log = connect(server.host, server.port)
        head = filled(log)
        server.stop()
        server.start()
        assert log.head(0) == head
        server.kill()
        server.start()
        assert log.append(0, batch_after(head), head).sequence == head.sequence + 1
        log.close()


def test_many_batches_cost_a_single_server_one_transaction(tmp_path: Path) -> None:
    """append_many reaches a single server as one MULTI … EXEC, so that it fsyncs once for all partitions."""
    with Valkey(tmp_path) as server, redis.Redis(port=server.port) as admin:
        log = connect(server.host, server.port)
        log.append(99, batch_after(Head()), Head())
        log.append_many([(p, batch_after(Head(), transactions=40), Head()) for p in range(12)])
        stats = admin.info("commandstats")
        assert stats["cmdstat_exec"]["calls"] == stats["cmdstat_xread"]["calls"] == 2
        assert "cmdstat_evalsha" not in stats
        log.close()
