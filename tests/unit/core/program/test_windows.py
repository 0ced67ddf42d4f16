"""core/program/windows.py: duration literals and the buckets of a window."""

from __future__ import annotations

import pytest

from core.errors import BadInput
from core.features.spec import WINDOWS
from core.program import windows
from core.times import DAY_MS, HOUR_MS, MINUTE_MS


@pytest.mark.parametrize("window", WINDOWS, ids=lambda w: w.name)
def test_the_standard_windows_have_the_kernels_buckets(window) -> None:
    """The literal of a standard window gives the buckets of the feature kernel, and is shown as its name."""
    length = windows.milliseconds(window.name)
    assert windows.buckets(length) == (window.width_ms, window.buckets)
    assert windows.shown(length) == window.name


@pytest.mark.parametrize(
    ("text", "width_ms", "count"),
    [
        ("10s", 1000, 10),
        ("49s", 1000, 49),
        ("5m", 30_000, 10),
        ("7m", 30_000, 14),
        ("90m", 5 * MINUTE_MS, 18),
        ("3h", 15 * MINUTE_MS, 12),
        ("10h", HOUR_MS, 10),
        ("61h", HOUR_MS, 61),
        ("14d", DAY_MS, 14),
        ("90d", DAY_MS, 90),
    ],
)
def test_a_window_has_the_widest_buckets_that_divide_it_into_ten(text: str, width_ms: int, count: int) -> None:
    """Among the widths, the largest that leaves at least ten buckets is taken."""
    assert windows.buckets(windows.milliseconds(text)) == (width_ms, count)


def test_every_divided_window_is_covered_exactly() -> None:
    """Width times number is the window, within the bounds, and no wider bucket would do."""
    divided = 0
    for length in [*range(1000, 2 * HOUR_MS, 1000), *range(2 * HOUR_MS, 90 * DAY_MS, 10 * MINUTE_MS)]:
        try:
            width, count = windows.buckets(length)
        except BadInput:
            continue
        divided += 1
        assert width * count == length and 10 <= count <= 120
        assert not any(w > width and length % w == 0 and length // w >= 10 for w in windows.WIDTHS)
    assert 400 < divided < 800


@pytest.mark.parametrize(
    ("length", "nearest"), [(1000, "10s"), (121 * MINUTE_MS, "2h"), (9_500, "10s"), (89 * DAY_MS + 1000, "89d")]
)
def test_what_cannot_be_divided_names_the_nearest(length: int, nearest: str) -> None:
    """A window without a fitting width is refused with the nearest that has one, which then works."""
    with pytest.raises(BadInput, match=f"'{nearest}'$"):
        windows.buckets(length)
    assert windows.buckets(windows.milliseconds(nearest))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10 minutes", "write '10m'"),
        ("2 hours", "write '2h'"),
        ("1 week", "write '7d'"),
        ("30", "'10m', '24h' or '30d'"),
        ("", "'10m', '24h' or '30d'"),
        ("-5m", "'10m', '24h' or '30d'"),
        ("\u0661m", "'10m', '24h' or '30d'"),
        ("0s", "has no length"),
        ("91d", "the longest is '90d'"),
        ("999999999d", "the longest is '90d'"),
        ("9" * 4000 + "d", "'10m', '24h' or '30d'"),
    ],
)
def test_a_bad_duration_says_what_to_write(text: str, words: str) -> None:
    """The message for a duration that is not one names what was probably meant, or examples."""
    with pytest.raises(BadInput, match=words):
        windows.milliseconds(text)
