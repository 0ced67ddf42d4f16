"""Operations that read characters: definitions, gaps, memory, patterns."""

from __future__ import annotations

import pytest

from core.errors import BadInput
from core.hashing import HashKey, hash_strings
from core.program import characters
from core.program.characters import Characters
from core.program.typed import Apply, Column, Constant, Expression, Type

KEY = HashKey(1, 2)
NOTE = Column("string", "field", "note", "raw")
SHOP = Column("string", "field", "shop", "text")


def evaluated(leaf: Expression, **texts: list[str]) -> list[object]:
    """The leaf's value for each row; None is missing."""
    rows = len(next(iter(texts.values())))
    read = Characters([leaf], KEY)
    values, valid = read.evaluate({column: texts[column.name] for column in read.columns}, rows)
    shown = values.view("uint64") if leaf.type == "string" else values
    return [value if there else None for value, there in zip(shown[0].tolist(), valid[0], strict=True)]


def leaf(kind: Type, operation: str, *arguments: Expression | str) -> Apply:
    """An operation on texts; a str is a constant."""
    return Apply(
        kind, operation, tuple(Constant("string", each) if isinstance(each, str) else each for each in arguments)
    )


@pytest.mark.parametrize(
    ("operation", "other", "wanted"),
    [
        ("starts_with", "ab", [1.0, 0.0, None]),
        ("ends_with", "c", [1.0, 0.0, None]),
        ("contains", "", [1.0, 1.0, None]),
        ("contains", "日", [0.0, 1.0, None]),
        ("matches", "^.{3}$", [1.0, 0.0, None]),
        ("matches", "本", [0.0, 1.0, None]),
    ],
)
def test_conditions_on_characters(operation: str, other: str, wanted: list[object]) -> None:
    """Each condition holds by its definition; "" is a missing text, not an empty one."""
    assert evaluated(leaf("bool", operation, NOTE, other), note=["abc", "日本", ""]) == wanted


def test_sizes_are_code_points() -> None:
    """A character beyond 16 bits is one, combining marks count."""
    assert evaluated(leaf("number", "size", NOTE), note=["😀x", "é", "e\u0301"]) == [2.0, 1.0, 2.0]


def test_lower_changes_ascii_letters_only() -> None:
    """A text in capitals is lower-cased as CEL's lowerAscii does it: Ä, İ and K (Kelvin) stay."""
    lower = leaf("string", "lower", NOTE)
    assert evaluated(lower, note=["ABzÄİ\u212a", ""]) == [int(hash_strings(["abzÄİ\u212a"], KEY)[0]), None]


def test_texts_are_joined_before_they_are_hashed() -> None:
    """The value of a joined text is its keyed hash; both columns are needed, a default replaces a missing one."""
    joined = leaf("string", "concat", NOTE, leaf("string", "default", SHOP, "-"))
    wanted = [int(word) for word in hash_strings(["ab", "a-"], KEY)]
    assert evaluated(joined, note=["a", "a", ""], shop=["b", "", "b"]) == [*wanted, None]


def test_texts_without_columns() -> None:
    """A leaf of constants alone has one value for all rows, and the empty text is a value there."""
    read = Characters([leaf("number", "size", ""), leaf("string", "lower", "")], KEY)
    values, valid = read.evaluate({}, 3)
    assert read.columns == ()
    assert values.tolist() == [[0.0] * 3] * 2 and valid.tolist() == [[1] * 3] * 2


def test_a_text_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distinct text is read once, across batches; what is remembered is bounded."""
    read: list[str] = []

    def size(texts: list[str]) -> float:
        read.append(texts[0])
        return float(len(texts[0]))

    monkeypatch.setitem(characters.FUNCTIONS, "size", size)
    monkeypatch.setattr(characters, "REMEMBERED", 3)
    sizes = Characters([leaf("number", "size", NOTE)], KEY)
    for _ in range(2):
        sizes.evaluate({NOTE: ["a", "bb", "a", "ccc"]}, 4)
    assert read == ["a", "bb", "ccc"]
    values, _ = sizes.evaluate({NOTE: ["d" * k for k in range(1, 50)] + ["a"]}, 50)
    assert len(read) == 3 + 49 + 1 and values[0, -1] == 1.0


def test_patterns_run_in_linear_time() -> None:
    """A pattern that hangs a backtracking engine is answered at once; one that is none is refused."""
    assert evaluated(leaf("bool", "matches", NOTE, "^(a+)+$"), note=["a" * 5000 + "b", "aa"]) == [0.0, 1.0]
    with pytest.raises(BadInput, match="not a valid RE2 regular expression"):
        Characters([leaf("bool", "matches", NOTE, "(")], KEY)
