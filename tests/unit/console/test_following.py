"""Commands that follow: outages and full disks interrupt them, and end none of them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import chain, repeat

import pytest

from console import following
from core.errors import Conflict, Unavailable
from ingest.health import Health


class Ended(BaseException):
    """Ends a step that would follow for ever."""


def steps(*outcomes: BaseException | None) -> tuple[Callable[[], None], list[int]]:
    """A step that raises these exceptions, one a call (None: it succeeds), then `Ended`; and its calls."""
    coming = chain(outcomes, repeat(Ended()))
    calls: list[int] = []

    def step() -> None:
        calls.append(len(calls))
        outcome = next(coming)
        if outcome is not None:
            raise outcome

    return step, calls


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds slept, without sleeping."""
    slept: list[float] = []
    monkeypatch.setattr(following.time, "sleep", slept.append)
    return slept


def test_an_outage_is_waited_for_and_reported_once(capsys: pytest.CaptureFixture[str], naps: list[float]) -> None:
    """However long it takes, the command goes on afterwards; it says once that it waits, and once that it continues."""
    down = Unavailable("the log server does not answer")
    step, calls = steps(None, down, down, down, None, None, down, None)
    with pytest.raises(Ended):
        following.run_steps(step, follow=True, interval_s=2.5)
    assert len(calls) == 9 and naps == [2.5] * 8
    waits = "sentinel: the log server does not answer; trying again every 2.5 s\n"
    assert capsys.readouterr().err == (waits + "sentinel: continues\n") * 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_output_to_a_full_disk_is_waited_for(capsys: pytest.CaptureFixture[str], number: int) -> None:
    """A line that can't be printed does not end the command: its work is in the log."""
    step, calls = steps(OSError(number, "full"), None)
    with pytest.raises(Ended):
        following.run_steps(step, follow=True, interval_s=1.0)
    assert len(calls) == 3 and "output can't be written: full" in capsys.readouterr().err


@pytest.mark.parametrize("error", [Conflict("another process"), OSError(errno.EPIPE, "no reader"), KeyError("a bug")])
def test_what_waiting_does_not_mend_ends_the_command(error: Exception) -> None:
    """Any other error is passed on at once."""
    step, calls = steps(error)
    with pytest.raises(type(error)):
        following.run_steps(step, follow=True, interval_s=1.0)
    assert len(calls) == 1


def test_without_follow_one_step_is_all(naps: list[float]) -> None:
    """A single step succeeds, or fails with its own error, without waiting."""
    step, calls = steps(None)
    following.run_steps(step, follow=False, interval_s=1.0)
    assert len(calls) == 1
    step, _ = steps(Unavailable("down"))
    with pytest.raises(Unavailable, match=r"^down$"):
        following.run_steps(step, follow=False, interval_s=1.0)
    assert naps == []


def test_whoever_asks_is_told_of_each_step() -> None:
    """A step that failed makes the process not ready, with its reason, until one succeeds; so does one that lasts."""
    now = [0.0]
    health = Health(lambda: now[0])
    health.follow_steps(60.0)
    told: list[str] = []

    def tell() -> None:
        now[0] += 2.0  # results are kept for a second
        told.append(health.results()["progress"])

    step, _ = steps(None, Unavailable("the log server does not answer"), None)

    def asked() -> None:
        tell()
        step()

    with pytest.raises(Ended):
        following.run_steps(asked, follow=True, interval_s=10.0, health=health)
    assert told == ["", "", "the log server does not answer", ""]
    now[0] += 71.0
    tell()
    assert told[-1] == "no step has ended for 75 s"
