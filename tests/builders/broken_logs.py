"""Systems whose log is broken, unattended or old, for `broken_setups`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from console import age_findings, respond_report
from console.commands import archive
from core import control_stream
from core.codec import encode
from core.control_stream import Blobs
from core.events import CheckpointSigned, Control, HistoryStarted, PartitionParked, Transaction
from core.partitions import partitions_of
from core.program import document
from core.times import DAY_MS
from ingest import kafka_client
from learners.governance.business import change_list
from learners.governance.control_events import Act
from projections.engine.base import Place
from projections.engine.checkpoints import Checkpoint, CheckpointStore
from projections.reference.publisher import publication
from projections.reference.tables import ReferenceBuilder
from projections.views.cases import CASES
from responders.switching import Why, switch_on
from tests import worker_harness as h
from tests.builders.broken_setups import NOBODY, Given, World, decide, pay, setup
from tests.builders.own_program import deployment, house
from tests.worker_harness import Raw, Stage

BY = {"actor": "ann", "reason": "a set-up"}


def now_ms() -> int:
    return int(time.time() * 1000)


def append(on: Stage, *events: Control) -> None:
    with on.log() as log:
        control_stream.append(log, lambda known: list(events))


@contextmanager
def keys(on: Stage) -> Iterator[redis.Redis]:
    """A client of the log's server, to break what it holds."""
    with redis.Redis(on.settings.redis_host, on.settings.redis_port) as client:
        yield client


# --- what nobody decides -------------------------------------------------------------------------------------------


@setup("messages, and no worker", "fail", "backlog", "none was decided in.*start `sentinel ingest`")
def unattended(world: World) -> Iterator[Given]:
    on = world.own()
    pay(on)
    yield on, ""


@setup("messages, and no log yet", "fail", "backlog", "no worker has begun this log.*start `sentinel ingest`")
def not_begun(world: World) -> Iterator[Given]:
    on = world.own(decided=False)
    pay(on)
    yield on, ""


@setup(
    "a worker that has the partitions and decides nothing", "fail", "backlog", "none was decided in.*partition_stalled"
)
def stuck_worker(world: World) -> Iterator[Given]:
    on = world.own()
    pay(on)
    idle = kafka_client.transactions_consumer(on.settings)
    idle.subscribe([on.settings.transactions_topic])
    try:
        h.wait_for(lambda: idle.consume(1, 0.1) is not None and len(idle.assignment()) == 4, "an assignment")
        yield on, ""
    finally:
        idle.close()


@setup("a parked partition", "fail", "partition 2", "is parked.*sentinel partition show", also=NOBODY)
def parked(world: World) -> Iterator[Given]:
    on = world.own()
    append(on, PartitionParked(occurred_at=1, **BY, partition=2, code="unreadable_batch"))
    yield on, ""


@setup("a producer that chooses partitions otherwise", "fail", "partition .*", "wrong_partition.*murmur2", also=NOBODY)
def other_producer(world: World) -> Iterator[Given]:
    on = world.own()
    paid = encode(Transaction(transaction_id="elsewhere", account_id="a1", amount=20.0, occurred_at=now_ms()))
    found = Raw(on.settings.transactions_topic, b"a1", paid, now_ms())
    on.send([found._replace(partition=p) for p in range(4)])
    on.drain()
    yield on, ""


@setup("history mode left on", "warn", "history", "live messages are rejected.*history stop", also=NOBODY)
def left_in_history(world: World) -> Iterator[Given]:
    on = world.own()
    append(on, HistoryStarted(occurred_at=1, **BY, earliest=1, latest=2))
    yield on, ""


# --- what decides --------------------------------------------------------------------------------------------------


@setup("a champion whose file is gone", "fail", "log", "degraded.*holds no blob.*deploy a model", also=NOBODY)
def lost_model(world: World) -> Iterator[Given]:
    on = world.own()
    with on.log() as log, keys(on) as client:
        champion = control_stream.current(log).champion
        assert champion is not None
        assert client.delete(f"{on.settings.log_prefix}:blob:{champion.digest}")
    yield on, ""


@setup("a program whose document is gone", "fail", "log", "degraded.*holds no blob", also=NOBODY)
def lost_program(world: World) -> Iterator[Given]:
    on = world.own()
    with on.log() as log, keys(on) as client:
        digest = log.put_blob(document.canonical(house().program))
        control_stream.append(log, lambda known: deployment(house()))
        assert client.delete(f"{on.settings.log_prefix}:blob:{digest}")
    yield on, ""


@setup(
    "reference tables of five days ago",
    "warn",
    "table merchant",
    "behind the payments.*reference --follow",
    also=f"table device|{NOBODY}",
)
def old_tables(world: World) -> Iterator[Given]:
    on = world.own()
    with on.log() as log:
        as_of = (now_ms() // DAY_MS - 5) * DAY_MS
        blobs, builder = Blobs(log), ReferenceBuilder(control_stream.identity_of(log).key)
        tables = [publication(blobs, builder.table(kind, as_of), kind, "ann", as_of) for kind in ("merchant", "device")]
        control_stream.append(log, lambda known: list(tables), blobs=blobs)
    yield on, ""


@setup("read models that nobody keeps up", "warn", "read models", "cases by .*sentinel serve", also=NOBODY)
def old_views(world: World) -> Iterator[Given]:
    on = world.own()
    decide(on)
    world.patch.chdir(world.folder)
    world.patch.setattr(age_findings, "VIEWS_OLD_MS", 0)
    with on.log() as log:
        store = CheckpointStore(age_findings.DIRECTORY, on.settings.log_prefix)
        p = next(p for p in partitions_of(log) if log.head(p).sequence > 1)
        store.save(CASES, log, {p: Checkpoint(Place(1), CASES.initial())})
    yield on, ""


@setup(
    "actions that wait, and no responder",
    "fail",
    "responders",
    "waiting actions.*start `sentinel respond`",
    also=NOBODY,
)
def no_responder(world: World) -> Iterator[Given]:
    on = world.own()
    world.patch.setattr(respond_report, "LATE_MS", -DAY_MS)
    with on.log() as log:
        change_list(log, "account", "block", Act("ann", "a set-up", 1), add=["a1", "a2"])
        switch_on(log, ["queue_for_review"], Why("ann", "a set-up", now_ms()))
    decide(on)
    yield on, ""


# --- what is kept --------------------------------------------------------------------------------------------------


@setup("a log server that was emptied", "fail", "log", "there was one before.*restore the log server's backup")
def emptied(world: World) -> Iterator[Given]:
    on = world.own()
    with keys(on) as client:
        client.delete(*client.scan_iter(match=f"{on.settings.log_prefix}:*"))
    yield on, ""


def archived(world: World, *, trim: bool = False) -> Stage:
    """A system whose log is archived."""
    on = world.own(archive=str(world.folder / "archive"), archive_hot_hours=0.0)
    assert archive.run(on.settings, trim=trim, quiet=True)["segments"] == 4
    return on


@setup("a trimmed log, and no archive set", "fail", "log", "trimmed.*SENTINEL_ARCHIVE", also="decisions")
def no_archive(world: World) -> Iterator[Given]:
    yield archived(world, trim=True).changed(archive=""), ""


@setup("an archived log, and no archive set", "fail", "archive", "name no archive.*SENTINEL_ARCHIVE", also=NOBODY)
def forgotten_archive(world: World) -> Iterator[Given]:
    yield archived(world).changed(archive=""), ""


@setup("an archive whose folder is empty", "fail", "archive", "lacks batches.*restore it", also=NOBODY)
def lost_archive(world: World) -> Iterator[Given]:
    on = archived(world)
    shutil.rmtree(on.settings.archive)
    yield on, ""


@setup(
    "an archive that nobody continues",
    "warn",
    "archive",
    "not archived yet.*archive --follow|not archived yet",
    also=NOBODY,
)
def late_archive(world: World) -> Iterator[Given]:
    on = archived(world)
    decide(on)
    world.patch.setattr(age_findings, "ARCHIVE_LATE_MS", 0)
    yield on, ""


@setup("an anchor of last week", "warn", "anchors", "7 days old.*sentinel anchor --follow", also=NOBODY)
def old_anchor(world: World) -> Iterator[Given]:
    on = world.own()
    signed = CheckpointSigned(occurred_at=now_ms() - 7 * DAY_MS, **BY, number=1, state="0" * 64, digest="1" * 64)
    append(on, signed)
    yield on, f'[anchors]\ndirectories = ["{world.folder / "anchors"}"]\n'
