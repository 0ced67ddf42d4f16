"""Snapshots only save time: whatever stands in their folder, a restarted worker decides the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from console import wiring
from console.stack import Broker, Valkey
from core import control_stream, replay
from ingest import ownership
from ingest.snapshots import SnapshotStore
from sources.record import Record
from tests import worker_harness as h
from tests.worker_harness import Held, Stage

RECORDS = 2_400


class Twice:
    """A stream in two halves, and what an undisturbed worker makes of it."""

    def __init__(self, on: Stage, records: list[Record]) -> None:
        half = len(records) // 2
        self.on, self.first, self.second = on, records[:half], records[half:]

    def expected(self) -> list[Held]:
        return h.undisturbed(self.on)


@pytest.fixture
def halves(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Twice:
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, partitions=2)
    on.create_topics()
    return Twice(on, h.synthetic(RECORDS))


def snapshots(on: Stage) -> list[Path]:
    return sorted(Path(on.settings.snapshot_directory).glob("*.snapshot"))


def loaded_from(on: Stage) -> list[int]:
    """The sequence that each partition's snapshot would be loaded at; 0 where it is not trusted."""
    store = SnapshotStore(Path(on.settings.snapshot_directory), on.settings.log_prefix)
    with on.log() as log:
        identity = control_stream.identity_of(log)
        found = [store.load(p, log, log.head(p), identity) for p in range(on.settings.partitions)]
    return [known[0].sequence if known else 0 for known in found]


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


def swap_header(path: Path, **changes: object) -> None:
    line, _, body = path.read_bytes().partition(b"\n")
    header = {**msgspec.json.decode(line), **changes}
    path.write_bytes(msgspec.json.encode(header) + b"\n" + body)


def of_another_log(path: Path) -> None:
    swap_header(path, digest="ab" * 32)


def from_the_future(path: Path) -> None:
    swap_header(path, sequence=10_000)


def before_the_first(path: Path) -> None:
    swap_header(path, sequence=-1)


def at_an_absurd_position(path: Path) -> None:
    swap_header(path, transactions=f"{10**30}-{-(10**30)}")


def of_another_partition(path: Path) -> None:
    swap_header(path, partition=7)


def at_other_positions(path: Path) -> None:
    swap_header(path, transactions="1-1")


def not_a_header(path: Path) -> None:
    path.write_bytes(b'{"partition": "x", "sequence": [\n\xff' + path.read_bytes())


def nonsense_position(path: Path) -> None:
    swap_header(path, transactions="later")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: list[Callable[[Path], None]] = [
    delete,
    empty,
    cut,
    flip_a_bit,
    of_another_log,
    from_the_future,
    before_the_first,
    at_an_absurd_position,
    of_another_partition,
    at_other_positions,
    not_a_header,
    nonsense_position,
    a_directory,
]


def test_a_damaged_snapshot_is_ignored(halves: Twice) -> None:
    """Deleted, cut, flipped, of another log or partition, from the future: not trusted, and the log is folded
    instead.
    """
    on = halves.on
    on.produce(halves.first)
    on.drain()
    good = {path: path.read_bytes() for path in snapshots(on)}
    assert len(good) == 2 and all(loaded_from(on))
    for damage in DAMAGES:
        for path, content in good.items():
            if path.is_dir():
                path.rmdir()
            path.write_bytes(content)
            damage(path)
        assert loaded_from(on) == [0, 0], damage.__name__
    on.produce(halves.second)
    on.drain()  # on the last damage: a directory, which can't be replaced either
    h.assert_sound(on)
    h.assert_everything_once(on, halves.first + halves.second)
    assert h.log_of(on) == halves.expected()


def test_an_old_snapshot_is_brought_up_to_date_from_the_log(halves: Twice) -> None:
    """A good snapshot is the log's state; one that lies behind is a start, on top of which the tail is folded."""
    on = halves.on
    on.produce(halves.first)
    on.drain()
    store = SnapshotStore(Path(on.settings.snapshot_directory), on.settings.log_prefix)
    with on.log() as log:
        for partition in range(on.settings.partitions):
            known = store.load(partition, log, log.head(partition), control_stream.identity_of(log))
            assert known is not None and known[0].sequence == log.head(partition).sequence
            assert known[1].digest() == replay.rebuild(log, partition, known[0], known[1].identity).digest()
    old = {path: path.read_bytes() for path in snapshots(on)}
    on.produce(halves.second[: len(halves.second) // 2])
    on.drain()
    for path, content in old.items():
        path.write_bytes(content)
    on.produce(halves.second[len(halves.second) // 2 :])
    on.drain()
    h.assert_sound(on)
    assert h.log_of(on) == halves.expected()


def test_snapshots_are_prepared_beside_the_workers(halves: Twice) -> None:
    """Folded from the log up to each partition's end, whether or not there was one before, and believed by the next
    worker.
    """
    on = halves.on
    on.produce(halves.first)
    on.drain()
    snapshots(on)[0].unlink()
    with on.log() as log:
        assert ownership.prepare(log, on.settings, wiring.open_resolver(log)) == 2
        assert loaded_from(on) == [head.sequence for head in h.heads(on, log)]
    on.produce(halves.second)
    on.drain()
    assert h.log_of(on) == halves.expected()


def test_a_folder_that_can_not_be_written_costs_only_time(halves: Twice, tmp_path: Path) -> None:
    """The worker says so and goes on."""
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    on = halves.on.changed(snapshot_directory=str(blocked / "below"))
    on.produce(halves.first)
    stats = on.drain()
    assert stats.transactions == h.count(halves.first, "transactions")
