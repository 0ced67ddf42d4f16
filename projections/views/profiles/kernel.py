"""The compiled pass over rows behind `columnar`: the records of slots and nodes, and the kernels that fill them.

Kernels add amounts in row order and never reorder: no fastmath (core.jit). Their machine code is cached by the sources
of core and models and this file, so they take sizes from the records and constants only from here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.jit import njit
from projections.views.profiles.record import PLACES, RECENT

CURRENCY, DECISION, ALERT = 0, 1, 2
"""A slot's lists of nodes."""

SLOT = np.dtype(
    [
        ("transactions", np.int64),
        ("first", np.int64),
        ("last", np.int64),
        ("head", np.int32, 3),
        ("tail", np.int32, 3),
        ("started", np.int8),  # 0 neither, 1 countries first, 2 merchants first
        ("size", np.int8, 2),
        ("place", np.int32, (2, PLACES)),
        ("count", np.int64, (2, PLACES)),
        ("born", np.int64, (2, PLACES)),
        ("recent", np.int64, RECENT),
    ],
    align=True,
)
"""One account: first and last node of its lists (−1: none), what it saw last, and the rows of its newest decisions."""

NODE = np.dtype(
    [("code", np.int32), ("next", np.int32), ("count", np.int64), ("total", np.float64), ("largest", np.float64)],
    align=True,
)
"""A currency with its sum and maximum, or a decision or severity; `next` is −1 at the end of the list."""


@njit
def assign(accounts: NDArray[np.int32], slots: NDArray[np.int64], begin: int, end: int, following: int) -> int:
    """Assign slots from `following` on to the accounts (codes) of rows begin … end without one (−1); returns the next
    free slot.
    """
    for i in range(begin, end):
        if slots[accounts[i]] < 0:
            slots[accounts[i]] = following
            following += 1
    return following


@njit
def _node(state: Any, nodes: Any, used: int, of: int, code: int) -> int:
    """The index of the node of `code` in the list `of` of a slot; a new node is appended at index `used`."""
    at = state.head[of]
    while at >= 0:
        if nodes[at].code == code:
            return int(at)
        at = nodes[at].next
    new = nodes[used]
    new.code, new.next, new.count, new.total = code, -1, 0, 0.0
    if state.head[of] < 0:
        state.head[of] = used
    else:
        nodes[state.tail[of]].next = used
    state.tail[of] = used
    return used


@njit
def _seen(state: Any, what: int, code: int, row: int) -> None:
    """Move `code` to the end of the recency order and count it; if there is no room, drop the least recently seen."""
    size = state.size[what]
    at = 0
    while at < size and state.place[what, at] != code:
        at += 1
    count, born = 0, row
    if at < size:
        count, born = state.count[what, at], state.born[what, at]
    elif size < state.place.shape[1]:
        state.size[what] = size + 1
        size += 1
    else:
        at = 0
    for i in range(at, size - 1):
        state.place[what, i] = state.place[what, i + 1]
        state.count[what, i] = state.count[what, i + 1]
        state.born[what, i] = state.born[what, i + 1]
    state.place[what, size - 1] = code
    state.count[what, size - 1] = count + 1
    state.born[what, size - 1] = born


@njit
def fold_rows(
    states: Any,
    nodes: Any,
    used: int,
    begin: int,
    base: int,
    slots: NDArray[np.int64],
    times: NDArray[np.int64],
    amounts: NDArray[np.float64],
    codes: NDArray[np.int32],
) -> tuple[int, int]:
    """Fold rows from `begin` on; codes int32 (currency, merchant, country, decision … × rows).

    Stops early if the nodes may run out. Returns (rows done, nodes used). Row i has number `base` + i over all batches.
    """
    for i in range(begin, len(slots)):
        if used + 2 > len(nodes):
            return i, used
        state = states[slots[i]]
        row = base + i
        state.recent[state.transactions % len(state.recent)] = row
        state.transactions += 1
        state.first = min(state.first, times[i])
        state.last = max(state.last, times[i])
        at = _node(state, nodes, used, CURRENCY, codes[0, i])
        used = max(used, at + 1)
        node = nodes[at]
        if node.count == 0 or amounts[i] > node.largest:
            node.largest = amounts[i]
        node.count += 1
        node.total += amounts[i]
        at = _node(state, nodes, used, DECISION, codes[3, i])
        used = max(used, at + 1)
        nodes[at].count += 1
        merchant, country = codes[1, i], codes[2, i]
        if state.started == 0 and (country > 0 or merchant > 0):
            state.started = 1 if country > 0 else 2
        if country > 0:
            _seen(state, 0, country, row)
        if merchant > 0:
            _seen(state, 1, merchant, row)
    return len(slots), used


@njit
def count_alerts(states: Any, nodes: Any, used: int, slots: NDArray[np.int64], severities: NDArray[np.int32]) -> int:
    """Count alerts (slot, severity) and return the number of nodes used. There must be room for one node per alert."""
    for i in range(len(slots)):
        at = _node(states[slots[i]], nodes, used, ALERT, severities[i])
        used = max(used, at + 1)
        nodes[at].count += 1
    return used
