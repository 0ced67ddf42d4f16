"""Windows of aggregates: their literals, and the buckets that a window is divided into.

A window of n buckets of width w covers between (n − 1)·w and n·w up to and including the current bucket, as the windows
of `core.features.spec` do. Its width follows from its length alone, so equal windows share their buckets.
"""

from __future__ import annotations

import re
from functools import cache

from core.errors import BadInput
from core.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

UNITS = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
WIDTHS = (
    SECOND_MS, 5 * SECOND_MS, 10 * SECOND_MS, 30 * SECOND_MS, MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS,
    6 * HOUR_MS, DAY_MS,
)  # fmt: skip
BUCKETS_MIN, BUCKETS_MAX = 10, 120
WINDOW_MAX_MS = 90 * DAY_MS

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_WORDS = {
    "s": ("s", "sec", "second"),
    "m": ("m", "min", "minute"),
    "h": ("h", "hr", "hour"),
    "d": ("d", "day"),
}
_IN_WORDS = re.compile(r"\s*([0-9]{1,9})\s*([A-Za-z]+?)s?\s*")


def milliseconds(text: str) -> int:
    """The length of a duration literal: a whole number and s, m, h or d. Raises BadInput, also above WINDOW_MAX_MS."""
    if (found := _DURATION.fullmatch(text)) is None:
        meant = _meant(text)
        raise BadInput(f"'{text}' is not a duration; write " + (f"'{meant}'" if meant else "'10m', '24h' or '30d'"))
    length = int(found[1]) * UNITS[found[2]]
    if length == 0:
        raise BadInput(f"'{text}' has no length; the shortest duration is '1s'")
    if length > WINDOW_MAX_MS:
        raise BadInput(f"'{text}' is too long; the longest is '{shown(WINDOW_MAX_MS)}'")
    return length


def _meant(text: str) -> str:
    """The literal that was probably meant by a text such as "10 minutes", or ""."""
    if (found := _IN_WORDS.fullmatch(text)) is None:
        return ""
    word = found[2].lower()
    if word in ("week", "w"):
        return f"{7 * int(found[1])}d"
    return next((found[1] + unit for unit, words in _WORDS.items() if word in words), "")


def shown(length_ms: int) -> str:
    """The literal of a whole number of seconds; a day is 24h, as in the names of the standard windows."""
    if length_ms % DAY_MS == 0 and length_ms > DAY_MS:
        return f"{length_ms // DAY_MS}d"
    unit = next(unit for unit in "hms" if length_ms % UNITS[unit] == 0)
    return f"{length_ms // UNITS[unit]}{unit}"


def buckets(window_ms: int) -> tuple[int, int]:
    """(width in ms, number) of a window's buckets: the largest of WIDTHS that divides it into at least BUCKETS_MIN.

    Raises BadInput, which names the nearest window, if it cannot be divided or would need more than BUCKETS_MAX.
    """
    if (found := _divided(window_ms)) is not None:
        return found
    nearest = min(_possible(), key=lambda each: (abs(each - window_ms), each))
    said = f"'{shown(window_ms)}'" if window_ms > 0 and window_ms % SECOND_MS == 0 else f"{window_ms} ms"
    raise BadInput(
        f"a window of {said} cannot be divided into {BUCKETS_MIN} to {BUCKETS_MAX} equal buckets; "
        f"the nearest that can is '{shown(nearest)}'"
    )


def _divided(window_ms: int) -> tuple[int, int] | None:
    if not 0 < window_ms <= WINDOW_MAX_MS:
        return None
    fitting = [w for w in WIDTHS if window_ms % w == 0 and window_ms // w >= BUCKETS_MIN]
    if not fitting or window_ms // fitting[-1] > BUCKETS_MAX:
        return None
    return fitting[-1], window_ms // fitting[-1]


@cache
def _possible() -> tuple[int, ...]:
    lengths = {width * n for width in WIDTHS for n in range(BUCKETS_MIN, BUCKETS_MAX + 1)}
    return tuple(sorted(length for length in lengths if _divided(length) is not None))
