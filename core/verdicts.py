"""Verdicts on payments, and which of them are new: shared by live features and labels (`projections.labelling`).

Live features see one account's verdicts up to f; labels see all partitions. Whatever can be decided from one account's
own verdicts is decided here, for both. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from core.events import FeedbackReceived, FeedbackSource, Verdict
from core.feedback_sources import SOURCES
from core.times import DAY_MS, HOUR_MS, MINUTE_MS

CLOCK_SKEW_MS = 5 * MINUTE_MS
DELAY_DAYS_MAX = {str(name): source.delay_days_max for name, source in SOURCES.items() if source.delay_days_max}

RatedHour = tuple[str, int]
"""The key that a verdict's rate is counted under (`rate_key`), and the hour of log time (epoch ms // HOUR_MS)."""


class VerdictRecord(msgspec.Struct, frozen=True):
    """One verdict. Times in epoch ms; recorded_at is log time. amount: in the base currency. claimed_at, merchant_id,
    device_id: when and where the payment took place, according to the verdict.
    """

    source: FeedbackSource
    verdict: Verdict
    confidence: float
    actor: str
    occurred_at: int
    recorded_at: int
    amount: float = 0.0
    reason: str = ""
    claimed_at: int = 0
    merchant_id: str = ""
    device_id: str = ""


def verdict_record(event: FeedbackReceived, recorded_at: int) -> VerdictRecord:
    """The verdict's record. recorded_at: log time, epoch ms."""
    return VerdictRecord(
        event.source,
        event.verdict,
        event.confidence,
        event.actor,
        event.occurred_at,
        recorded_at,
        event.amount * event.rate,
        event.reason,
        event.transaction_occurred_at,
        event.merchant_id,
        event.device_id,
    )


def brief_record(event: FeedbackReceived, recorded_at: int) -> VerdictRecord:
    """The verdict's record without the fields that only people and tables read."""
    return msgspec.structs.replace(
        verdict_record(event, recorded_at), amount=0.0, reason="", merchant_id="", device_id=""
    )


def rater(word: VerdictRecord) -> str:
    """Who gave the verdict: `"analyst:ann"` for a person, otherwise the source."""
    return f"{word.source}:{word.actor}" if SOURCES[word.source].is_person else word.source


def rate_key(word: VerdictRecord, account_id: str) -> str:
    """The key that the verdict's rate is counted under: `"analyst:ann"`, `"customer:a7"`."""
    of_account = SOURCES[word.source].rate_of == "account"
    return f"{word.source}:{account_id if of_account else word.actor}"


def is_rated(word: VerdictRecord, per_hour: Mapping[str, int]) -> bool:
    """Whether its rater has a rate limit; a person without a name is a system and has none."""
    return word.source in per_hour and (word.actor != "" or not SOURCES[word.source].is_person)


def rated_hour(word: VerdictRecord, account_id: str) -> RatedHour:
    """The rate's key and hour of log time that the verdict counts towards."""
    return rate_key(word, account_id), word.recorded_at // HOUR_MS


def in_order_given(verdicts: Iterable[VerdictRecord]) -> list[VerdictRecord]:
    """Verdicts on one payment, in log order, sorted by the time they were given; ties stay in log order."""
    return sorted(verdicts, key=_time_given)


def _time_given(word: VerdictRecord) -> int:
    return word.occurred_at


def is_timely(word: VerdictRecord, paid_at: int, delay_days: Mapping[str, int] = DELAY_DAYS_MAX) -> bool:
    """Whether the verdict comes neither before its payment (less CLOCK_SKEW_MS) nor later after it than its source may.

    delay_days: maximum delay by source, days. paid_at: epoch ms; 0 (unknown) allows any time.
    """
    if not paid_at:
        return True
    delay = word.occurred_at - paid_at
    longest = delay_days.get(word.source)
    return delay >= -CLOCK_SKEW_MS and (longest is None or delay <= longest * DAY_MS)


def news(words: Sequence[VerdictRecord]) -> list[bool]:
    """For each verdict on one payment, in the order given: whether it is new. The others are repetitions: the rater's
    current verdict again, or an exact copy of an earlier one. A copy has the same time too, so a file that is sent
    twice adds nothing, even if it contains corrections.
    """
    found = []
    holds: dict[str, tuple[str, float]] = {}
    said_before: set[tuple[str, str, float, int]] = set()
    for word in words:
        name = rater(word)
        exactly = (name, word.verdict, word.confidence, word.occurred_at)
        is_known = holds.get(name) == (word.verdict, word.confidence) or exactly in said_before
        said_before.add(exactly)  # repetitions too: sent again after a change of mind, they are still not new
        if not is_known:
            holds[name] = (word.verdict, word.confidence)
        found.append(not is_known)
    return found
