"""When `sentinel project --follow` writes checkpoints: their size must not keep it from following."""

from __future__ import annotations

from typing import Any, cast

import pytest

from console.commands import project
from projections.engine.runner import Runner


class Slow:
    """A runner each of whose checkpoints takes `seconds` of the clock `at`."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.at, self.saved = seconds, 0.0, 0

    def checkpoint(self) -> None:
        self.at += self.seconds
        self.saved += 1


@pytest.mark.parametrize(("seconds", "share"), [(0.01, 0.001), (1.0, 0.04), (5.0, 0.1), (60.0, 0.1)])
def test_checkpoints_take_a_tenth_of_the_time_at_most(
    monkeypatch: pytest.MonkeyPatch, seconds: float, share: float
) -> None:
    """Something is folded every second of an hour or ten."""
    runner = Slow(seconds)
    monkeypatch.setattr(project, "time", cast(Any, type("Clock", (), {"monotonic": lambda: runner.at})))
    saving = project.Saving(cast(Runner, runner), 30.0)
    while runner.at < 36_000:
        runner.at += 1.0
        saving.is_due = True
        saving.save()
    assert runner.saved >= 10
    assert runner.saved * seconds / runner.at <= share


def test_what_is_folded_is_saved_even_if_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is time; and once only."""
    runner = Slow(0.1)
    monkeypatch.setattr(project, "time", cast(Any, type("Clock", (), {"monotonic": lambda: runner.at})))
    saving = project.Saving(cast(Runner, runner), 30.0)
    saving.save(at_once=True)
    saving.is_due = True
    for _ in range(200):
        runner.at += 1.0
        saving.save()
    assert runner.saved == 2
