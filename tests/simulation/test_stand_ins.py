"""The stand-ins follow what they stand for: whoever adds a method to it is told here, not by a schedule that fails."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

import core.files
from core.errors import BadInput, Unavailable
from core.log.archive.store import Store
from core.log.base import EventLog, PendingAppend
from tests.simulation import consumers
from tests.simulation.archive import SimulatedStore
from tests.simulation.broker import Broker
from tests.simulation.disk import Disk, mount
from tests.simulation.logs import Connection, Server, Trouble, _Sent
from tests.simulation.world import World

NOT_WRITING = {"last_lines", "open_private"}
"""Functions of `core.files` that no simulated process calls."""


def members(of: type) -> set[str]:
    """What it offers to others."""
    return {name for name in vars(of) if not name.startswith("_")}


def parameters(of: Any) -> list[tuple[str, Any]]:
    """Names and defaults."""
    return [(each.name, each.default) for each in inspect.signature(of).parameters.values()]


@pytest.mark.parametrize(
    ("real", "stand_in"), [(EventLog, Connection), (PendingAppend, _Sent), (Store, SimulatedStore)]
)
def test_a_stand_in_has_every_method_with_its_parameters(real: type, stand_in: type) -> None:
    """Each is the stand-in's own: none that it inherits would go around the simulation."""
    of_objects = vars(Connection(Server(World(0)))).keys() if stand_in is Connection else set()
    assert members(real) - members(stand_in) - of_objects == set()
    for name in sorted(members(real) - of_objects):
        assert parameters(getattr(stand_in, name)) == parameters(getattr(real, name)), name


def test_a_member_that_the_coordinator_does_not_know_commits_nothing() -> None:
    """It was silent for longer than its session, and another has its partitions; nor one that is not heard."""
    world = World(0)
    broker = Broker(world, session_s=1.0)
    broker.create("t", 1)
    consumers.connect(broker)
    committed: list[int] = []

    def work() -> None:
        consumer = consumers.Consumer({"group.id": "g"})
        consumer.subscribe(["t"], lambda *given: None, lambda *given: None)
        (member,) = broker.groups["g"].members

        def commit(offset: int) -> None:
            consumer.commit([TopicPartition("t", 0, offset)])
            committed.append(broker.committed.get(("g", "t", 0), (0, ""))[0])

        commit(1)
        member.cut_off_until = world.now + 3.0
        commit(2)
        world.sleep(2.0)
        broker.groups["g"].look(1)
        world.sleep(2.0)
        commit(3)
        consumer.consume(1, 0.0)
        commit(4)

    process = world.start("member", work)
    world.run(lambda: process.ended, 10.0)
    assert process.error is None and committed == [1, 1, 1, 4]


def test_what_was_sent_to_a_log_server_before_it_came_back_does_not_arrive() -> None:
    """Its connections are gone; the sender learns of no answer."""
    world = World(0)
    server = Server(world)
    outcomes: list[str] = []

    def work() -> None:
        for forgets in (False, True):
            server.troubles.append(Trouble("late", 0.5, "put_blob"))
            try:
                Connection(server).put_blob(b"%d" % forgets)
            except Unavailable as error:
                outcomes.append(str(error))
            if forgets:
                server.lose_tail(0.0)
            world.sleep(1.0)

    process = world.start("writer", work)
    world.run(lambda: process.ended, 10.0)
    assert process.error is None and len(outcomes) == 2
    assert server.log.get_blob(hashlib.sha256(b"0").hexdigest()) == b"0"
    with pytest.raises(BadInput):
        server.log.get_blob(hashlib.sha256(b"1").hexdigest())


def test_the_disk_has_what_files_are_written_with() -> None:
    """Every name of `os` and `fcntl` that `core.files` uses to write."""
    used = {
        (node.value.id, node.attr)
        for function in ast.parse(inspect.getsource(core.files)).body
        if isinstance(function, ast.FunctionDef) and function.name not in NOT_WRITING
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "fcntl")
    }
    disk = Disk(World(0))
    has = {("os", name) for name in vars(disk.system())} | {("fcntl", name) for name in vars(disk.locks())}
    assert {("os", "open"), ("os", "fsync"), ("os", "replace"), ("fcntl", "flock")} <= used
    assert used - has == {("os", "strerror")}  # only to refuse a folder that is a file


def test_a_file_is_written_as_on_a_real_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into new folders, over an old file, and beside a temporary one that a crash left long ago."""
    world = World(0)
    disk = Disk(world)

    def written(root: Any, age: Callable[[Any], None]) -> dict[str, bytes]:
        folder = root / "a" / "b"
        core.files.write_atomic(folder / "file", b"old")
        left = folder / ".file.0123456789ab.part"
        with vars(core.files)["open"](left, "xb") as file:
            file.writelines([b"half"])
        age(left)
        core.files.write_atomic(folder / "file", b"n", b"ew")
        core.files.write_atomic(folder / "other", b"")
        names = core.files.os.listdir(folder)
        return {name: (folder / name).read_bytes() for name in names}

    def age(path: Path) -> None:
        os.utime(path, (0, 0))

    monkeypatch.setattr(core.files, "open", open, raising=False)
    expected = written(tmp_path, age)
    assert expected == {"file": b"new", "other": b""}
    found: list[dict[str, bytes]] = []
    mount(disk)
    monkeypatch.setattr(core.files, "os", disk.system())
    monkeypatch.setattr(core.files, "fcntl", disk.locks())
    monkeypatch.setattr(core.files, "open", disk.open)
    process = world.start(
        "writer", lambda: found.append(written(disk.path("/"), lambda path: world.sleep(2 * core.files.STALE_S)))
    )
    world.run(lambda: process.ended, 10_000.0)
    assert process.error is None and found == [expected]
