"""core/times.py: epoch milliseconds and the text of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from core.times import DAY_MS, date_text, minute_text, parse_iso, to_epoch_ms, utc

NOON = 1_769_860_800_000


def test_iso_text_is_utc_unless_it_names_a_zone() -> None:
    """A date, a time without a zone and one with an offset."""
    assert parse_iso("2026-01-31") == NOON - DAY_MS // 2
    assert parse_iso("2026-01-31T12:00") == NOON == parse_iso("2026-01-31T12:00:00Z")
    assert parse_iso("2026-01-31T14:00+02:00") == NOON
    assert parse_iso("2026-01-31T12:00:00.001") == NOON + 1
    with pytest.raises(ValueError):
        parse_iso("31.1.2026")


def test_moments_keep_every_millisecond() -> None:
    """`utc` and `to_epoch_ms` are inverse, before 1970 and in the last year of the calendar too."""
    for at in (-1, 0, 1, NOON + 999, -62_135_596_800_000, 253_402_300_799_999):
        assert to_epoch_ms(utc(at)) == at
    assert to_epoch_ms(datetime(2026, 1, 31, 12, tzinfo=UTC)) == to_epoch_ms(datetime(2026, 1, 31, 12)) == NOON
    assert to_epoch_ms(datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=-1)))) == NOON + 3_600_000


def test_text_of_a_moment() -> None:
    """Minutes for people, dates for tables; a moment that no calendar has is shown as its number."""
    assert minute_text(NOON + 59_999) == "2026-01-31 12:00"
    assert minute_text(10**17) == "100000000000000000 ms"
    assert date_text(NOON) == "2026-01-31"
