"""Layouts of aggregates: what is shared, what the digest covers, and which inputs are needed when."""

from __future__ import annotations

import random

import pytest

from core.errors import BadInput
from core.program.layout import ENTRIES, Layout
from core.program.typed import Aggregate, Constant
from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.builders import aggregate_streams as streams
from tests.builders.aggregate_streams import (
    AMOUNT,
    BIG,
    COUNTRY,
    DECLINED,
    FRAUD,
    MERCHANT,
    OCCURRED,
    OWN_FIELDS,
    SCORE,
)


def over_day(function: str, **changes: object) -> Aggregate:
    """An aggregate over 24 hours."""
    return Aggregate(type="number", function=function, window_ms=DAY_MS, **changes)  # type: ignore[arg-type]


def rings(*aggregates: Aggregate) -> int:
    """How many rings they need."""
    return sum(line.strip().startswith("ring") for line in Layout.of(aggregates, OWN_FIELDS).description)


def test_equal_rings_are_shared() -> None:
    """Count, sum, mean, max, std and distinct over one window need one ring; their parts are held once."""
    several = [over_day(n, value=AMOUNT) for n in ("sum", "mean", "max", "std")]
    several += [over_day("count"), over_day("distinct", value=MERCHANT)]
    assert rings(*several) == 1
    layout = Layout.of(several)
    assert layout.words == 1 + 2 + 24 * (1 + 1 + 1 + 2 + 1)
    assert layout.bytes_account == 8 * layout.words
    assert Layout.of([*several, over_day("sum", value=AMOUNT)]).words == layout.words


def test_what_differs_has_a_ring_of_its_own() -> None:
    """Another window, condition, entity or a value that may be missing needs another ring."""
    count = over_day("count")
    others = [
        Aggregate("number", "count", window_ms=2 * HOUR_MS),
        Aggregate("number", "count", window_ms=12 * HOUR_MS),
        over_day("count", condition=BIG),
        over_day("count", entity=("merchant_id",)),
        over_day("count", on_verdicts=True),
        over_day("sum", value=SCORE),
    ]
    assert [rings(count, other) for other in others] == [2] * len(others)
    assert rings(over_day("sum", value=SCORE), over_day("sum", value=SCORE, condition=BIG)) == 2


def test_constants_that_only_look_equal_are_kept_apart() -> None:
    """Sums of 0.0 and of −0.0 are two parts, as are sums of 1.0 and of true."""
    values = (Constant("number", 0.0), Constant("number", -0.0))
    assert len(Layout.of([over_day("sum", value=v) for v in values]).inputs) == 2
    values = (Constant("number", 1.0), Constant("bool", True))
    assert len(Layout.of([over_day("distinct", value=v) for v in values]).inputs) == 2


def test_the_records_form_does_not_depend_on_the_order_of_aggregates() -> None:
    """Shuffled aggregates, repeated ones, and other readers of the same cells have the same digest."""
    rng = random.Random(1)
    aggregates = streams.aggregates(rng, 40)
    layout = Layout.of(aggregates, OWN_FIELDS)
    again = [*aggregates, *aggregates[:5]]
    rng.shuffle(again)
    assert Layout.of(again, OWN_FIELDS).digest == layout.digest
    total = over_day("sum", value=AMOUNT)
    assert Layout.of([total]).digest == Layout.of([total, over_day("count"), over_day("mean", value=AMOUNT)]).digest


def test_another_state_has_another_digest() -> None:
    """A changed window, condition, value, size or half-life changes the digest."""
    several = [
        over_day("sum", value=AMOUNT),
        over_day("sum", value=SCORE),
        over_day("max", value=AMOUNT),
        over_day("sum", value=AMOUNT, condition=BIG),
        over_day("decayed", value=AMOUNT),
        Aggregate("number", "decayed", window_ms=HOUR_MS, value=AMOUNT),
        Aggregate("number", "is_new", value=MERCHANT, size=3),
        Aggregate("number", "is_new", value=MERCHANT, size=4),
        Aggregate("number", "last", value=AMOUNT),
        Aggregate("number", "first", value=AMOUNT),
        Aggregate("number", "since"),
    ]
    assert len({Layout.of([each]).digest for each in several}) == len(several)


def test_the_digest_is_what_it_was() -> None:
    """The description of a known layout, and so its digest, stays the same: snapshots name it."""
    layout = Layout.of(
        [over_day("sum", value=AMOUNT, condition=BIG), Aggregate("number", "since", entity=("country",))]
    )
    assert layout.description == (
        "format 1, 116 words",
        "account @0 events@0 words=51",
        "  ring(3600000,24) if[less(number:50.0,field.amount:number:)] has[] sum[field.amount:number:]@1 @1 @3",
        "field.country:string:country @51 events@0 words=2",
        "  latest() if[] has[]  @1 @2",
    )
    assert layout.digest == "b07089864df25022dbb4793ed8f41bc32df4b13c8708c1d6ed75df190933e943"


def test_reading_needs_only_keys_and_values_that_may_be_new() -> None:
    """Of the inputs, reading needs key fields and the values of is_new; conditions and sums only matter afterwards."""
    layout = Layout.of(
        [
            over_day("count", condition=DECLINED, entity=("merchant_id",)),
            over_day("sum", value=AMOUNT),
            Aggregate("number", "is_new", value=COUNTRY, size=8),
            Aggregate("time", "last", value=OCCURRED),
        ]
    )
    assert set(layout.inputs) == {DECLINED, MERCHANT, AMOUNT, COUNTRY, OCCURRED}
    assert {layout.inputs[i] for i in layout.own} == {MERCHANT, COUNTRY}
    assert layout.verdict_inputs == ()


def test_aggregates_over_verdicts_have_inputs_of_their_own() -> None:
    """A condition on verdicts is an input of verdicts, not of payments."""
    layout = Layout.of([over_day("count", condition=FRAUD, on_verdicts=True)])
    assert layout.inputs == () and layout.verdict_inputs == (FRAUD,)


def test_a_local_entity_has_a_bounded_table() -> None:
    """An account holds at most 16 entries of an entity: a counter, keys, times of use, and the entries' words."""
    layout = Layout.of([over_day("count", entity=("merchant_id",))])
    assert layout.words == 1 + 2 * ENTRIES + ENTRIES * (1 + 2 + 24) and ENTRIES == 16


def test_what_cannot_be_laid_out_is_refused() -> None:
    """A window without buckets, an unknown function, a missing value and a nested aggregate are errors."""
    with pytest.raises(BadInput, match="the nearest"):
        Layout.of([Aggregate("number", "count", window_ms=7 * MINUTE_MS + 1)])
    for wrong in (over_day("median", value=AMOUNT), over_day("sum"), over_day("distinct", value=over_day("count"))):
        with pytest.raises(ValueError, match=r"median|needs a value|over aggregates"):
            Layout.of([wrong])
