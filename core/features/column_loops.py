"""The compiled loops of `columns` and of the pipeline's events, apart from them: a change there compiles nothing anew.

Each replaces a dozen numpy calls, which on a small batch cost more than the work: 1 µs a call where the processor's
caches hold other code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.hashing import hash_fields, hash_words
from core.jit import njit


@njit
def fill_columns(
    buffer: NDArray[np.uint8],
    k0: np.uint64,
    k1: np.uint64,
    times: NDArray[np.int64],
    numbers: NDArray[np.float64],
    words: NDArray[np.uint64],
) -> None:
    """The hashes of n payments' fields and of their contents, their receive times, and their amounts in the base
    currency.

    buffer: the fields' texts (`hashing.joined`), all payments' first field first. times: int64 (2, n), occurred_at and
    received_at, 0 where there is none, which becomes occurred_at. numbers: float64 (2, n), the amounts as sent, and the
    rates, which become the amounts in the base currency. words: uint64 (fields + 3, n): hashes, times, amounts as sent,
    hashes of all these.
    """
    n = words.shape[1]
    fields = words.shape[0] - 3
    hash_fields(buffer, k0, k1, words[:fields].reshape(fields * n))
    sent = numbers[0].view(np.uint64)
    for i in range(n):
        words[fields, i] = np.uint64(times[0, i])
        words[fields + 1, i] = sent[i]
    hash_words(words[: fields + 2], k0, k1, words[fields + 2])
    for i in range(n):
        if times[1, i] == 0:
            times[1, i] = times[0, i]
        numbers[1, i] = numbers[0, i] * numbers[1, i]


@njit
def fill_events(
    events: NDArray[np.void],
    at: NDArray[np.int64],
    times: NDArray[np.int64],
    received: NDArray[np.int64],
    amounts: NDArray[np.float64],
    ids: NDArray[np.uint64],
    owners: NDArray[np.uint64],
    contents: NDArray[np.uint64],
    merchants: NDArray[np.uint64],
    categories: NDArray[np.uint64],
    countries: NDArray[np.uint64],
    devices: NDArray[np.uint64],
    places: NDArray[np.int16],
) -> None:
    """Put n payments at their places `at` among the events (kernel.EVENT); an empty `at` says that there are no other
    events. Kind 0 is a payment.
    """
    for row in range(times.shape[0]):
        event = events[at[row] if at.shape[0] > 0 else row]
        event.row = row
        event.time = times[row]
        event.received = received[row]
        event.amount = amounts[row]
        event.id = ids[row]
        event.owner = owners[row]
        event.content = contents[row]
        event.merchant = merchants[row]
        event.category = categories[row]
        event.country = countries[row]
        event.device = devices[row]
        event.place = places[row]
