"""Quality control of verdicts: a pure function of the verdicts given, so that it is replayable and retroactive.

A quarantined verdict stays in the log and in the state. It has no vote in the consensus, is not used to estimate its
rater's reliability, and is listed for review. Nothing is decided when a verdict arrives: its status is computed on
request. The status therefore corrects itself (when a payment arrives after its verdict), and a change of the rules
applies to the past as well.

    impossible_time       before its payment (minus CLOCK_SKEW_MS), more than FUTURE_MS after log time, or longer after
                          the payment than its source allows (Rules.delay_days). Log time here is the verdict's, or the
                          newest payment's day if that is later, because a simulated stream may run ahead
    unknown_transaction   the account has no payment with that ID in the log. If the verdict dates the payment to a time
                          that the labels' memory no longer covers, it is not treated as unknown
    rate_exceeded         its rater gave more verdicts than allowed in that clock hour of log time, over all partitions.
                          The whole hour is quarantined: a rater out of control is not trustworthy up to the limit
    duplicate             the same rater repeats its standing verdict, or repeats an earlier verdict exactly (including
                          the time, so that a file sent twice changes nothing, even if it contains corrections)

The first that applies, in this order, is the status. Verdicts on a payment are taken in the order in which they were
given, so one that is delivered late is judged by the verdicts given before it. Duplicates are determined among accepted
verdicts only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from core.feedback_sources import SOURCES
from core.times import DAY_MS
from core.verdicts import (
    DELAY_DAYS_MAX,
    RatedHour,
    VerdictRecord,
    in_order_given,
    is_rated,
    is_timely,
    news,
    rated_hour,
)
from projections.labelling.verdicts import ALWAYS, Claims

Quality = Literal["accepted", "unknown_transaction", "impossible_time", "duplicate", "rate_exceeded"]
SUSPECT: tuple[Quality, ...] = ("impossible_time", "unknown_transaction", "rate_exceeded")
"""Statuses that a person should review; duplicates need no review."""

FUTURE_MS = DAY_MS
PER_HOUR_MAX = {str(name): source.per_hour_max for name, source in SOURCES.items() if source.per_hour_max}


class Rules(msgspec.Struct, frozen=True):
    """Limits by source. delay_days: the longest delay from payment to verdict; per_hour: the most verdicts in a clock
    hour of log time by one actor or for one account (`feedback_sources.Source.rate_of`). A source without an entry has
    no limit, nor does an unnamed analyst, which is a system.
    """

    delay_days: dict[str, int] = msgspec.field(default_factory=DELAY_DAYS_MAX.copy)
    per_hour: dict[str, int] = msgspec.field(default_factory=PER_HOUR_MAX.copy)


RULES = Rules()
OverRate = Mapping[RatedHour, int]
"""Hours in which the rate was exceeded → the log time (epoch ms) of the first verdict in excess."""


class Judged(NamedTuple):
    """The verdicts on one payment, in the order given, with the status of each. payment_at: epoch ms, 0 if unknown."""

    partition: int
    account_id: str
    transaction_id: str
    payment_at: int
    verdicts: list[VerdictRecord]
    quality: list[Quality]

    @property
    def accepted(self) -> list[VerdictRecord]:
        """The accepted verdicts, in the order given."""
        return [word for word, of in zip(self.verdicts, self.quality, strict=True) if of == "accepted"]


def over_rate(claims: Iterable[Claims], rules: Rules = RULES) -> OverRate:
    """The hours in which a rater exceeded its rate. claims: of all partitions."""
    times: dict[RatedHour, list[int]] = {}
    for each in claims:
        for word in each.verdicts:
            if is_rated(word, rules.per_hour):
                times.setdefault(rated_hour(word, each.account_id), []).append(word.recorded_at)
    over = {}
    for (key, hour), recorded in times.items():
        limit = rules.per_hour[key.partition(":")[0]]
        if len(recorded) > limit:
            over[key, hour] = sorted(recorded)[limit]
    return over


def judge(
    claims: Claims, over: OverRate, newest: int = 0, rules: Rules = RULES, known_until: int = ALWAYS
) -> Judged | None:
    """The status of every verdict on one payment recorded by `known_until` (log time, epoch ms); None if there is none.
    newest: the end of the newest payment's day, epoch ms.
    """
    known = claims.verdicts
    if known_until < ALWAYS:
        known = [word for word in known if word.recorded_at <= known_until]
    if not known:
        return None
    verdicts = in_order_given(known)
    quality: list[Quality] = []
    for word in verdicts:
        if not is_possible(word, claims.payment_at, rules, newest):
            quality.append("impossible_time")
        elif not claims.payment_at and not 0 < word.claimed_at < claims.forgotten:
            quality.append("unknown_transaction")
        elif over and _is_over(word, claims.account_id, over, known_until):
            quality.append("rate_exceeded")
        else:
            quality.append("accepted")
    if len(verdicts) > 1:
        may_count = [i for i, status in enumerate(quality) if status == "accepted"]
        for i, is_news in zip(may_count, news([verdicts[i] for i in may_count]), strict=True):
            if not is_news:
                quality[i] = "duplicate"
    return Judged(claims.partition, claims.account_id, claims.transaction_id, claims.payment_at, verdicts, quality)


def judge_all(claims: Sequence[Claims], newest: int = 0, rules: Rules = RULES) -> list[Judged]:
    """Every payment with a verdict, in order of account and transaction, whatever the order of `claims`."""
    over = over_rate(claims, rules)
    judged = [found for each in claims if (found := judge(each, over, newest, rules)) is not None]
    judged.sort(key=lambda each: (each.account_id, each.transaction_id, each.partition))
    return judged


def _is_over(word: VerdictRecord, account_id: str, over: OverRate, known_until: int) -> bool:
    since = over.get(rated_hour(word, account_id))
    return since is not None and since <= known_until


def is_possible(word: VerdictRecord, payment_at: int, rules: Rules = RULES, newest: int = 0) -> bool:
    """Whether a verdict can have been given at its stated time. payment_at: 0 falls back to the verdict's own claim."""
    if word.recorded_at and word.occurred_at > max(word.recorded_at, newest) + FUTURE_MS:
        return False
    return is_timely(word, payment_at or word.claimed_at, rules.delay_days)
