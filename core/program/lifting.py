"""Moves choices among texts out of the operations that read their characters. Pure.

Such an operation is a leaf of compiled code, computed once for each text (`core.program.characters`), and a choice is
an instruction. So size(c ? a : b) is compiled as c ? size(a) : size(b).
"""

from __future__ import annotations

import math
from dataclasses import replace

from core.errors import BadInput
from core.program.typed import CHARACTERS, Apply, Expression

VARIANTS_MAX = 256
"""Texts that one operation on characters may choose among."""


def lifted(expression: Expression) -> Expression:
    """The expression without `choose` below operations on characters. Raises BadInput if it would be too large."""
    if not isinstance(expression, Apply) or expression.operation not in CHARACTERS:
        return expression
    if _variants(expression) > VARIANTS_MAX:
        raise BadInput(f"an operation on texts chooses among more than {VARIANTS_MAX} of them; split it")
    return _split(expression)


def _variants(text: Expression) -> int:
    """How many texts without a choice the text would become."""
    match text:
        case Apply(_, "choose", (_, first, second)):
            return _variants(first) + _variants(second)
        case Apply(_, "default", (first, second)):
            alone = _variants(first), _variants(second)
            return 1 if alone == (1, 1) else sum(alone)
        case Apply(_, operation, arguments) if operation in CHARACTERS:
            return math.prod(map(_variants, arguments))
        case _:
            return 1


def _split(whole: Expression) -> Expression:
    """A choice among operations instead of an operation on a choice, one choice after the other.

    `default` is moved out too where it holds a choice: f(default(x, y)) is default(f(x), f(y)), for f is missing
    exactly if x or something else is, and then the other branch does not help.
    """
    choice = _first_choice(whole)
    if choice is None:
        return whole
    condition, (first, second) = choice.arguments[:-2], choice.arguments[-2:]
    branches = (_split(_replaced(whole, choice, first)), _split(_replaced(whole, choice, second)))
    return Apply(whole.type, choice.operation, (*condition, *branches))


def _first_choice(text: Expression) -> Apply | None:
    match text:
        case Apply(_, "choose" | "default") if _variants(text) > 1:
            return text
        case Apply(_, operation, arguments) if operation in CHARACTERS:
            return next(filter(None, map(_first_choice, arguments)), None)
        case _:
            return None


def _replaced(text: Expression, old: Apply, new: Expression) -> Expression:
    """The text with `new` where it has `old`: that very object, so that an equal one elsewhere is its own choice."""
    if text is old:
        return new
    if isinstance(text, Apply) and text.operation in CHARACTERS:
        return replace(text, arguments=tuple(_replaced(each, old, new) for each in text.arguments))
    return text
