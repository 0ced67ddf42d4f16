"""The drill: the log server is destroyed in the middle of a stream, restored from the archive, and goes on.

Apache Kafka, redis-server, workers, `sentinel archive`, `restore`, `verify` and `replay` are the real ones.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console import wiring
from console.anchoring import keys
from console.anchoring.destinations import Directory
from console.anchoring.notary import Notary
from console.anchoring.running import Anchoring
from console.commands import archive, restore, verify
from core import control_stream
from core.errors import BadInput, Corrupt
from core.events import ListChanged, LogTrimmed
from core.log.anchored import Anchors
from core.log.archive.archive import open_archive
from ingest import bootstrap, losses
from sources.record import Record
from tests import worker_harness as h
from tests.integration.apache_kafka import ApacheKafka
from tests.integration.servers import RedisServer
from tests.worker_harness import Stage, Threaded

_groups = itertools.count()
ARCHIVED, LATER, NEW = 600, 200, 150
"""Payments that are archived, decided after the last archiving, and sent after the restoring."""


@pytest.fixture
def server(needs_redis: None, tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server of the test's own, to destroy."""
    with RedisServer(tmp_path / "redis").started() as server:
        yield server


@pytest.fixture
def on(apache_kafka: ApacheKafka, server: RedisServer, tmp_path: Path) -> Stage:
    """A stage with an archive, on Apache Kafka."""
    made = h.stage(apache_kafka.bootstrap, "127.0.0.1", server.port, tmp_path)
    name = made.settings.log_prefix
    made = made.changed(
        archive=str(tmp_path / "archive"), archive_hot_hours=0.0, decisions_topic=f"{name}.decisions", batch_size=40
    )
    made.create_topics()
    return made


def destroy(server: RedisServer) -> None:
    """The server and all its data are gone; an empty one takes its place."""
    server.kill()
    for path in server.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != server.log_path:
            path.unlink()
    server.start()


def streams() -> tuple[list[Record], list[Record], list[Record]]:
    """One stream in three parts."""
    records = h.synthetic(ARCHIVED + LATER + NEW, accounts=120)
    places = [n for n, record in enumerate(records, 1) if record.topic == "transactions"]
    first, second = places[ARCHIVED - 1], places[ARCHIVED + LATER - 1]
    return records[:first], records[first:second], records[second:]


def decide(on: Stage, records: list[Record], total: int) -> None:
    """Send, and have a worker of its own group decide until the log holds so many payments."""
    on.produce(records)
    with on.log() as log, Threaded(on.changed(consumer_group=f"{on.settings.log_prefix}-{next(_groups)}")) as worker:
        h.wait_for_decisions(on, log, total, worker.check)


def made(on: Stage) -> dict[str, dict[str, Any]]:
    """Each payment's score in the log, by its position, without the control position that it names."""
    found = {}
    for partition, part in enumerate(h.log_of(on)):
        for score in part.scores:
            event = msgspec.json.decode(score.payload, type=dict[str, Any])
            event.pop("c")
            found[f"{partition}:{score.id}"] = event
    return found


def assert_published_again(on: Stage) -> None:
    """Every decision was published, those after the last archiving at least twice, and every copy says the same."""
    published: dict[str, list[dict[str, Any]]] = {}
    for message in on.messages(on.settings.decisions_topic):
        event = h.decoded(message)
        event.pop("c", None)
        published.setdefault(event["transaction_id"], []).append(event)
    assert len(published) == ARCHIVED + LATER + NEW
    assert sum(len(copies) > 1 for copies in published.values()) >= LATER
    assert all(copy == copies[0] for copies in published.values() for copy in copies)


def assert_empty(on: Stage) -> None:
    """The log server holds nothing."""
    with closing(wiring.open_hot(on.settings)) as log:
        assert log.control_head() == 0 and log.head(0).sequence == 0


def whole(on: Stage, anchors: Anchors | None = None) -> list[str]:
    """What `sentinel verify` finds."""
    with closing(wiring.open_hot(on.settings)) as log:
        return verify.run(on.settings, log, open_archive(on.settings.archive), None, anchors).faults


def test_a_destroyed_log_server_is_restored_and_the_stream_goes_on(on: Stage, server: RedisServer) -> None:
    """Nothing is lost, nothing is decided twice, what was archived is byte for byte the same, and what came after is
    decided again, to the same decisions.
    """
    first, second, third = streams()
    decide(on, first, ARCHIVED)
    with on.log() as log:
        event = ListChanged(occurred_at=1, actor="ann", reason="seen", kind="merchant", effect="watch", add=("m1",))
        control_stream.append(log, lambda known: [event])
    found = archive.run(on.settings, trim=True, quiet=True)
    assert found["archive_bytes"] > 0 and found["transactions"] == ARCHIVED and found["control_events"] > 0
    kept = h.log_of(on)
    decide(on, second, ARCHIVED + LATER)
    before = made(on)
    destroy(server)

    with on.log() as log, pytest.raises(BadInput, match="Restore its backup"):
        bootstrap.ensure(log, on.settings)
    restored = restore.run(on.settings, "the disk burnt", Anchors([]), quiet=True)
    assert restored["decisions"] == ARCHIVED and restored["lost"] == []
    assert h.log_of(on) == kept
    with on.log() as log:
        events = [event for _, event in control_stream.accepted(log)]
        said = [event for event in events if isinstance(event, LogTrimmed) and event.actor == restore.ACTOR]
        assert len(said) == on.settings.partitions and all("the disk burnt" in event.reason for event in said)
        assert any(isinstance(event, ListChanged) for event in events)
        assert losses.losses(log, on.settings) == []
    with pytest.raises(BadInput, match="not empty"):
        restore.run(on.settings, "again", Anchors([]), quiet=True)

    decide(on, third, ARCHIVED + LATER + NEW)
    records = [*first, *second, *third]
    h.assert_everything_once(on, records)
    assert sum(each.identical for each in h.assert_sound(on)) == ARCHIVED + LATER + NEW
    after = made(on)
    assert {position: after[position] for position in before} == before
    assert whole(on) == []
    assert_published_again(on)

    assert archive.run(on.settings, trim=True, quiet=True)["transactions"] == LATER + NEW
    destroy(server)
    assert restore.run(on.settings, "once more", Anchors([]), quiet=True)["decisions"] == ARCHIVED + LATER + NEW
    assert made(on) == after and whole(on.changed(snapshot_directory=str(on.directory / "none"))) == []


def test_what_an_anchor_covers_is_never_lost_in_silence(on: Stage, server: RedisServer, tmp_path: Path) -> None:
    """An archive that ends before an anchor restores only if the loss is accepted, and verification says so for good;
    one that holds what is anchored restores, and the notary goes on.
    """
    first, second, _ = streams()
    decide(on, first, ARCHIVED)
    archive.run(on.settings, trim=False, quiet=True)
    older = shutil.copytree(on.settings.archive, tmp_path / "older")
    decide(on, second, ARCHIVED + LATER)
    place = Directory(str(tmp_path / "anchors"))
    with on.log() as log:
        private = keys.create(tmp_path / "notary.key")
        with closing(Notary(log, tmp_path / "notary", private)) as notary:
            Anchoring(notary, [place], []).round(1)
            signed = notary.newest
    assert signed is not None
    anchors = Anchors([signed.checkpoint])
    archive.run(on.settings, trim=False, quiet=True)
    assert whole(on, anchors) == []
    destroy(server)
    with pytest.raises(BadInput, match=r"lost: checkpoint 1 of .* covers more than the archive holds"):
        restore.run(on.changed(archive=str(older)).settings, "an old copy", anchors, quiet=True)
    assert_empty(on)
    restore.run(on.settings, "the newest copy", anchors, quiet=True)
    assert whole(on, anchors) == []
    with on.log() as log, closing(Notary(log, tmp_path / "notary", private)) as notary:
        assert notary.sign(2) is not None

    destroy(server)
    lost = on.changed(archive=str(older), snapshot_directory=str(tmp_path / "none"))
    assert restore.run(lost.settings, "an old copy", anchors, accept_lost=True, quiet=True)["lost"] != []
    assert any("the tail is missing: checkpoint 1" in fault for fault in whole(lost, anchors))
    with lost.log() as log, pytest.raises(Corrupt), closing(Notary(log, tmp_path / "notary", private)) as notary:
        notary.sign(3)


def test_a_damaged_archive_is_not_restored(on: Stage, server: RedisServer) -> None:
    """Any damage is named, and nothing is written."""
    decide(on, streams()[0], ARCHIVED)
    archive.run(on.settings, trim=True, quiet=True)
    destroy(server)
    for pattern in ("p00/*.decisions.parquet", "p01/*.events.parquet", "blobs/*", "control/*.events"):
        path = next(Path(on.settings.archive).glob(pattern))
        content = path.read_bytes()
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        with pytest.raises(Corrupt, match=path.name):
            restore.run(on.settings, "the disk burnt", Anchors([]), quiet=True)
        path.write_bytes(content)
        assert_empty(on)
    restore.run(on.settings, "the disk burnt", Anchors([]), quiet=True)
    assert whole(on.changed(snapshot_directory="none")) == []


def test_a_log_with_tokens_goes_on_with_its_vault(on: Stage, server: RedisServer, tmp_path: Path) -> None:
    """The vault is not in the archive: with it, accounts keep their tokens, and what is decided again is the same; a
    worker with another one refuses the log.
    """
    on = on.changed(tokenise=True, vault=str(tmp_path / "vault" / "vault.db"))
    first, second, _ = streams()
    decide(on, first, ARCHIVED)
    archive.run(on.settings, trim=True, quiet=True)
    decide(on, second, ARCHIVED + LATER)
    before, kept = made(on), [part.transactions for part in h.log_of(on)]
    destroy(server)
    restored = restore.run(on.settings, "the disk burnt", Anchors([]), quiet=True)
    other = on.changed(vault=str(tmp_path / "other" / "vault.db"))
    with on.log() as log:
        assert restored["tokens"] == control_stream.identity_of(log).tokens != ""
        with pytest.raises(BadInput, match="name its vault"):
            bootstrap.ensure(log, other.settings)
    decide(on, [], ARCHIVED + LATER)
    assert made(on) == before and [part.transactions for part in h.log_of(on)] == kept
    h.assert_sound(on)
