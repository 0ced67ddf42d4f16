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
_LOG10_E = 0.4342944819032518
_POWERS_OF_TEN = np.array([float(f"1e{k}") for k in range(-308, 309)])  # the nearest float64 of each
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_SIGN, _INFINITY = np.uint64(0x8000000000000000), np.uint64(0x7FF0000000000000)
_HIDDEN, _FRACTION, _FRACTION_BITS = np.uint64(1 << 52), np.uint64((1 << 52) - 1), np.uint64(52)


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
def exp_of(x: float) -> float:
    """e**x of one number, relative error below 1e-15; 0 below −745.2, inf above 709.78. NaN stays NaN.

    x = k·ln 2 + y with |y| ≤ ½ ln 2, ln 2 in two parts so that y is exact (Cody and Waite 1980), and the Taylor series
    to the 13th power. Its last bits are not those of `exp`, which rounds x / ln 2.
    """
    if x != x:
        return x
    if x > 709.782712893384:
        return np.inf
    if x < -745.2:
        return 0.0
    whole = int(np.floor(x * LOG2E + 0.5))
    y = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    total: float = _INVERSE_FACTORIALS[13]
    for k in range(12, -1, -1):
        total = total * y + _INVERSE_FACTORIALS[k]
    half = whole // 2  # in two steps: 2**1024 is no float64, and a subnormal result is rounded once
    scaled: float = total * _POWERS[half + 1022] * _POWERS[whole - half + 1022]
    return scaled


@njit
def exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """e**x elementwise: float64 (n,) → float64 (n,), relative error below 1e-15·(1 + |x|). NaN stays NaN."""
    out = np.empty(x.shape[0], dtype=np.float64)
    for i in range(x.shape[0]):
        out[i] = exp2(x[i] * LOG2E)
    return out


@njit
def log_of(value: float) -> float:
    """The natural logarithm of one number, relative error below 1e-15.

    x = m·2**e with m in [√½, √2): ln x = e·ln 2 + 2·artanh(s), s = (m − 1) / (m + 1), by the series s + s³/3 + s⁵/5 + …
    to the 23rd power; |s| ≤ 0.172, so what follows is below 1e-19. −inf for 0, inf for inf, NaN below 0 and for NaN.
    """
    shift = 0
    if value < 2.2250738585072014e-308:  # subnormal: make it normal, exactly
        value *= 18014398509481984.0
        shift = 54
    if not value > 0.0 or value == np.inf:
        return -np.inf if value == 0.0 else (np.inf if value > 0.0 else np.nan)
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
    result: float = whole * _LN2_HIGH + (whole * _LN2_LOW + 2.0 * s * total)
    return result


@njit
def log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """`log_of` elementwise: float64 (n,) → float64 (n,)."""
    out = np.empty(x.shape[0], dtype=np.float64)
    for i in range(x.shape[0]):
        out[i] = log_of(x[i])
    return out


@njit
def log10_of(x: float) -> float:
    """The decimal logarithm of one number, relative error below 2e-15.

    ln x / ln 10; where x is the float64 nearest to 10**k, −308 ≤ k ≤ 308, exactly k.
    """
    value: float = log_of(x) * _LOG10_E
    nearest: float = np.floor(value + 0.5)
    if abs(value - nearest) < 1e-9 and nearest >= -308.0 and _POWERS_OF_TEN[int(nearest) + 308] == x:
        return nearest
    return value


@njit
def remainder_of(x: np.uint64, y: np.uint64) -> np.uint64:
    """The bits of x − y · trunc(x / y), exactly and with the sign of x, from the bits of two float64 (C's fmod).

    NaN (some bits of one) if x is infinite, y is 0 or either is NaN. Long division of the significands, 11 bits at a
    time: 1 ns for near exponents, 2 µs at worst.
    """
    sign = x & _SIGN
    x &= ~_SIGN
    y &= ~_SIGN
    if y == _ZERO or x >= _INFINITY or y > _INFINITY:
        return _INFINITY | _ONE
    if x < y:
        return sign | x
    low = np.int64(y >> _FRACTION_BITS)
    left = np.int64(x >> _FRACTION_BITS)
    rest, divisor = x & _FRACTION, y & _FRACTION
    rest, left = (rest | _HIDDEN, left) if left else (rest, np.int64(1))
    divisor, low = (divisor | _HIDDEN, low) if low else (divisor, np.int64(1))
    left -= low
    rest %= divisor
    while left > 0 and rest != _ZERO:
        step = min(left, np.int64(11))
        rest = (rest << np.uint64(step)) % divisor
        left -= step
    if rest == _ZERO:
        return sign
    while rest < _HIDDEN and low > 1:
        rest <<= _ONE
        low -= 1
    if rest < _HIDDEN:
        return sign | rest
    return sign | (rest & _FRACTION) | (np.uint64(low) << _FRACTION_BITS)
