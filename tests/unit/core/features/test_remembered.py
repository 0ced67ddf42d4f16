"""What is a duplicate, what a conflict, for how long, and what happens at the bounds."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from core import pipeline
from core.codec import decode_transaction, encode
from core.events import ListChanged, Transaction, TransactionReceived
from core.features.columns import columns
from core.features.remembered import Remembered
from core.features.state import AccountState
from core.identity import FIXED
from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from core.work import Work
from tests.builders.decisions import context, counts, decide_in, runs
from tests.builders.events import T0, Shape, stream, transaction
from tests.builders.feature_oracle import Sent


def kinds(items: list[Any], cuts: list[int] | None = None, state: AccountState | None = None) -> list[str]:
    """What the pipeline says of each transaction of a stream, decided in pieces."""
    out = []
    for decided in decide_in(items, cuts or [], context(scorer=False), state)[0]:
        conflicts = {s.id for s in decided.scores if b'"ID_CONFLICT"' in s.payload}
        alerted = {a.id for a in decided.alerts if b'"ID_CONFLICT"' in a.payload}
        assert conflicts == alerted
        kept = dict(zip(decided.kept, decided.scores, strict=True))
        rows = range(decided.stop - decided.start)
        out += [("conflict" if kept[i].id in conflicts else "new") if i in kept else "duplicate" for i in rows]
    return out


def of_account(number: int, at: int, account: str = "a1", **changes: Any) -> Transaction:
    return transaction(number, occurred_at=at, account_id=account, **changes)


def test_an_id_with_other_content_is_scored_and_raises_an_alert() -> None:
    """A payment of 1 € with the real payment's ID doesn't hide the real one, in the same batch or a later one."""
    bait, real = of_account(1, T0, amount=1.0), of_account(1, T0 + MINUTE_MS, amount=9_500.0)
    for cuts in ([], [1]):
        assert kinds([bait, real, bait, real], cuts) == ["new", "conflict", "duplicate", "duplicate"]


def test_a_conflict_is_shown_to_analysts_even_on_an_allow_list() -> None:
    """An allow list trusts the payment that came first; another one under its ID is reviewed."""
    allowed = ListChanged(kind="account", effect="allow", add=("a1",), occurred_at=T0, actor="ann")
    under = context(allowed, scorer=False)
    decided = decide_in([of_account(1, T0), of_account(1, T0 + 1, amount=3.0)], [], under)[0][0]
    assert decided.decisions.tolist() == [0, 1] and len(decided.alerts) == 1


SET_BY_THE_WORKER = ("rate", "received_at")


@pytest.mark.parametrize(
    "field", [f for f in Transaction.__struct_fields__ if f not in ("account_id", *SET_BY_THE_WORKER)]
)
def test_every_field_that_the_source_sends_is_content(field: str) -> None:
    """A change of any field is a conflict (of the ID: another payment), and the same content is a duplicate."""
    one = of_account(1, T0, currency="EUR", channel="pos", ip="10.0.0.1", card_id="c1", attributes={"a": 1.0, "b": "x"})
    new: Any = {"attributes": {"a": 1.0}, "amount": one.amount + 1, "occurred_at": T0 + 1}.get(field, "other")
    other = msgspec.structs.replace(one, **{field: new})
    assert kinds([one, other, one]) == ["new", "new" if field == "transaction_id" else "conflict", "duplicate"]


def test_content_does_not_depend_on_how_a_message_is_written() -> None:
    """Order of attributes, 1 or 1.0, absent or empty: the same payment; the log's entry has the content sent, whatever
    the worker added to it.
    """
    texts = (
        b'{"transaction_id":"t","account_id":"a","amount":1,"occurred_at":1524000000000,"attributes":{"b":"x","a":1}}',
        b'{"account_id":"a","attributes":{"a":1.0,"b":"x"},"amount":1.0,"occurred_at":1524000000000,"transaction_id":'
        b'"t","ip":""}',
    )
    sent = [msgspec.json.decode(text, type=Transaction) for text in texts]
    logged = decode_transaction(
        encode(TransactionReceived(recorded_at=7, **(msgspec.structs.asdict(sent[0]) | {"rate": 1.5})))
    )
    contents = columns([*sent, logged], FIXED.key).contents.tolist()
    assert len(set(contents)) == 1 and contents[0]
    assert len(set(columns(sent, FIXED.key.derived("another log")).contents.tolist()) - set(contents)) == 1


@pytest.mark.parametrize("others", [0, 31, 32, 33, 500, 20_000])
def test_a_payment_is_recognised_for_a_day(others: int) -> None:
    """However many payments the account makes, one is recognised for 24 h, and its ID with other content too."""
    first = of_account(10**6, T0)
    step = (DAY_MS - 2) // max(others, 1)
    between = [of_account(n, T0 + 1 + n * step) for n in range(others)]
    end = [msgspec.structs.replace(first, amount=1.0), first]
    last = of_account(10**6 + 1, T0 + DAY_MS)
    found = kinds([first, *between, last, *end])
    assert found == ["new"] * (others + 2) + ["conflict", "duplicate"]


def test_memory_is_freed_in_log_order() -> None:
    """Two days later nothing is kept beyond the account's record, and the payment is new again."""
    state = AccountState(FIXED)
    busy = [of_account(n, T0 + n * 10) for n in range(3_000)]
    assert set(kinds(busy, [], state)) == {"new"} and len(state.remembered) == 2 * (3_000 - 32)
    assert kinds([of_account(10**6, T0 + 2 * DAY_MS), busy[0]], [], state) == ["new", "new"]
    assert len(state.remembered) == 0 and state.remembered.forgotten == 0


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_oracle(seed: int) -> None:
    """Random streams with copies and conflicts, near and far, decided in pieces and from snapshots, against lists."""
    rng = random.Random(seed)
    steps = (0, 1_000, MINUTE_MS, HOUR_MS) if seed % 2 else (0, 10, 1_000, MINUTE_MS)
    items = stream(seed, 900, Shape(accounts=2 + seed, duplicates=0.3, steps=steps, weights=(1, 1, 1, 0.2)))
    payments = [item for item in items if isinstance(item, Transaction)]
    for _ in range(200):  # copies from long ago
        items.insert(rng.randrange(len(items)), rng.choice(payments))
    sent = Sent()
    expected = [sent.kind(item) for item in items if isinstance(item, Transaction)]
    assert {"new", "conflict", "duplicate"} == set(expected)
    whole, pieces = AccountState(FIXED), AccountState(FIXED)
    assert kinds(items, [], whole) == expected
    found: list[str] = []
    edges = [0, *sorted(rng.sample(range(1, len(items)), 30)), len(items)]
    for start, end in pairwise(edges):
        work = Work(0, pieces, runs(items[start:end], counts(items[:start])))
        decided = pipeline.decide(context(scorer=False), [work])[0]
        found += ["duplicate" if i in decided.duplicates else "scored" for i in range(decided.stop - decided.start)]
        pieces = AccountState.from_bytes(pieces.to_bytes(), FIXED)
    assert found == ["duplicate" if kind == "duplicate" else "scored" for kind in expected]
    assert pieces.digest() == whole.digest() and len(whole.remembered)


@pytest.mark.parametrize("seed", range(3))
def test_duplicates_leave_no_trace(seed: int) -> None:
    """The log holds no duplicates, so a state rebuilt from it must equal the live one, which saw them."""
    items = stream(
        seed, 900, Shape(accounts=3, duplicates=0.4, steps=(0, 10, MINUTE_MS, HOUR_MS), weights=(1, 1, 1, 1))
    )
    live, rebuilt = AccountState(FIXED), AccountState(FIXED)
    found = iter(kinds(items, [], live))
    logged = [item for item in items if not isinstance(item, Transaction) or next(found) != "duplicate"]
    assert len(logged) < len(items) - 50
    decide_in(logged, [], context(scorer=False), rebuilt)
    assert live.digest() == rebuilt.digest()


def test_at_the_bound_the_oldest_are_forgotten_first_and_counted() -> None:
    """A full memory forgets in log order, says how much, and goes on."""
    state = AccountState(FIXED)
    state.remembered = Remembered(limit=100)
    items = [of_account(n, T0 + n, f"a{n % 20}") for n in range(20 * 37)]
    assert set(kinds(items, [50], state)) == {"new"}
    assert len(state.remembered) == 100 and state.remembered.forgotten == 100
    restored = AccountState.from_bytes(state.to_bytes(), FIXED)
    assert restored.digest() == state.digest() and restored.remembered.forgotten == state.remembered.forgotten
    assert set(kinds(items[50:], [], restored)) == {"duplicate"}
    assert "duplicate" not in kinds(items[:50], [], state)


def test_one_account_can_not_make_others_forgotten() -> None:
    """Beyond its share of a day an account's own payments are forgotten, and counted, not those of others."""
    state = AccountState(FIXED)
    state.remembered = Remembered(limit=4_000)
    victim = [of_account(n, T0 + n, "victim") for n in range(60)]
    flood = [of_account(n, T0 + 100 + n, "flood") for n in range(5_000)]
    assert set(kinds([*victim, *flood], [], state)) == {"new"}
    assert state.remembered.forgotten == 2 * (5_000 - 32 - 500)
    assert kinds(victim, [], state) == ["duplicate"] * 60


def test_remembered_payments_of_a_damaged_snapshot_are_refused() -> None:
    """A number that does not match what follows is not a memory."""
    memory = Remembered()
    for content in (b"", memory.to_bytes()[:-1], memory.to_bytes() + bytes(16), b"\xff" * 40):
        with pytest.raises(ValueError):
            Remembered.from_bytes(content)
    assert Remembered.from_bytes(memory.to_bytes()).to_bytes() == memory.to_bytes()
