"""What benchmarks of a deployment share."""

from __future__ import annotations

import json

import pytest

from benchmarks.running import answer_of, print_figures, wait_for
from core.settings import Settings

FIGURES = {"payments": 1_000_000, "seconds": 1234.56, "by_reason": {"no JSON": 3}}


def test_figures_are_printed_by_line_or_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Fractions with their digits, everything else as it is; JSON has all of it."""
    print_figures(FIGURES, as_json=False)
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [["payments", "1000000"], ["seconds", "1,234.6"], ["by_reason", "{'no JSON': 3}"]]
    print_figures(FIGURES, as_json=True, digits=0)
    assert json.loads(capsys.readouterr().out) == FIGURES


def test_waiting_ends_with_what_was_waited_for_or_says_so() -> None:
    """It looks again and again; in vain, it ends the benchmark."""
    looks = iter([False, False, True])
    assert wait_for(lambda: next(looks), "the third look", 60.0) >= 0.05
    with pytest.raises(SystemExit, match=r"waited 0 s in vain: nothing"):
        wait_for(lambda: False, "nothing", 0.01)


def test_a_command_without_an_answer_ends_the_benchmark() -> None:
    """With what it said, rather than with an error of JSON; its settings are the benchmark's own."""
    with pytest.raises(SystemExit, match=r"verify --json failed: .*log.example"):
        answer_of(Settings(redis_host="log.example.invalid", redis_port=1), "verify", "--json")
