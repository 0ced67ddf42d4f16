"""Answers as people read them."""

from __future__ import annotations

import pytest

from console.commands.learn import event_text
from console.tables import print_fields, shown, span_text
from core.events import ModelDeployed, RetrainingRejected


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0 ms"), (999, "999 ms"), (1_500, "1.5 s"), (90_000, "1.5 min"), (7_200_000, "2 h"), (604_800_000, "7 d")],
)
def test_a_length_of_time_has_a_unit(milliseconds: int, text: str) -> None:
    """Each length in the largest unit that it fills."""
    assert span_text(milliseconds) == text


def test_counts_have_separators_and_names_keep_off_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    """A long name moves all values to the right; a truth is no count."""
    print_fields({"shadow_average_precision": 12345, "blocked": False})
    assert capsys.readouterr().out == "shadow_average_precision 12,345\nblocked                  False\n"
    assert shown(0.12345) == "0.1235"


def test_the_loop_tells_why_no_model_came_of_a_training() -> None:
    """A rejected training's reason is said in words, and which model is what after a deployment."""
    rejected = RetrainingRejected(occurred_at=1, actor="a", reason="no transaction in the window", run_id="r")
    assert event_text(rejected) == "no candidate: no transaction in the window"
    deployed = ModelDeployed(occurred_at=1, actor="a", reason="", name="m", version="1.0.1", digest="d", alias="shadow")
    assert event_text(deployed) == "m-1.0.1 is shadow"
