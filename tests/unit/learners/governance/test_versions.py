"""Semantic versions of models."""

from __future__ import annotations

import pytest

from core.errors import BadInput
from learners.training.versions import ModelChange, next_version, parts


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("features", "2.0.0"),
        ("retrained", "1.5.0"),
        ("structure", "1.5.0"),
        ("boosted", "1.4.10"),
        ("refitted", "1.4.10"),
        ("online", "1.4.10"),
        ("recalibrated", "1.4.10"),
    ],
)
def test_each_change_raises_its_part_and_resets_those_behind(change: ModelChange, expected: str) -> None:
    """Features make a major, training from scratch a minor, an update a patch version; the result sorts above."""
    assert next_version("1.4.9", change) == expected
    assert parts(expected) > parts("1.4.9")


@pytest.mark.parametrize("wrong", ["", "1.0", "1.0.0.0", "v1.0.0", "1.0.0-rc1", "01.0.0", "1.0.-1", "1.0.0\n", "٣.0.0"])
def test_what_is_no_semantic_version_is_bad_input(wrong: str) -> None:
    """Only MAJOR.MINOR.PATCH in plain digits."""
    with pytest.raises(BadInput):
        next_version(wrong, "retrained")


def test_an_unknown_change_is_bad_input() -> None:
    """A change outside the table has no part to raise."""
    with pytest.raises(BadInput, match="unknown kind of model change"):
        next_version("1.0.0", "painted")  # type: ignore[arg-type]
