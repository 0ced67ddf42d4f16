"""`sentinel doctor` as a user runs it, on systems that are broken in one way each, and on one that is well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from console.stack import Broker, Valkey
from tests import worker_harness as h
from tests.builders import broken_logs, broken_setups
from tests.builders.asking_doctor import Doctor, assert_named
from tests.builders.broken_setups import SETUPS, Setup, World
from tests.worker_harness import Stage, Threaded

assert broken_logs.__doc__  # it adds its set-ups
HERE = [each for each in SETUPS if each.servers == "local"]


@pytest.fixture(scope="module")
def well(broker: Broker, valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A system with a worker that has decided payments, in which nothing is wrong."""
    folder = tmp_path_factory.mktemp("well")
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, folder, history=False)
    on.create_topics()
    broken_setups.pay(on)
    with Threaded(on), on.log() as log:
        h.wait_for(lambda: h.total(on, log) == 40, "every decision")
        yield on


@pytest.fixture
def world(broker: Broker, valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, well: Stage) -> World:
    return World(broker.bootstrap, valkey_server, tmp_path, monkeypatch, well)


@pytest.mark.parametrize("each", HERE, ids=[each.name for each in HERE])
def test_a_broken_system_is_named(
    each: Setup, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fault, its remedy and the exit code; and nothing else is accused."""
    assert_named(each, world, Doctor(monkeypatch, capsys))


def test_nothing_is_said_of_a_system_that_is_well(
    well: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is found is ok."""
    code, found, _ = Doctor(monkeypatch, capsys)(well)
    assert [f for f in found if f["status"] != "ok"] == []
    assert code == 0
    assert {f["check"] for f in found} >= {"kafka", "log", "snapshots"}


def test_every_set_up_has_a_row_of_its_own() -> None:
    """On the local stack alone there are 25 and more."""
    assert len({each.name for each in SETUPS}) == len(SETUPS)
    assert len(HERE) >= 25
