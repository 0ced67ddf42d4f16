"""From text to the syntax tree: the grammar of CEL without maps, messages, macros and chained comparisons.

    expression  = or ["?" or ":" expression]
    or, and     = chains of || and &&
    comparison  = sum [("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") sum]
    sum         = chains of + and -, from the left
    product     = chains of * / %, from the left
    sign        = "!" sign | "-" sign | value

Cost: about 5 µs a token. The parser keeps its own stack, and the tree's depth is checked before anything walks it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from lark import Lark, Transformer, UnexpectedToken, v_args
from lark import Token as LarkToken
from lark.lexer import Lexer

from core.program import tokens
from core.program.errors import ProgramError, quoted
from core.program.syntax import (
    At,
    Binary,
    Call,
    Choose,
    ListOf,
    Logical,
    Name,
    Node,
    Number,
    Text,
    Truth,
    Unary,
    levels,
)
from core.program.tokens import LEVELS_MAX, RESERVED, TOO_DEEP, Reading, Token

GRAMMAR = r"""
?start: either | either ASK either ELSE start -> choose
?either: both | either OR both -> logical
?both: comparison | both AND comparison -> logical
?comparison: sum | sum RELATION sum -> binary | sum IN sum -> binary
?sum: product | sum PLUS product -> binary | sum MINUS product -> binary
?product: sign | product TIMES sign -> binary
?sign: value | NOT sign -> unary | MINUS sign -> unary
?value: NUMBER -> number
    | TEXT -> text
    | TRUE -> truth
    | FALSE -> truth
    | NAME -> name
    | NAME OPEN CLOSE -> call
    | NAME OPEN arguments CLOSE -> call
    | value DOT NAME OPEN CLOSE -> method
    | value DOT NAME OPEN arguments CLOSE -> method
    | OPEN start CLOSE -> group
    | OPEN_LIST CLOSE_LIST -> list_of
    | OPEN_LIST arguments CLOSE_LIST -> list_of
    | OPEN_LIST arguments COMMA CLOSE_LIST -> list_of
arguments: start -> first | arguments COMMA start -> more
%declare ASK ELSE OR AND RELATION IN PLUS MINUS TIMES NOT NUMBER TEXT TRUE FALSE NAME DOT COMMA
%declare OPEN CLOSE OPEN_LIST CLOSE_LIST
"""


class _Tokens(Lexer):
    """Hands the parser what `core.program.tokens` has read."""

    def __init__(self, lexer_conf: object) -> None:
        pass

    def lex(self, data: Reading) -> Iterator[LarkToken]:  # type: ignore[override]
        for number, token in enumerate(data.tokens):
            given = LarkToken(token.type, token.text, number)
            given.value = token, data.at(token.start)
            yield given


@v_args(inline=True)
class _Build(Transformer[LarkToken, Node]):
    """Called by the parser for every rule, from the leaves up."""

    def number(self, token: LarkToken) -> Node:
        return Number(*_literal(token))

    def text(self, token: LarkToken) -> Node:
        return Text(*_literal(token))

    def truth(self, token: LarkToken) -> Node:
        return Truth(token.type == "TRUE", _at(token))

    def name(self, token: LarkToken) -> Node:
        return Name(_name(token), _at(token))

    def call(self, name: LarkToken, _open: LarkToken, *rest: Any) -> Node:
        return Call(_name(name), _arguments(rest), None, _at(name))

    def method(self, receiver: Node, _dot: LarkToken, name: LarkToken, _open: LarkToken, *rest: Any) -> Node:
        return Call(_name(name), _arguments(rest), receiver, _at(name))

    def group(self, _open: LarkToken, inner: Node, _close: LarkToken) -> Node:
        return inner

    def list_of(self, start: LarkToken, *rest: Any) -> Node:
        return ListOf(_arguments(rest), _at(start))

    def first(self, item: Node) -> list[Node]:
        return [item]

    def more(self, items: list[Node], _comma: LarkToken, item: Node) -> list[Node]:
        items.append(item)
        return items

    def unary(self, operator: LarkToken, operand: Node) -> Node:
        if operator == "-" and isinstance(operand, Number) and math.copysign(1.0, operand.value) > 0:
            return Number(-operand.value, _at(operator))
        return Unary(str(operator), operand, _at(operator))

    def binary(self, left: Node, operator: LarkToken, right: Node) -> Node:
        return Binary(str(operator), left, right, _at(operator))

    def logical(self, left: Node, operator: LarkToken, right: Node) -> Node:
        return joined(str(operator), (left, right), _at(operator))

    def choose(self, condition: Node, ask: LarkToken, then: Node, _else: LarkToken, otherwise: Node) -> Node:
        return Choose(condition, then, otherwise, _at(ask))


def joined(operator: str, operands: tuple[Node, ...], at: At) -> Logical:
    """The chain of the operands; operands that are chains of the same operator become part of it."""
    flat: list[Node] = []
    for each in operands:
        if isinstance(each, Logical) and each.operator == operator:
            flat += each.operands
        else:
            flat.append(each)
    first = operands[0]
    return Logical(operator, tuple(flat), first.at if isinstance(first, Logical) and len(flat) > 2 else at)


def _at(token: LarkToken) -> At:
    return token.value[1]  # type: ignore[no-any-return]


def _literal(token: LarkToken) -> tuple[Any, At]:
    return token.value[0].value, token.value[1]


def _name(token: LarkToken) -> str:
    if token in RESERVED:
        advice = "a missing value is asked for by has(x)" if token == "null" else "no name can be spelled so"
        raise ProgramError(f"{quoted(token)} is a reserved word; {advice}", *_at(token))
    return str(token)


def _arguments(rest: tuple[Any, ...]) -> tuple[Node, ...]:
    return tuple(rest[0]) if rest and isinstance(rest[0], list) else ()


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", lexer=_Tokens, transformer=_Build())


def parse(text: str) -> Node:
    """The tree of a text. Raises ProgramError, which says where and what to write instead."""
    reading = tokens.read(text)
    try:
        tree: Node = _parser().parse(reading)  # type: ignore[assignment]
    except UnexpectedToken as error:
        found = error.token.start_pos if error.token.type != "$END" else None
        raise _explained(reading, found, frozenset(error.accepts or error.expected)) from None
    for level, node in levels(tree):
        if level > LEVELS_MAX:
            raise ProgramError(f"the expression nests too deeply here; {TOO_DEEP}", *node.at)
    return tree


_WORDS = {
    "and": "'and' is written &&, as in amount > 500 && country == 'DE'",
    "or": "'or' is written ||, as in amount > 500 || country == 'DE'",
    "is": "'is' is written ==, as in country == 'DE'; for a missing value write !has(country)",
    "equals": "'equals' is written ==, as in country == 'DE'",
    "eq": "'eq' is written ==, as in country == 'DE'",
    "like": "'like' is written with a function, as in merchant_id.startsWith('shop')",
    "between": "'between' is written as two comparisons, as in amount >= 10 && amount <= 20",
    "then": "a choice is written with ? and :, as in amount > 500 ? 1 : 0",
    "mod": "the remainder is written %, as in amount % 100",
    "div": "division is written /, as in amount / 100",
}
_NOT = "'not' is written !, as in !(country == 'DE')"
_CHOICE = "a choice has two halves, as in amount > 500 ? 1 : 0; ':' is expected"
_NO_PARTS = "names have no parts; a value among the attributes gets a name in [fields], with from = 'attributes.X'"
_NOT_IN = "'not in' is written with !, as in !(country in ['DE', 'AT'])"


def _explained(reading: Reading, found: int | None, accepted: frozenset[str]) -> ProgramError:
    """What is wrong at the token of this number (None: the end), and what to write."""
    here = reading.tokens[found] if found is not None else None
    before = reading.tokens[(len(reading.tokens) if found is None else found) - 1] if found != 0 else None
    wants_value = "NAME" in accepted and "NUMBER" in accepted
    if before is not None and before.type == "DOT":
        return _after_dot(reading, here, before)
    if accepted == {"OPEN"}:
        number = len(reading.tokens) if found is None else found
        return reading.error(_NO_PARTS, reading.tokens[number - 3].start)
    if before is not None and before.text.lower() == "not" and before.type == "NAME":
        return reading.error(_NOT, before.start)
    if here is None:
        if before is not None and before.text == "%":
            return reading.error("% is the remainder of a division; 50 % is written 0.5", before.start)
        wanted = f"a value is expected after {_quoted(before)}" if wants_value else _CHOICE
        return reading.error(f"the expression ends too early: {wanted}", len(reading.text))
    if wants_value:
        return reading.error(_value_wanted(here, before), here.start)
    return _operator_wanted(reading, found or 0, accepted)


def _quoted(token: Token | None) -> str:
    return quoted(token.text) if token is not None else "the beginning"


def _value_wanted(here: Token, before: Token | None) -> str:
    where = f"after {quoted(before.text)}" if before is not None else "at the beginning"
    if here.type in ("RELATION", "TIMES", "PLUS", "AND", "OR", "ASK", "IN") and before is not None:
        return f"two operators in a row: a value is expected between {quoted(before.text)} and {quoted(here.text)}"
    if here.text == "%":
        return f"a value is expected {where}, not %"
    if here.text == ")" and before is not None and before.text == "(":
        return "a value is expected between ( and )"
    return f"a value is expected {where}, such as amount, 500 or 'DE'; found {quoted(here.text)}"


def _operator_wanted(reading: Reading, number: int, accepted: frozenset[str]) -> ProgramError:
    here, before = reading.tokens[number], reading.tokens[number - 1]
    word = here.text.lower()
    follows = reading.tokens[number + 1] if number + 1 < len(reading.tokens) else None
    if here.type == "NAME" and word in _WORDS:
        return reading.error(_WORDS[word], here.start)
    if here.type == "NAME" and word == "not":
        return reading.error(_NOT_IN if follows is not None and follows.text.lower() == "in" else _NOT, here.start)
    if here.type in ("RELATION", "IN"):
        return reading.error(
            f"comparisons don't chain: write two, joined with &&, or use parentheses; found a second one, "
            f"{quoted(here.text)}",
            here.start,
        )
    if here.type == "COMMA":
        what = tokens.NO_UNITS if before.type == "NUMBER" else "a comma stands between the arguments of a function only"
        return reading.error(f"',' means nothing here; {what}", here.start)
    if here.type == "NAME" and before.type == "NUMBER":
        return reading.error(f"{quoted(here.text)} can't follow a number; {tokens.NO_UNITS}", here.start)
    if here.type == "NAME" and before.type == "NAME" and before.text.lower() in ("if", "when", "where"):
        return reading.error(
            f"{quoted(before.text)} is not needed: an expression is the condition itself, as in amount > 500",
            before.start,
        )
    if here.type == "OPEN" and before.type in ("NUMBER", "CLOSE"):
        return reading.error("an operator is expected before '('; multiplication is written *", here.start)
    if here.type == "OPEN_LIST":
        return reading.error(
            "an operator is expected before '['; a list follows 'in', as in country in ['DE', 'AT']", here.start
        )
    if here.type == "ELSE":
        return reading.error("this ':' belongs to no '?'; a choice is written amount > 500 ? 1 : 0", here.start)
    if here.type == "ASK":
        return reading.error("a choice inside a choice stands in parentheses", here.start)
    if here.type == "DOT":
        return reading.error("'.' follows a value only, as in merchant_id.startsWith('shop')", here.start)
    return reading.error(
        f"an operator is expected between {quoted(before.text)} and {quoted(here.text)}, such as == or &&", here.start
    )


def _after_dot(reading: Reading, here: Token | None, dot: Token) -> ProgramError:
    if here is not None and here.type != "NAME":
        return reading.error("a function's name is expected after '.', as in merchant_id.startsWith('shop')", dot.start)
    return reading.error("a function's name is expected after '.'", dot.start)
