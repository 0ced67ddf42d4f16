"""Durations in milliseconds, and epoch milliseconds as text. Text is UTC; nothing here reads a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(epoch_ms: int) -> datetime:
    """The moment, exact to the millisecond. Raises OverflowError outside the years 1 to 9999."""
    return _EPOCH + timedelta(milliseconds=epoch_ms)


def to_epoch_ms(moment: datetime) -> int:
    """Epoch ms of a moment; a naive datetime is taken as UTC."""
    return round((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() * SECOND_MS)


def parse_iso(text: str) -> int:
    """Epoch ms of a date or time in ISO 8601, taken as UTC unless it has an offset. Raises ValueError."""
    return to_epoch_ms(datetime.fromisoformat(text))


def minute_text(epoch_ms: int) -> str:
    """`2026-01-31 12:00`; the plain number outside the years 1 to 9999."""
    try:
        return utc(epoch_ms).strftime("%Y-%m-%d %H:%M")
    except OverflowError:
        return f"{epoch_ms} ms"


def date_text(epoch_ms: int) -> str:
    """`2026-01-31`. Raises OverflowError outside the years 1 to 9999."""
    return utc(epoch_ms).date().isoformat()
