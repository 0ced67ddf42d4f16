"""What was said of payments: a verdict's record, and the one place that makes it from the event. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.events import FeedbackReceived, FeedbackSource, Verdict
from projections.labelling.feedback_sources import SOURCES

ALWAYS = 2**62
"""Later than any time, epoch ms."""


class Said(msgspec.Struct, frozen=True):
    """One verdict. Times in epoch ms; recorded_at is log time. claimed_at, merchant_id, device_id: when and where the
    payment was, says the verdict.
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


class Claims(NamedTuple):
    """Everything that was said of one payment, in log order.

    payment_at: the payment's event time, epoch ms; 0 if the log is not known to hold it. forgotten: payments before it
    (epoch ms) may not be remembered.
    """

    partition: int
    account_id: str
    transaction_id: str
    payment_at: int
    forgotten: int
    verdicts: Sequence[Said]


def said(event: FeedbackReceived, recorded_at: int) -> Said:
    """The verdict's record. recorded_at: log time, epoch ms."""
    return Said(
        event.source,
        event.verdict,
        event.confidence,
        event.actor,
        event.occurred_at,
        recorded_at,
        event.amount,
        event.reason,
        event.transaction_occurred_at,
        event.merchant_id,
        event.device_id,
    )


def voice(word: Said) -> str:
    """Whose word it is: `"analyst:ann"`, or the source."""
    return f"{word.source}:{word.actor}" if SOURCES[word.source].is_person else word.source


def rate_key(word: Said, account_id: str) -> str:
    """By what the verdict is counted for its rate: `"chargeback:acquirer-1"`, a customer by account."""
    return f"{word.source}:{account_id if word.source == 'customer' else word.actor}"


def is_rated(word: Said, per_hour: Mapping[str, int]) -> bool:
    """Its voice has a limit: an unnamed analyst is a system and has none."""
    return word.source in per_hour and (word.source != "analyst" or word.actor != "")


def in_order_said(verdicts: Iterable[Said]) -> list[Said]:
    """Verdicts on one payment, given in log order, by the time they were said; equal times stay in log order."""
    return sorted(verdicts, key=_time_said)


def _time_said(word: Said) -> int:
    return word.occurred_at


def standing(verdicts: Iterable[Said]) -> dict[str, Said]:
    """The last word of each voice, voices in order of their names."""
    return dict(sorted({voice(word): word for word in in_order_said(verdicts)}.items()))


def payment_keys(accounts: NDArray[np.uint64], transactions: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One key a payment from the hashes of its account's and its own ID (`core.numeric.hash_strings`): uint64 (n,).

    Of n keys two collide by chance with probability n² / 2**65.
    """
    return transactions ^ (accounts * np.uint64(0x9E3779B97F4A7C15))
