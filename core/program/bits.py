"""Words of 64 bits in compiled code: bit sets, and keys made of any value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from core.jit import njit
from core.program.memory import Ints


def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, 0))

    return types.int64(types.int64), code


def _set_bits(typing_context: Any, word: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), code


trailing_zeros: Any = intrinsic(_trailing_zeros)
"""How many of an int64's low bits are 0; 64 for 0."""
set_bits: Any = intrinsic(_set_bits)
"""How many of an int64's bits are 1."""


@njit
def below(count: int) -> int:
    """A word whose lowest `count` bits are 1; 0 ≤ count ≤ 64."""
    return -1 if count >= 64 else (1 << count) - 1


@njit
def clear(words: Ints, start: int, low: int, high: int) -> None:
    """Clear the bits low ≤ b < high of the bit set that begins at words[start]."""
    for w in range(low >> 6, (high + 63) >> 6):
        first = max(low - 64 * w, 0)
        last = min(high - 64 * w, 64)
        words[start + w] &= ~(below(last) & ~below(first))


@njit
def mixed(word: int) -> int:
    """A bijection on 64-bit words that spreads every bit over all others (Steele, Lea, Flood 2014: SplitMix64)."""
    x = np.uint64(word) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(x ^ (x >> np.uint64(31)))  # type: ignore[return-value]
