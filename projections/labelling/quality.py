"""Which verdicts count: quality control as a pure function of the labels' state, so it is replayable and retroactive.

A verdict that is held back stays in the log and in the state; it has no vote in the consensus, teaches nothing about
its voice, and is listed for review. Nothing is decided when a verdict comes in: the status is worked out when asked, so
it heals by itself (a transaction that arrives after its verdict) and changes for all of the past with the rules.

    impossible_time       before its payment (less CLOCK_SKEW_MS), more than FUTURE_MS after log time, or longer after
                          the payment than its source can take (Rules.delay_days). Log time is when the verdict was
                          recorded or the newest payment's day, if that is later: a simulated stream may run ahead
    unknown_transaction   the account has no transaction of that ID in the log. Not found means unknown, unless the
                          verdict dates the payment to a time that the labels' memory no longer covers
    rate_exceeded         its voice gave more verdicts than it may in that clock hour of log time, over all partitions.
                          All of the hour's are held back: a voice that is out of control is not right up to the limit
    duplicate             the same voice says the same again: what it holds already, or exactly an earlier verdict
                          (same time too, so a file sent twice adds nothing, not even where it holds corrections)

in this order; the first that applies is the status. A duplicate is judged among the verdicts that count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from core.features.spec import DAY_MS, HOUR_MS
from projections.views.labels import Labels, Said, rate_key, voice

Quality = Literal["accepted", "unknown_transaction", "impossible_time", "duplicate", "rate_exceeded"]
SUSPECT: tuple[Quality, ...] = ("impossible_time", "unknown_transaction", "rate_exceeded")
"""What a person should look at; a duplicate needs nobody."""

CLOCK_SKEW_MS = 5 * 60_000
FUTURE_MS = DAY_MS
DELAY_DAYS_MAX = {"chargeback": 540, "early_fraud_warning": 540, "representment": 720}
PER_HOUR_MAX = {"analyst": 1_000, "customer": 500}


class Rules(msgspec.Struct, frozen=True):
    """delay_days: by source, the longest from payment to verdict (card schemes take chargebacks for up to 540 days).

    per_hour: by source, the most verdicts in a clock hour of log time: of one analyst by name (an unnamed one, a
    system, has no limit), of one account's customer, of one actor of another source. A source without an entry has
    none: processors send files.
    """

    delay_days: dict[str, int] = msgspec.field(default_factory=DELAY_DAYS_MAX.copy)
    per_hour: dict[str, int] = msgspec.field(default_factory=PER_HOUR_MAX.copy)


RULES = Rules()
Busy = frozenset[tuple[str, int]]
"""(rate key, hour of log time) over the rate."""


class Judged(NamedTuple):
    """The verdicts on one transaction, in log order, with the status of each. payment_at: epoch ms, 0 if unknown."""

    partition: int
    account_id: str
    transaction_id: str
    payment_at: int
    verdicts: list[Said]
    quality: list[Quality]

    @property
    def accepted(self) -> list[Said]:
        """Those that count."""
        return [said for said, of in zip(self.verdicts, self.quality, strict=True) if of == "accepted"]


def busy_hours(states: Iterable[Labels], rules: Rules = RULES) -> Busy:
    """The hours in which a voice was over its rate, all partitions together. Customers are counted by account,
    elsewhere.
    """
    totals: dict[tuple[str, int], int] = {}
    for state in states:
        for key, hours in state.rates.items():
            source, _, actor = key.partition(":")
            if source not in rules.per_hour or source == "customer" or (source == "analyst" and not actor):
                continue
            for hour, count in hours.items():
                totals[key, hour] = totals.get((key, hour), 0) + count
    return frozenset(at for at, count in totals.items() if count > rules.per_hour[at[0].partition(":")[0]])


def judge(states: Mapping[int, Labels], rules: Rules = RULES) -> list[Judged]:
    """Every transaction that somebody judged, of all partitions, in order of account and transaction."""
    busy = busy_hours(states.values(), rules)
    newest = (max((day for state in states.values() for day in state.days), default=-1) + 1) * DAY_MS
    judged = [
        each for partition, state in states.items() for each in judge_partition(partition, state, busy, newest, rules)
    ]
    judged.sort(key=lambda each: (each.account_id, each.transaction_id, each.partition))
    return judged


def judge_partition(partition: int, state: Labels, busy: Busy, newest: int, rules: Rules = RULES) -> Iterable[Judged]:
    """One partition's. All partitions' are `busy` and `newest`, the end of the newest payment's day (epoch ms)."""
    for name, of in state.accounts.items():
        held_back = busy
        if "customer" in rules.per_hour:
            held_back |= _busy_customer(of.verdicts.values(), rules.per_hour["customer"])
        forgotten = state.forgotten.get(name, 0)
        for transaction_id, verdicts in of.verdicts.items():
            payment_at = of.payments.get(transaction_id, 0)
            quality = qualities(verdicts, payment_at, forgotten, held_back, rules, newest)
            yield Judged(partition, name, transaction_id, payment_at, verdicts, quality)


def _busy_customer(transactions: Iterable[Sequence[Said]], per_hour: int) -> Busy:
    counts: dict[tuple[str, int], int] = {}
    for verdicts in transactions:
        for said in verdicts:
            if said.source == "customer":
                at = _rated(said)
                counts[at] = counts.get(at, 0) + 1
    return frozenset(at for at, count in counts.items() if count > per_hour)


def _rated(said: Said) -> tuple[str, int]:
    key = "customer" if said.source == "customer" else rate_key(said.source, said.actor)
    return key, said.recorded_at // HOUR_MS


def qualities(
    verdicts: Sequence[Said],
    payment_at: int,
    forgotten: int = 0,
    busy: Busy = frozenset(),
    rules: Rules = RULES,
    newest: int = 0,
) -> list[Quality]:
    """The status of each verdict on one transaction (the module's head), in log order.

    payment_at: the payment's event time, epoch ms; 0 if the log is not known to hold it. forgotten: payments before it
    may not be remembered. newest: see `judge_partition`.
    """
    found: list[Quality] = []
    holds: dict[str, tuple[str, float]] = {}
    said_before: set[tuple[str, str, float, int]] = set()
    for said in verdicts:
        name = voice(said)
        if not is_possible(said, payment_at, rules, newest):
            found.append("impossible_time")
        elif not payment_at and not 0 < said.claimed_at < forgotten:
            found.append("unknown_transaction")
        elif busy and _rated(said) in busy:
            found.append("rate_exceeded")
        else:
            word = (said.verdict, said.confidence)
            exactly = (name, said.verdict, said.confidence, said.occurred_at)
            is_known = holds.get(name) == word or exactly in said_before
            said_before.add(exactly)  # a repetition too: sent again after a change of mind, it is still no news
            if is_known:
                found.append("duplicate")
                continue
            holds[name] = word
            found.append("accepted")
    return found


def is_possible(said: Said, payment_at: int, rules: Rules = RULES, newest: int = 0) -> bool:
    """Whether a verdict can have been given when it says. payment_at: 0 falls back on when the verdict says it was."""
    paid = payment_at or said.claimed_at
    if said.recorded_at and said.occurred_at > max(said.recorded_at, newest) + FUTURE_MS:
        return False
    if not paid:
        return True
    delay = said.occurred_at - paid
    longest = rules.delay_days.get(said.source)
    return delay >= -CLOCK_SKEW_MS and (longest is None or delay <= longest * DAY_MS)
