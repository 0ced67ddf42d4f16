"""A partition's accounts are bounded: who is evicted, what is kept, and that a replay evicts the same."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from typing import Any

import pytest

from core import pipeline
from core.events import AccountBlocked, AccountUnblocked, FeedbackReceived, Transaction
from core.features import spec
from core.features.recency import KINDS
from core.features.state import EVICTED_PART, AccountState
from core.identity import FIXED
from core.work import Work
from tests.builders.decisions import context, counts, decide_in, runs
from tests.builders.events import T0, Item, Shape, stream, transaction, verdict

TOTAL = spec.index("transactions_total")


def small(accounts_max: int) -> AccountState:
    return AccountState(FIXED._replace(accounts_max=accounts_max))


def paid(number: int, account: str) -> Transaction:
    return transaction(number, occurred_at=T0 + number, account_id=account)


class Held:
    """The accounts that a partition holds, by plain lists: the least recently active first."""

    def __init__(self, accounts_max: int) -> None:
        self.max, self.order = accounts_max, list[str]()
        self.frauds, self.blocked = dict[str, int](), set[str]()
        self.evicted = list[str]()

    def protects(self, account: str) -> bool:
        return account in self.blocked or self.frauds.get(account, 0) > 0

    def see(self, item: Item) -> None:
        account = item.account_id
        if account not in self.order and len(self.order) == self.max:
            self.evict()
        self.order = [a for a in self.order if a != account] + [account]
        if isinstance(item, AccountBlocked):
            self.blocked.add(account)
        elif isinstance(item, AccountUnblocked):
            self.blocked.discard(account)
        elif isinstance(item, FeedbackReceived):
            self.frauds[account] = 1

    def evict(self) -> None:
        wanted = max(self.max // EVICTED_PART, 1)
        shielded = [a for a in self.order if self.protects(a)]
        shielded.sort(key=lambda a: a in self.blocked)
        others = [a for a in self.order if not self.protects(a)]
        excess = min(max(len(shielded) - self.max // 2, 0), wanted)
        gone = others[: wanted - excess]
        gone += shielded[: wanted - len(gone)]
        self.evicted += gone
        self.order = [a for a in self.order if a not in gone]
        self.blocked -= set(gone)
        for account in gone:
            self.frauds.pop(account, None)


@pytest.mark.parametrize(("seed", "accounts_max"), [(1, 1), (2, 2), (3, 7), (4, 20), (5, 70), (6, 130)])
def test_the_least_recently_active_are_evicted(seed: int, accounts_max: int) -> None:
    """Random streams with blocks and frauds: exactly those accounts are held that plain lists say."""
    rng = random.Random(seed)
    items: list[Item] = []
    for number in range(1_500):
        account = f"a{int(rng.random() ** 2 * 3 * accounts_max)}"
        kind = rng.random()
        if kind < 0.08:
            act = AccountBlocked if kind < 0.06 else AccountUnblocked
            items.append(act(account_id=account, occurred_at=T0, actor="x"))
        elif kind < 0.16:
            items.append(verdict(account, "fraud", T0, transaction_id=f"t{number}"))
        else:
            items.append(paid(number, account))
    state, held = small(accounts_max), Held(accounts_max)
    decide_in(items, sorted(rng.sample(range(1, len(items)), 40)), context(scorer=False), state)
    for item in items:
        held.see(item)
    assert sorted(state.index) == sorted(held.order)
    assert state.evicted == len(held.evicted) > 0
    names = {slot: name for name, slot in state.index.items()}
    kept = [names[slot] for kind in KINDS for slot in state.recency.order(kind).tolist()]
    assert kept == sorted(held.order, key=lambda a: 2 if a in held.blocked else int(held.protects(a)))


@pytest.mark.parametrize("seed", range(4))
def test_evictions_do_not_depend_on_batches_or_snapshots(seed: int) -> None:
    """Decided at once, in pieces, or with a snapshot between pieces: the same scores, alerts and state."""
    rng = random.Random(seed)
    items = stream(seed, 700, Shape(accounts=40, duplicates=0.2, feedback=0.25, late=0.1))
    under = context(scorer=False)
    whole, pieces = small(12), small(12)
    expected = decide_in(items, [], under, whole)[0][0]
    edges = [0, *sorted(rng.sample(range(1, len(items)), 25)), len(items)]
    scores, alerts = [], []
    for start, end in pairwise(edges):
        work = Work(0, pieces, runs(items[start:end], counts(items[:start])))
        decided = pipeline.decide(under, [work])[0]
        scores += decided.scores
        alerts += decided.alerts
        pieces = AccountState.from_bytes(pieces.to_bytes(), pieces.identity)
    assert (scores, alerts) == (expected.scores, expected.alerts)
    assert pieces.digest() == whole.digest() and whole.evicted > 20
    together = [small(12), small(1_000)]
    pipeline.decide(under, [Work(p, state, runs(items)) for p, state in enumerate(together)])
    assert together[0].digest() == whole.digest() and not together[1].evicted


@pytest.mark.parametrize("seed", range(3))
def test_a_state_rebuilt_from_the_log_evicts_the_same(seed: int) -> None:
    """The log holds no duplicates: they must not keep an account, or a replay would evict another one."""
    items = stream(seed, 900, Shape(accounts=30, duplicates=0.4, feedback=0.1))
    live, rebuilt = small(9), small(9)
    decided = decide_in(items, [400], context(scorer=False), live)[0]
    found = iter(i in d.duplicates for d in decided for i in range(d.stop - d.start))
    logged = [item for item in items if not isinstance(item, Transaction) or not next(found)]
    assert len(logged) < len(items) - 20
    pipeline.apply(Work(0, rebuilt, runs(logged)))
    assert rebuilt.digest() == live.digest() and live.evicted > 20


def test_blocked_and_defrauded_accounts_survive_a_flood() -> None:
    """200,000 messages with new accounts neither free a blocked account, nor forget a fraud, nor take memory."""
    state = small(1_000)
    under = context(scorer=False)
    blocked = AccountBlocked(account_id="blocked", occurred_at=T0, actor="ann")
    first: list[Item] = [
        paid(1, "blocked"),
        blocked,
        paid(1, "victim"),
        verdict("victim", "fraud", T0),
        paid(1, "plain"),
    ]
    decide_in(first, [], under, state)
    size = 0
    for start in range(0, 200_000, 4_000):
        flood: list[Item] = [paid(n, f"new{n}") for n in range(start, start + 4_000)]
        pipeline.apply(Work(0, state, runs(flood)))
        if start == 40_000:
            size = _resident()
    assert len(state) <= 1_000 == len(state.records) and state.evicted > 198_000 and not state.evicted_protected
    assert _resident() - size < 8e6
    assert len(state.to_bytes()) < 6e6
    found = decide_in([paid(2, "blocked"), paid(2, "victim"), paid(2, "plain")], [], under, state)[0][0]
    assert found.decisions.tolist() == [2, 0, 0]
    assert found.features[:, TOTAL].tolist() == [1.0, 1.0, 0.0]
    assert found.features[1, spec.index("fraud_verdicts")] == 1.0


def _resident() -> int:
    """Resident memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_protected_accounts_are_bounded_too() -> None:
    """Blocks of invented accounts hold at most half of the partition once it is full, and what goes is counted."""
    state = small(640)
    items: list[Item] = []
    for n in range(3_000):
        items += [AccountBlocked(account_id=f"b{n}", occurred_at=T0, actor="x"), paid(n, f"a{n}")]
    decide_in(items, [], context(scorer=False), state)
    assert len(state) <= 640 and sum(name.startswith("a") for name in state.index) > 300
    assert state.evicted_protected > 2_000 and "b2999" in state.index


def test_no_flood_of_verdicts_frees_a_blocked_account() -> None:
    """Fraud verdicts on invented accounts, many times the partition's bound, push each other out, never a block."""
    state = small(640)
    items: list[Item] = [AccountBlocked(account_id="blocked", occurred_at=T0, actor="ann")]
    items += [verdict(f"invented{n}", "fraud", T0) for n in range(5_000)]
    items += [paid(n, f"new{n}") for n in range(2_000)]
    decide_in(items, [], context(scorer=False), state)
    assert state.evicted_protected > 3_000
    assert decide_in([paid(1, "blocked")], [], context(scorer=False), state)[0][0].decisions.tolist() == [2]


def test_verdicts_go_with_their_account() -> None:
    """What an evicted account's verdicts took is freed, and its next life begins without them."""
    state = small(64)
    items: list[Any] = []
    for n in range(500):
        items += [paid(n, f"a{n}"), verdict(f"a{n}", "legitimate", T0 + n)]
    items.append(paid(0, "a0"))
    last = decide_in(items, [], context(scorer=False), state)[0][0]
    assert len(state.verdicts.to_bytes()) < 64 * 500
    assert last.features[-1, spec.index("legitimate_verdicts")] == 0.0
