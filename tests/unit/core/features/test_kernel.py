"""The feature kernel against the oracle: every column of every transaction of hypothesis's and seeded streams."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import AccountBlocked, AccountUnblocked, Transaction
from core.features import spec
from core.features.reference import COLUMNS, FIRST_COLUMN
from core.features.state import AccountState
from core.features.verdicts import WORDS_MAX
from core.identity import FIXED
from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.builders import feature_oracle
from tests.builders.decisions import context, decide_in, features_of
from tests.builders.events import BURST, T0, Item, Shape, fuzz, stream, transaction, verdict

REFERENCE = {f.name for f in spec.FEATURES if f.window == "reference"}


def agree(items: Sequence[Item], *, exact: bool = True) -> None:
    """Assert that kernel and oracle agree on every column."""
    got = features_of(items)
    wanted = feature_oracle.vectors(items)
    assert len(got) == len(wanted)
    assert not wanted or set(wanted[0]) == set(spec.NAMES) - REFERENCE
    for name in wanted[0] if wanted else ():
        column = got[:, spec.index(name)]
        expected = np.array([row[name] for row in wanted], dtype=np.float32)
        if exact and name not in feature_oracle.APPROXIMATE:
            same = (column == expected) | (np.isnan(column) & np.isnan(expected))
        else:
            same = np.isclose(column, expected, rtol=2e-6, atol=1e-6, equal_nan=True)
        if name in ("decayed_std", "amount_zscore"):
            same |= _only_rounding(name, wanted, column, expected)
        bad = np.flatnonzero(~same)
        assert not len(bad), f"{name} of transaction {bad[0]}: kernel {column[bad[0]]!r}, oracle {expected[bad[0]]!r}"


def _only_rounding(name: str, wanted: list[dict[str, float]], column: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """A deviation far below the mean is the rounding of the mean: what is left of 1e12 once it has decayed."""
    mean = np.array([row["decayed_mean"] for row in wanted])
    floor = 1e-7 * np.abs(mean)
    if name == "decayed_std":
        return np.abs(column - expected) <= floor
    scale = np.array([row["decayed_std"] for row in wanted]) + 0.01 * np.abs(mean) + 0.01
    return np.abs(column - expected) <= 1e-4 * np.abs(expected) + floor / scale


def test_every_column_is_either_the_oracles_or_a_reference_column() -> None:
    """Reference columns are those of the tables' kinds, side by side; the oracle has every other one."""
    places = [spec.index(first) + i for kind, first in FIRST_COLUMN.items() for i in range(COLUMNS[kind])]
    assert {spec.NAMES[place] for place in places} == REFERENCE and len(places) == len(REFERENCE)
    assert set(feature_oracle.vectors([transaction()])[0]) == set(spec.NAMES) - REFERENCE


@pytest.mark.parametrize("seed", range(6))
def test_agrees_in_order(seed: int) -> None:
    """Streams in order of event time, ties and gaps of a year included, give the oracle's features."""
    agree(stream(seed, 400))


@pytest.mark.parametrize("late", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("late_ms", [8 * MINUTE_MS, DAY_MS, 90 * DAY_MS])
def test_agrees_out_of_order(late: float, late_ms: int) -> None:
    """Late events, by minutes or by months, give the oracle's features."""
    agree(stream(int(late * 10) + late_ms, 250, Shape(accounts=3, late=late, late_ms=late_ms)))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_on_bursts(seed: int) -> None:
    """Hundreds of transactions within minutes, over many merchants, give the oracle's features."""
    agree(stream(seed, 500, BURST))


def test_agrees_on_cents_to_rounding() -> None:
    """Amounts in cents, whose sums round, agree within float32's precision."""
    agree(stream(1, 500, Shape(exact=False, late=0.2, accounts=3)), exact=False)


def test_agrees_with_duplicates_left_out() -> None:
    """A repeated payment is not counted anywhere; one with another's ID is."""
    items = stream(3, 500, Shape(duplicates=0.3, accounts=3))
    assert len(features_of(items)) < sum(isinstance(i, Transaction) for i in items)
    agree(items)


@pytest.mark.parametrize(("others", "kept"), [(0, 1), (31, 32), (32, 34), (40, 42)])
def test_a_payment_is_remembered_for_32_transactions(others: int, kept: int) -> None:
    """However late, a payment is refused while it is among the account's last 32; other accounts' don't count."""
    mine = [transaction(i, occurred_at=T0 + i * 2 * DAY_MS) for i in range(others + 1)]
    theirs = [transaction(i, occurred_at=T0 + i, account_id="a2") for i in range(40)]
    again = [transaction(0, occurred_at=T0)]
    assert len(features_of([*mine, *theirs, *again])) == 40 + kept
    agree([*mine, *theirs, *again, *again])


def test_hour_counts_are_halved_at_their_limit() -> None:
    """An account of 2,300 transactions goes through the halving of its hour-of-day counts twice and more."""
    rng = random.Random(5)
    times = sorted(T0 + rng.randrange(3 * DAY_MS) for _ in range(2300))
    items = [transaction(i, occurred_at=t, amount=1.0) for i, t in enumerate(times)]
    got = features_of(items)[:, spec.index("hour_share")]
    hours = [t // HOUR_MS % 24 for t in times]
    for i in (1, 1023, 1024, 1025, 1026, 1600, 2047, 2048, 2049, 2299):
        assert got[i] == np.float32(feature_oracle.hour_share(hours[:i], hours[i])), i


def test_a_thief_hardly_moves_the_typical_amount() -> None:
    """After 40 purchases of 50, five of 250 are each high, and the typical amount is still near 50."""
    amounts = [50.0] * 40 + [250.0, 50.0, 50.0] * 5
    got = features_of([transaction(i, occurred_at=T0 + i * HOUR_MS, amount=a) for i, a in enumerate(amounts)])
    assert 50.0 <= got[-1, spec.index("typical_amount")] < 60.0
    assert got[-1, spec.index("high_amounts")] == pytest.approx(5.0, abs=0.3)
    assert got[40, spec.index("amount_to_typical")] == 5.0 and got[40, spec.index("high_amounts")] == 0.0
    assert got[-1, spec.index("days_since_high_amount")] == np.float32(2 / 24)
    assert got[-1, spec.index("decayed_mean")] > 65.0


def test_the_typical_amount_leaves_zero() -> None:
    """An account that began with ten free trials gets a typical amount as it spends."""
    amounts = [0.0] * 10 + [20.0] * 100
    got = features_of([transaction(i, occurred_at=T0 + i, amount=a) for i, a in enumerate(amounts)])
    assert np.isnan(got[10, spec.index("amount_to_typical")])
    assert got[-1, spec.index("typical_amount")] > 3.0


_times = st.one_of(
    st.integers(0, 3 * MINUTE_MS),
    st.integers(0, 40 * DAY_MS),
    st.sampled_from(
        [
            w.width_ms * k + d
            for w in spec.WINDOWS
            for k in (1, w.buckets - 1, w.buckets, w.buckets + 1)
            for d in (-1, 0, 1)
        ]
    ),
    st.just(365 * DAY_MS),
)
_amounts = st.one_of(st.integers(0, 4000).map(lambda n: n / 4), st.sampled_from([0.0, 1e12]))
_transactions = st.builds(
    lambda account, at, amount, merchant, country, device, channel: (
        account,
        at,
        amount,
        merchant,
        country,
        device,
        channel,
    ),
    st.sampled_from(["a", "b"]),
    _times,
    _amounts,
    st.sampled_from(["", *(f"m{i}" for i in range(20))]),
    st.sampled_from(["", "DE", "US", "??"]),
    st.sampled_from(["", *(f"d{i}" for i in range(10))]),
    st.sampled_from(["", "pos", "online"]),
)
_feedback = st.one_of(
    st.builds(
        verdict,
        st.sampled_from(["a", "never"]),
        st.sampled_from(["fraud", "legitimate", "unsure"]),
        _times.map(lambda t: T0 + t),
    ),
    st.builds(
        AccountBlocked,
        account_id=st.sampled_from(["a", "b"]),
        occurred_at=_times.map(lambda t: T0 + t),
        actor=st.just("x"),
    ),
    st.builds(
        AccountUnblocked,
        account_id=st.sampled_from(["a", "b"]),
        occurred_at=_times.map(lambda t: T0 + t),
        actor=st.just("x"),
    ),
)


def _items(drawn: list[object]) -> list[Item]:
    out: list[Item] = []
    for i, d in enumerate(drawn):
        if isinstance(d, tuple):
            account, at, amount, merchant, country, device, channel = d
            out.append(
                transaction(
                    i,
                    account_id=account,
                    occurred_at=T0 + at,
                    amount=amount,
                    merchant_id=merchant,
                    merchant_category=merchant[-1:],
                    country=country,
                    device_id=device,
                    channel=channel,
                )
            )
        else:
            out.append(d)  # type: ignore[arg-type]
    return out


@fuzz(max_examples=150)
@given(st.lists(st.one_of(_transactions, _transactions, _feedback), max_size=60).map(_items))
def test_agrees_on_any_stream(items: list[Item]) -> None:
    """Any stream at all, with times on and beside the edges of buckets and windows, gives the oracle's features."""
    agree(items)


@fuzz(max_examples=40)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 200), max_size=12))
def test_batch_borders_leave_no_trace(seed: int, cuts: list[int]) -> None:
    """Cutting a stream at any places gives the same feature bytes, duplicates and final state."""
    items = stream(seed, 200, Shape(late=0.2, duplicates=0.1))
    whole, state = decide_in(items, [])
    parts, state_of_parts = decide_in(items, cuts)
    assert b"".join(d.features.tobytes() for d in parts) == whole[0].features.tobytes()
    assert state_of_parts.digest() == state.digest()


def test_an_account_known_from_feedback_only_is_a_new_account() -> None:
    """A verdict and a block before the first transaction show in it; its history columns are still NaN."""
    row = features_of([verdict("a1"), AccountBlocked(account_id="a1", occurred_at=T0, actor="x"), transaction()])[0]
    at = spec.index
    assert (row[at("fraud_verdicts")], row[at("account_blocked")], row[at("transactions_total")]) == (1.0, 1.0, 0.0)
    assert np.isnan(row[[at("decayed_mean"), at("seconds_since_last"), at("merchant_is_new"), at("hour_share")]]).all()


_words = st.builds(
    lambda day, word, source, actor, payment, paid, confidence: verdict(
        "a1",
        word,
        T0 + day * DAY_MS,
        source=source,
        actor=actor,
        transaction_id=f"t{payment}",
        transaction_occurred_at=paid,
        confidence=confidence,
    ),
    st.integers(0, 9),
    st.sampled_from(["fraud", "legitimate", "unsure"]),
    st.sampled_from(["analyst", "chargeback"]),
    st.sampled_from(["ann", "bob"]),
    st.integers(1, 2),
    st.sampled_from([0, T0, T0 + 4 * DAY_MS, T0 - 535 * DAY_MS]),
    st.sampled_from([1.0, 0.5]),
)


@fuzz(max_examples=150)
@given(st.lists(_words, max_size=25), st.integers(0, 25))
def test_verdicts_that_do_not_count_change_no_feature(words: list[Any], cut: int) -> None:
    """After every verdict, features equal the oracle's: not those of impossible time, no repetition, in the order said,
    whatever the order in which they came, and also when a snapshot was taken in between.
    """
    items = [item for n, word in enumerate(words) for item in (word, transaction(n, occurred_at=T0 + 10 * DAY_MS))]
    agree(items)
    first, state = decide_in(items[: 2 * cut], [])
    rest, _ = decide_in(items[2 * cut :], [], state=AccountState.from_bytes(state.to_bytes(), FIXED))
    whole, _ = decide_in(items, [])
    assert b"".join(d.features.tobytes() for d in (*first, *rest)) == whole[0].features.tobytes()


def test_examples_of_verdicts_that_do_not_count() -> None:
    """A file sent twice counts once, corrections in it included; a verdict before its payment counts for nothing."""
    columns = [spec.index(name) for name in ("fraud_verdicts", "legitimate_verdicts", "days_since_fraud")]

    def after(*words: Any) -> list[float]:
        return features_of([*words, transaction(occurred_at=T0 + 9 * DAY_MS)])[0][columns].tolist()

    file = [verdict("a1", "fraud", T0 + DAY_MS, actor="ann"), verdict("a1", "legitimate", T0 + 2 * DAY_MS, actor="ann")]
    assert after(*file) == after(*file, *file) == [1.0, 1.0, 8.0]
    assert after(*file, verdict("a1", "fraud", T0 + 3 * DAY_MS, actor="bob")) == [2.0, 1.0, 6.0]
    wrong = verdict("a1", "fraud", T0, transaction_occurred_at=T0 + DAY_MS)
    assert after(*file, wrong) == [1.0, 1.0, 8.0]
    late = verdict("a1", "fraud", T0 + DAY_MS, actor="ann")
    assert after(verdict("a1", "fraud", T0 + 5 * DAY_MS, actor="ann"), late) == [1.0, 0.0, 8.0]


_hours = st.sets(st.tuples(st.sampled_from(["analyst:ann", "analyst:bob", "chargeback:ann"]), st.integers(0, 3)))


@fuzz(max_examples=100)
@given(st.lists(st.tuples(_words, st.integers(0, 3)), max_size=20), _hours, st.lists(st.integers(0, 40), max_size=3))
def test_quarantined_hours_are_left_out(words: list[Any], hours: set[tuple[str, int]], cuts: list[int]) -> None:
    """Features are the oracle's of the verdicts of other hours, wherever the stream is cut; the state keeps all."""
    first = T0 // HOUR_MS
    items: list[Any] = []
    for n, (word, hour) in enumerate(words):
        items.append(msgspec.structs.replace(word, recorded_at=(first + hour) * HOUR_MS + n))
        items.append(transaction(n, occurred_at=T0 + 10 * DAY_MS))
    under = replace(context(scorer=False), quarantined=frozenset((key, first + hour) for key, hour in hours))
    decided, state = decide_in(items, cuts, under)
    got = np.concatenate([d.features for d in decided]) if words else np.empty((0, spec.WIDTH))
    wanted = feature_oracle.vectors(
        item
        for item in items
        if isinstance(item, Transaction)
        or (f"{item.source}:{item.actor}", item.recorded_at // HOUR_MS - first) not in hours
    )
    for name in ("fraud_verdicts", "legitimate_verdicts", "days_since_fraud"):
        np.testing.assert_array_equal(got[:, spec.index(name)], np.array([row[name] for row in wanted], np.float32))
    assert state.digest() == decide_in(items, [])[1].digest()


def test_an_accounts_memory_of_verdicts_is_bounded() -> None:
    """Three hundred payments with a verdict each: all count, a third are kept."""
    items: list[Any] = [verdict("a1", "fraud", T0 + n, transaction_id=f"t{n}") for n in range(300)]
    decided, state = decide_in([*items, transaction(occurred_at=T0 + DAY_MS)], [])
    assert decided[0].features[0, spec.index("fraud_verdicts")] == 300.0
    assert state.verdicts.to_bytes().count(b"analyst") == WORDS_MAX


def test_every_nan_is_one_bit_pattern() -> None:
    """Missing values have the one quiet NaN, so that feature bytes don't depend on how the processor made it."""
    bits = features_of(stream(2, 300, Shape(late=0.3))).view(np.uint32)
    values = bits.view(np.float32)
    assert set(bits[np.isnan(values)].tolist()) == {0x7FC00000}
