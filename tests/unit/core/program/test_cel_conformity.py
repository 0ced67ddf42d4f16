"""The parser against Google's implementation of CEL: whatever both accept must have the same value.

The trees are evaluated here by CEL's rules for doubles, booleans and strings. Integer literals are left out, because
they are numbers here and integers there.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from core.program.errors import ProgramError
from core.program.formatting import formatted
from core.program.language import Scope, check
from core.program.parsing import parse
from core.program.syntax import Binary, Call, Choose, ListOf, Logical, Name, Node, Unary

VALUES: dict[str, Any] = {"x": 3.5, "y": -2.0, "z": 0.0, "p": True, "q": False, "s": "abc", "t": "b"}
SCOPE = Scope(
    fields={"nothing": ("bool", "")}
    | {name: ("bool", "") for name in "pq"}
    | {name: ("number", "") for name in "xyz"}
    | {name: ("string", "raw") for name in "st"},
    place="rule",
)
TYPES = {float: cel.Type.DOUBLE, bool: cel.Type.BOOL, str: cel.Type.STRING}


class Missing(Exception):
    """CEL's error: what `nothing` evaluates to."""


@cache
def environment() -> Any:
    return cel.NewEnv(variables={name: TYPES[type(value)] for name, value in VALUES.items()})


def by_cel(text: str) -> Any:
    """CEL's value; None if it does not compile, Missing if it evaluates to an error."""
    try:
        compiled = environment().compile(text.replace("nothing", "(1 / 0 > 0)"))
    except Exception:  # noqa: BLE001  the package documents no type
        return None
    found = compiled.eval(data=VALUES)
    return Missing if found.type() == cel.Type.ERROR else found.plain_value()


def divide(left: float, right: float) -> float:
    if right != 0:
        return left / right
    return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1.0, right)


BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": divide, "in": lambda left, right: left in right,
}  # fmt: skip
METHODS: Mapping[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith, "endsWith": str.endswith, "contains": operator.contains
}  # fmt: skip


def value(node: Node) -> Any:
    match node:
        case Name():
            if node.name == "nothing":
                raise Missing
            return VALUES[node.name]
        case Unary():
            return not value(node.operand) if node.operator == "!" else -value(node.operand)
        case Binary():
            return BINARY[node.operator](value(node.left), value(node.right))
        case Logical():
            decides, missing = node.operator == "||", False
            for each in node.operands:
                try:
                    if value(each) is decides:
                        return decides
                except Missing:
                    missing = True
            if missing:
                raise Missing
            return not decides
        case Choose():
            return value(node.then if value(node.condition) else node.otherwise)
        case Call():
            assert node.receiver is not None
            return METHODS[node.name](value(node.receiver), *map(value, node.arguments))
        case ListOf():
            return [value(item) for item in node.items]
        case _:
            return node.value


def ours(text: str) -> Any:
    """Our value; None if the text is refused."""
    try:
        check(text, SCOPE, ("number", "bool", "string"))
    except ProgramError:
        return None
    tree = parse(text)
    assert parse(formatted(tree)) == tree
    try:
        return value(tree)
    except Missing:
        return Missing


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("<d", left) == struct.pack("<d", right) or (math.isnan(left) and math.isnan(right))
    return type(left) is type(right) and bool(left == right)


NUMBERS = ["x", "y", "z", "1.5", "-2.5", "1e2", ".5", "2.5e-1"]
STRINGS = ["s", "t", "'a'", '"b"', r"'\x61'", r"r'\d'", "'a' + t", "s+t"]
TRUTHS = ["p", "q", "true", "false", "nothing"]


@st.composite
def sums(draw: st.DrawFn, depth: int = 3) -> str:
    """Arithmetic, with parentheses, signs and spaces anywhere."""
    if depth == 0:
        return draw(st.sampled_from(NUMBERS))
    match draw(st.sampled_from(["leaf", "join", "join", "join", "minus", "group"])):
        case "leaf":
            return draw(st.sampled_from(NUMBERS))
        case "join":
            gap, sign = draw(st.sampled_from(["", " ", "\n"])), draw(st.sampled_from("+-*/"))
            return gap.join((draw(sums(depth - 1)), sign, draw(sums(depth - 1))))
        case "minus":
            return draw(st.sampled_from(["-", "- ", "--"])) + draw(sums(depth - 1))
        case _:
            return f"({draw(sums(depth - 1))})"


@st.composite
def atoms(draw: st.DrawFn) -> str:
    """Comparisons and the like."""
    string = st.sampled_from(STRINGS)
    match draw(st.sampled_from(["truth", "truth", "numbers", "numbers", "strings", "in", "in_strings", "method"])):
        case "truth":
            return draw(st.sampled_from(TRUTHS))
        case "numbers":
            return f"{draw(sums(2))}{draw(st.sampled_from(['<', ' <= ', '>', '>=', ' == ', '!=']))}{draw(sums(2))}"
        case "strings":
            return f"{draw(string)}{draw(st.sampled_from(['==', ' != ']))}{draw(string)}"
        case "in":
            return f"{draw(sums(2))} in [1.5, -2.5,]"
        case "in_strings":
            return f"{draw(string)} in ['a', 'ab', \"abcb\"]"
        case _:
            text, method = draw(st.sampled_from(["s", "'abc'", "(s + t)"])), draw(st.sampled_from([*METHODS]))
            return f"{text}.{method}({draw(string)})"


@st.composite
def conditions(draw: st.DrawFn, depth: int = 3) -> str:
    """Logic over atoms, with parentheses and spaces anywhere."""
    if depth == 0:
        return draw(atoms())
    match draw(st.sampled_from(["join", "join", "join", "equal", "not", "group", "choose", "choose in parentheses"])):
        case "join":
            gap, sign = draw(st.sampled_from(["", " "])), draw(st.sampled_from(["&&", "||"]))
            return gap.join((draw(conditions(depth - 1)), sign, draw(conditions(depth - 1))))
        case "equal":
            return f"{draw(conditions(depth - 1))} {draw(st.sampled_from(['==', '!=']))} {draw(conditions(depth - 1))}"
        case "not":
            return draw(st.sampled_from(["!", "! ", "!!"])) + draw(conditions(depth - 1))
        case "group":
            return f"({draw(conditions(depth - 1))})"
        case how:
            chosen = f" ? {draw(conditions(depth - 1))} : {draw(conditions(depth - 1))}"
            return f"{draw(conditions(depth - 1))}{chosen}" if how == "choose" else f"({draw(atoms())}{chosen})"


@settings(deadline=None, max_examples=300)
@given(st.one_of(conditions(), sums()))
def test_what_both_accept_has_the_same_value(text: str) -> None:
    """Precedence, associativity, signs, choices, and the absorption of errors are those of CEL."""
    theirs, own = by_cel(text), ours(text)
    if theirs is not None and own is not None:
        assert same(theirs, own), f"{text}: CEL {theirs}, here {own}"


def test_random_texts_are_accepted_by_both() -> None:
    """The comparison is about something: of what CEL accepts, only chained comparisons and !! before a number are
    refused here, and nothing is accepted here that CEL refuses.
    """
    counts = {"both": 0, "CEL only": 0, "here only": 0}

    @settings(deadline=None, max_examples=150, database=None, derandomize=True)
    @given(st.one_of(conditions(), sums()))
    def count(text: str) -> None:
        theirs, own = by_cel(text), ours(text)
        if theirs is not None and own is not None:
            counts["both"] += 1
        elif theirs is not None:
            counts["CEL only"] += 1
            with pytest.raises(ProgramError, match=r"don't chain|a condition is expected") as caught:
                check(text, SCOPE, ("number", "bool"))
            assert "chain" in caught.value.message or "!!" in text.replace(
                " ", ""
            )  # CEL drops a pair of ! before it checks types
        elif own is not None:
            counts["here only"] += 1

    count()
    assert counts["both"] > 75 and counts["here only"] == 0


CHARS = [
    "a", "\u00e9", "\U0001f600", "'", '"', "\\", "\\\\", "\\'", '\\"', "\\n", "\\r", "\\t", "\\a", "\\b", "\\f", "\\v",
    "\\?", "\\`", "\\x41", "\\X41", "\\xe9", "\\u00e9", "\\U0001F600", "\\101", "\\377", "\\400", "\\1", "\\8", "\\q",
    "\\u12", "\\x4", "\\ud800", "\\U00110000", "\\/", "\t", "\n", "{", "$", "//", "\\0", "\\000",
]  # fmt: skip
QUOTED = st.tuples(
    st.sampled_from(["", "r", "R"]), st.sampled_from(["'", '"']), st.lists(st.sampled_from(CHARS), max_size=6)
).map(lambda p: p[0] + p[1] + "".join(p[2]) + p[1])


@settings(deadline=None, max_examples=400)
@given(QUOTED)
def test_a_string_that_both_accept_is_the_same(text: str) -> None:
    """Escapes, raw strings and quotes mean what they mean in CEL."""
    theirs, own = by_cel(text), ours(text)
    if isinstance(theirs, str) and own is not None:
        assert theirs == own


@pytest.mark.parametrize("char", [each for each in CHARS if each not in ("\\", "'", "\n")])
def test_the_same_escapes_are_accepted(char: str) -> None:
    """An escape that CEL knows is known here, and one that it does not know is not."""
    theirs, own = by_cel(f"'{char}'"), ours(f"'{char}'")
    assert (theirs is None or theirs is Missing) == (own is None), (theirs, own)
