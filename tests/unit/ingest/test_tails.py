"""A lost tail is noticed in partitions to which nothing is appended, too."""

from __future__ import annotations

from core.errors import ConcurrencyError, Unavailable
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import Head
from core.log.memory import MemoryLog
from ingest.partition import Owned
from ingest.tails import LOOK_S, Tails
from tests.builders.batches import batch_after


def at(log: MemoryLog, partition: int) -> Owned:
    """The partition as a worker owns it that has appended everything that the log holds."""
    return Owned(partition, log.head(partition), AccountState(FIXED), (1, 1))


def written(partitions: int = 2) -> MemoryLog:
    log = MemoryLog()
    for partition in range(partitions):
        head = Head()
        for _ in range(3):
            head = log.append(partition, batch_after(head), head)
    return log


def test_an_idle_partition_whose_last_seal_is_gone_is_told() -> None:
    """At the second look at which it stands still: with the seal at which the log ends now."""
    log = written()
    owned = {partition: at(log, partition) for partition in range(2)}
    tails = Tails(log, 0.0)
    assert not tails.is_due(LOOK_S - 0.1) and tails.is_due(LOOK_S)
    assert tails.changed(owned, LOOK_S) == []
    log.truncate(1, 2)
    (found,) = tails.changed(owned, 2 * LOOK_S)
    assert found[0] is owned[1]
    assert isinstance(found[1], ConcurrencyError) and "at seal 2, not at 3" in str(found[1])


def test_a_partition_that_gets_on_is_left_to_its_appends() -> None:
    """Its next append is refused in any case: no request is made for it."""
    log = written(1)
    owned = {0: at(log, 0)}
    tails = Tails(log, 0.0)
    tails.changed(owned, LOOK_S)
    owned[0].head = log.append(0, batch_after(owned[0].head), owned[0].head)
    log.head = lambda partition: (_ for _ in ()).throw(AssertionError("asked"))  # type: ignore[method-assign]
    assert tails.changed(owned, 2 * LOOK_S) == []


def test_a_server_that_does_not_answer_is_asked_again_later() -> None:
    """Nothing is concluded from silence."""
    log = written(1)
    owned = {0: at(log, 0)}
    tails = Tails(log, 0.0)
    tails.changed(owned, LOOK_S)

    def away(partition: int) -> Head:
        raise Unavailable("no answer")

    log.head = away  # type: ignore[method-assign]
    assert tails.changed(owned, 2 * LOOK_S) == []
    del log.head
    log.truncate(0, 0)
    assert len(tails.changed(owned, 3 * LOOK_S)) == 1
