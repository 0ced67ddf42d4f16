"""A living bank: the same synthetic accounts day after day, for a console that has something to show (docs/run.md).

`past` is the stream of the weeks before, to be loaded as history; `live` yields what is paid and reported from now on,
when it is due. A day's stream depends on its date alone, so whoever stops and starts again goes on within the same
day; what was due meanwhile was never sent and stays out, with the verdicts on it.

This module reads no clock by itself: `live` is given one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.times import DAY_MS, HOUR_MS
from sources.record import Record
from sources.synthetic import SyntheticConfig, SyntheticStream

WORLD = 7
LATE_MS = 60_000
"""What is overdue by more than this (the machine slept) is left out: it would be decided as if it were paid now."""
GAP_MS = HOUR_MS
"""History ends this long before the first live payment, so that its age counts as no latency."""
WAIT_S_MAX = 0.5
CHUNK_RECORDS = 256


@dataclass(frozen=True, slots=True)
class Bank:
    """rate: payments per second, averaged over a day. fraud_rate: share of frauds. label_delay_days: until a
    chargeback, mean; other reports come sooner. past_…: of the weeks before the first start.
    """

    accounts: int = 8_000
    rate: float = 1.0
    fraud_rate: float = 0.02
    label_delay_days: float = 0.02
    past_days: int = 28
    past_payments: int = 60_000
    past_fraud_rate: float = 0.003
    past_label_delay_days: float = 1.0


def past(bank: Bank, now_ms: int) -> SyntheticStream:
    """The payments of the days before now (epoch ms), up to GAP_MS ago, with the verdicts that had arrived."""
    start = now_ms - GAP_MS - bank.past_days * DAY_MS
    return SyntheticStream(
        SyntheticConfig(
            transactions=bank.past_payments,
            days=float(bank.past_days),
            start=start,
            accounts=bank.accounts,
            fraud_rate=bank.past_fraud_rate,
            label_delay_days=bank.past_label_delay_days,
            seed=start // 1000,
            world=WORLD,
        )
    )


def day(bank: Bank, number: int) -> SyntheticStream:
    """The stream of a day (UTC), by its number since 1970."""
    return SyntheticStream(
        SyntheticConfig(
            days=1.0,
            rate=bank.rate,
            start=number * DAY_MS,
            accounts=bank.accounts,
            fraud_rate=bank.fraud_rate,
            label_delay_days=bank.label_delay_days,
            seed=number,
            world=WORLD,
        )
    )


def live(bank: Bank, clock: Callable[[], int], wait: Callable[[float], bool]) -> Iterator[list[Record]]:
    """What is due, in order of time, from now on and without end, in lists that are never empty.

    clock: epoch ms. wait: sleeps up to that many seconds, and is true if the stream is to end.
    """
    begin = clock()
    number = begin // DAY_MS
    while True:
        for chunk in day(bank, number).records(CHUNK_RECORDS):
            coming = [record for record in chunk if record.timestamp >= begin]
            while coming:
                now = clock()
                due = [record for record in coming if record.timestamp <= now]
                coming = coming[len(due) :]
                timely = [record for record in due if record.timestamp > now - LATE_MS]
                if timely:
                    yield timely
                pause = min((coming[0].timestamp - now) / 1000, WAIT_S_MAX) if coming else 0.0
                if wait(max(pause, 0.0)):
                    return
        number += 1
        begin = number * DAY_MS
