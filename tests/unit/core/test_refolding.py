"""States that are folded again for programs that decide later: as if they had held them from the beginning."""

from __future__ import annotations

import pytest

from core import refolding, replay, verification
from core.codec import decode_score
from core.context import Resolver
from core.control_stream import history
from core.events import Position
from core.log.memory import MemoryLog
from core.replay import STEPS_HELD, Timeline
from ingest.offline import OfflineIngest
from models.artifacts import load_scorer
from projections.audit import redecide
from projections.audit.whatif import Changes, Scope, run
from tests.builders.logs import entries, records
from tests.builders.programs import deployed, stored

PARTITIONS = 2
PROGRAMS = 5

TEXT = """
[program]
name = "counting"
version = "1.0.{number}"
uses = ["standard@1"]

[features]
reviewed = "count(account, '{hours}d', decision == 'review')"
frauds_{number} = "count(account, '30d', verdict == 'fraud')"
spent = "sum(account, '{hours}d', amount)"

[[rules]]
code = "COUNTED"
when = "reviewed % 2 == 0 && amount > 10"
effect = "review"
words = "{{reviewed:.0f}} of {{spent:.2f}}, {{frauds_{number}:.0f}}"
"""


def log_of_many() -> MemoryLog:
    """A log that five programs with aggregates of their own decide in turn; the first one comes back in the end."""
    log = MemoryLog()
    loaded = [stored(log, TEXT.format(number=n, hours=n + 1).encode()) for n in range(PROGRAMS)]
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=PARTITIONS)
    stream = records(5, 1500)
    for number, record in enumerate(stream):
        if number % 200 == 100:
            ingest.flush()
            turn = number // 200
            ingest.change(deployed(loaded[turn]) if turn < PROGRAMS else deployed(loaded[0])[1:])
        ingest.feed([record])
    ingest.flush()
    return log


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return log_of_many()


def timeline(log: MemoryLog) -> Timeline:
    return Timeline(history(log), Resolver(log.get_blob, load_scorer))


@pytest.mark.parametrize(("held", "folds"), [(1, 5), (2, 2), (PROGRAMS, 0)])
def test_decisions_are_identical_however_few_programs_are_held(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, held: int, folds: int
) -> None:
    """Each state holds no more programs than it may; every decision and the what-if of nothing are those of the log."""
    made: list[refolding.Refolding] = []
    sizes: list[int] = []
    new_state = Timeline.new_state

    def holding(self: Timeline, after: int = 0, until: int | None = None) -> refolding.AccountState:
        state = new_state(self, after, until, held)
        sizes.append(len(state.rings))
        return state

    class Seen(refolding.Refolding):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(Timeline, "new_state", holding)
    monkeypatch.setattr(verification, "Refolding", Seen)
    programs = {decode_score(e.payload).program for p in range(PARTITIONS) for e in entries(log, p, "scores")}
    assert len(programs) == PROGRAMS + 1
    for p in range(PARTITIONS):
        found = verification.verify(log, p, log.head(p), timeline(log))
        assert found.first_difference is None and found.identical == found.decisions > 200
        outcome = run(log, p, log.head(p), timeline(log), Changes(), Scope(), {})
        assert outcome.changed == [] and len(outcome.times) == found.decisions
        assert not outcome.undecidable
    assert [each.folds for each in made] == [folds] * PARTITIONS
    assert max(sizes) == held


def test_the_folded_state_is_that_of_a_state_that_held_everything(log: MemoryLog) -> None:
    """Account by account and program by program, at any transaction, with or without the feedback before it."""
    when = timeline(log)
    everything = when.new_state(held=99)
    assert len(everything.rings) == PROGRAMS

    def again() -> object:
        return replay.chunks(log, 0, replay.Head(), log.head(0))

    checked = 0
    for chunk in replay.chunks(log, 0, replay.Head(), log.head(0)):
        for context, runs, logged in replay.segments(chunk, when):
            assert isinstance(context, replay.Context)
            if logged and context.program.rings is not None:
                part = refolding.Refolding(0, when, log.head(0).control, again)  # type: ignore[arg-type]
                part.state = refolding.AccountState(when.identity)
                state = part.under(context, logged[0].id)
                assert part.folds == 1 and state.received_at == 0
                for digest, held in state.rings.items():
                    assert held.digest() == everything.rings[digest].digest()
                assert state.index == everything.index
                checked += 1
            replay.pipeline.apply(replay.Work(0, everything, runs))
    assert checked > PROGRAMS


@pytest.mark.parametrize("among_all", [False, True])
def test_single_decisions_are_audited_with_few_programs_held(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, among_all: bool
) -> None:
    """A sample over all programs comes out identical, from its accounts alone and among all accounts."""
    monkeypatch.setattr(redecide, "_evicts", lambda *_: among_all)
    monkeypatch.setattr(Timeline.new_state, "__defaults__", (0, None, 1))
    for p in range(PARTITIONS):
        count = log.length(p, "scores")
        found = redecide.check(log, p, range(0, count, 3), timeline(log))
        assert found.differences == [] and found.identical == found.audited > 80


def test_a_state_holds_what_the_range_needs(log: MemoryLog) -> None:
    """Programs that decided before, or decide after, the range of control positions are not held."""
    when = timeline(log)
    positions = [decode_score(e.payload).control_position for e in entries(log, 0, "scores")]
    last, first = max(positions), min(positions)
    assert not when.new_state(first, first).rings
    assert len(when.new_state(last, last).rings) == 1
    assert len(when.new_state(first, last).rings) == STEPS_HELD < PROGRAMS
    assert [step.digest for step in when.steps([last])] == list(when.new_state(last, last).rings)
    assert Position(1, 1) <= entries(log, 0, "scores")[0].id
