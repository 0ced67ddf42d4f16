"""The reference builder against a brute-force oracle over lists; order of partitions, windows, delay, repeated
verdicts.
"""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from core.events import FeedbackReceived, Transaction
from core.features.reference import ReferenceTable
from core.features.spec import NAMES, index
from core.identity import FIXED
from core.times import DAY_MS, HOUR_MS
from projections.reference.tables import MATURITY_DAYS, ReferenceBuilder, period_ms
from tests.builders.events import T0, fuzz, transaction, verdict
from tests.builders.feature_oracle import string_hash

DAY0 = T0 // DAY_MS
Any_ = Transaction | FeedbackReceived


def day(event: Any_) -> int:
    return event.occurred_at // DAY_MS


def fold(events: list[Any_], batches: int = 1, seed: int = 0) -> ReferenceBuilder:
    """A builder that has taken the events in order, transactions in random batches."""
    rng = random.Random(seed)
    builder = ReferenceBuilder(FIXED.key)
    held: list[Transaction] = []

    def give() -> None:
        builder.add_transactions(0, list(held))
        held.clear()

    for event in events:
        if isinstance(event, Transaction):
            held.append(event)
            if rng.random() < 1 / batches:
                give()
        else:
            give()
            builder.add_verdict(0, event, event.occurred_at)
    give()
    return builder


def oracle(events: list[Any_], kind: str, at: int, moment: int | None = None) -> dict[int, list[float]]:
    """The table's rows by key as of day `at`, or the moment (epoch ms) in it, from the words in
    projections/reference/tables.py.
    """
    moment = at * DAY_MS if moment is None else moment
    name = f"{kind}_id"
    verdicts: dict[tuple[str, str], FeedbackReceived] = {}
    for e in sorted(events, key=lambda event: event.occurred_at):
        if isinstance(e, FeedbackReceived) and e.verdict == "fraud":
            verdicts.setdefault((e.account_id, e.transaction_id), e)
    transactions = [e for e in events if isinstance(e, Transaction)]
    rows: dict[int, list[float]] = {}
    known = [v for v in verdicts.values() if v.occurred_at < moment]
    for value in {getattr(e, name) for e in [*transactions, *known]} - {""}:
        mine = [t for t in transactions if getattr(t, name) == value]
        said = [v for v in known if getattr(v, name) == value]
        if kind == "merchant":
            counts, risks = [], []
            for width in (1, 7, 30):
                days = range(at - MATURITY_DAYS - width, at - MATURITY_DAYS)
                counts.append(sum(day(t) in days for t in mine))
                frauds = sum(v.transaction_occurred_at // DAY_MS in days for v in said)
                risks.append(min(frauds, counts[-1]) / counts[-1] if counts[-1] else math.nan)
            reports = sum(at - 7 <= day(v) < at for v in said)
            rows[string_hash(value)] = [*counts, *risks, reports, *recent_past(mine, said, at)]
        else:
            bits = {string_hash(t.account_id) >> 58 for t in mine if at - 30 <= day(t) < at}
            accounts = round(-64.0 * math.log(max(64 - len(bits), 1) / 64.0))
            rows[string_hash(value)] = [accounts, sum(at - 30 <= day(v) < at for v in said)]
    return rows


def recent_past(mine: list[Transaction], said: list[FeedbackReceived], at: int) -> list[float]:
    """The columns from merchant_days_since_fraud on, over (day, is fraud) of each known transaction, newest first."""
    span = range(at - MATURITY_DAYS - 30, at + 1)
    frauds = [(d, v) for v in said if (d := v.transaction_occurred_at // DAY_MS) in span]
    known: dict[int, list[bool]] = {}
    for d in span:
        bad = sum(day_ == d for day_, _ in frauds)
        seen = sum(day(t) == d for t in mine) if d < at - MATURITY_DAYS else 0
        known[d] = [True] * bad + [False] * max(0, seen - bad)
    shares = [share_of_last(known, size) for size in (3, 8)]
    if not frauds:
        return [math.nan, math.nan, 0.0, math.nan, math.nan, math.nan, *shares]
    days = sorted({d for d, _ in frauds}, reverse=True)
    first = days[0]
    for d in days[1:]:
        if first - d > 8:
            break
        first = d
    since = [x for d in span if d >= first for x in known[d]]
    amounts = [float(np.float32(v.amount)) for d, v in frauds if d >= first and v.amount > 0]
    run = sum(d >= first for d, _ in frauds)
    later = sum(not x for d in span if d > days[0] for x in known[d])
    return [at - days[0], at - first, run, run / len(since), min(amounts, default=math.nan), later, *shares]


def share_of_last(known: dict[int, list[bool]], size: int) -> float:
    """Share of fraud among the last `size`, the oldest needed day in proportion."""
    taken, frauds = 0, 0.0
    for d in sorted(known, reverse=True):
        part = min(len(known[d]), size - taken)
        if part:
            frauds += sum(known[d]) * (part / len(known[d]))
        taken += part
    return frauds / taken if taken else math.nan


def assert_table(table: ReferenceTable, rows: dict[int, list[float]]) -> None:
    assert table.keys.tolist() == sorted(rows)
    wanted = np.array([rows[k] for k in sorted(rows)], dtype=np.float32).reshape(table.values.shape)
    np.testing.assert_array_equal(table.values, wanted)


def random_events(seed: int, days: int, per_day: int) -> list[Any_]:
    """Transactions and verdicts in order of arrival, with late ones and repeats."""
    rng = random.Random(seed)
    events: list[Any_] = []
    seen: list[Transaction] = []
    for d in range(days):
        for _ in range(per_day):
            at = (DAY0 + d) * DAY_MS + rng.randrange(DAY_MS)
            if rng.random() < 0.2:
                at -= rng.randrange(6 * DAY_MS)
            merchant, device = rng.choice(["", "m1", "m2", "m3"]), rng.choice(["", "d1", "d2"])
            t = transaction(
                len(seen), account_id=f"a{rng.randrange(90)}", occurred_at=at, merchant_id=merchant, device_id=device
            )
            seen.append(t)
            events.append(t)
        for t in rng.sample(seen, min(len(seen), per_day // 3)):
            word = rng.choice(["fraud", "fraud", "legitimate", "unsure"])
            at = max((DAY0 + d) * DAY_MS + rng.randrange(DAY_MS), t.occurred_at)
            events.append(said(t, word, at, rng.choice([0.0, 5.0, 20.0, 300.0])))
    return events


def said(t: Transaction, word: Any = "fraud", at: int | None = None, amount: float = 0.0) -> FeedbackReceived:
    return verdict(
        t.account_id,
        word,
        t.occurred_at if at is None else at,
        transaction_id=t.transaction_id,
        merchant_id=t.merchant_id,
        device_id=t.device_id,
        transaction_occurred_at=t.occurred_at,
        amount=amount,
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("days", [3, 20, 45, 90])
@pytest.mark.parametrize("hour", [0, 13])
def test_tables_are_the_oracles(seed: int, days: int, hour: int) -> None:
    """After any number of days, tables as of the last day and the next, or an hour of them, agree with the lists."""
    events = random_events(seed, days, 12)
    builder = fold(events, 5, seed)
    for at in (DAY0 + days - 1, DAY0 + days):
        for kind in ("merchant", "device"):
            moment = at * DAY_MS + hour * HOUR_MS
            table = builder.table(kind, moment)  # type: ignore[arg-type]
            assert table.as_of == moment
            assert_table(table, oracle(events, kind, at, moment))


@fuzz(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_order_between_partitions_does_not_matter(seed: int, partitions: int) -> None:
    """However the partitions' streams interleave, the tables have the same bytes."""
    rng = random.Random(seed)
    events = random_events(seed, 15, 8)
    lanes: list[list[Any_]] = [[] for _ in range(partitions)]
    for e in events:
        lanes[string_hash(e.account_id) % partitions].append(e)
    mixed: list[Any_] = []
    while any(lanes):
        lane = rng.choice([lane for lane in lanes if lane])
        mixed += [lane.pop(0) for _ in range(min(len(lane), rng.randrange(1, 30)))]
    one, other = fold(events), fold(mixed, 3)
    for kind in ("merchant", "device"):
        at = (DAY0 + 15) * DAY_MS
        assert one.table(kind, at).to_bytes() == other.table(kind, at).to_bytes()  # type: ignore[arg-type]


def value(builder: ReferenceBuilder, at: int, column: int, kind: Any = "merchant") -> float:
    return float(builder.table(kind, at * DAY_MS).values[0, column])


@pytest.mark.parametrize(("width", "column"), [(1, 0), (7, 1), (30, 2)])
def test_count_windows_and_their_delay(width: int, column: int) -> None:
    """A transaction counts once it is mature, for as many days as the window has."""
    counted = []
    for at in range(DAY0, DAY0 + 45):
        builder = fold([transaction(1, occurred_at=T0)])
        other = verdict(occurred_at=at * DAY_MS, merchant_id="other", device_id="other")
        builder.add_verdict(0, other, other.occurred_at)
        keys = builder.table("merchant", at * DAY_MS)
        if keys.values[keys.keys.tolist().index(string_hash("m1")), column] == 1.0:
            counted.append(at - DAY0)
    assert counted == list(range(MATURITY_DAYS + 1, MATURITY_DAYS + 1 + width))


def test_a_verdict_counts_once_per_transaction() -> None:
    """Chargeback after analyst is one report and one fraud; the same id of another account is another transaction."""
    mine, other = transaction(1), transaction(1, account_id="a2")
    builder = fold([mine, other, said(mine), said(mine, at=T0 + DAY_MS), said(other), said(mine, "legitimate")])
    at = DAY0 + MATURITY_DAYS + 1
    assert (value(builder, at, 0), value(builder, at, 3)) == (2.0, 1.0)
    assert value(builder, DAY0 + 1, 6) == 2.0 and value(builder, DAY0 + 1, 1, "device") == 2.0


def test_a_second_verdict_is_never_a_new_report() -> None:
    """However long after the first: a chargeback 130 days after the analyst's word reports nothing again."""
    late = T0 + 130 * DAY_MS
    again = msgspec.structs.replace(said(transaction(1), at=late), source="chargeback")
    builder = fold([transaction(1), said(transaction(1))])
    assert value(builder, DAY0 + 1, 6) == 1.0
    for day_ in range(DAY0 + 2, DAY0 + 130, 20):
        builder.table("merchant", day_ * DAY_MS)
        builder.table("device", day_ * DAY_MS)
    builder.add_transactions(0, [transaction(2, occurred_at=late)])
    builder.add_verdict(0, again, late)
    assert value(builder, DAY0 + 131, 6) == 0.0 and value(builder, DAY0 + 131, 1, "device") == 0.0


def test_verdicts_that_are_held_back_are_no_reports() -> None:
    """A named analyst above 1,000 verdicts an hour, over all partitions, one before the payment, one on no payment."""
    paid = [transaction(n, account_id=f"a{n}") for n in range(1001)]
    builder = ReferenceBuilder(FIXED.key)
    builder.add_transactions(0, paid[:500])
    builder.add_transactions(1, paid[500:])
    at = T0 + HOUR_MS
    for n, t in enumerate(paid):
        if n == 1000:
            assert value(builder, DAY0 + 1, 6) == 1000.0
        builder.add_verdict(int(n >= 500), msgspec.structs.replace(said(t, at=at), actor="bot"), at)
    assert value(builder, DAY0 + 1, 6) == 0.0
    for wrong in (said(paid[0], at=T0 - HOUR_MS), said(transaction(5000), at=at)):
        builder.add_verdict(0, wrong, at)
    assert value(builder, DAY0 + 1, 6) == 0.0
    builder.add_verdict(0, said(paid[0], at=at), at)
    assert value(builder, DAY0 + 1, 6) == 1.0


def test_a_device_without_accounts_has_a_plain_zero() -> None:
    """A device whose last account was more than 30 days ago: 0.0, not −0.0, which has other bytes."""
    accounts = fold([transaction(1)]).table("device", (DAY0 + 40) * DAY_MS).values[0, 0]
    assert accounts.tobytes() == np.float32(0.0).tobytes()


def test_a_share_is_never_above_one() -> None:
    """Verdicts that claim another day than their payment's don't make a share of more than everything."""
    late = [transaction(n, occurred_at=T0 + DAY_MS) for n in range(2, 6)]
    claimed = [msgspec.structs.replace(said(t), transaction_occurred_at=T0) for t in late]
    builder = fold([transaction(1), *late, said(transaction(1)), *claimed])
    assert value(builder, DAY0 + MATURITY_DAYS + 1, 3) == 1.0


def test_verdicts_without_names_or_times_do_no_harm() -> None:
    """A verdict that names neither merchant nor device counts nowhere; one without the transaction's time is a report
    only.
    """
    builder = fold([transaction(1), transaction(9), verdict(transaction_id="t9"), verdict(merchant_id="m1")])
    assert value(builder, DAY0 + 1, 6) == 1.0
    assert value(builder, DAY0 + MATURITY_DAYS + 1, 3) == 0.0


def test_an_event_older_than_the_ring_is_forgotten() -> None:
    """An event from months ago changes no table of today."""
    late: list[Any_] = [transaction(n, occurred_at=T0 - 80 * DAY_MS) for n in (2, 3)]
    late.append(said(late[1], at=T0))
    for at in (DAY0, DAY0 + 1):
        assert_table(
            fold([transaction(1), *late]).table("merchant", at * DAY_MS),
            oracle([transaction(1), *late], "merchant", at),
        )


def test_a_long_silence_empties_the_windows() -> None:
    """After more than the ring's days without events, all counts are 0 and shares unknown."""
    builder = fold(
        [transaction(1), said(transaction(1)), transaction(2, occurred_at=T0 + 400 * DAY_MS, merchant_id="m2")]
    )
    table = builder.table("merchant", (DAY0 + 400) * DAY_MS)
    row = table.values[table.keys.tolist().index(string_hash("m1"))]
    assert row[[0, 1, 2, 6]].tolist() == [0.0] * 4 and np.isnan(row[3:6]).all()


def compromised(days_of_fraud: range, days: int, delay: int = 7) -> list[Any_]:
    """A merchant with one purchase of 40 a day, all fraud on `days_of_fraud`, each reported after `delay` days."""
    events: list[Any_] = []
    for d in range(days):
        t = transaction(d, account_id=f"a{d}", occurred_at=(DAY0 + d) * DAY_MS + 10 * HOUR_MS)
        events.append(t)
        if d - delay in days_of_fraud:
            past = transaction(d - delay, account_id=f"a{d - delay}", occurred_at=t.occurred_at - delay * DAY_MS)
            events.append(said(past, at=t.occurred_at, amount=40.0))
    return events


def past_of(events: list[Any_], moment: int) -> dict[str, float]:
    """The columns of the table's first row by name."""
    first = index("merchant_count_1d")
    return dict(zip(NAMES[first:], fold(events).table("merchant", moment).values[0].tolist(), strict=False))


def test_a_compromised_merchant_shows_as_a_run_that_goes_on_and_ends() -> None:
    """While all is fraud the run grows with share 1; once legitimate purchases are known, they are counted."""
    goes_on = past_of(compromised(range(20, 40), 41), (DAY0 + 41) * DAY_MS)
    assert (goes_on["merchant_run_days"], goes_on["merchant_run_frauds"]) == (21.0, 14.0)
    assert (goes_on["merchant_days_since_fraud"], goes_on["merchant_run_share"]) == (8.0, 1.0)
    assert (goes_on["merchant_risk_last_8"], goes_on["merchant_run_amount"]) == (1.0, 40.0)
    over = past_of(compromised(range(20, 30), 45), (DAY0 + 45) * DAY_MS)
    assert (over["merchant_legitimate_since_fraud"], over["merchant_run_share"]) == (8.0, np.float32(10 / 18))
    assert (over["merchant_risk_last_3"], over["merchant_risk_last_8"]) == (0.0, 0.0)


def test_a_report_of_this_morning_shows_at_noon() -> None:
    """A table of noon knows the verdict of ten o'clock; that of the day's beginning doesn't."""
    events = compromised(range(20, 21), 28)
    assert past_of(events, (DAY0 + 27) * DAY_MS)["merchant_run_frauds"] == 0.0
    assert past_of(events, (DAY0 + 27) * DAY_MS + 10 * HOUR_MS)["merchant_run_frauds"] == 0.0
    assert past_of(events, (DAY0 + 27) * DAY_MS + 12 * HOUR_MS)["merchant_run_frauds"] == 1.0


@pytest.mark.parametrize(("gap", "days"), [(8, 17.0), (9, 9.0)])
def test_a_run_ends_at_a_gap(gap: int, days: float) -> None:
    """Frauds eight days apart are one run, nine days apart the second begins a new one."""
    one, two = (transaction(n, occurred_at=(DAY0 + 20 + n * gap) * DAY_MS) for n in (0, 1))
    events = [one, two, said(one, at=two.occurred_at + DAY_MS), said(two, at=two.occurred_at + DAY_MS)]
    assert past_of(events, two.occurred_at + 9 * DAY_MS)["merchant_run_days"] == days


@pytest.mark.parametrize("hours", [0, 5, 7, 48, -1])
def test_tables_are_made_at_day_boundaries_too(hours: int) -> None:
    """A period that does not divide the day is refused."""
    with pytest.raises(BadInput):
        period_ms(hours)


def test_an_empty_builder_has_empty_tables() -> None:
    """Before the first event the tables have no rows, and their bytes can be read."""
    for kind in ("merchant", "device"):
        table = ReferenceBuilder(FIXED.key).table(kind, T0)  # type: ignore[arg-type]
        assert len(ReferenceTable.from_bytes(table.to_bytes()).keys) == len(table.keys) == 0
