"""The verdicts on a payment. Pure. See `core.verdicts`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.verdicts import VerdictRecord, in_order_given, rater

ALWAYS = 2**62
"""Later than any time, epoch ms."""


class Claims(NamedTuple):
    """All verdicts on one payment, in log order.

    payment_at: the payment's event time, epoch ms; 0 if the log is not known to contain it. forgotten: payments before
    this time (epoch ms) may have been forgotten.
    """

    partition: int
    account_id: str
    transaction_id: str
    payment_at: int
    forgotten: int
    verdicts: Sequence[VerdictRecord]


def standing(verdicts: Iterable[VerdictRecord]) -> dict[str, VerdictRecord]:
    """The last verdict of each rater, in order of the raters' names."""
    return dict(sorted({rater(word): word for word in in_order_given(verdicts)}.items()))


def payment_keys(accounts: NDArray[np.uint64], transactions: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One key per payment from the hashes of its account's ID and its own (`core.hashing.hash_strings`): uint64 (n,).

    Among n keys, some two collide by chance with probability n² / 2**65.
    """
    return transactions ^ (accounts * np.uint64(0x9E3779B97F4A7C15))
