"""Runs compiled expressions over a batch, column by column. Pure: output bits follow from input bits and nothing else.

Instructions are executed one after the other, each over a chunk of rows that fits the processor's cache. A register is
a row of 8-byte words: float64 for numbers and times, 0.0 or 1.0 for bools, a keyed uint64 hash for strings. Beside
it, a row of bytes says which values are there. What is missing holds anything, and 0.0 in the output. Every NaN that an
operation gives is the float64 of the float32 0x7fc00001.

    missing          every operation needs all its arguments, but
    and, or          false && missing is false and true || missing is true, on either side
    choose           needs its condition and the branch that it chooses
    has, default     are never missing for their first argument
    ratio            is missing too unless the divisor is above 0

A register of whose values none is missing shares one row of ones (`masks`), so that full columns cost nothing.
Registers are rows of one array, with unsigned indices: a slice of an array costs 10 ns, more than its loop over a small
batch, and a signed index may count from the end. Measured by benchmarks/engine.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.jit import njit, njit_unlocked
from core.numeric import exp_of, log10_of, remainder_of
from core.program.codes import KINDS, Kind, Op
from core.program.compiling import COMPUTED_NAN, Bound

CACHE_BYTES = 262_144
"""Memory of all registers of a chunk."""
ROWS_MIN, ROWS_MAX = 64, 512
"""Rows of a chunk."""
DAY_MS, HOUR_MS = 86_400_000.0, 3_600_000.0
EXACT = 9_007_199_254_740_992.0
LINEAR_MAX = 8
"""Items of a list that are compared one by one; longer lists are searched by halves."""

NAN = COMPUTED_NAN
NOTHING = np.uint64(0)
Numbers = NDArray[np.float64]
Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]


def evaluate(bound: Bound, values: Numbers, valid: Bytes, *, unlocked: bool = False) -> tuple[Numbers, Bytes]:
    """Evaluate all expressions for n rows. unlocked: let other threads run meanwhile.

    values: float64 (leaves, n), one row for each of `code.leaves`; hashes of strings as bits. valid: uint8 (leaves, n),
    1 where the value is there, else 0; what the value holds there does not matter. Both contiguous. Returns values and
    validity of the outputs: float64 (outputs, n) and uint8 (outputs, n). Raises ValueError for arrays of another shape.
    """
    code = bound.code
    if values.shape != valid.shape or values.shape[0] != len(code.leaves):
        raise ValueError(f"{len(code.leaves)} leaves are needed, values {values.shape} and valid {valid.shape} given")
    if not (values.flags.c_contiguous and valid.flags.c_contiguous):
        raise ValueError("the columns of the leaves must be contiguous")
    out = np.empty((code.outputs, values.shape[1]))
    is_there = np.empty((code.outputs, values.shape[1]), dtype=np.uint8)
    run = _run_unlocked if unlocked else _run
    run(code.instructions, code.registers, bound.words, values, valid, out, is_there)
    return out, is_there


@njit
def _run(
    instructions: NDArray[np.int32],
    registers: int,
    words: Words,
    values: Numbers,
    valid: Bytes,
    out: Numbers,
    is_there: Bytes,
) -> None:
    rows = np.uint64(values.shape[1])
    size = np.uint64(min(max(CACHE_BYTES // (9 * registers + 9), ROWS_MIN), ROWS_MAX, max(values.shape[1], 1)))
    bits = np.empty((registers, size), dtype=np.uint64)
    numbers = bits.view(np.float64)
    there = np.empty((registers + 1, size), dtype=np.uint8)
    there[registers] = 1
    full = np.uint64(registers)
    masks = np.empty(registers, dtype=np.uint64)
    gaps = np.empty(out.shape[0], dtype=np.uint8)
    value_bits, out_bits, word_numbers = values.view(np.uint64), out.view(np.uint64), words.view(np.float64)
    for first in range(np.uint64(0), rows, size):
        n = min(size, rows - first)
        for k in range(instructions.shape[0]):
            op, d, a = instructions[k, 0], np.uint64(instructions[k, 1]), np.uint64(instructions[k, 2])
            b, c = np.uint64(instructions[k, 3]), np.uint64(instructions[k, 4])
            kind = KINDS[op]
            if kind == Kind.MOVE:
                if op == Op.STORE:
                    _store(n, first, d, a, masks[a], bits, there, out_bits, is_there)
                    gaps[d] = masks[a] != full
                elif op == Op.CONSTANT:
                    word = words[a]
                    for i in range(n):
                        bits[d, i] = word
                    masks[d] = full
                else:
                    is_full = _load(op, n, first, d, a, value_bits, valid, bits, numbers, there)
                    masks[d] = full if is_full else d
                continue
            is_full = masks[a] == full and masks[b] == full
            if kind == Kind.LOGIC:
                mask = masks[c] if op == Op.CHOOSE else full
                is_full = _logic(op, n, d, a, b, c, masks[a], masks[b], mask, is_full, bits, numbers, there)
                masks[d] = full if is_full else d
                continue
            if kind == Kind.COMPARISON:
                _compare(op, n, d, a, b, numbers)
            elif kind == Kind.ARITHMETIC:
                _arithmetic(op, n, d, a, b, numbers)
            elif kind == Kind.IDENTITY:
                _identity(op, n, d, a, b, bits, numbers)
            elif kind == Kind.LIST:
                if op == Op.IN_STRINGS:
                    _find(n, d, a, c, np.uint64(instructions[k, 5]), words, bits, numbers)
                else:
                    _member(op, n, d, a, c, np.uint64(instructions[k, 5]), word_numbers, numbers)
            elif kind == Kind.FUNCTION:
                _function(op, n, d, a, b, bits, numbers)
            else:
                _time(op, n, d, a, b, numbers)
            if is_full:
                masks[d] = full
            else:
                _meet(n, d, masks[a], masks[b], there)
                masks[d] = d
        for k in range(out.shape[0]):
            if gaps[k]:
                _blank(n, first, np.uint64(k), out_bits, is_there)


@njit_unlocked
def _run_unlocked(
    instructions: NDArray[np.int32],
    registers: int,
    words: Words,
    values: Numbers,
    valid: Bytes,
    out: Numbers,
    is_there: Bytes,
) -> None:
    _run(instructions, registers, words, values, valid, out, is_there)


@njit
def _store(n: int, first: int, d: int, a: int, mask: int, bits: Words, there: Bytes, out: Words, valid: Bytes) -> None:
    for i in range(n):
        out[d, first + i] = bits[a, i]
    for i in range(n):
        valid[d, first + i] = there[mask, i]


@njit
def _blank(n: int, first: int, d: int, out: Words, valid: Bytes) -> None:
    """0.0 where an output is missing. Not a part of _store, which this would slow down for outputs without gaps."""
    for i in range(n):
        out[d, first + i] = out[d, first + i] if valid[d, first + i] else NOTHING


@njit
def _load(
    op: int,
    n: int,
    first: int,
    d: int,
    a: int,
    values: Words,
    valid: Bytes,
    bits: Words,
    numbers: Numbers,
    there: Bytes,
) -> bool:
    missing = np.uint8(0)
    for i in range(n):
        there[d, i] = valid[a, first + i]
        missing |= there[d, i] ^ np.uint8(1)
    for i in range(n):
        bits[d, i] = values[a, first + i]
    if op == Op.LOAD_NUMBER:
        for i in range(n):
            numbers[d, i] = _settled(numbers[d, i])
    return not missing


@njit
def _meet(n: int, d: int, a: int, b: int, there: Bytes) -> None:
    """The mask of an operation that needs all its arguments. a, b: their masks."""
    for i in range(n):
        there[d, i] = there[a, i] & there[b, i]


@njit
def _settled(x: float) -> float:
    return x if x == x else NAN


@njit
def _arithmetic(op: int, n: int, d: int, a: int, b: int, v: Numbers) -> None:
    if op == Op.ADD:
        for i in range(n):
            v[d, i] = _settled(v[a, i] + v[b, i])
    elif op == Op.SUBTRACT:
        for i in range(n):
            v[d, i] = _settled(v[a, i] - v[b, i])
    elif op == Op.MULTIPLY:
        for i in range(n):
            v[d, i] = _settled(v[a, i] * v[b, i])
    elif op == Op.DIVIDE:
        for i in range(n):
            v[d, i] = _settled(v[a, i] / v[b, i])
    elif op == Op.NEGATE:
        for i in range(n):
            v[d, i] = _settled(-v[a, i])
    elif op == Op.ABS:
        for i in range(n):
            v[d, i] = _settled(abs(v[a, i]))
    elif op == Op.MIN:  # the first of equal ones, so min(−0.0, 0.0) is −0.0
        for i in range(n):
            x, y = v[a, i], v[b, i]
            v[d, i] = _settled(y if y < x else (x if y == y else y))
    else:
        for i in range(n):
            x, y = v[a, i], v[b, i]
            v[d, i] = _settled(y if y > x else (x if y == y else y))


@njit
def _function(op: int, n: int, d: int, a: int, b: int, bits: Words, v: Numbers) -> None:
    if op == Op.FLOOR:
        for i in range(n):
            v[d, i] = _settled(np.floor(v[a, i]))
    elif op == Op.CEIL:
        for i in range(n):
            v[d, i] = _settled(np.ceil(v[a, i]))
    elif op == Op.ROUND:
        for i in range(n):
            x = v[a, i]
            whole = np.trunc(x)  # x − whole is exact
            v[d, i] = _settled(whole + np.copysign(1.0, x) if abs(x - whole) >= 0.5 else whole)
    elif op == Op.SQRT:
        for i in range(n):
            v[d, i] = _settled(np.sqrt(v[a, i]))
    elif op == Op.SINGLE:
        for i in range(n):
            v[d, i] = _settled(np.float64(np.float32(v[a, i])))
    elif op == Op.LOG10:
        for i in range(n):
            v[d, i] = _settled(log10_of(v[a, i]))
    elif op == Op.EXP:
        for i in range(n):
            v[d, i] = _settled(exp_of(v[a, i]))
    else:
        for i in range(n):
            bits[d, i] = remainder_of(bits[a, i], bits[b, i])
        for i in range(n):
            v[d, i] = _settled(v[d, i])


@njit
def _compare(op: int, n: int, d: int, a: int, b: int, v: Numbers) -> None:
    if op in (Op.LESS, Op.LESS_TIME):
        for i in range(n):
            v[d, i] = 1.0 if v[a, i] < v[b, i] else 0.0
    elif op in (Op.LESS_EQUAL, Op.LESS_EQUAL_TIME):
        for i in range(n):
            v[d, i] = 1.0 if v[a, i] <= v[b, i] else 0.0
    elif op in (Op.EQUAL, Op.EQUAL_TIME, Op.EQUAL_BOOL):
        for i in range(n):
            v[d, i] = 1.0 if v[a, i] == v[b, i] else 0.0
    elif op in (Op.UNEQUAL, Op.UNEQUAL_TIME, Op.UNEQUAL_BOOL):
        for i in range(n):
            v[d, i] = 1.0 if v[a, i] != v[b, i] else 0.0
    elif op == Op.LESS_SINGLE:
        for i in range(n):
            v[d, i] = 1.0 if np.float32(v[a, i]) < np.float32(v[b, i]) else 0.0
    elif op == Op.LESS_EQUAL_SINGLE:
        for i in range(n):
            v[d, i] = 1.0 if np.float32(v[a, i]) <= np.float32(v[b, i]) else 0.0
    elif op == Op.EQUAL_SINGLE:
        for i in range(n):
            v[d, i] = 1.0 if np.float32(v[a, i]) == np.float32(v[b, i]) else 0.0
    else:
        for i in range(n):
            v[d, i] = 1.0 if np.float32(v[a, i]) != np.float32(v[b, i]) else 0.0


@njit
def _identity(op: int, n: int, d: int, a: int, b: int, bits: Words, v: Numbers) -> None:
    if op == Op.EQUAL_STRING:
        for i in range(n):
            v[d, i] = 1.0 if bits[a, i] == bits[b, i] else 0.0
    elif op == Op.NOT:
        for i in range(n):
            v[d, i] = 1.0 if bits[a, i] == NOTHING else 0.0
    else:
        for i in range(n):
            v[d, i] = 1.0 if bits[a, i] != bits[b, i] else 0.0


@njit
def _member(op: int, n: int, d: int, a: int, item: int, length: int, words: Numbers, v: Numbers) -> None:
    if op == Op.IN_NUMBERS:
        _find(n, d, a, item, length, words, v, v)
        return
    rounded = np.empty((1, n), dtype=np.float64)
    nothing = np.uint64(0)
    for i in range(n):
        rounded[nothing, i] = np.float64(np.float32(v[a, i]))
    _find(n, d, nothing, item, length, words, rounded, v)


@njit
def _find(n: int, d: int, a: int, first: int, length: int, words: NDArray[Any], x: NDArray[Any], v: Numbers) -> None:
    """Whether each value is among `length` sorted words."""
    if length <= LINEAR_MAX:
        for i in range(n):
            v[d, i] = 0.0
        for k in range(first, first + length):
            item = words[k]
            for i in range(n):
                v[d, i] = 1.0 if x[a, i] == item else v[d, i]
        return
    one: Any = np.uint64(1)
    for i in range(n):
        value = x[a, i]
        low, high = first, first + length - one
        while low < high:
            middle = (low + high) >> one
            if words[middle] < value:
                low = middle + one
            else:
                high = middle
        v[d, i] = 1.0 if words[low] == value else 0.0


@njit
def _time(op: int, n: int, d: int, a: int, b: int, v: Numbers) -> None:
    if op == Op.ELAPSED:
        for i in range(n):
            v[d, i] = _settled((v[a, i] - v[b, i]) / 1000.0)
    elif op == Op.HOUR:
        for i in range(n):
            hours = _whole(v[a, i] + v[b, i], HOUR_MS)
            v[d, i] = _settled(hours - 24.0 * np.floor(hours / 24.0))
    else:
        for i in range(n):
            days = _whole(v[a, i] + v[b, i], DAY_MS) + 3.0  # 1970-01-01 was a Thursday
            v[d, i] = _settled(days - 7.0 * np.floor(days / 7.0))


@njit
def _whole(t: float, unit: float) -> float:
    """floor(t / unit), exact for whole t up to 2**53; NaN beyond."""
    quotient = np.floor(t / unit)
    rest = t - quotient * unit  # exact, so it shows whether the quotient was rounded up to the next whole number
    quotient = quotient - 1.0 if rest < 0.0 else quotient
    return quotient if abs(t) <= EXACT else NAN


@njit
def _logic(
    op: int, n: int, d: int, a: int, b: int, c: int, mask_a: int, mask_b: int, mask_c: int, is_full: bool,
    bits: Words, v: Numbers, there: Bytes,
) -> bool:  # fmt: skip
    """What does not need all its arguments. is_full: nothing of a and b is missing. Returns whether nothing of the
    result is. Bools are the bits of 0.0 and 1.0.
    """
    if op == Op.AND:
        for i in range(n):
            bits[d, i] = bits[a, i] & bits[b, i]
        if is_full:
            return True
        for i in range(n):
            x, y = there[mask_a, i], there[mask_b, i]
            there[d, i] = (x & y) | (x & (bits[a, i] == NOTHING)) | (y & (bits[b, i] == NOTHING))
    elif op == Op.OR:
        if is_full:
            for i in range(n):
                bits[d, i] = bits[a, i] | bits[b, i]
            return True
        for i in range(n):  # what is missing may hold other bits than those of 0.0 and 1.0
            v[d, i] = 1.0 if bits[a, i] | bits[b, i] != NOTHING else 0.0
        for i in range(n):
            x, y = there[mask_a, i], there[mask_b, i]
            there[d, i] = (x & y) | (x & (bits[a, i] != NOTHING)) | (y & (bits[b, i] != NOTHING))
    elif op == Op.CHOOSE:
        for i in range(n):
            bits[d, i] = bits[b, i] if bits[a, i] != NOTHING else bits[c, i]
        for i in range(n):
            there[d, i] = there[mask_a, i] & (there[mask_b, i] if bits[a, i] != NOTHING else there[mask_c, i])
    elif op == Op.HAS:
        for i in range(n):
            v[d, i] = 1.0 if there[mask_a, i] else 0.0
        return True
    elif op == Op.DEFAULT:
        for i in range(n):
            bits[d, i] = bits[a, i] if there[mask_a, i] else bits[b, i]
            there[d, i] = there[mask_a, i] | there[mask_b, i]
    else:  # ratio
        for i in range(n):
            v[d, i] = _settled(v[a, i] / v[b, i])
        for i in range(n):
            there[d, i] = there[mask_a, i] & there[mask_b, i] & (v[b, i] > 0.0)
    missing = np.uint8(0)
    for i in range(n):
        missing |= there[d, i] ^ np.uint8(1)
    return not missing
