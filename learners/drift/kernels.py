"""Compiled kernels of the comparison: binning and the KS distance.

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
