"""The final labels of accounts' transactions, for observations that must not change later (experiments, shadow trials).

The one answer of `projections.labelling`, from verdicts recorded by an account's maturity and with fixed reliabilities:
what is learned or delivered later changes nothing. Transactions are found by account and `transaction_key`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from projections.labelling.consensus import consensus
from projections.labelling.quality import OverRate, judge, over_rate
from projections.labelling.verdicts import Claims
from projections.views import labels as labels_view
from projections.views.labels import Labels

Flags = NDArray[np.bool_]


def transaction_key(transaction_id: str) -> bytes:
    """8 bytes of BLAKE2b of a transaction's ID."""
    return hashlib.blake2b(transaction_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def transaction_keys(ids: Sequence[str]) -> NDArray[np.uint64]:
    """Keys of n transactions as stored in rows: uint64 (n,)."""
    return np.frombuffer(b"".join(map(transaction_key, ids)), dtype="<u8")


class Limits(NamedTuple):
    """Quality control's inputs beyond one payment's verdicts: see `projections.labelling.quality.judge`."""

    over: OverRate
    newest: int


def limits_of(labels: Mapping[int, Labels]) -> Limits:
    """The limits at one cut, from the labels' states by partition."""
    return Limits(over_rate(labels_view.claims(labels)), labels_view.newest(labels) if labels else 0)


def truths(
    keys: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    mature_at: NDArray[np.int64],
    said: Sequence[Sequence[Claims]],
    limits: Limits,
) -> tuple[Flags, Flags]:
    """(fraud, legitimate) of the transactions of m accounts, bool (n,) each; neither if the verdicts conflict. Without
    an accepted verdict by maturity, a transaction is legitimate.

    keys: `transaction_key` of the transactions, account by account (n,); sizes: how many each account has (m,);
    mature_at: log time after which no verdict counts (m,), epoch ms; said: the verdicts on each account's payments.
    """
    is_fraud = np.zeros(len(keys), dtype=np.bool_)
    is_legitimate = np.ones(len(keys), dtype=np.bool_)
    ends = np.cumsum(sizes)
    for account, claims in enumerate(said):
        mine = slice(ends[account] - sizes[account], ends[account])
        own = frozenset(keys[mine].tolist()) if claims else frozenset()
        for key, each in zip(transaction_keys([c.transaction_id for c in claims]).tolist(), claims, strict=True):
            judged = judge(each, *limits, known_until=int(mature_at[account])) if key in own else None
            if judged is None or not (accepted := judged.accepted):
                continue
            here = keys[mine] == np.uint64(key)
            label = consensus(accepted).label
            is_legitimate[mine][here] = label == "legitimate"
            is_fraud[mine][here] = label == "fraud"
    return is_fraud, is_legitimate
