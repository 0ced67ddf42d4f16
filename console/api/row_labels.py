"""The labels of the index's rows. Pure.

A payment is found by the hashes of both its IDs (of this process). Few payments have a label: all but 1 % of the others
are told by the last bits of a hash, so two million rows cost 15 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projections.labelling.view import FRAUD, LEGITIMATE, UNJUDGED, LabelView

CODES: dict[str, int] = {"fraud": FRAUD, "legitimate": LEGITIMATE}
LOW_BITS = 0xFFFFF


class RowLabels:
    """The labels of a view, by payment."""

    def __init__(self, view: LabelView) -> None:
        known = [(each.judged, each.consensus.label) for each in view.transactions if each.consensus is not None]
        transactions = np.array([hash(judged.transaction_id) for judged, _ in known], dtype=np.int64)
        keys = _keys(np.array([hash(judged.account_id) for judged, _ in known], dtype=np.int64), transactions)
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._codes = np.array([CODES.get(label, UNJUDGED) for _, label in known], dtype=np.int8)[order]
        self._is_possible = np.zeros(LOW_BITS + 1, np.bool_)
        self._is_possible[transactions & LOW_BITS] = True

    def of(self, c: Mapping[str, NDArray[Any]]) -> NDArray[np.int8]:
        """Codes of `projections.labelling.view` of n rows: int8 (n,). c: at least `account` and `transaction`."""
        out = np.full(len(c["account"]), UNJUDGED, dtype=np.int8)
        if not len(self._keys):
            return out
        rows = np.flatnonzero(self._is_possible[c["transaction"] & LOW_BITS])
        wanted = _keys(c["account"][rows], c["transaction"][rows])
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        matched = self._keys[at] == wanted
        out[rows[matched]] = self._codes[at[matched]]
        return out


def _keys(accounts: NDArray[np.int64], transactions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit key for both of a payment's IDs, from their hashes of this process."""
    mixed: NDArray[np.uint64] = accounts.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ transactions.view(np.uint64)
    return mixed
