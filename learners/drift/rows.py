"""Decisions in a range of event time as columns; both windows are held in this form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.features import spec


@dataclass(frozen=True, slots=True)
class Rows:
    """n decisions in order of event time.

    columns: float32 (WIDTH, n), one feature per row, each contiguous, or (0, n) if read without them; margins: float64
    (n,), log-odds; times: int64 (n,), epoch ms; accounts, transactions: uint64 (n,), hashes of their IDs; shops: uint64
    (n,), of the merchant, or of the transaction if it names none; categories: uint64 (n,), of the merchant's category;
    models: int64 (n,), indices into `digests`, −1 where the decision was degraded or made without a model. left_out:
    int64 (k,), times of decisions in the range that are no rows, because of their engine or feature spec, ascending.
    """

    columns: NDArray[np.float32]
    margins: NDArray[np.float64]
    times: NDArray[np.int64]
    accounts: NDArray[np.uint64]
    transactions: NDArray[np.uint64]
    shops: NDArray[np.uint64]
    categories: NDArray[np.uint64]
    models: NDArray[np.int64]
    digests: tuple[str, ...] = ()
    left_out: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.times)

    def take(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Rows:
        """These rows, in this order."""
        return Rows(
            np.ascontiguousarray(self.columns[:, index]),
            self.margins[index],
            self.times[index],
            self.accounts[index],
            self.transactions[index],
            self.shops[index],
            self.categories[index],
            self.models[index],
            self.digests,
            self.left_out,
        )

    def between(self, start: int, end: int) -> Rows:
        """The rows with start ≤ time < end (epoch ms), as views."""
        low, high = (int(i) for i in np.searchsorted(self.times, [start, end]))
        first, last = (int(i) for i in np.searchsorted(self.left_out, [start, end]))
        return Rows(
            self.columns[:, low:high],
            self.margins[low:high],
            self.times[low:high],
            self.accounts[low:high],
            self.transactions[low:high],
            self.shops[low:high],
            self.categories[low:high],
            self.models[low:high],
            self.digests,
            self.left_out[first:last],
        )


def empty() -> Rows:
    """Zero rows."""
    nothing = np.empty(0, dtype=np.uint64)
    return Rows(
        np.empty((spec.WIDTH, 0), dtype=np.float32),
        np.empty(0),
        np.empty(0, dtype=np.int64),
        nothing,
        nothing,
        nothing,
        nothing,
        np.empty(0, dtype=np.int64),
    )


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts in order of event time; ties keep the order of the parts."""
    if not parts:
        return empty()
    digests: dict[str, int] = {}
    models = []
    for part in parts:
        places = [digests.setdefault(digest, len(digests)) for digest in part.digests]
        models.append(np.array([*places, -1], dtype=np.int64)[part.models])
    times = np.concatenate([part.times for part in parts])
    order = np.argsort(times, kind="stable")
    columns = np.empty((len(parts[0].columns), len(times)), dtype=np.float32)
    np.take(np.concatenate([part.columns for part in parts], axis=1), order, axis=1, out=columns)
    return Rows(
        columns,
        np.concatenate([part.margins for part in parts])[order],
        times[order],
        np.concatenate([part.accounts for part in parts])[order],
        np.concatenate([part.transactions for part in parts])[order],
        np.concatenate([part.shops for part in parts])[order],
        np.concatenate([part.categories for part in parts])[order],
        np.concatenate(models)[order],
        tuple(digests),
        np.sort(np.concatenate([part.left_out for part in parts])),
    )
