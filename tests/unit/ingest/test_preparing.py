"""A program is prepared beside the work: the state that takes over is a replay's, whatever fails on the way."""

from __future__ import annotations

from typing import Any

import pytest

from core import replay
from core.context import Resolver
from core.control_stream import ControlStream, current
from core.errors import Unavailable
from core.events import ProgramProposed, ProgramRegistered, ProgramWithdrawn
from core.features.state import AccountState
from core.identity import required
from core.log.memory import MemoryLog
from ingest import preparing
from ingest.partition import Owned
from ingest.preparing import Preparing
from models.artifacts import load_scorer
from tests.builders.decisions import append_unchecked
from tests.builders.logs import PARTITIONS, filled, heads
from tests.builders.programs import stored


class Failing:
    """A log that can't be read from the n-th read of transactions on, until it is mended."""

    def __init__(self, log: MemoryLog, after: int) -> None:
        self._log, self._left = log, after

    def mend(self) -> None:
        self._left = 10**9

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def read(self, partition: int, stream: Any, *rest: Any, **more: Any) -> Any:
        if stream == "transactions":
            self._left -= 1
            if self._left < 0:
                raise Unavailable("the log server does not answer")
        return self._log.read(partition, stream, *rest, **more)


@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_a_fold_that_fails_never_takes_over(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Reads fail at one point or another; nothing that is half folded is used, and afterwards all is prepared."""
    monkeypatch.setattr(preparing, "CHUNK", 100)
    monkeypatch.setattr(preparing, "REST_S", 0.0, raising=False)
    log = filled(seed=3, size=900)
    loaded = stored(log)
    append_unchecked(
        log,
        ProgramRegistered(occurred_at=9, actor="ann", name="cards", version="1.0.0", digest=loaded.digest),
        ProgramProposed(occurred_at=9, actor="ann", proposal_id="p", digest=loaded.digest),
    )
    identity = required(current(log).identity)
    states = {p: replay.rebuild(log, p, log.head(p), identity) for p in range(PARTITIONS)}
    owned = {p: Owned(p, log.head(p), state, (1, 1)) for p, state in states.items()}
    resolver = Resolver(log.get_blob, load_scorer)
    failing = Failing(log, after)
    work = Preparing(failing, owned)  # type: ignore[arg-type]
    control = ControlStream()
    control.advance(log)
    work.follow(control.state, resolver)
    (step,) = resolver.steps(control.state, "soon")
    for _ in range(20):
        work.work(control, lambda: 10)
        for p, each in owned.items():
            assert each.state is states[p] or step.digest in each.state.rings
            assert each.state.received_at == states[p].received_at
    failing.mend()
    for _ in range(100):
        work.work(control, lambda: 10)
    assert set(current(log).governance.programs.prepared[loaded.digest]) == set(range(PARTITIONS))
    for p, each in owned.items():
        expected: AccountState = replay.rebuild(log, p, log.head(p), identity, steps=[step])
        assert each.state.digest() == expected.digest()


@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_a_batch_in_flight_is_in_the_state_that_takes_over(rounds: int) -> None:
    """The fold may reach the log's end while a batch is on its way to it: that one is folded, too."""
    log = filled(seed=5, size=300)
    loaded = stored(log)
    at: dict[str, Any] = {"occurred_at": 9, "actor": "ann"}
    append_unchecked(
        log,
        ProgramRegistered(**at, name="cards", version="1.0.0", digest=loaded.digest),
        ProgramProposed(**at, proposal_id="p", digest=loaded.digest),
    )
    identity = required(current(log).identity)
    before, last = heads(log, 0)[-2:]
    one = Owned(0, before, replay.rebuild(log, 0, last, identity), (1, 1))
    one.transactions_end, one.feedback_end = last.transactions, last.feedback
    resolver, control = Resolver(log.get_blob, load_scorer), ControlStream()
    work = Preparing(log, {0: one})
    control.advance(log)
    work.follow(control.state, resolver)
    for _ in range(rounds):
        work.work(control, lambda: 10)
    assert not one.state.rings
    one.head = last
    for _ in range(10):
        work.work(control, lambda: 10)
    (step,) = resolver.steps(control.state, "soon")
    assert one.state.digest() == replay.rebuild(log, 0, last, identity, steps=[step]).digest()


def test_what_is_withdrawn_is_held_no_longer() -> None:
    """Prepared, then withdrawn: the aggregates leave the states, and the stream no longer says that they are there. A
    new proposal is prepared again.
    """
    log = filled(seed=4, size=300)
    loaded = stored(log)
    at: dict[str, Any] = {"occurred_at": 9, "actor": "ann"}
    append_unchecked(
        log,
        ProgramRegistered(**at, name="cards", version="1.0.0", digest=loaded.digest),
        ProgramProposed(**at, proposal_id="p", digest=loaded.digest),
    )
    identity = required(current(log).identity)
    owned = {p: Owned(p, log.head(p), replay.rebuild(log, p, log.head(p), identity), (1, 1)) for p in range(PARTITIONS)}
    resolver, control = Resolver(log.get_blob, load_scorer), ControlStream()
    work = Preparing(log, owned)

    def follow() -> list[int]:
        control.advance(log)
        work.follow(control.state, resolver)
        for _ in range(50):
            work.work(control, lambda: 10)
        return sorted(current(log).governance.programs.prepared.get(loaded.digest, {}))

    everywhere = list(range(PARTITIONS))
    assert follow() == everywhere and all(len(each.state.rings) == 1 for each in owned.values())
    append_unchecked(log, ProgramWithdrawn(**at, proposal_id="p"))
    assert follow() == [] and not any(each.state.rings or each.state.ring_steps for each in owned.values())
    append_unchecked(log, ProgramProposed(**at, proposal_id="q", digest=loaded.digest))
    assert follow() == everywhere and all(len(each.state.rings) == 1 for each in owned.values())
