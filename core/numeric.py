"""Arithmetic that gives the same bits on every machine: only IEEE 754 +, −, ×, ÷ and sqrt, compiled without fastmath.

The C library's exp and log differ in the last bit between machines, so nothing in the core calls them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.jit import njit

_LN2 = 0.6931471805599453
_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10  # ln 2 in two parts (fdlibm)
LOG2E = 1.4426950408889634
_INVERSE_FACTORIALS = np.array(
    [
        1.0,
        1.0,
        0.5,
        0.16666666666666666,
        0.041666666666666664,
        0.008333333333333333,
        0.001388888888888889,
        0.0001984126984126984,
        2.48015873015873e-05,
        2.7557319223985893e-06,
        2.755731922398589e-07,
        2.505210838544172e-08,
        2.08767569878681e-09,
        1.6059043836821613e-10,
    ]
)
_POWERS = np.array([2.0**k for k in range(-1022, 1024)])  # exact


@njit
def exp2(x: float) -> float:
    """2**x, relative error below 1e-15, 0 for x below -1022, inf for x from 1023.5 on; NaN for NaN.

    Range reduction to |f| ≤ ½, then the Taylor series of e**(f ln 2) to the 13th power by Horner's rule.
    """
    if x != x:
        return x
    if x < -1022.0:
        return 0.0
    if x >= 1023.5:
        return np.inf
    whole = int(np.floor(x + 0.5))
    y = (x - whole) * _LN2
    total: float = _INVERSE_FACTORIALS[13]
    for k in range(12, -1, -1):
        total = total * y + _INVERSE_FACTORIALS[k]
    scaled: float = total * _POWERS[whole + 1022]
    return scaled


@njit
def sigmoid(margins: NDArray[np.float64], slope: float) -> NDArray[np.float64]:
    """1 / (1 + e**(−slope·m)) elementwise: float64 (n,) → float64 (n,). NaN stays NaN."""
    out = np.empty(margins.shape[0], dtype=np.float64)
    for i in range(margins.shape[0]):
        out[i] = 1.0 / (1.0 + exp2(-slope * margins[i] * LOG2E))
    return out


@njit
def exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """e**x elementwise: float64 (n,) → float64 (n,), relative error below 1e-15·(1 + |x|). NaN stays NaN."""
    out = np.empty(x.shape[0], dtype=np.float64)
    for i in range(x.shape[0]):
        out[i] = exp2(x[i] * LOG2E)
    return out


@njit
def log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The natural logarithm elementwise: float64 (n,) → float64 (n,), relative error below 1e-15.

    x = m·2**e with m in [√½, √2): ln x = e·ln 2 + 2·artanh(s), s = (m − 1) / (m + 1), by the series s + s³/3 + s⁵/5 + …
    to the 23rd power; |s| ≤ 0.172, so what follows is below 1e-19. −inf for 0, inf for inf, NaN below 0 and for NaN.
    """
    out = np.empty(x.shape[0], dtype=np.float64)
    for i in range(x.shape[0]):
        value = x[i]
        shift = 0
        if value < 2.2250738585072014e-308:  # subnormal: make it normal, exactly
            value *= 18014398509481984.0
            shift = 54
        if not value > 0.0 or value == np.inf:
            out[i] = -np.inf if value == 0.0 else (np.inf if value > 0.0 else np.nan)
            continue
        low, high = 0, _POWERS.shape[0] - 1
        while low < high:  # the largest power of 2 that is not above the value
            middle = (low + high + 1) // 2
            if _POWERS[middle] <= value:
                low = middle
            else:
                high = middle - 1
        exponent = low - 1022
        m = value / _POWERS[low]
        if m > 1.4142135623730951:
            m *= 0.5
            exponent += 1
        s = (m - 1.0) / (m + 1.0)
        square = s * s
        total = 0.0
        for k in range(23, 0, -2):
            total = total * square + 1.0 / k
        whole = float(exponent - shift)
        out[i] = whole * _LN2_HIGH + (whole * _LN2_LOW + 2.0 * s * total)
    return out
