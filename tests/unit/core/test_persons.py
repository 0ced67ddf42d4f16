"""Names of people: which are one person's, and which pass for another's by their looks."""

from __future__ import annotations

import pytest

from core.persons import fault, lookalike, person, skeleton


@pytest.mark.parametrize("other", ["Ann", " ann", "ANN ", "ａｎｎ", "a\u200bnn", "an\u00adn"])
def test_spellings_of_one_name_are_one_person(other: str) -> None:
    """Case, width, white space and invisible characters make no second person."""
    assert person(other) == person("ann")


@pytest.mark.parametrize(("one", "other"), [("bob", "b0b"), ("paul", "pau1"), ("copy", "сору"), ("viki", "νικι")])
def test_names_that_look_alike_have_one_skeleton(one: str, other: str) -> None:
    """Though they are different names."""
    assert skeleton(one) == skeleton(other) and person(one) != person(other)


def test_a_name_that_mixes_scripts_is_nobodys() -> None:
    """A Cyrillic a in a Latin name; a name in one script, or in the scripts of one language, is fine."""
    assert "Cyrillic and Latin" in lookalike("аnn")
    for name in ("ann", "José", "Вера", "Άννα", "田中さん", "김민수", "Ann-Marie O'Neil 2"):
        assert not fault(name), name


@pytest.mark.parametrize("name", ["", " ", "\u200b", "a/b", "ann\u0301\u2044", "x" * 65, "аnn", "ann<b>"])
def test_a_name_that_nobody_can_have(name: str) -> None:
    """Empty, too long, with other characters than names have, or of mixed scripts."""
    assert fault(name)
