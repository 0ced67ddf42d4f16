"""Loading a partition: what is said about its state."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from core import control_stream
from core.codec import UnknownEvent
from core.context import Resolver
from core.errors import Corrupt
from core.events import LogCreated, Position
from core.log.base import Batch, Entry, Head
from core.log.memory import MemoryLog
from core.settings import Settings
from core.times import DAY_MS
from ingest.ownership import Ownership
from ingest.parking import code_of
from tests.builders.events import transaction
from tests.builders.live import NOW, Live
from tests.builders.models import ARTIFACT, load_tiny


@pytest.mark.parametrize("ahead_days", [0, 3650])
def test_a_partition_received_in_the_future_is_told(
    ahead_days: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log that a worker with a clock ten years ahead wrote warns the next owner; any other says nothing."""
    live = Live()
    at = int(time.time() * 1000) + ahead_days * DAY_MS
    live.send([transaction(1, occurred_at=at)], at)
    ownership = Ownership(Settings(snapshot_directory=str(tmp_path)), live.log, Resolver(live.log.get_blob, load_tiny))
    owned = ownership.take([0], control_stream.current(live.log))
    assert owned[0].state.received_at == at
    printed = capsys.readouterr()
    assert ("ingest.clock_behind" in printed.out + printed.err) == (ahead_days > 0)


def test_a_late_batch_of_a_former_log_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's first append to a partition, sent before it noticed that its server was emptied, succeeds on the log
    that another worker began there meanwhile: its next owner does not go on from it.
    """
    former = Live()
    sent: list[tuple[int, Batch, Head]] = []
    append = former.log.append

    def kept(partition: int, batch: Batch, expected: Head) -> Head:
        sent.append((partition, batch, expected))
        return append(partition, batch, expected)

    monkeypatch.setattr(former.log, "append", kept)
    former.send([transaction(1, occurred_at=NOW)])
    events = [entry.event for entry in control_stream.history(former.log)]
    assert isinstance(events[0], LogCreated)
    new = MemoryLog()
    new.put_blob(ARTIFACT)
    control_stream.append(new, lambda known: [replace(events[0], log_id="f" * 32), *events[1:]])
    new.append(*sent[0])
    ownership = Ownership(Settings(snapshot_directory=str(tmp_path)), new, Resolver(new.get_blob, load_tiny))
    with pytest.raises(Corrupt, match=r"begins as 0+/0, and this log is f+: its server was emptied"):
        ownership.take([0], control_stream.current(new))
    assert Ownership(
        Settings(snapshot_directory=str(tmp_path)), former.log, Resolver(former.log.get_blob, load_tiny)
    ).take([0], control_stream.current(former.log))


def test_what_a_newer_release_wrote_is_not_passed_over(tmp_path: Path) -> None:
    """A partition whose feedback holds an event of an unknown kind is not loaded without it, but parked, as of a newer
    release.
    """
    live = Live()
    live.send([transaction(1, occurred_at=NOW)])
    head = live.log.head(0)
    merged = Entry(Position(1, 900), b'{"type":"case_merged.v1","account_id":"a1","occurred_at":1}')
    batch = Batch(head.control, NOW, head.transactions, merged.id, feedback=[merged])
    live.log.append(0, batch, head)
    ownership = Ownership(Settings(snapshot_directory=str(tmp_path)), live.log, Resolver(live.log.get_blob, load_tiny))
    failed: dict[int, Exception] = {}
    assert ownership.take([0], control_stream.current(live.log), failed.__setitem__) == []
    assert isinstance(failed[0], UnknownEvent) and "case_merged.v1" in str(failed[0])
    assert code_of(failed[0]) == "newer_release"


def test_a_tail_that_is_folded_sooner_than_saved_is_left_to_the_next_owner(tmp_path: Path) -> None:
    """At a release, a partition whose snapshot is fresh is not saved again; one without a snapshot is."""
    live = Live()
    live.send([transaction(n, occurred_at=NOW, account_id=f"a{n}") for n in range(1, 31)])
    ownership = Ownership(Settings(snapshot_directory=str(tmp_path)), live.log, Resolver(live.log.get_blob, load_tiny))
    control = control_stream.current(live.log)
    (owned,) = ownership.take([0], control)
    ownership.release([0])
    saved = owned.snapshot_sequence
    assert saved == live.log.head(0).sequence
    live.send([transaction(n, occurred_at=NOW, account_id=f"a{n}") for n in range(31, 41)])
    fresh = Ownership(Settings(snapshot_directory=str(tmp_path)), live.log, Resolver(live.log.get_blob, load_tiny))
    (owned,) = fresh.take([0], control)
    assert (owned.snapshot_sequence, len(owned.state)) == (saved, 40)
    fresh.release([0])
    assert owned.snapshot_sequence == saved, "ten payments of forty accounts are folded sooner"
    live.send([transaction(n, occurred_at=NOW, account_id=f"a{n % 40}") for n in range(41, 141)])
    (owned,) = fresh.take([0], control)
    fresh.release([0])
    assert owned.snapshot_sequence == live.log.head(0).sequence
