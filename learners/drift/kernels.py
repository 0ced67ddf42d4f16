"""Compiled kernels of the comparison: binning, cluster-robust variances, and the KS distance.

Let z_g(k) be the contribution of cluster g to the difference of the windows' shares of bin k: the sum of its deviations
from each window's share,

    z_g(k) = (c_gk − c_g·q_k) / n − (r_gk − r_g·p_k) / m

with c, r the cluster's rows in the current and reference window, q, p the windows' shares, n, m their rows. Then
Σ_g z_g(k)² is the cluster-robust variance of the difference (Taylor linearisation; Binder 1983). An account that is in
both windows is one cluster, so its own peculiarities cancel as in a paired test.

This module imports nothing of the project's except `njit`, so that numba's cache, which watches this file only, is
never stale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.jit import njit

NEW_ACCOUNT, NEW_DAY = 2, 1
"""Markers in `clustered`: a row begins an account, or another day of the same account; 0: neither."""


@njit
def bin_of(values: NDArray[np.float32], edges: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """out[i] = number of edges below values[i]; len(edges) + 1 for NaN. Counted edge by edge, which vectorises."""
    out[:] = 0
    for edge in edges:
        for i in range(len(values)):
            out[i] += np.uint8(edge < values[i])
    nothing = np.uint8(len(edges) + 1)
    for i in range(len(values)):
        if values[i] != values[i]:
            out[i] = nothing


@njit
def _add_cluster(
    counts: NDArray[np.int64],
    shares: NDArray[np.float64],
    totals: NDArray[np.float64],
    variance: NDArray[np.float64],
    times: float,
) -> None:
    """Add one cluster's z², multiplied by `times`, to variance[0] (bin k) and variance[1] (bins up to k)."""
    before = counts[0].sum() / totals[0]
    after = counts[1].sum() / totals[1]
    below = 0.0
    for k in range(counts.shape[1]):
        z = (counts[1, k] / totals[1] - after * shares[1, k]) - (counts[0, k] / totals[0] - before * shares[0, k])
        below += z
        variance[0, k] += times * z * z
        variance[1, k] += times * below * below


@njit
def clustered(
    bins: NDArray[np.uint8],
    order: NDArray[np.int64],
    windows: NDArray[np.uint8],
    days: NDArray[np.int64],
    begins: NDArray[np.uint8],
    day_count: int,
    shares: NDArray[np.float64],
    totals: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> None:
    """Variances of the difference of shares with rows clustered by account, by day, and by their intersection.

    bins (n,): of every row. order (n,): row indices by account and day; windows (0 reference, 1 current), days
    (0 … day_count − 1) and begins (n,) follow this order. shares (2, k), totals (2,): of the windows. variance
    (3, 2, k), initially zero, receives the result: by account, by day, by both; for bin k, and for bins up to k.
    """
    width = shares.shape[1]
    of_account = np.zeros((2, width), dtype=np.int64)
    of_both = np.zeros((2, width), dtype=np.int64)
    of_day = np.zeros((day_count, 2, width), dtype=np.int64)
    # Most accounts have few rows a day, so clusters of a single row are counted by bin and added at the end.
    alone = np.zeros((2, width), dtype=np.int64)
    n = len(order)
    place = 0
    while place < n:
        end = place + 1
        while end < n and begins[end] == 0:
            end += 1
        for i in range(place, end):
            b = bins[order[i]]
            of_account[windows[i], b] += 1
            of_both[windows[i], b] += 1
            of_day[days[i], windows[i], b] += 1
        if end - place == 1:
            alone[windows[place], bins[order[place]]] += 1
        else:
            _add_cluster(of_both, shares, totals, variance[2], 1.0)
        for i in range(place, end):
            of_both[windows[i], bins[order[i]]] = 0
        if end == n or begins[end] == NEW_ACCOUNT:
            _add_cluster(of_account, shares, totals, variance[0], 1.0)
            of_account[:] = 0
        place = end
    for day in range(day_count):
        _add_cluster(of_day[day], shares, totals, variance[1], 1.0)
    for w in range(2):
        for k in range(width):
            if alone[w, k]:
                of_both[w, k] = 1
                _add_cluster(of_both, shares, totals, variance[2], float(alone[w, k]))
                of_both[w, k] = 0


@njit
def ks_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The Kolmogorov-Smirnov distance sup |F_a − F_b| of two ascending, non-empty samples without NaN; ties allowed.

    A single merge; past the end of the shorter sample the distance can only shrink.
    """
    n, m = len(a), len(b)
    i = j = 0
    most = 0.0
    while i < n and j < m:
        value = min(a[i], b[j])
        while i < n and a[i] == value:
            i += 1
        while j < m and b[j] == value:
            j += 1
        difference = abs(i / n - j / m)
        most = max(most, difference)
    return most
