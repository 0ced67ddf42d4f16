"""The worker's clock against the log server's."""

from __future__ import annotations

import time

import pytest

from core.errors import Unavailable
from core.log.memory import MemoryLog
from ingest import clock
from ingest.clock import Clock, WrongClock

YEARS = 10 * 365 * 86_400.0


class TimedLog(MemoryLog):
    """A log whose server has a clock, and may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0
        self.is_away = False
        self.asked = 0
        self.real = time.time

    def server_time(self) -> int | None:
        self.asked += 1
        if self.is_away:
            raise Unavailable("away")
        return int((self.real() + self.ahead) * 1000)


@pytest.mark.parametrize("ahead", [YEARS, -YEARS, 120.0, -120.0])
def test_a_clock_that_is_off_is_refused_at_the_start(ahead: float) -> None:
    """Years or two minutes, ahead or behind: refused, with both times."""
    log = TimedLog()
    log.ahead = -ahead
    with pytest.raises(WrongClock, match=f"{abs(ahead):,.0f} s {'ahead' if ahead > 0 else 'behind'}"):
        Clock(log).now_ms()


def test_a_clock_that_jumps_is_noticed_at_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the next regular check; if the server can't be asked, nothing is decided."""
    log = TimedLog()
    mine = Clock(log)
    real = time.time
    assert abs(mine.now_ms() / 1000 - real()) < 1
    mine.now_ms()
    assert log.asked == 1
    monkeypatch.setattr(clock.time, "time", lambda: real() + YEARS)
    log.is_away = True
    with pytest.raises(Unavailable):
        mine.now_ms()
    log.is_away = False
    with pytest.raises(WrongClock):
        mine.now_ms()


def test_a_server_that_is_away_or_has_no_clock_is_no_reason_to_stop() -> None:
    """Only a difference that is known counts; seconds are none."""
    log = TimedLog()
    log.is_away = True
    assert Clock(log).now_ms() > 0
    assert Clock(MemoryLog()).now_ms() > 0
    log.is_away, log.ahead = False, 30.0
    assert Clock(log).now_ms() > 0
