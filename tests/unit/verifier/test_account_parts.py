"""What the stand-alone verifier computes of an account's past, against the engine's tables, oracles and state."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest
from sentinel_verify import account, aggregates, bundle, language, places, siphash, values, verdicts
from sentinel_verify.values import UNKNOWN

from core import geography
from core.codec import encode
from core.features import spec
from core.features.columns import IN_PERSON_CHANNELS
from core.features.kernel import LINEAR_COUNT
from core.features.verdicts import WORDS_MAX, AccountVerdicts
from core.program.layout import ENTRIES
from core.program.typed import Column, Expression
from core.program.windows import buckets
from core.times import DAY_MS
from core.verdicts import CLOCK_SKEW_MS, DELAY_DAYS_MAX, brief_record, rated_hour
from projections.audit.proof_history import EVENTS_MAX
from tests.builders import aggregate_streams as streams
from tests.builders.events import verdict
from tests.builders.expressions import as_verified
from tests.builders.slow_aggregates import SlowAggregates

KEY = bytes(range(16))


def test_its_tables_are_the_engine_s() -> None:
    """Centres of countries, the estimate of distinct values, windows, and bounds that both sides know."""
    held = {code: tuple(geography.CENTRES[row].tolist()) for code, row in geography.PLACES.items()}
    assert held == places.CENTRES
    assert tuple(LINEAR_COUNT.tolist()) == aggregates.LINEAR_COUNT
    assert bundle.EVENTS_MAX == EVENTS_MAX
    assert account.IDS_KEPT == spec.DUPLICATE_MEMORY and aggregates.ENTITIES_KEPT == ENTRIES
    assert (verdicts.KEPT, verdicts.SKEW_MS) == (WORDS_MAX, CLOCK_SKEW_MS)
    assert verdicts.DELAY_DAYS_MAX == DELAY_DAYS_MAX
    assert set(account.IN_PERSON) == set(IN_PERSON_CHANNELS)
    for window in (*streams.WINDOWS, *(w.width_ms * w.buckets for w in spec.WINDOWS)):
        assert aggregates.buckets_of(window) == buckets(window)


class _Row:
    """An event of `aggregate_streams`, whose texts are written for their hashes."""

    def __init__(self, event: streams.Event) -> None:
        self._values = {(c.source, c.name): v for c, v in event.values.items() if isinstance(c, Column)}
        said = event.values
        self._values["outcome", "decision"] = "decline" if said[streams.DECLINED] else "approve"  # type: ignore[assignment]
        self._values["outcome", "verdict"] = "fraud" if said[streams.FRAUD] else "unsure"  # type: ignore[assignment]

    def leaf(self, expression: language.Expression) -> values.Value:
        value = self._values[expression[2], expression[3]]
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _hashed(event: streams.Event) -> dict[Expression, Any]:
    """The event's values as the oracle has them, with the hashes of its texts."""
    return {
        each: siphash.of_text(str(v), KEY) if each.type == "string" and v is not None else v
        for each, v in event.values.items()
    }


def _word(value: Any) -> Any:
    """Comparable to the last bit."""
    if isinstance(value, str):
        return siphash.of_text(value, KEY)
    if isinstance(value, bool | float):
        return struct.pack("<d", value) if value == value else "nan"
    return value


@pytest.mark.parametrize("seed", range(40))
def test_aggregates_have_the_same_bits(seed: int) -> None:
    """Every kind of aggregate, over random payments and verdicts with late ones and NaN among them, is what the slow
    oracle gives; what is known without the events before some moment is that, too.
    """
    rng = random.Random(seed)
    wanted = streams.aggregates(rng, 12)
    events = [event for event in streams.stream(rng, 150) if event.slot == 0]
    oracle = SlowAggregates(wanted)
    theirs = [as_verified(each) for each in wanted]
    whole = aggregates.Aggregates(theirs, {"score": "number"}, KEY, None)
    secret = aggregates.Aggregates(theirs, {"score": "number"}, None, None)
    late: aggregates.Aggregates | None = None
    begins, compared, known = len(events) // 3, 0, 0
    for number, event in enumerate(events):
        row = _Row(event)
        if number == begins:
            before = max((each.time for each in events[:number] if not each.verdict), default=0)
            late = aggregates.Aggregates(theirs, {"score": "number"}, KEY, before)
            for each in events[:number]:  # of verdicts, a proof holds all
                if each.verdict:
                    late.add(each.time, _Row(each), on_verdicts=True)
        if not event.verdict:
            expected = oracle.read(0, event.time, _hashed(event))
            found, reasons = whole.read(event.time, row)
            assert [_word(found[each]) for each in theirs] == [_word(each) for each in expected] and not reasons
            hidden, reasons = secret.read(event.time, row)
            assert all(value is UNKNOWN or _word(value) == _word(found[each]) for each, value in hidden.items())
            if late is not None and number > begins:
                partly, reasons = late.read(event.time, row)
                compared, known = compared + len(partly), known + len(partly) - len(reasons)
                for each, value in partly.items():
                    assert value is UNKNOWN or _word(value) == _word(found[each]), each
        oracle.add(0, event.time, _hashed(event), verdict=event.verdict)
        for state in (whole, secret, late):
            if state is not None:
                state.add(event.time, row, on_verdicts=event.verdict)
    assert known or not compared or seed


def test_verdicts_are_counted_as_the_engine_counts_them() -> None:
    """Late, repeated, copied and corrected verdicts, more than a hundred, and hours that are left out."""
    rng = random.Random(3)
    for _ in range(30):
        mine, engine = verdicts.Verdicts("a1"), AccountVerdicts()
        hours = set()
        for number in range(rng.choice((5, 40, 160))):
            event = verdict(
                transaction_id=f"t{rng.randrange(rng.choice((2, 60)))}",
                occurred_at=10**12 + rng.randrange(4) * DAY_MS,
                source=rng.choice(["analyst", "customer", "chargeback", "representment"]),
                verdict=rng.choice(["fraud", "legitimate", "unsure"]),
                actor=rng.choice(["ann", "bob", ""]),
                confidence=rng.choice([1.0, 0.5]),
                transaction_occurred_at=rng.choice([0, 10**12 - DAY_MS, 10**12 + DAY_MS, 10**12 - 600 * DAY_MS]),
                recorded_at=10**12 + number * 600_000,
            )
            mine.add(json.loads(encode(event)))
            hours.add(rated_hour(brief_record(event, event.recorded_at), "a1"))
            count = engine.add(event)
            assert tuple(mine.counted(set())) == tuple(count)
            some = frozenset(rng.sample(sorted(hours), len(hours) // 2))
            without = engine.without(some).get("a1", count)
            assert tuple(mine.counted(set(some))) == tuple(without)
