"""Account states that hold a program's aggregates: snapshots at any place change nothing, and none is taken for
another.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from core import pipeline
from core.codec import decode_score
from core.context import Context
from core.errors import Corrupt
from core.events import Outcome
from core.features.state import AccountState
from core.identity import FIXED
from core.program.deciding import Program
from core.program.library import kernel
from core.program.loading import check
from core.program.plan import plan
from core.program.rings import RingStep
from core.work import Decided, Work
from tests.builders.decisions import context, counts, decide_in, runs
from tests.builders.events import Item, Shape, stream

HEAD = '[program]\nname = "own"\nversion = "1.0.0"\nuses = ["standard@1"]\n\n[features]\n'
PAYMENTS = """
large = "count(account, '24h', amount >= 100)"
least = "min(account, '7d', amount)"
frauds = "count(account, '30d', verdict == 'fraud')"
"""
DECISIONS = """
reviews_7d = "count(account, '7d', decision == 'review')"
tested = "count(account, '30d', hit('AMOUNT_HIGH') && amount > 50)"
"""
RULE = """
[[rules]]
code = "PATIENCE"
when = "reviews_7d >= 1 && large >= 1"
effect = "decline"
"""


@cache
def own(text: str) -> Program:
    """The program of this text, bound."""
    return Program(plan(check((HEAD + text).encode()).checked, kernel()), FIXED.key, {}, ())


def step_of(text: str) -> RingStep:
    step = own(text).rings
    assert step is not None
    return step


def under(text: str) -> Context:
    return replace(context(scorer=False), program=own(text))


def items(seed: int, size: int = 300) -> list[Item]:
    return stream(seed, size, Shape(accounts=5, feedback=0.15, duplicates=0.1))


def payloads(decided: list[Decided], which: str) -> list[bytes]:
    return [entry.payload for each in decided for entry in getattr(each, which)]


BOTH = PAYMENTS + DECISIONS + RULE


@pytest.mark.parametrize("text", [PAYMENTS, BOTH], ids=["payments", "decisions"])
@pytest.mark.parametrize("seed", range(3))
def test_a_snapshot_between_changes_nothing(text: str, seed: int) -> None:
    """Decided in one go, or in parts with a snapshot written and read between them: equal decisions, equal states."""
    every, rng = items(seed), random.Random(seed)
    whole, last = decide_in(every, [], under(text), AccountState(FIXED).hold([step_of(text)]))
    state = AccountState(FIXED).hold([step_of(text)])
    parts: list[Decided] = []
    cuts = [0, *sorted(rng.sample(range(1, len(every)), 4)), len(every)]
    for start, stop in pairwise(cuts):
        state = AccountState.from_bytes(state.to_bytes(), FIXED, [step_of(text)])
        work = Work(0, state, runs(every[start:stop], counts(every[:start])))
        parts += pipeline.decide(under(text), [work])
    assert payloads(parts, "scores") == payloads(whole, "scores")
    assert payloads(parts, "alerts") == payloads(whole, "alerts")
    assert state.digest() == last.digest() and state.to_bytes() == last.to_bytes()
    if text == BOTH:
        assert any("PATIENCE" in decode_score(entry.payload).rules for entry in whole[0].scores)


def test_a_copy_is_what_the_state_was_then() -> None:
    """A copy's bytes are those of the moment at which it was made, whatever is decided before they are asked for."""
    every = items(6)
    first, later = every[:200], every[200:]
    state = AccountState(FIXED).hold([step_of(BOTH)])
    decide_in(first, [], under(BOTH), state)
    copy, content = state.copy(), state.to_bytes()
    pipeline.decide(under(BOTH), [Work(0, state, runs(later, counts(first)))])
    assert b"".join(copy.parts()) == content != state.to_bytes()


def test_a_rebuilt_state_is_the_one_that_decided() -> None:
    """Folded again from what the log says was decided, the aggregates of decisions are equal."""
    every = items(7)
    decided, state = decide_in(every, [], under(BOTH), AccountState(FIXED).hold([step_of(BOTH)]))
    scores = {entry.id: decode_score(entry.payload) for entry in decided[0].scores}
    none = Outcome("approve", None, ())  # of a duplicate, which no aggregate counts
    again = runs(every)
    for run in again:
        logged = [scores.get(position) for position in run.positions]
        run.outcomes = [none if s is None else Outcome(s.decision, s.severity, s.rules) for s in logged]
    rebuilt = AccountState(FIXED).hold([step_of(BOTH)])
    pipeline.apply(Work(0, rebuilt, again))
    assert rebuilt.rings[step_of(BOTH).digest].digest() == state.rings[step_of(BOTH).digest].digest()
    for run in again:
        run.outcomes = []
    with pytest.raises(Corrupt, match="what was decided"):
        pipeline.apply(Work(0, AccountState(FIXED).hold([step_of(BOTH)]), again))


def test_a_snapshot_gives_the_aggregates_that_are_asked_for() -> None:
    """Of the aggregates of two programs that a state holds, each can be had alone; without them nothing is decided."""
    both = AccountState(FIXED).hold([step_of(PAYMENTS), step_of(BOTH)])
    _, state = decide_in(items(8), [], under(BOTH), both)
    content = state.to_bytes()
    for text in (PAYMENTS, BOTH):
        again = AccountState.from_bytes(content, FIXED, [step_of(text)])
        assert list(again.rings) == list(again.ring_steps) == [step_of(text).digest]
        assert again.rings[step_of(text).digest].digest() == state.rings[step_of(text).digest].digest()
    assert AccountState.from_bytes(content, FIXED, [step_of(PAYMENTS), step_of(BOTH)]).to_bytes() == content
    bare = AccountState.from_bytes(content, FIXED)
    assert not bare.rings and bare.index == state.index
    with pytest.raises(Corrupt, match="aggregates"):
        decide_in(items(9, 5), [], under(BOTH), bare)
    with pytest.raises(Corrupt, match="fold the log again"):
        bare.hold([step_of(BOTH)])


def test_a_changed_snapshot_is_refused() -> None:
    """Whichever byte of the aggregates is changed, or cut off, the snapshot does not load."""
    _, state = decide_in(items(10), [], under(BOTH), AccountState(FIXED).hold([step_of(BOTH)]))
    content, rng = state.to_bytes(), random.Random(1)
    length = len(state.rings[step_of(BOTH).digest].to_bytes())
    for at in [len(content) - length, len(content) - 1, *(len(content) - rng.randrange(length) - 1 for _ in range(40))]:
        changed = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        for bad in (changed, content[:at]):
            with pytest.raises(Corrupt):
                AccountState.from_bytes(bad, FIXED, [step_of(BOTH)])
