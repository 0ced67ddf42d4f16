"""From a forest's leaf values to its margin: in which precision they are added, from where, and what is done after.

Libraries differ here, and the last bit of a margin depends on it. Owns the arithmetic around the trees, not the walk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.numeric import log

_SMALLEST = 2.0**-24
"""A probability is moved this far from 0 and 1, so that its log-odds are finite: at most 16.6."""


@dataclass(frozen=True, slots=True)
class Sum:
    """margin = ((start + v₁ + v₂ + …) / divisor) · factor + end, added in the order of the trees.

    single: all of it in float32, else in float64. is_probability: the result is a probability, so that the margin is
    its log-odds. The default `end` is −0.0, since adding it changes no bit.
    """

    single: bool = False
    start: float = 0.0
    divisor: float = 1.0
    factor: float = 1.0
    end: float = -0.0
    is_probability: bool = False

    @property
    def dtype(self) -> type[np.float32] | type[np.float64]:
        """The type of the leaf values and of the running sum."""
        return np.float32 if self.single else np.float64

    @property
    def is_plain(self) -> bool:
        """Whether the sum of the leaf values already is the margin."""
        return (self.divisor, self.factor, self.end, self.is_probability) == (1.0, 1.0, 0.0, False)

    def raw(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the sums start + v₁ + v₂ + … (n,) to what the library calls the raw score (n,)."""
        around = np.array([self.divisor, self.factor, self.end], dtype=self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            done = totals.astype(self.dtype) / around[0] * around[1] + around[2]
        return np.asarray(done, dtype=np.float64)

    def margins(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the sums start + v₁ + v₂ + … (n,) to margins (n,), log-odds."""
        if self.is_plain:
            return totals
        raw = self.raw(totals)
        return _log_odds(raw) if self.is_probability else raw

    def explained(self, bias: float, shares: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """(bias, shares (F,)) of the sum of leaf values → of the margin.

        The shares of a probability are multiplied by one factor, so that they add up in log-odds (the rescale rule).
        """
        slope = self.factor / self.divisor
        bias, shares = (bias + self.start) * slope + self.end, shares * slope
        if not self.is_probability:
            return bias, shares
        mean, here = np.clip([bias, bias + float(shares.sum())], _SMALLEST, 1.0 - _SMALLEST).tolist()
        low, high = _log_odds(np.array([mean, here])).tolist()
        moved = float(shares.sum())
        if abs(moved) < 1e-9:
            return low, shares * (1.0 / (mean * (1.0 - mean)))
        return low, shares * ((high - low) / moved)


def _log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(probabilities, _SMALLEST, 1.0 - _SMALLEST)
    odds: NDArray[np.float64] = log(clipped / (1.0 - clipped))
    return odds


def logf(x: float) -> float:
    """The C library's logf of a float32 x > 0: the same float32, bit for bit, on every machine.

    XGBoost takes a base margin from it. What glibc (since 2.27), musl and Android's libc compute is the algorithm of
    ARM's optimized-routines: x = 2^k·z, and log x = log1p(z/c − 1) + log c + k·ln 2 in float64, with c near the middle
    of one of 16 parts of z's range. It differs from the correctly rounded logarithm for one number in 200.
    """
    bits = int(np.float32(x).view(np.int32))
    if not 0 < bits < 0x7F800000:
        raise ValueError("logf is for finite numbers above 0")
    if bits == 0x3F800000:
        return 0.0
    if bits < 0x00800000:  # subnormal: make it normal, exactly
        bits = int(np.float32(np.float32(x) * np.float32(2.0**23)).view(np.int32)) - (23 << 23)
    offset = bits - 0x3F330000
    inverse, logarithm = _LOGF_PARTS[(offset >> 19) & 15]
    z = float(np.int32(bits - ((offset >> 23) << 23)).view(np.float32))
    r = z * inverse - 1.0
    base = logarithm + (offset >> 23) * _LOGF_LN2
    square = r * r
    y = _LOGF_TERMS[1] * r + _LOGF_TERMS[2]
    y = _LOGF_TERMS[0] * square + y
    return float(np.float32(y * square + (base + r)))


_LOGF_LN2 = float.fromhex("0x1.62e42fefa39efp-1")
_LOGF_TERMS = tuple(map(float.fromhex, ("-0x1.00ea348b88334p-2", "0x1.5575b0be00b6ap-2", "-0x1.ffffef20a4123p-2")))
_LOGF_PARTS = tuple(
    (float.fromhex(inverse), float.fromhex(logarithm))
    for inverse, logarithm in (
        ("0x1.661ec79f8f3bep+0", "-0x1.57bf7808caadep-2"),
        ("0x1.571ed4aaf883dp+0", "-0x1.2bef0a7c06ddbp-2"),
        ("0x1.49539f0f010bp+0", "-0x1.01eae7f513a67p-2"),
        ("0x1.3c995b0b80385p+0", "-0x1.b31d8a68224e9p-3"),
        ("0x1.30d190c8864a5p+0", "-0x1.6574f0ac07758p-3"),
        ("0x1.25e227b0b8eap+0", "-0x1.1aa2bc79c81p-3"),
        ("0x1.1bb4a4a1a343fp+0", "-0x1.a4e76ce8c0e5ep-4"),
        ("0x1.12358f08ae5bap+0", "-0x1.1973c5a611cccp-4"),
        ("0x1.0953f419900a7p+0", "-0x1.252f438e10c1ep-5"),
        ("0x1p+0", "0x0p+0"),
        ("0x1.e608cfd9a47acp-1", "0x1.aa5aa5df25984p-5"),
        ("0x1.ca4b31f026aap-1", "0x1.c5e53aa362eb4p-4"),
        ("0x1.b2036576afce6p-1", "0x1.526e57720db08p-3"),
        ("0x1.9c2d163a1aa2dp-1", "0x1.bc2860d22477p-3"),
        ("0x1.886e6037841edp-1", "0x1.1058bc8a07ee1p-2"),
        ("0x1.767dcf5534862p-1", "0x1.4043057b6ee09p-2"),
    )
)
