"""The living bank: due when it is due, the same day after day, and nothing twice."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import polars as pl

from core.times import DAY_MS, HOUR_MS
from sources.bank import GAP_MS, LATE_MS, Bank, day, live, past
from sources.record import Record

BANK = Bank(accounts=200, rate=0.05, fraud_rate=0.1, past_payments=2_000, past_days=10)
NOON = 20_000 * DAY_MS + 12 * HOUR_MS


@dataclass
class Clock:
    """A clock that only waiting moves on, until its end."""

    now: int
    end: int

    def read(self) -> int:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += round(seconds * 1000) or 1
        return self.now > self.end


def sent(begin: int, end: int) -> list[tuple[int, Record]]:
    """What is sent between two moments, each with the time of sending."""
    clock = Clock(begin, end)
    return [(clock.now, record) for chunk in live(BANK, clock.read, clock.wait) for record in chunk]


def test_what_is_paid_is_sent_when_it_is_due() -> None:
    """In order of time, within half a second of its own time, payments and later reports of fraud."""
    found = sent(NOON, NOON + 2 * HOUR_MS)
    times = [record.timestamp for _, record in found]
    assert times == sorted(times)
    assert all(0 <= at - record.timestamp <= 1_000 for at, record in found)
    kinds = {record.topic for _, record in found}
    assert kinds == {"transactions", "feedback"}
    assert 100 < len(found) < 2_000


def test_stopping_and_starting_again_goes_on_within_the_day() -> None:
    """Two runs with a break send what one sends without it, less what was due in the break: nothing twice."""
    whole = [record for _, record in sent(NOON, NOON + 2 * HOUR_MS)]
    first = [record for _, record in sent(NOON, NOON + HOUR_MS)]
    later = NOON + HOUR_MS + 20 * 60_000
    second = [record for _, record in sent(later, NOON + 2 * HOUR_MS)]
    assert first + second == [r for r in whole if r.timestamp <= NOON + HOUR_MS or r.timestamp >= later]
    assert second


def test_midnight_brings_the_next_day_of_the_same_accounts() -> None:
    """A day follows another without a gap or an ID twice; the accounts keep their homes."""
    found = [record for _, record in sent(NOON + 11 * HOUR_MS, NOON + 13 * HOUR_MS)]
    payments = [msgspec.json.decode(r.value) for r in found if r.topic == "transactions"]
    midnight = NOON + 12 * HOUR_MS
    assert min(p["occurred_at"] for p in payments) < midnight < max(p["occurred_at"] for p in payments)
    assert len({p["transaction_id"] for p in payments}) == len(payments)
    homes = [dict(zip(d["account_id"], d["currency"], strict=True)) for d in map(pl.concat, _two_days())]
    shared = homes[0].keys() & homes[1].keys()
    assert len(shared) > 100
    assert all(homes[0][name] == homes[1][name] for name in shared)


def _two_days() -> list[list[pl.DataFrame]]:
    return [list(day(BANK, number).tables()) for number in (20_000, 20_001)]


def test_what_is_long_overdue_is_left_out() -> None:
    """A machine that slept for an hour does not send an hour's payments as if they were made now."""
    clock = Clock(NOON, NOON + 2 * HOUR_MS)
    slept = False

    def wait(seconds: float) -> bool:
        nonlocal slept
        if not slept and clock.now > NOON + 10 * 60_000:
            slept, clock.now = True, clock.now + HOUR_MS
        return clock.wait(seconds)

    found = [(clock.now, r.timestamp) for chunk in live(BANK, clock.read, wait) for r in chunk]
    assert slept
    assert max(at - timestamp for at, timestamp in found) < LATE_MS
    assert max(timestamp for _, timestamp in found) > NOON + 100 * 60_000


def test_the_past_ends_before_the_present() -> None:
    """As many payments as asked for, within the days before, the last more than GAP_MS old."""
    tables = pl.concat(past(BANK, NOON).tables())
    assert tables.height == BANK.past_payments
    assert NOON - GAP_MS - 10 * DAY_MS <= tables["occurred_at"].min() < tables["occurred_at"].max() <= NOON - GAP_MS  # type: ignore[operator]
