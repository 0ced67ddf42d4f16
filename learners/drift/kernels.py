"""Compiled kernels of the comparison: binning, numbering, sums by cluster and the KS distance.

This module imports nothing of the project's except `njit`, so that numba's cache, which watches this file only, is
never stale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.jit import njit


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
def numbers_of(known: NDArray[np.uint64], names: NDArray[np.uint64], out: NDArray[np.int64]) -> None:
    """out[i] = place of names[i] in `known`, whose names are distinct; −1 if it is not there. A hash table with linear
    probing, at most half full: several times as fast as a binary search.
    """
    shift = 63
    while (1 << (64 - shift)) < 2 * len(known):
        shift -= 1
    size = 1 << (64 - shift)
    table = np.full(size, -1, dtype=np.int32)
    for place in range(len(known)):
        at = np.int64((known[place] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(shift))
        while table[at] >= 0:
            at = (at + 1) & (size - 1)
        table[at] = place
    for i in range(len(names)):
        at = np.int64((names[i] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(shift))
        while table[at] >= 0 and known[table[at]] != names[i]:
            at = (at + 1) & (size - 1)
        out[i] = table[at]


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


@njit
def count_windows(
    window: NDArray[np.int64],
    cluster: NDArray[np.int64],
    codes: NDArray[np.uint8],
    weights: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Add to out (windows, clusters, K) what rows count, in the windows that hold them: the shortest, `window` (n,),
    and all longer ones. weights (n,), or empty if each row counts 1.
    """
    for i in range(len(window)):
        out[window[i], cluster[i], codes[i]] += weights[i] if len(weights) else 1.0
    for w in range(1, out.shape[0]):
        for g in range(out.shape[1]):
            for k in range(out.shape[2]):
                out[w, g, k] += out[w - 1, g, k]


@njit
def carried(
    now: NDArray[np.float64],
    before: NDArray[np.float64],
    rows_before: NDArray[np.float64],
    smooth: NDArray[np.float64],
    mean: NDArray[np.float64],
    out: NDArray[np.float64],
    present: NDArray[np.int64],
) -> int:
    """Sums over clusters g of s_g, s_g² and s_g⁴ (`clustered`), out (3, M); returns how many clusters have rows.

    now (G, K): rows by cluster and bin in the window; before (B, M), rows_before (B,): contrasts' sums and rows of the
    first B clusters in the reference; smooth (K, S): the contrasts that are not one bin; mean (M,), M = S + K: the
    pooled means. present (1 + K,): how many clusters have rows now, and have them in each bin.
    """
    clusters, bins = now.shape
    smooths = smooth.shape[1]
    n, m = now.sum(), rows_before.sum()
    out[:] = 0.0
    present[:] = 0
    x = np.empty(smooths + bins)
    used = 0
    for g in range(clusters):
        rows = 0.0
        x[:smooths] = 0.0
        for k in range(bins):
            count = now[g, k]
            x[smooths + k] = count
            if count > 0.0:
                rows += count
                present[1 + k] += 1
                for c in range(smooths):
                    x[c] += count * smooth[k, c]
        old = g < len(rows_before)
        if rows > 0.0:
            present[0] += 1
        elif not old or rows_before[g] == 0.0:
            continue
        used += 1
        for c in range(smooths + bins):
            s = (x[c] - rows * mean[c]) / n
            if old:
                s -= (before[g, c] - rows_before[g] * mean[c]) / m
            square = s * s
            out[0, c] += s
            out[1, c] += square
            out[2, c] += square * square
    return used


@njit
def carried_windows(
    now: NDArray[np.float64],
    before: NDArray[np.float64],
    rows_before: NDArray[np.float64],
    smooth: NDArray[np.float64],
    mean: NDArray[np.float64],
    out: NDArray[np.float64],
    present: NDArray[np.int64],
    used: NDArray[np.int64],
) -> None:
    """`carried` of each window: now (windows, G, K), mean (windows, M), out (windows, 3, M), present (windows, 1 + K);
    used (windows,): what it returns.
    """
    for w in range(len(now)):
        used[w] = carried(now[w], before, rows_before, smooth, mean[w], out[w], present[w])
