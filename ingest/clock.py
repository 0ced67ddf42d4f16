"""The worker's clock, compared with the log server's.

Log time (`recorded_at` of a batch) comes from the worker that appends it. One run with a clock that is years off would
stay in the log for ever, so the clock is compared at the start, every CHECK_S, and, before the next batch is decided,
whenever it jumps against the monotonic clock. A worker whose clock is off ends, so that one with the right time can
take over; which of the two clocks is wrong, it can't know.

Cost: two readings of clocks per batch, one request every CHECK_S.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from core.errors import Unavailable
from core.log.base import EventLog

SKEW_MAX_S = 60.0
CHECK_S = 30.0
JUMP_S = 5.0


class WrongClock(Unavailable):
    """This machine's clock and the log server's differ by more than SKEW_MAX_S."""


class Clock:
    """Log time in epoch ms."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._offset = 0.0
        self._due = 0.0

    def now_ms(self) -> int:
        """The time. Raises WrongClock; Unavailable if the clock jumped and the log server can't be asked."""
        now, steady = time.time(), time.monotonic()
        has_jumped = self._due > 0.0 and abs(now - steady - self._offset) > JUMP_S
        if has_jumped or steady >= self._due:
            self._check(has_jumped)
        return int(time.time() * 1000)

    def _check(self, has_jumped: bool) -> None:
        try:
            theirs = self._log.server_time()
        except Unavailable:
            if has_jumped:
                raise
            theirs = None
        now, steady = time.time(), time.monotonic()
        if theirs is not None and abs(now - theirs / 1000) > SKEW_MAX_S:
            ahead = now - theirs / 1000
            raise WrongClock(
                f"this machine's clock says {_text(now)}, the log server's {_text(theirs / 1000)}:"
                f" {abs(ahead):,.0f} s {'ahead' if ahead > 0 else 'behind'}. Correct the wrong one, then start again"
            )
        self._offset, self._due = now - steady, steady + CHECK_S


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
