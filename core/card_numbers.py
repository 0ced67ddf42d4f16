"""Finds payment card numbers (PANs) and magnetic-stripe data in text. Pure, and stays within the text, whatever it is.

A card number is 13 to 19 digits that begin as a scheme's numbers do, have one of its lengths (`RANGES`) and satisfy the
Luhn formula (ISO/IEC 7812-1). Its digits stand together, or in groups with one usual separator between them: a space, a
hyphen, a dot, an underscore or a slash; spaces and hyphens also up to three. Groups but
the last have three digits or more, or all have one or all two. A number in scientific notation counts too.

It ends where a group ends, so neither part of a longer run of digits nor the fraction of a decimal number is one; 13
digits behind a `+` are a phone number. Track data is 13 to 19 digits, `=`, `D` or `^`, and what follows, whatever the
Luhn formula says.

One in ten numbers satisfies the formula by chance, so an ID of 16 random digits is taken for a card number in about 4 %
of cases; sequence numbers, dates and times in ms, µs and ns in none (docs/decisions/0033). Whoever uses this must do no
harm to such IDs.

Cost: 13 digits can't be missed by looking at every 13th byte, so a payment of 300 bytes takes 0.23 µs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from core.jit import njit

DIGITS_MIN, DIGITS_MAX = 13, 19
_TRACK_REST_MIN = 7
_CODE_REACH = 24
"""How far behind its name a security code is looked for."""
NONE, CARD, TRACK = 0, 1, 2
"""What was found."""

_13_16_19 = (13, 16, 18, 19)
_16_19 = (16, 17, 18, 19)
_ALL = tuple(range(13, 20))
RANGES: tuple[tuple[str, int, int, tuple[int, ...]], ...] = (
    ("Visa", 400000, 499999, _13_16_19),
    ("Mastercard", 510000, 559999, (16,)),
    ("Mastercard", 222100, 272099, (16,)),
    ("American Express", 340000, 349999, (15,)),
    ("American Express", 370000, 379999, (15,)),
    ("Diners Club", 300000, 305999, (14, *_16_19)),
    ("Diners Club", 309500, 309599, (14, *_16_19)),
    ("Diners Club", 360000, 369999, (14, *_16_19)),
    ("Diners Club", 380000, 399999, (14, *_16_19)),
    ("JCB", 352800, 358999, _16_19),
    ("Discover, RuPay, Elo", 600000, 609999, _16_19),
    ("UnionPay", 620000, 629999, _16_19),
    ("Discover", 644000, 659999, _16_19),
    ("Maestro, Verve, Elo", 500000, 509999, _ALL),
    ("Maestro", 560000, 589999, _ALL),
    ("Maestro", 630000, 639999, _ALL),
    ("Maestro", 670000, 679999, _ALL),
    ("UnionPay, RuPay", 810000, 829999, _16_19),
    ("Mir", 220000, 220599, _16_19),
    ("Troy", 979200, 979299, (16,)),
    ("Uzcard", 860000, 860099, (16,)),
    ("Humo", 986000, 986099, (16,)),
)
"""Schemes' numbers: first and last six digits, and lengths (ISO/IEC 7812; the schemes' published ranges)."""

_FIRST = np.array([first for _, first, _, _ in RANGES], dtype=np.int64)
_LAST = np.array([last for _, _, last, _ in RANGES], dtype=np.int64)
_LENGTHS = np.array([sum(1 << n for n in lengths) for _, _, _, lengths in RANGES], dtype=np.int64)

_DIGIT, _BLANK, _MARK = 1, 2, 3
"""Classes of bytes: digits; separators that may repeat; those that may not."""
_CLASS = np.zeros(256, dtype=np.uint8)
_CLASS[48:58] = _DIGIT
_CLASS[[32, 45]] = _BLANK
_CLASS[[46, 47, 95]] = _MARK


@njit
def is_issued(prefix: int, digits: int) -> bool:
    """Whether a scheme has numbers that begin with these six digits and have so many."""
    for k in range(len(_FIRST)):  # noqa: SIM110 - compiled
        if _FIRST[k] <= prefix <= _LAST[k] and _LENGTHS[k] >> digits & 1:
            return True
    return False


@njit
def _next_run(text: bytes, begin: int) -> Any:
    """(low, high) of the first run text[low:high] of digits and separators that is long enough, at or after `begin`;
    (-1, -1) if there is none.
    """
    n = len(text)
    p = begin + DIGITS_MIN - 1
    while p < n:
        if _CLASS[text[p]] == 0:
            p += DIGITS_MIN
            continue
        low = p
        while low > begin and _CLASS[text[low - 1]] != 0:
            low -= 1
        high = p + 1
        while high < n and _CLASS[text[high]] != 0:
            high += 1
        if high - low >= DIGITS_MIN:
            return low, high
        p = high + DIGITS_MIN
    return -1, -1


@njit
def find(text: bytes) -> Any:
    """(what, start, end) of the first card number or track in the text; (NONE, -1, -1) if there is none. Of those that
    begin at one place, the longest.
    """
    low, high = _next_run(text, 0)
    while low >= 0:
        what, start, end = _in_run(text, low, high)
        if what != NONE:
            return what, start, end
        low, high = _next_run(text, high)
    return NONE, -1, -1


@njit
def find_all(text: bytes) -> Any:
    """What `find` finds, and then again behind each find: int64 (n, 3). Time is linear in the text."""
    found = np.empty((4, 3), dtype=np.int64)
    count = 0
    low, high = _next_run(text, 0)
    while low >= 0:
        while low < high:
            what, start, end = _in_run(text, low, high)
            if what == NONE:
                break
            if count == len(found):
                larger = np.empty((2 * count, 3), dtype=np.int64)
                larger[:count] = found
                found = larger
            found[count, 0], found[count, 1], found[count, 2] = what, start, end
            count += 1
            low = end
        low, high = _next_run(text, high)
    return found[:count]


@njit
def _in_run(text: bytes, low: int, high: int) -> Any:
    """As `find`, in text[low:high]: digits and separators only, up to something else."""
    g = low
    while g < high:
        if _CLASS[text[g]] != _DIGIT:
            g += 1
            continue
        stop = g
        while stop < high and _CLASS[text[stop]] == _DIGIT:
            stop += 1
        if DIGITS_MIN <= stop - g <= DIGITS_MAX and _is_track(text, stop):
            return TRACK, g, stop
        is_fraction = g >= 2 and text[g - 1] == 46 and _CLASS[text[g - 2]] == _DIGIT
        is_phone = g >= 1 and text[g - 1] == 43 and stop - g == DIGITS_MIN
        if not is_fraction and not is_phone:
            end = _longest(text, g, high)
            if end < 0 and stop == g + 1:
                end = _scientific(text, g, high)
            if end >= 0:
                return CARD, g, end
        g = stop
    return NONE, -1, -1


@njit
def _longest(text: bytes, start: int, high: int) -> int:
    """Where the longest card number ends that begins at `start`, the first digit of a group; -1 if none does."""
    n = prefix = even = odd = 0  # even, odd: the Luhn sum, if the digits at even or odd places are the doubled ones
    first = before = 0  # sizes of the first group and the one before
    mark = 0
    best = -1
    pos = start
    while True:
        group = pos
        while pos < high and _CLASS[text[pos]] == _DIGIT:
            if n == DIGITS_MAX:
                return best
            d = text[pos] - 48
            twice = 2 * d - 9 if d > 4 else 2 * d
            if n & 1:
                even += d
                odd += twice
            else:
                even += twice
                odd += d
            if n < 6:
                prefix = prefix * 10 + d
            n += 1
            pos += 1
        size = pos - group
        if first == 0:
            first = size
        elif first < 3 and size > first:
            return best
        if mark == _MARK and size > 7 and before > 0:
            return best
        if n >= DIGITS_MIN and (odd if n & 1 else even) % 10 == 0 and is_issued(prefix, n):
            best = pos
        if size < 3 and size != first:
            return best
        k = pos
        while k < high and _CLASS[text[k]] != _DIGIT:
            k += 1
        gap = k - pos
        if k >= high or gap > 3:
            return best
        mark = _CLASS[text[pos]]
        if mark == _MARK and (gap > 1 or size > 7):
            return best
        for j in range(pos, k):
            if _CLASS[text[j]] == _MARK and gap > 1:
                return best
        before = size
        pos = k


@njit
def _is_track(text: bytes, stop: int) -> bool:
    """Whether what follows the digits that end at `stop` makes them a magnetic stripe's."""
    n = len(text)
    if stop >= n:
        return False
    c = text[stop]
    k = stop + 1
    if c == 94:  # ^: track 1 has the name, ^, and the rest
        while k < n and text[k] != 94 and k - stop <= 30:
            k += 1
        if k >= n or text[k] != 94:
            return False
        k += 1
    elif c not in (61, 68, 100):  # = D d
        return False
    rest = 0
    while k < n and rest < _TRACK_REST_MIN and _CLASS[text[k]] == _DIGIT:
        rest += 1
        k += 1
    return rest == _TRACK_REST_MIN


@njit
def _scientific(text: bytes, start: int, high: int) -> int:
    """Where a card number ends that is written as 4.111111111111111e+15 and begins at `start`; -1 if none does."""
    n = len(text)
    k = start + 1
    if k >= high or text[k] != 46:
        return -1
    k += 1
    digits = k
    while k < high and _CLASS[text[k]] == _DIGIT:
        k += 1
    given = 1 + k - digits
    if k >= n or text[k] | 32 != 101 or given > DIGITS_MAX:
        return -1
    k += 1
    if k < n and text[k] == 43:
        k += 1
    if k + 2 > n or _CLASS[text[k]] != _DIGIT or _CLASS[text[k + 1]] != _DIGIT:
        return -1
    size = (text[k] - 48) * 10 + (text[k + 1] - 48) + 1
    end = k + 2
    if size < DIGITS_MIN or size > DIGITS_MAX or given > size or (end < n and _CLASS[text[end]] == _DIGIT):
        return -1
    total = prefix = 0
    for place in range(given):
        d = text[start] - 48 if place == 0 else text[digits + place - 1] - 48
        if (size - place) & 1 == 0:
            total += 2 * d - 9 if d > 4 else 2 * d
        else:
            total += d
        if place < 6:
            prefix = prefix * 10 + d
    return end if total % 10 == 0 and given >= 6 and is_issued(prefix, size) else -1


def is_suspicious(text: bytes) -> bool:
    """Whether a JSON text may hold card data, so that it must be read with care: a card number, a track, a security
    code after its name (CVV, CVC, CVN), or so many digits in other scripts or as escapes that they could be one.
    """
    return bool(_is_suspicious(text, text.isascii() and b"\\" not in text))


@njit
def _is_suspicious(text: bytes, is_plain: bool) -> bool:
    """is_plain: all characters are ASCII and none is an escape."""
    n = len(text)
    codes = np.uint8(0)
    for k in range(n - 1):  # compiles to vector instructions as it is
        codes |= np.uint8((text[k] | np.uint8(32)) == 99) & np.uint8((text[k + 1] | np.uint8(32)) == 118)
    if codes and _has_code(text):
        return True
    if not is_plain and _has_strange_digits(text):
        return True
    return bool(find(text)[0] != NONE)


@njit
def _has_code(text: bytes) -> bool:
    """Whether CVV, CVC or CVN is followed by three or four digits, with no more than its value between."""
    n = len(text)
    for k in range(n - 2):
        last = text[k + 2] | 32
        if text[k] | 32 != 99 or text[k + 1] | 32 != 118 or not (last == 118 or last == 99 or last == 110):
            continue
        j = k + 3
        if j < n and text[j] == 50:  # CVV2
            j += 1
        stop = min(n, j + _CODE_REACH)
        while j < stop and _CLASS[text[j]] != _DIGIT and text[j] not in (44, 123, 125):
            if text[j] >= 128 or text[j] == 92:
                return True
            j += 1
        count = 0
        while j < n and _CLASS[text[j]] == _DIGIT:
            count += 1
            j += 1
        if count == 3 or count == 4:
            return True
    return False


@njit
def _has_strange_digits(text: bytes) -> bool:
    """Whether 13 characters follow each other, but for separators, each of which may be a digit, and not all are ASCII
    digits as they are.
    """
    count = strange = 0
    n = len(text)
    k = 0
    while k < n:
        c = text[k]
        kind = _CLASS[c]
        if kind == _DIGIT:
            count += 1
        elif c >= 192 or (c == 92 and k + 1 < n and text[k + 1] == 117):
            count += 1
            strange += 1
            if c == 92:
                k += 5
        elif kind == 0 and c < 128:
            count = strange = 0
        if count >= DIGITS_MIN and strange:
            return True
        k += 1
    return False


def warm_up() -> None:
    """Load the compiled search, so that no message waits for it."""
    is_suspicious(b"{}")
    find_all(b"{}")
