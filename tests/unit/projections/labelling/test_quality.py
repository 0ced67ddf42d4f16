"""Quality control of verdicts: each rule, healing, duplicates, and the fold at every prefix against plain sets."""

from __future__ import annotations

import hashlib
import random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import FeedbackReceived, FeedbackSource
from core.feedback_sources import SOURCES
from projections.engine.base import DecidedTransaction, Fact, fold
from projections.labelling.consensus import consensus
from projections.labelling.quality import RULES, Judged, Rules, judge_all
from projections.labelling.reliability import count_patterns, learn
from projections.labelling.sources import report
from projections.labelling.view import view
from projections.views import labels as labels_model
from projections.views.labels import LABELS, SEEN_DAYS, Labels, claims, newest
from tests.builders.events import T0, fuzz
from tests.builders.facts import paid, told

DAY_MS, HOUR_MS = 86_400_000, 3_600_000


def judge(states: dict[int, Labels], rules: Rules = RULES) -> list[Judged]:
    """Every verdict of the read model, judged."""
    return judge_all(list(claims(states)), newest(states), rules)


def statuses(*facts: Fact, rules: Rules = RULES) -> list[Any]:
    """The status of every verdict on t1 of a1."""
    (found,) = [j for j in judge({0: fold(LABELS, facts)}, rules) if (j.account_id, j.transaction_id) == ("a1", "t1")]
    return found.quality


def test_a_verdict_on_a_transaction_of_the_account_counts() -> None:
    """Known to the log and later than its payment: accepted."""
    assert statuses(paid(), told()) == ["accepted"]


def test_an_unknown_transaction_is_held_back_until_it_comes() -> None:
    """Another account's transaction, or none, is unknown; when the payment arrives late, the verdict heals."""
    assert statuses(paid(account="a2"), told()) == ["unknown_transaction"]
    assert statuses(told(), told("legitimate"), paid()) == ["accepted", "accepted"]
    late = statuses(told(at=T0 + DAY_MS), paid(at=T0 + 3 * DAY_MS))
    assert late == ["impossible_time"]


def test_a_payment_that_may_be_forgotten_is_not_called_unknown() -> None:
    """A verdict that dates its payment past the horizon is believed; one that dates it inside, or not at all, waits."""
    after = T0 + (SEEN_DAYS + 1) * DAY_MS
    start = (paid("t1"), paid("t2", after))
    assert statuses(*start, told(at=after, transaction_occurred_at=T0)) == ["accepted"]
    assert statuses(*start, told(at=after, transaction_occurred_at=after - DAY_MS)) == ["unknown_transaction"]
    assert statuses(*start, told(at=after)) == ["unknown_transaction"]


def test_the_memory_of_transactions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve bytes a transaction, the oldest dropped at the bound and past the horizon."""
    monkeypatch.setattr(labels_model, "SEEN_MAX", 50)
    state = fold(LABELS, [paid(f"t{n}", T0 + n * 1000, number=n) for n in range(200)])
    assert len(state.seen["a1"]) == 50 * 12
    assert state.forgotten["a1"] == (T0 // 1000 + 150) * 1000
    fold(LABELS, [paid("new", T0 + 400 * DAY_MS)], state)
    assert len(state.seen["a1"]) == 12


def test_a_hash_across_two_entries_is_no_transaction() -> None:
    """Bytes that happen to spell the ID's hash between entries are passed over; the entry behind them is found."""
    digest = hashlib.blake2b(b"t1", digest_size=8).digest()
    straddling = bytearray(b"xyz" + digest + b"uvwxyzuvwxyzu")
    assert len(straddling) == 24
    for more, expected in ((b"", {}), (digest + (T0 // 1000).to_bytes(4, "little"), {"t1": T0 // 1000 * 1000})):
        state = fold(LABELS, [told()], Labels(seen={"a1": straddling + more}))
        assert state.accounts["a1"].payments == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"at": T0 - DAY_MS}, "impossible_time"),
        ({"at": T0 - 60_000}, "accepted"),
        ({"at": T0 + 3 * DAY_MS, "recorded_at": T0}, "impossible_time"),
        ({"at": T0 + 541 * DAY_MS, "source": "chargeback"}, "impossible_time"),
        ({"at": T0 + 539 * DAY_MS, "source": "chargeback"}, "accepted"),
        ({"at": T0 + 900 * DAY_MS, "source": "analyst"}, "accepted"),
    ],
)
def test_impossible_times_are_held_back(changes: dict[str, Any], expected: str) -> None:
    """Before the payment (clocks may differ by minutes), after the log's time, or later than a source can be."""
    assert statuses(paid(), told(**changes)) == [expected]


def test_a_stream_that_runs_ahead_of_the_clock_has_its_own_time() -> None:
    """Payments simulated a year ahead: their verdicts are not in the future; one a month further on still is."""
    ahead = T0 + 365 * DAY_MS
    start = (paid(at=ahead), paid("t2", ahead + 9 * DAY_MS))
    assert statuses(*start, told(at=ahead + 9 * DAY_MS, recorded_at=T0)) == ["accepted"]
    assert statuses(*start, told(at=ahead + 39 * DAY_MS, recorded_at=T0)) == ["impossible_time"]


def test_repeating_oneself_counts_once_and_changing_ones_mind_counts() -> None:
    """Same rater, same word: duplicate. A change and a change back count; another analyst is another rater."""
    a, b = told("fraud", actor="ann"), told("legitimate", T0 + 2 * DAY_MS, actor="ann")
    assert statuses(paid(), a, told("fraud", T0 + 2 * DAY_MS, actor="ann")) == ["accepted", "duplicate"]
    assert statuses(paid(), a, b, told("fraud", T0 + 3 * DAY_MS, actor="ann")) == ["accepted"] * 3
    assert statuses(paid(), a, told("fraud", actor="bob")) == ["accepted"] * 2
    assert statuses(paid(), a, told("fraud", actor="ann", confidence=0.5)) == ["accepted"] * 2


def test_a_file_sent_twice_adds_nothing_even_where_it_corrects_itself() -> None:
    """The second time every verdict is a duplicate, and the correction still stands."""
    file = [told("fraud", actor="ann"), told("legitimate", T0 + 2 * DAY_MS, actor="ann")]
    assert statuses(paid(), *file, *file) == ["accepted", "duplicate"] * 2
    twice = [file[0], told("fraud", T0 + DAY_MS + 5, actor="ann"), file[1]]
    assert statuses(paid(), *twice, *twice) == ["accepted", *["duplicate"] * 3, "accepted", "duplicate"]


def test_a_rater_over_its_rate_is_held_back_for_that_hour_over_all_partitions() -> None:
    """Six verdicts an hour over two partitions with five allowed: all six wait; the next hour's does not."""
    hour = T0 // HOUR_MS * HOUR_MS + DAY_MS
    halves = []
    for p in (0, 1):
        facts = [paid(f"t{p}{n}") for n in range(4)]
        facts += [told(at=hour + n, transaction_id=f"t{p}{n}", actor="bot") for n in range(3)]
        halves.append(fold(LABELS, [*facts, told(at=hour + HOUR_MS, transaction_id=f"t{p}3", actor="bot")]))
    for limit, expected in ((5, "rate_exceeded"), (6, "accepted")):
        judged = judge({0: halves[0], 1: halves[1]}, Rules(per_hour={"analyst": limit}))
        assert [j.quality[0] for j in judged] == [expected] * 3 + ["accepted"] + [expected] * 3 + ["accepted"]


def test_one_accounts_customer_has_a_rate_of_his_own() -> None:
    """Three disputes of one account in an hour are too many for a limit of two; three accounts' are not."""
    own = [paid(f"t{n}") for n in range(3)] + [told(transaction_id=f"t{n}", source="customer") for n in range(3)]
    spread = [fact for n in range(3) for fact in (paid(account=f"a{n}"), told(account=f"a{n}", source="customer"))]
    rules = Rules(per_hour={"customer": 2})
    assert [j.quality for j in judge({0: fold(LABELS, own)}, rules)] == [["rate_exceeded"]] * 3
    assert [j.quality for j in judge({0: fold(LABELS, spread)}, rules)] == [["accepted"]] * 3


# --- properties over random streams ---------------------------------------------------------------------------


def random_facts(seed: int, size: int = 60) -> list[Fact]:
    """Payments and verdicts of three accounts in any order: early, late, repeated, impossible, and of unknown IDs."""
    rng = random.Random(seed)
    facts: list[Fact] = []
    for number in range(size):
        account, transaction = f"a{rng.randrange(3)}", f"t{rng.randrange(12)}"
        at = T0 + rng.randrange(60) * DAY_MS // 4
        if rng.random() < 0.4:
            facts.append(paid(transaction, at, account, number))
            continue
        facts.append(
            told(
                rng.choice(("fraud", "fraud", "legitimate", "unsure")),
                at,
                at + rng.choice((0, 1000, -9 * DAY_MS)),
                account,
                transaction_id=transaction,
                source=rng.choice(get_args(FeedbackSource)),
                actor=rng.choice(("ann", "bob", "")),
                confidence=rng.choice((1.0, 0.5)),
                transaction_occurred_at=rng.choice((0, T0 + DAY_MS)),
            )
        )
    return facts


def plain_statuses(facts: list[Fact], per_hour: dict[str, int]) -> dict[tuple[str, str], list[str]]:
    """The rules again, in one loop over lists and sets, without the state under test."""
    payments: dict[tuple[str, str], int] = {}
    rates: dict[tuple[str, str, int], int] = {}
    verdicts: dict[tuple[str, str], list[tuple[FeedbackReceived, int]]] = {}
    for fact in facts:
        if isinstance(fact.event, DecidedTransaction):
            t = fact.event.transaction
            payments.setdefault((t.account_id, t.transaction_id), t.occurred_at // 1000 * 1000)
            continue
        e = fact.event
        verdicts.setdefault((e.account_id, e.transaction_id), []).append((e, fact.recorded_at))
        key = (e.source, e.account_id if e.source == "customer" else e.actor, fact.recorded_at // HOUR_MS)
        rates[key] = rates.get(key, 0) + 1
    times = [f.event.transaction.occurred_at for f in facts if isinstance(f.event, DecidedTransaction)]
    newest = (max(times) // DAY_MS + 1) * DAY_MS if times else 0
    out: dict[tuple[str, str], list[str]] = {}
    for at, said in verdicts.items():
        counted: list[tuple[Any, ...]] = []
        heard: list[tuple[Any, ...]] = []
        for e, recorded in sorted(said, key=lambda each: each[0].occurred_at):
            paid_at = payments.get(at, 0) or e.transaction_occurred_at
            key = (e.source, e.account_id if e.source == "customer" else e.actor, recorded // HOUR_MS)
            limited = e.source in per_hour and not (SOURCES[e.source].is_person and not e.actor)
            me = (e.source, e.actor if e.source == "analyst" else "")
            mine = [c for c in counted if c[0] == me]
            limit = SOURCES[e.source].delay_days_max or 10**6
            if e.occurred_at > max(recorded, newest) + DAY_MS or (
                paid_at and not paid_at - 300_000 <= e.occurred_at <= paid_at + limit * DAY_MS
            ):
                out.setdefault(at, []).append("impossible_time")
            elif at not in payments:
                out.setdefault(at, []).append("unknown_transaction")
            elif limited and rates[key] > per_hour[e.source]:
                out.setdefault(at, []).append("rate_exceeded")
            elif mine and (
                mine[-1][1:3] == (e.verdict, e.confidence) or (me, e.verdict, e.confidence, e.occurred_at) in heard
            ):
                heard.append((me, e.verdict, e.confidence, e.occurred_at))
                out.setdefault(at, []).append("duplicate")
            else:
                heard.append((me, e.verdict, e.confidence, e.occurred_at))
                counted.append((me, e.verdict, e.confidence, e.occurred_at))
                out.setdefault(at, []).append("accepted")
    return out


@given(st.integers(0, 10**6))
@fuzz(max_examples=30)
def test_the_fold_at_every_prefix_is_the_batch(seed: int) -> None:
    """After each fact, statuses equal the plain loop over all facts so far: nothing depends on when it was asked."""
    facts, rules = random_facts(seed), Rules(per_hour={"analyst": 2, "customer": 2})
    state = Labels()
    for end, fact in enumerate(facts, 1):
        LABELS.apply(state, fact)
        got = {(j.account_id, j.transaction_id): j.quality for j in judge({0: state}, rules)}
        assert got == plain_statuses(facts[:end], rules.per_hour)


def split(facts: list[Fact], partitions: list[int]) -> dict[int, Labels]:
    """The facts folded by account in the partitions named for accounts a0, a1, a2, in the order of the list."""
    states: dict[int, Labels] = {}
    for p in dict.fromkeys(partitions):
        own = [f for f in facts if p == partitions[int(_account(f)[1:])]]
        states[p] = fold(LABELS, own)
    return states


def _account(fact: Fact) -> str:
    event = fact.event
    return str(event.transaction.account_id if isinstance(event, DecidedTransaction) else event.account_id)


@given(st.integers(0, 10**6), st.permutations([0, 1, 2]))
@fuzz(max_examples=30)
def test_partitions_and_their_order_make_no_difference(seed: int, order: list[int]) -> None:
    """Accounts in one partition or three, read in any order: the same statuses, labels, reliabilities and report."""
    facts = random_facts(seed, 150)
    found = []
    for states in (split(facts, [0, 0, 0]), split(facts, order), split(facts, [2, 0, 1])):
        of = view(states)
        rows = [(t.judged.account_id, t.judged.transaction_id, t.judged.quality, t.consensus) for t in of.transactions]
        found.append((rows, of.learning, report(of, states, T0 + 10**10)))
    assert found[0] == found[1] == found[2]


@given(st.integers(0, 10**6))
@fuzz(max_examples=50)
def test_sending_everything_again_changes_no_label(seed: int) -> None:
    """The log's verdicts twice over: labels and what is learned are the same, no verdict votes or teaches twice."""
    facts = random_facts(seed)
    again = [*facts, *(f for f in facts if not isinstance(f.event, DecidedTransaction))]
    rules = Rules(per_hour={})
    once, twice = judge({0: fold(LABELS, facts)}, rules), judge({0: fold(LABELS, again)}, rules)
    assert [words(j) for j in once] == [words(j) for j in twice]
    assert learn(count_patterns(j.accepted for j in once)) == learn(count_patterns(j.accepted for j in twice))


def words(judged: Judged) -> Any:
    """The label, and each accepted verdict once."""
    accepted = judged.accepted
    return judged.transaction_id, consensus(accepted) if accepted else None, accepted


def test_suspect_verdicts_have_no_vote() -> None:
    """A verdict before its payment is not weighed against the one that counts."""
    state = fold(LABELS, [paid(), told("legitimate", T0 - 9 * DAY_MS), told("fraud", source="customer")])
    (only,) = view({0: state}).transactions
    assert only.consensus is not None and only.consensus.label == "fraud" and len(only.accepted) == 1
    assert only.judged.quality == ["impossible_time", "accepted"]
