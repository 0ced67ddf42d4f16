"""Arithmetic with the same bits on every machine: IEEE 754 +, −, ×, ÷ and square roots only, never the C library's exp.

Each function is defined by its operations and their order (core/numeric.py of Stream-Sentinel).
"""

import math
import struct

QUIET_NAN = struct.unpack("<f", b"\x00\x00\xc0\x7f")[0]
_LN2 = 0.6931471805599453
_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
_LOG2E = 1.4426950408889634
_LOG10_E = 0.4342944819032518
_INVERSE_FACTORIALS = (
    1.0, 1.0, 0.5, 0.16666666666666666, 0.041666666666666664, 0.008333333333333333, 0.001388888888888889,
    0.0001984126984126984, 2.48015873015873e-05, 2.7557319223985893e-06, 2.755731922398589e-07, 2.505210838544172e-08,
    2.08767569878681e-09, 1.6059043836821613e-10,
)  # fmt: skip


def single(x: float) -> float:
    """The nearest float32; too large is infinite."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", x))[0])
    except OverflowError:
        return math.copysign(math.inf, x)


def sigmoid(margin: float) -> float:
    """1 / (1 + e^−margin)."""
    return 1.0 / (1.0 + exp2(-1.0 * margin * _LOG2E))


def exp2(x: float) -> float:
    if x != x:
        return x
    if x < -1022.0:
        return 0.0
    if x >= 1023.5:
        return math.inf
    whole = math.floor(x + 0.5)
    return _series((x - whole) * _LN2) * math.ldexp(1.0, whole)


def _series(y: float) -> float:
    total = _INVERSE_FACTORIALS[13]
    for factor in reversed(_INVERSE_FACTORIALS[:13]):
        total = total * y + factor
    return total


def exp(x: float) -> float:
    """e^x."""
    if x != x:
        return x
    if x > 709.782712893384:
        return math.inf
    if x < -745.2:
        return 0.0
    whole = math.floor(x * _LOG2E + 0.5)
    half = whole // 2
    y = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    return _series(y) * math.ldexp(1.0, half) * math.ldexp(1.0, whole - half)


def log(value: float) -> float:
    """The natural logarithm."""
    shift = 0
    if value < 2.2250738585072014e-308:
        value *= 18014398509481984.0
        shift = 54
    if not value > 0.0 or value == math.inf:
        return -math.inf if value == 0.0 else (math.inf if value > 0.0 else math.nan)
    m, exponent = math.frexp(value)
    m, exponent = 2.0 * m, exponent - 1
    if m > 1.4142135623730951:
        m *= 0.5
        exponent += 1
    s = (m - 1.0) / (m + 1.0)
    square, total = s * s, 0.0
    for k in range(23, 0, -2):
        total = total * square + 1.0 / k
    whole = float(exponent - shift)
    return whole * _LN2_HIGH + (whole * _LN2_LOW + 2.0 * s * total)


def log10(x: float) -> float:
    """The decimal logarithm; of the number nearest to a power of ten, exactly its exponent."""
    value = log(x) * _LOG10_E
    if math.isfinite(value):
        nearest = math.floor(value + 0.5)
        if abs(value - nearest) < 1e-9 and nearest >= -308 and float(f"1e{nearest}") == x:
            return float(nearest)
    return value


def divided(x: float, y: float) -> float:
    """IEEE 754 division."""
    if y != 0.0:
        return x / y
    if x == 0.0 or x != x or y != y:
        return math.nan
    return math.copysign(math.inf, x) * math.copysign(1.0, y)


def remainder(x: float, y: float) -> float:
    """C's fmod."""
    return math.nan if math.isinf(x) or y == 0.0 or x != x or y != y else math.fmod(x, y)


def rounded(x: float) -> float:
    """The nearest whole number, halves away from zero."""
    if not math.isfinite(x):
        return x
    whole = float(math.floor(abs(x)))
    return math.copysign(whole + 1.0 if abs(x) - whole >= 0.5 else whole, x)
