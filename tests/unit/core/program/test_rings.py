"""The compiled aggregates against the oracle and against the feature kernel: equal to the last bit."""

from __future__ import annotations

import random

import numpy as np
import pytest

from core.events import Transaction
from core.features import spec
from core.hashing import hash_strings
from core.identity import FIXED
from core.program import folding
from core.program.layout import Layout
from core.program.state import ProgramState
from core.program.typed import Aggregate, Column
from core.times import DAY_MS, HOUR_MS
from core.validation import decode_transaction
from sources.catalogue import open_source
from sources.synthetic import SyntheticConfig
from tests.builders import aggregate_streams as streams
from tests.builders.aggregate_streams import AMOUNT, FLAG, MERCHANT, OWN_FIELDS, SCORE, Columns, Event
from tests.builders.decisions import features_of
from tests.builders.events import BURST, Item, Shape, stream

CASES = 1000


def numbers(aggregates: list[Aggregate], events: list[Event]) -> list[list[float | None]]:
    """Results as numbers, None for missing ones, by payment."""
    words, valid = streams.folded(aggregates, events)
    values = words.view(np.float64)
    return [
        [float(values[a, i]) if valid[a, i] else None for a in range(len(aggregates))] for i in range(words.shape[1])
    ]


def payment(time: int, slot: int = 0, **changes: object) -> Event:
    """A payment with these values: amount, merchant, score, flag."""
    values = {"amount": 20.0, "merchant_id": 1 << 60, "score": 1.0, "flag": True} | changes
    columns = {column.name: column for column in (AMOUNT, MERCHANT, SCORE, FLAG)}
    return Event(slot, time, {columns[name]: value for name, value in values.items()})  # type: ignore[misc]


@pytest.mark.parametrize("block", range(10))
def test_agrees_with_the_oracle(block: int) -> None:
    """1,000 random sets of aggregates on random streams give the oracle's bits at every payment."""
    for seed in range(block * CASES // 10, (block + 1) * CASES // 10):
        different, _ = streams.compare(seed)
        assert not different, f"seed {seed}: {different}"


@pytest.mark.parametrize("seed", range(40))
def test_any_split_gives_the_same_bits(seed: int) -> None:
    """Batches of any size, by `fold` or by `read` and `update`, with snapshots between, give what one fold does."""
    rng = random.Random(10_000 + seed)
    aggregates = streams.aggregates(rng, 12)
    events = streams.stream(rng, 80)
    layout = Layout.of(aggregates, OWN_FIELDS)
    columns = Columns.of(layout, events)
    wanted, got = columns.outputs(), columns.outputs()
    whole, state = streams.started(layout, events), streams.started(layout, events)
    columns.fold(whole, columns.rows, *wanted)
    at = 0
    while at < len(columns.rows):
        size = rng.choice((1, 1, 2, 7, 30))
        rows = columns.rows[at : at + size]
        if rng.random() < 0.4:
            columns.fold(state, rows, *got)
        else:
            for row in rows:  # waves of one
                if row >= 0:
                    columns.read(state, np.array([row]), *got)
                columns.update(state, np.array([row if row >= 0 else -1 - row]), verdicts=bool(row < 0))
        at += size
        if rng.random() < 0.3:
            state = ProgramState.from_bytes(state.to_bytes(), layout)
    assert not streams.difference(aggregates, got, wanted)
    assert state.digest() == whole.digest()


def test_payments_of_different_accounts_can_be_read_before_any_is_folded() -> None:
    """A wave with one payment of each account gives the bits of event by event."""
    rng = random.Random(3)
    aggregates = streams.aggregates(rng, 12)
    values = [e for seed in range(3) for e in streams.stream(random.Random(seed), 40)]
    events = [Event(i % 8, streams.T0 + i * HOUR_MS, e.values) for i, e in enumerate(values)]
    layout = Layout.of(aggregates, OWN_FIELDS)
    columns = Columns.of(layout, events)
    wanted, got = columns.outputs(), columns.outputs()
    columns.fold(streams.started(layout, events), columns.rows, *wanted)
    state = streams.started(layout, events)
    for start in range(0, len(events), 8):
        wave = np.arange(start, start + 8)
        columns.read(state, wave, *got)
        columns.update(state, wave, verdicts=False)
    assert not streams.difference(aggregates, got, wanted)


def test_reading_changes_nothing() -> None:
    """After any number of reads a state has the digest that it had before."""
    rng = random.Random(5)
    aggregates = streams.aggregates(rng, 20)
    events = [e for e in streams.stream(rng, 60) if not e.verdict]
    layout = Layout.of(aggregates, OWN_FIELDS)
    columns = Columns.of(layout, events)
    state = streams.started(layout, events)
    columns.fold(state, columns.rows, *columns.outputs())
    before = state.digest()
    columns.read(state, columns.rows, *columns.outputs())
    assert state.digest() == before


def test_what_an_aggregate_gives_does_not_depend_on_the_others() -> None:
    """An aggregate has the same bits alone as beside a hundred others, on a stream with late events."""
    rng = random.Random(6)
    aggregates = streams.aggregates(rng, 100)
    events = [e for seed in range(40) for e in streams.stream(random.Random(seed), 20)]
    words, valid = streams.folded(aggregates, events)
    for place, aggregate in enumerate(aggregates):
        alone = streams.folded([aggregate], events)
        assert alone[0][0].tobytes() == words[place].tobytes() and alone[1][0].tobytes() == valid[place].tobytes()


def test_a_value_that_is_nan_counts() -> None:
    """NaN in a window makes sum, mean, min, max and std NaN, and leaves decayed mean and typical value alone."""
    names = ("count", "sum", "mean", "min", "max", "std", "decayed", "typical")
    aggregates = [
        Aggregate("number", n, window_ms=0 if n == "typical" else DAY_MS, value=None if n == "count" else SCORE)
        for n in names
    ]
    events = [payment(streams.T0 + i, score=s) for i, s in enumerate((2.0, float("nan"), 4.0))]
    later = payment(streams.T0 + 3 * DAY_MS)
    rows = numbers(aggregates, [*events, later])
    assert rows[2][0] == 2.0 and all(np.isnan(rows[2][1:6])) and rows[2][6:] == [2.0, 2.0]
    assert rows[3] == [0.0, 0.0, None, None, None, None, rows[3][6], 3.0]


def test_std_is_that_of_the_population() -> None:
    """Std divides by n: it is 0 over one event and 1 over 2 and 4."""
    rows = numbers(
        [Aggregate("number", "std", window_ms=DAY_MS, value=AMOUNT)],
        [payment(streams.T0 + i * HOUR_MS, amount=a) for i, a in enumerate((2.0, 4.0, 0.0))],
    )
    assert [row[0] for row in rows] == [None, 0.0, 1.0]


def test_a_late_payment_waits_for_nothing() -> None:
    """`since` is 0 for a payment that comes late, not negative."""
    events = [payment(streams.T0 + 5_000), payment(streams.T0), payment(streams.T0 + 7_000)]
    assert [row[0] for row in numbers([Aggregate("number", "since")], events)] == [None, 0.0, 2.0]


def test_the_least_recently_used_merchant_is_forgotten() -> None:
    """An account remembers 16 merchants; the one that was not used for longest gives way to a new one."""
    aggregate = Aggregate("number", "count", entity=("merchant_id",), window_ms=30 * DAY_MS)
    first = [payment(streams.T0 + i, merchant_id=(i + 1) << 50) for i in range(16)]
    again = payment(streams.T0 + 20, merchant_id=1 << 50)
    new = payment(streams.T0 + 21, merchant_id=99 << 50)
    ask = [payment(streams.T0 + 22 + i, merchant_id=m << 50) for i, m in enumerate((1, 3, 2))]
    counts = [row[0] for row in numbers([aggregate], [*first, again, new, *ask])]
    assert counts == [0.0] * 16 + [1.0, 0.0, 2.0, 1.0, 0.0]


# The feature kernel's columns, as aggregates.
_NAMES = {"10m": 600_000, "1h": HOUR_MS, "24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}
_CATEGORY, _DEVICE = (Column("string", "field", n, "text") for n in ("merchant_category", "device_id"))
_COUNTRY = Column("string", "field", "country", "country")
KERNEL = {
    **{
        f"{name}_{window}": Aggregate("number", function, window_ms=ms, value=value)
        for window, ms in _NAMES.items()
        for name, function, value in (
            ("count", "count", None),
            ("sum", "sum", AMOUNT),
            ("mean", "mean", AMOUNT),
            ("max", "max", AMOUNT),
            ("merchants", "distinct", MERCHANT),
        )
    },
    "decayed_mean": Aggregate("number", "decayed", window_ms=spec.DECAY_HALF_LIFE_MS, value=AMOUNT),
    "typical_amount": Aggregate("number", "typical", value=AMOUNT),
    "merchant_is_new": Aggregate("number", "is_new", value=MERCHANT, size=16),
    "category_is_new": Aggregate("number", "is_new", value=_CATEGORY, size=8),
    "country_is_new": Aggregate("number", "is_new", value=_COUNTRY, size=8),
    "device_is_new": Aggregate("number", "is_new", value=_DEVICE, size=8),
}


def kernel_events(items: list[Item]) -> list[Event]:
    """The payments as events of aggregates."""
    slots: dict[str, int] = {}
    payments = [item for item in items if isinstance(item, Transaction)]
    texts = {MERCHANT: "merchant_id", _CATEGORY: "merchant_category", _COUNTRY: "country", _DEVICE: "device_id"}
    hashes = {
        column: hash_strings([getattr(t, name).lower() for t in payments], FIXED.key).tolist()
        for column, name in texts.items()
    }
    hashes[_COUNTRY] = hash_strings([t.country for t in payments], FIXED.key).tolist()
    return [
        Event(
            slots.setdefault(t.account_id, len(slots)),
            t.received_at or t.occurred_at,
            {AMOUNT: t.amount * t.rate, **{column: values[i] or None for column, values in hashes.items()}},
        )
        for i, t in enumerate(payments)
    ]


def assert_equals_kernel(items: list[Item]) -> None:
    """Assert that every column of KERNEL has the kernel's float32 values."""
    features = features_of(items)
    words, valid = streams.folded(list(KERNEL.values()), kernel_events(items))
    with np.errstate(invalid="ignore"):
        got = np.where(valid == 1, words.view(np.float64), np.nan).astype(np.float32)
    assert features.shape[0] == got.shape[1]
    for place, name in enumerate(KERNEL):
        wanted = features[:, spec.index(name)]
        same = (got[place].view(np.uint32) == wanted.view(np.uint32)) | (np.isnan(got[place]) & np.isnan(wanted))
        bad = np.flatnonzero(~same)
        assert not len(bad), f"{name} of payment {bad[0]}: rings {got[place, bad[0]]!r}, kernel {wanted[bad[0]]!r}"


@pytest.mark.parametrize("late", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("late_ms", [HOUR_MS, 90 * DAY_MS])
def test_equals_the_kernel_on_random_streams(late: float, late_ms: int) -> None:
    """Windows, decayed mean, typical amount and novelty have the kernel's bits, also out of order."""
    assert_equals_kernel(stream(int(late * 10), 2000, Shape(accounts=5, late=late, late_ms=late_ms, exact=False)))


def test_equals_the_kernel_in_bursts() -> None:
    """Many payments within seconds have the kernel's bits."""
    assert_equals_kernel(stream(1, 1500, BURST))


def test_equals_the_kernel_on_the_synthetic_stream() -> None:
    """3,000 payments of the synthetic stream have the kernel's bits."""
    source = open_source("synthetic", synthetic=SyntheticConfig(transactions=3000, accounts=60))
    records = [record for part in source.records() for record in part if record.topic == "transactions"]
    assert_equals_kernel([decode_transaction(record.value, record.key.encode()) for record in records])


def test_arrays_that_do_not_fit_are_refused() -> None:
    """A slot that was not begun, a row that is no event, inputs or outputs of another shape: an error, not a crash."""
    layout = Layout.of([Aggregate("number", "sum", window_ms=DAY_MS, value=AMOUNT)])
    columns = Columns.of(layout, [payment(streams.T0), payment(streams.T0, slot=1)])
    state = ProgramState(layout)
    state.begin([0])
    with pytest.raises(ValueError, match="not begun"):
        columns.fold(state, columns.rows, *columns.outputs())
    state.begin([1])
    for rows in ([2], [-1]):
        with pytest.raises(ValueError, match="not among the events"):
            columns.fold(state, np.array(rows), *columns.outputs())
    with pytest.raises(ValueError, match="not among the events"):
        columns.read(state, np.array([-1]), *columns.outputs())
    with pytest.raises(ValueError, match="each aggregate"):
        columns.read(state, columns.rows, *(a[:0] for a in columns.outputs()))
    with pytest.raises(ValueError, match="contiguous"):
        columns.read(state, columns.rows, *(np.asfortranarray(np.repeat(a, 2, 0))[:1] for a in columns.outputs()))
    columns.inputs[0] = columns.inputs[0][:, :1]
    with pytest.raises(ValueError, match="each input"):
        columns.update(state, columns.rows, verdicts=False)


def test_nothing_to_aggregate_needs_no_state() -> None:
    """A program without aggregates has records of no words, and folding does nothing."""
    layout = Layout.of([])
    state = ProgramState(layout)
    state.begin([3])
    none = np.zeros((0, 1), dtype=np.uint64), np.zeros((0, 1), dtype=np.uint8)
    slots, times = np.array([3], dtype=np.int32), np.array([5])
    folding.fold(layout.table, state.records, np.array([0]), slots, times, *none, slots, times, *none, *none)
    assert layout.words == 0 and state.nbytes == 0
