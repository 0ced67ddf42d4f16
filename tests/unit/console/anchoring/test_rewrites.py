"""A writer with full access to Redis and to the archive, who decides again and chains everything again, is found out
against the last anchor, by the notary's public key (I16); and nobody else is accused.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import pytest

from console.anchoring.destinations import Directory
from console.anchoring.reading import anchors_of, read_anchors
from console.anchoring.running import Anchoring
from console.commands.verify import run
from core.log.archive.archive import open_archive
from core.log.memory import MemoryLog
from core.settings import Settings
from tests.builders.anchors import NOW, notary_of, public_key
from tests.builders.rewriting import FORGERS, Forger, History, archived, decided, history

EACH = 10
SETTINGS = Settings(log_prefix="ss", snapshot_directory="/nonexistent")


class Honest(NamedTuple):
    """The honest log as it was decided, its history, and where its three anchors are."""

    log: MemoryLog
    story: History
    anchors: Path


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    directory, story, log = tmp_path_factory.mktemp("honest"), history(9, 220), MemoryLog()
    moment = [NOW]

    def anchor(log: MemoryLog) -> None:
        with notary_of(log, directory / "state") as notary:
            moment[0] += 60_000
            found = Anchoring(notary, [Directory(str(directory / "worm"))], []).round(moment[0])
        assert found.is_new and not found.failed

    log = decided(story, anchor)
    return Honest(log, story, directory / "worm")


def faults(log: MemoryLog, archive: Path, anchors: Path | None) -> list[str]:
    """What `sentinel verify` says of an archived log, with and without anchors."""
    opened = open_archive(str(archive))
    if anchors is None:
        return run(SETTINGS, log, opened).faults
    read = read_anchors([str(anchors)], [public_key(log)], [])
    assert len(read.checkpoints) == 3
    return run(SETTINGS, log, opened, anchors=anchors_of(read, None), read=read).faults


@pytest.mark.parametrize("forger", FORGERS, ids=lambda forger: forger.__name__)
def test_100_of_100_consistent_rewrites_are_found(honest: Honest, tmp_path: Path, forger: Forger) -> None:
    """Ten of each of ten kinds. Each is whole in itself: without anchors `verify` finds nothing. Against the anchors it
    finds every one.
    """
    rng = random.Random(forger.__name__)
    found, missed, clumsy = 0, [], []
    for number in range(EACH):
        rewrite = forger(rng, honest.story, honest.log)
        log = archived(rewrite.log, tmp_path / str(number))
        if without := faults(log, tmp_path / str(number), None):
            clumsy.append(f"{rewrite.what}: {without}")
        if faults(log, tmp_path / str(number), honest.anchors):
            found += 1
        else:
            missed.append(rewrite.what)
    assert (found, missed, clumsy) == (EACH, [], [])
    assert EACH * len(FORGERS) == 100


def test_the_honest_log_is_never_accused(honest: Honest, tmp_path: Path) -> None:
    """As it was decided, archived, trimmed, decided again from its messages, and after it went on."""
    assert faults(honest.log, tmp_path / "none", honest.anchors) == []
    log = archived(honest.log.clone(), tmp_path / "archive")
    assert faults(log, tmp_path / "archive", honest.anchors) == []
    said = [payload for _, payload in honest.log.read_control(count=10**6) if b'"checkpoint_signed.v1"' in payload]
    again = decided(honest.story, lambda log: log.append_control([said.pop(0)], log.control_head()) and None)
    assert faults(archived(again, tmp_path / "again"), tmp_path / "again", honest.anchors) == []
