"""Runs compiled expressions over a batch, column by column. Pure: output bits follow from input bits and nothing else.

Instructions are executed one after the other, each over a chunk of rows that fits the processor's cache. A register is
a row of 8-byte words: float64 for numbers and times, 0.0 or 1.0 for bools, a keyed uint64 hash for strings. Beside
it, a row of bytes says which values are there. What is missing holds 0.0. Every NaN that an operation gives is the
float64 of the float32 0x7fc00001.

    missing          every operation needs all its arguments, but
    and, or          false && missing is false and true || missing is true, on either side
    choose           needs its condition and the branch that it chooses
    has, default     are never missing for their first argument
    ratio            is missing too unless the divisor is above 0

A register of whose values none is missing shares one row of ones (`masks`), so that full columns cost nothing.
Measured by benchmarks/engine.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.jit import njit
from core.numeric import exp_of, log10_of, remainder_of
from core.program.codes import KINDS, Kind, Op
from core.program.compiling import COMPUTED_NAN, Bound

CACHE_BYTES = 131_072
"""Memory of all registers of a chunk."""
ROWS_MIN, ROWS_MAX = 64, 1_024
"""Rows of a chunk."""
DAY_MS, HOUR_MS = 86_400_000.0, 3_600_000.0
EXACT = 9_007_199_254_740_992.0
LINEAR_MAX = 8
"""Items of a list that are compared one by one; longer lists are searched by halves."""

NAN = COMPUTED_NAN
Numbers = NDArray[np.float64]
Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]


def evaluate(bound: Bound, values: Numbers, valid: Bytes) -> tuple[Numbers, Bytes]:
    """Evaluate all expressions for n rows.

    values: float64 (leaves, n), one row for each of `code.leaves`; hashes of strings as bits. valid: uint8 (leaves, n),
    1 where the value is there; what the value holds elsewhere does not matter. Returns values and validity of the
    outputs: float64 (outputs, n) and uint8 (outputs, n). Raises ValueError if a leaf is missing.
    """
    code = bound.code
    if values.shape != valid.shape or values.shape[0] != len(code.leaves):
        raise ValueError(f"{len(code.leaves)} leaves are needed, values {values.shape} and valid {valid.shape} given")
    out = np.empty((code.outputs, values.shape[1]))
    is_there = np.empty((code.outputs, values.shape[1]), dtype=np.uint8)
    _run(code.instructions, code.registers, bound.words, values, valid, out, is_there)
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
    rows = values.shape[1]
    size = min(max(CACHE_BYTES // (9 * registers + 9), ROWS_MIN), ROWS_MAX, max(rows, 1))
    bits = np.empty((registers, size), dtype=np.uint64)
    numbers = bits.view(np.float64)
    there = np.empty((registers + 1, size), dtype=np.uint8)
    there[registers] = 1
    masks = np.empty(registers, dtype=np.int64)
    value_bits, out_bits = values.view(np.uint64), out.view(np.uint64)
    for first in range(0, rows, size):
        n = min(size, rows - first)
        for k in range(instructions.shape[0]):
            op, d, a = instructions[k, 0], instructions[k, 1], instructions[k, 2]
            b, c, length = instructions[k, 3], instructions[k, 4], instructions[k, 5]
            kind = KINDS[op]
            if kind == Kind.MOVE:
                if op == Op.STORE:
                    out_bits[d, first : first + n] = bits[a, :n]
                    is_there[d, first : first + n] = there[masks[a], :n]
                elif op == Op.CONSTANT:
                    bits[d, :n] = words[a]
                    masks[d] = registers
                else:
                    is_full = _load(
                        op, value_bits[a, first : first + n], valid[a, first : first + n], bits[d, :n], there[d, :n]
                    )
                    masks[d] = registers if is_full else d
                continue
            if kind == Kind.LOGIC:
                is_full = _logic(
                    op, bits[a, :n], bits[b, :n], bits[c, :n], numbers[a, :n], numbers[b, :n],
                    there[masks[a], :n], there[masks[b], :n], there[masks[c], :n] if op == Op.CHOOSE else there[d, :n],
                    bits[d, :n], there[d, :n],
                    masks[a] == registers and masks[b] == registers,
                )  # fmt: skip
                masks[d] = registers if is_full else d
                continue
            if kind == Kind.ARITHMETIC:
                _arithmetic(op, numbers[a, :n], numbers[b, :n], numbers[d, :n])
            elif kind == Kind.COMPARISON:
                _compare(op, numbers[a, :n], numbers[b, :n], numbers[d, :n])
            elif kind == Kind.FUNCTION:
                _function(op, numbers[a, :n], numbers[b, :n], numbers[d, :n])
            elif kind == Kind.IDENTITY:
                _identity(op, bits[a, :n], bits[b, :n], numbers[d, :n])
            elif kind == Kind.LIST:
                _member(op, words[c : c + length], bits[a, :n], numbers[a, :n], numbers[d, :n])
            else:
                _time(op, numbers[a, :n], numbers[b, :n], numbers[d, :n])
            if masks[a] == registers and masks[b] == registers:
                masks[d] = registers
            else:
                _blank(there[masks[a], :n], there[masks[b], :n], bits[d, :n], there[d, :n])
                masks[d] = d


@njit
def _load(op: int, x: Words, valid: Bytes, out: Words, there: Bytes) -> bool:
    is_full = np.uint8(1)
    for i in range(out.shape[0]):
        is_full &= valid[i]
    for i in range(out.shape[0]):
        there[i] = valid[i]
        out[i] = x[i] if valid[i] else np.uint64(0)
    if op == Op.LOAD_NUMBER:
        numbers = out.view(np.float64)
        for i in range(out.shape[0]):
            numbers[i] = _settled(numbers[i])
    return bool(is_full)


@njit
def _blank(x: Bytes, y: Bytes, out: Words, there: Bytes) -> None:
    """Missing where an argument is: the mask of an ordinary operation, and 0 where it says so."""
    for i in range(out.shape[0]):
        there[i] = x[i] & y[i]
    for i in range(out.shape[0]):
        out[i] = out[i] if there[i] else np.uint64(0)


@njit
def _settled(x: float) -> float:
    return x if x == x else NAN


@njit
def _arithmetic(op: int, x: Numbers, y: Numbers, out: Numbers) -> None:
    n = out.shape[0]
    if op == Op.ADD:
        for i in range(n):
            out[i] = _settled(x[i] + y[i])
    elif op == Op.SUBTRACT:
        for i in range(n):
            out[i] = _settled(x[i] - y[i])
    elif op == Op.MULTIPLY:
        for i in range(n):
            out[i] = _settled(x[i] * y[i])
    elif op == Op.DIVIDE:
        for i in range(n):
            out[i] = _settled(x[i] / y[i])
    elif op == Op.NEGATE:
        for i in range(n):
            out[i] = _settled(-x[i])
    elif op == Op.ABS:
        for i in range(n):
            out[i] = _settled(abs(x[i]))
    elif op == Op.MIN:  # the first of equal ones, so min(−0.0, 0.0) is −0.0
        for i in range(n):
            smaller = y[i] if y[i] < x[i] else x[i]
            out[i] = smaller if y[i] == y[i] and x[i] == x[i] else NAN
    else:
        for i in range(n):
            larger = y[i] if y[i] > x[i] else x[i]
            out[i] = larger if y[i] == y[i] and x[i] == x[i] else NAN


@njit
def _function(op: int, x: Numbers, y: Numbers, out: Numbers) -> None:
    n = out.shape[0]
    if op == Op.FLOOR:
        for i in range(n):
            out[i] = _settled(np.floor(x[i]))
    elif op == Op.CEIL:
        for i in range(n):
            out[i] = _settled(np.ceil(x[i]))
    elif op == Op.ROUND:  # x − trunc(x) is exact
        for i in range(n):
            whole = np.trunc(x[i])
            away = whole + np.copysign(1.0, x[i])
            out[i] = _settled(away if abs(x[i] - whole) >= 0.5 else whole)
    elif op == Op.SQRT:
        for i in range(n):
            out[i] = _settled(np.sqrt(x[i]))
    elif op == Op.SINGLE:
        for i in range(n):
            out[i] = _settled(np.float64(np.float32(x[i])))
    elif op == Op.LOG10:
        for i in range(n):
            out[i] = _settled(log10_of(x[i]))
    elif op == Op.EXP:
        for i in range(n):
            out[i] = _settled(exp_of(x[i]))
    else:
        left, right, rest = x.view(np.uint64), y.view(np.uint64), out.view(np.uint64)
        for i in range(n):
            rest[i] = remainder_of(left[i], right[i])
        for i in range(n):
            out[i] = _settled(out[i])


@njit
def _compare(op: int, x: Numbers, y: Numbers, out: Numbers) -> None:
    n = out.shape[0]
    if op in (Op.LESS, Op.LESS_TIME):
        for i in range(n):
            out[i] = 1.0 if x[i] < y[i] else 0.0
    elif op in (Op.LESS_EQUAL, Op.LESS_EQUAL_TIME):
        for i in range(n):
            out[i] = 1.0 if x[i] <= y[i] else 0.0
    elif op in (Op.EQUAL, Op.EQUAL_TIME, Op.EQUAL_BOOL):
        for i in range(n):
            out[i] = 1.0 if x[i] == y[i] else 0.0
    elif op in (Op.UNEQUAL, Op.UNEQUAL_TIME, Op.UNEQUAL_BOOL):
        for i in range(n):
            out[i] = 1.0 if x[i] != y[i] else 0.0
    elif op == Op.LESS_SINGLE:
        for i in range(n):
            out[i] = 1.0 if np.float32(x[i]) < np.float32(y[i]) else 0.0
    elif op == Op.LESS_EQUAL_SINGLE:
        for i in range(n):
            out[i] = 1.0 if np.float32(x[i]) <= np.float32(y[i]) else 0.0
    elif op == Op.EQUAL_SINGLE:
        for i in range(n):
            out[i] = 1.0 if np.float32(x[i]) == np.float32(y[i]) else 0.0
    else:
        for i in range(n):
            out[i] = 1.0 if np.float32(x[i]) != np.float32(y[i]) else 0.0


@njit
def _identity(op: int, x: Words, y: Words, out: Numbers) -> None:
    if op == Op.EQUAL_STRING:
        for i in range(out.shape[0]):
            out[i] = 1.0 if x[i] == y[i] else 0.0
    else:
        for i in range(out.shape[0]):
            out[i] = 1.0 if x[i] != y[i] else 0.0


@njit
def _member(op: int, items: Words, x: Words, numbers: Numbers, out: Numbers) -> None:
    """Whether a value is in a sorted list."""
    if op == Op.IN_STRINGS:
        _find(items, x, out)
        return
    if op == Op.IN_NUMBERS_SINGLE:
        rounded = np.empty(numbers.shape[0], dtype=np.float64)
        for i in range(numbers.shape[0]):
            rounded[i] = np.float64(np.float32(numbers[i]))
        numbers = rounded
    _find(items.view(np.float64), numbers, out)


@njit
def _find(items: NDArray[np.generic], x: NDArray[np.generic], out: Numbers) -> None:
    if items.shape[0] <= LINEAR_MAX:
        out[:] = 0.0
        for k in range(items.shape[0]):
            item = items[k]
            for i in range(out.shape[0]):
                out[i] = 1.0 if x[i] == item else out[i]
        return
    for i in range(out.shape[0]):
        low, high = 0, items.shape[0] - 1
        while low < high:
            middle = (low + high) // 2
            if items[middle] < x[i]:
                low = middle + 1
            else:
                high = middle
        out[i] = 1.0 if items[low] == x[i] else 0.0


@njit
def _time(op: int, x: Numbers, y: Numbers, out: Numbers) -> None:
    n = out.shape[0]
    if op == Op.ELAPSED:
        for i in range(n):
            out[i] = _settled((x[i] - y[i]) / 1000.0)
    elif op == Op.HOUR:
        for i in range(n):
            hours = _whole(x[i] + y[i], HOUR_MS)
            out[i] = _settled(hours - 24.0 * np.floor(hours / 24.0))
    else:
        for i in range(n):
            days = _whole(x[i] + y[i], DAY_MS) + 3.0  # 1970-01-01 was a Thursday
            out[i] = _settled(days - 7.0 * np.floor(days / 7.0))


@njit
def _whole(t: float, unit: float) -> float:
    """floor(t / unit), exact for whole t up to 2**53; NaN beyond."""
    quotient = np.floor(t / unit)
    rest = t - quotient * unit  # exact, so it shows whether the quotient was rounded up to the next whole number
    quotient = quotient - 1.0 if rest < 0.0 else quotient
    return quotient if abs(t) <= EXACT else NAN


@njit
def _logic(
    op: int,
    a: Words, b: Words, c: Words, x: Numbers, y: Numbers,
    has_a: Bytes, has_b: Bytes, has_c: Bytes,
    out: Words, there: Bytes,
    is_full: bool,
) -> bool:  # fmt: skip
    """What does not need all its arguments. is_full: nothing of a and b is missing. Returns whether nothing of the
    result is.
    """
    n = out.shape[0]
    results = out.view(np.float64)
    if op == Op.AND:
        if is_full:
            for i in range(n):
                out[i] = a[i] & b[i]
            return True
        for i in range(n):  # the bits of 0.0 and 1.0; what is missing holds 0.0
            there[i] = (has_a[i] & has_b[i]) | (has_a[i] & (x[i] == 0.0)) | (has_b[i] & (y[i] == 0.0))
        for i in range(n):
            out[i] = a[i] & b[i]
    elif op == Op.OR:
        for i in range(n):
            out[i] = a[i] | b[i]
        if is_full:
            return True
        for i in range(n):
            there[i] = (has_a[i] & has_b[i]) | (results[i] != 0.0)
    elif op == Op.NOT:
        for i in range(n):
            results[i] = (1.0 if x[i] == 0.0 else 0.0) if has_a[i] else 0.0
            there[i] = has_a[i]
    elif op == Op.CHOOSE:
        for i in range(n):
            there[i] = has_a[i] & (has_b[i] if x[i] != 0.0 else has_c[i])
        for i in range(n):
            chosen = b[i] if x[i] != 0.0 else c[i]
            out[i] = chosen if there[i] else np.uint64(0)
    elif op == Op.HAS:
        for i in range(n):
            results[i] = 1.0 if has_a[i] else 0.0
        return True
    elif op == Op.DEFAULT:
        for i in range(n):
            out[i] = a[i] if has_a[i] else b[i]
            there[i] = has_a[i] | has_b[i]
    else:  # ratio
        for i in range(n):
            there[i] = has_a[i] & has_b[i] & (y[i] > 0.0)
        for i in range(n):
            results[i] = _settled(x[i] / y[i]) if there[i] else 0.0
    full = np.uint8(1)
    for i in range(n):
        full &= there[i]
    return bool(full)
