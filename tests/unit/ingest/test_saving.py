"""Snapshots are taken one at a time, with time for work between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ingest.saving import Saving

INTERVAL_S, SAVE_S = 60.0, 0.4


@dataclass
class Partitions:
    """Stands for `Ownership`: copying a state takes SAVE_S of its clock's time."""

    is_saving = False
    now: float = 1_000.0
    stale: list[int] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    saved: list[int] = field(default_factory=list)

    def owns(self, owned: int) -> bool:
        return owned not in self.lost

    def save_beside(self, owned: int) -> None:
        self.now += SAVE_S
        self.saved.append(owned)


def saving(of: Any) -> Saving:
    return Saving(of, INTERVAL_S, lambda: of.now)


def test_every_partition_is_saved_once_in_a_round() -> None:
    """Whatever number is stale, each call saves one, and nothing is due before a round and after it."""
    of = Partitions(stale=[3, 5, 8])
    on = saving(of)
    of.now += INTERVAL_S - 1.0
    assert not on.begin() and not on.is_due
    of.now += 1.0
    assert on.begin()
    for count in (1, 2, 3):
        assert on.is_due
        on.save_one()
        assert len(of.saved) == count
        of.now += SAVE_S
    assert sorted(of.saved) == [3, 5, 8] and not on.is_due and not on.begin()


def test_there_is_as_much_time_for_work_as_for_saving() -> None:
    """After one is saved, the next is not due before as much time has passed as saving took."""
    of = Partitions(stale=[1, 2])
    on = saving(of)
    of.now += INTERVAL_S
    on.begin()
    on.save_one()
    of.now += SAVE_S * 0.9
    assert not on.is_due
    of.now += SAVE_S * 0.2
    assert on.is_due


def test_what_is_no_longer_owned_is_not_saved() -> None:
    """A partition that was revoked or loaded again since the round began is left out."""
    of = Partitions(stale=[1, 2, 3])
    on = saving(of)
    of.now += INTERVAL_S
    on.begin()
    of.lost = {2, 3}
    while on.is_due:
        on.save_one()
    assert of.saved == [1]


def test_the_next_waits_until_the_last_one_is_written() -> None:
    """A thread is still writing, so nothing is due, however long it takes."""
    of = Partitions(stale=[1, 2])
    on = saving(of)
    of.now += INTERVAL_S
    on.begin()
    on.save_one()
    of.is_saving = True
    of.now += 50 * SAVE_S
    assert not on.is_due
    of.is_saving = False
    assert on.is_due
