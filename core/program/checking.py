"""From the syntax tree to a typed expression: names, types, operators. Calls are in `core.program.calling`.

Nothing is computed here, so what stands in the text stays in the expression. Text constants stay as written; the
planner brings them into the form of the field that they are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.canonical import FIELDS
from core.program import calling, possible
from core.program.errors import ProgramError, listed, quoted
from core.program.formatting import formatted
from core.program.scope import PLACE_WORDS, Scope
from core.program.syntax import (
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
    start,
)
from core.program.typed import Apply, Column, Constant, Expression, Listed, Type, is_single

TYPE_WORDS: dict[Type, str] = {
    "number": "a number",
    "bool": "true or false",
    "string": "text",
    "time": "a time",
    "numbers": "a list",
    "strings": "a list",
}
_ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder"}
_ORDER = {"<": ("less", False), "<=": ("less_equal", False), ">": ("less", True), ">=": ("less_equal", True)}
_EQUALITY = {"==": "equal", "!=": "unequal"}
_LISTS: dict[str, str] = {kind_field: kind for kind, kind_field in FIELDS.items()}


def checked(node: Node, scope: Scope, expected: Sequence[Type]) -> Expression:
    """The typed expression. Raises ProgramError, also if its type is none of the expected ones."""
    found = check(node, scope)
    for _, each in levels(node):
        if isinstance(each, Text) and "\x1f" in each.value:
            raise ProgramError("no payment has the character U+001F", *each.at)
    refuse_bare_outcome(node, found)
    if found.type in expected:
        return found
    wanted = listed([TYPE_WORDS[each] for each in expected])
    raise ProgramError(
        f"{wanted} is expected, and {_is(node, found)}{_advice(node, found.type, expected)}", *start(node)
    )


def check(node: Node, scope: Scope) -> Expression:
    """The typed expression, of whatever type. Raises ProgramError."""
    match node:
        case Number():
            return Constant("number", node.value)
        case Text():
            return Constant("string", node.value)
        case Truth():
            return Constant("bool", node.value)
        case Name():
            if (column := scope.column(node.name)) is None:
                raise scope.unknown(node)
            return column
        case Call():
            return calling.call(node, scope)
        case ListOf():
            raise ProgramError("a list can stand only after 'in', as in country in ['DE', 'AT']", *node.at)
        case Unary():
            return _unary(node, scope)
        case Logical():
            return _balanced(
                "and" if node.operator == "&&" else "or", [condition(each, scope) for each in node.operands]
            )
        case Choose():
            return _choose(node, scope)
        case Binary(operator="in"):
            return _member(node, scope)
        case Binary(operator=operator) if operator in _ARITHMETIC:
            return _arithmetic(node, scope)
        case Binary():
            return _comparison(node, scope)


def of_type(node: Node, scope: Scope, wanted: Type, what: str) -> Expression:
    """The expression, which must be of the wanted type. what: for the message, such as "the second argument of min"."""
    found = check(node, scope)
    if found.type != wanted:
        advice = _advice(node, found.type, (wanted,))
        raise ProgramError(f"{what} must be {TYPE_WORDS[wanted]}, and {_is(node, found)}{advice}", *start(node))
    refuse_bare_outcome(node, found)
    return found


def condition(node: Node, scope: Scope) -> Expression:
    """The expression, which must be true or false."""
    found = check(node, scope)
    if found.type != "bool":
        advice = _advice(node, found.type, ("bool",))
        raise ProgramError(f"a condition is expected, and {_is(node, found)}{advice}", *start(node))
    return found


def refuse_bare_outcome(node: Node, found: Expression) -> None:
    """Refuse an outcome's text where it is not compared with one of its values."""
    if isinstance(found, Column) and found.source == "outcome" and found.type == "string":
        example = possible.OUTCOME_EXAMPLES[found.name]
        raise ProgramError(f"{quoted(found.name)} can be compared only with its values, as in {example}", *start(node))


def _unary(node: Unary, scope: Scope) -> Expression:
    if node.operator == "!":
        return Apply("bool", "not", (condition(node.operand, scope),))
    return Apply("number", "negate", (of_type(node.operand, scope, "number", "what follows -"),))


def _balanced(operation: str, operands: list[Expression]) -> Expression:
    """A chain as a tree of least depth, so that a long one nests little."""
    if len(operands) == 1:
        return operands[0]
    half = len(operands) // 2
    return Apply("bool", operation, (_balanced(operation, operands[:half]), _balanced(operation, operands[half:])))


def _choose(node: Choose, scope: Scope) -> Expression:
    decides = condition(node.condition, scope)
    then, otherwise = check(node.then, scope), check(node.otherwise, scope)
    refuse_bare_outcome(node.then, then)
    refuse_bare_outcome(node.otherwise, otherwise)
    if then.type != otherwise.type:
        raise ProgramError(
            f"both halves of a choice must be of one type, and {_is(node.then, then)}, while "
            f"{_is(node.otherwise, otherwise)}",
            *start(node.otherwise),
        )
    return Apply(then.type, "choose", (decides, then, otherwise))


def _arithmetic(node: Binary, scope: Scope) -> Expression:
    left, right = check(node.left, scope), check(node.right, scope)
    refuse_bare_outcome(node.left, left)
    refuse_bare_outcome(node.right, right)
    types = (left.type, right.type)
    if node.operator == "+" and types == ("string", "string"):
        calling.refuse_unread(node.left, left)
        calling.refuse_unread(node.right, right)
        return Apply("string", "concat", (left, right))
    if node.operator == "-" and types == ("time", "time"):
        return Apply("number", "elapsed", (left, right))
    for each, found in ((node.left, left), (node.right, right)):
        if found.type != "number":
            raise ProgramError(_no_arithmetic(node.operator, each, found), *start(each))
    if node.operator in "/%" and isinstance(right, Constant) and right.value == 0.0:
        raise ProgramError(f"division by zero; {_NOT_ZERO}", *node.at)
    return Apply("number", _ARITHMETIC[node.operator], (left, right))


_NOT_ZERO = "ratio(x, y) is missing where y is not above 0"


def _no_arithmetic(operator: str, node: Node, found: Expression) -> str:
    advice = _advice(node, found.type, ("number",))
    if found.type == "time":
        advice = "; two times can be subtracted, which gives seconds, as in received_at - occurred_at > 60"
    elif found.type == "string" and operator == "+":
        advice = "; text can be joined only with text" + advice.replace("; ", ", and ", 1)
    return f"{operator} needs numbers, and {_is(node, found)}{advice}"


def _comparison(node: Binary, scope: Scope) -> Expression:
    left, right = _sides(node, scope)
    if left.type != right.type:
        raise ProgramError(_different(node, left, right), *node.at)
    possible.check_comparison(node, left, right)
    kind = left.type
    if node.operator in _EQUALITY:
        operation = _EQUALITY[node.operator]
        if kind == "number":
            operation += "_single" if is_single(left) or is_single(right) else ""
        else:
            operation += f"_{kind}"
        return Apply("bool", operation, (left, right))
    if kind not in ("number", "time"):
        raise ProgramError(
            f"{node.operator} compares numbers or times, and {_is(node.left, left)}; "
            + ("text is compared with ==, != or in" if kind == "string" else "join conditions with && or ||"),
            *node.at,
        )
    operation, is_turned = _ORDER[node.operator]
    operation += "_time" if kind == "time" else "_single" if is_single(left) or is_single(right) else ""
    return Apply("bool", operation, (right, left) if is_turned else (left, right))


def _sides(node: Binary, scope: Scope) -> tuple[Expression, Expression]:
    """Both sides; an unknown name beside a text gets the advice to quote it."""
    for each, other in ((node.right, node.left), (node.left, node.right)):
        if isinstance(each, Name) and scope.column(each.name) is None and scope.is_stranger(each.name):
            beside = check(other, scope)
            if beside.type == "string":
                raise ProgramError(
                    f"nothing is called {quoted(each.name)}; text stands in quotes: "
                    f"{formatted(other)} {node.operator} '{each.name[:40]}'",
                    *each.at,
                )
    return check(node.left, scope), check(node.right, scope)


def _different(node: Binary, left: Expression, right: Expression) -> str:
    """Why the sides can't be compared, and what to write."""
    said = f"{_is(node.left, left)}, and {_is(node.right, right)}; they can't be compared"
    for found, other, text in ((left, right, node.right), (right, left, node.left)):
        if found.type == "string" and isinstance(text, Number):
            return f"{said}; text stands in quotes: '{formatted(text)}'"
        if found.type == "number" and isinstance(text, Text):
            return f"{said}; numbers stand without quotes, as in amount > 500"
        if found.type == "bool" and other.type == "number":
            whole = node.left if found is left else node.right
            return f"{said}; a condition stands by itself: {_short(whole)}, or !{_short(whole)}"
        if found.type == "time":
            return f"{said}; times are subtracted, which gives seconds, as in received_at - occurred_at > 60"
    return said


def _member(node: Binary, scope: Scope) -> Expression:
    if isinstance(node.right, Call) and node.right.name == "list":
        return _listed(node, node.right, scope)
    left = check(node.left, scope)
    if not isinstance(node.right, ListOf):
        found = check(node.right, scope)
        hint = "; to look for a part of a text, write merchant_id.contains('shop')"
        raise ProgramError(
            f"a list is expected after 'in', as in country in ['DE', 'AT'], and {_is(node.right, found)}"
            + (hint if found.type == "string" else ""),
            *start(node.right),
        )
    if left.type not in ("number", "string"):
        raise ProgramError(f"a number or text is expected before 'in', and {_is(node.left, left)}", *start(node.left))
    if not node.right.items:
        raise ProgramError("the list is empty, so nothing is in it", *node.right.at)
    values: list[float | str] = []
    for item in node.right.items:
        if not isinstance(item, Number | Text):
            raise ProgramError(
                f"a list holds only constants, as in ['DE', 'AT'], and {quoted(formatted(item))} is not one",
                *start(item),
            )
        if isinstance(item, Number) != (left.type == "number"):
            found = check(item, scope)
            raise ProgramError(f"{_is(node.left, left)}, and the list holds {_is(item, found)}", *item.at)
        possible.check_member(node.left, left, item)
        values.append(item.value)
    if left.type == "string":
        return Apply("bool", "in_strings", (left, Constant("strings", tuple(map(str, values)))))
    numbers = Constant("numbers", tuple(map(float, values)))
    return Apply("bool", "in_numbers_single" if is_single(left) else "in_numbers", (left, numbers))


def _listed(node: Binary, call: Call, scope: Scope) -> Expression:
    effect = calling.list_effect(call)
    if scope.place == "event":
        raise ProgramError(f"lists can't be read in {PLACE_WORDS['event']}; they are about this payment", *call.at)
    if not isinstance(node.left, Name) or node.left.name not in _LISTS:
        raise ProgramError(
            f"there are no lists for {quoted(formatted(node.left))}, only for {listed(_LISTS)}, "
            "as in merchant_id in list('watch')",
            *start(node.left),
        )
    column = scope.field(node.left.name)
    assert column is not None
    return Listed(column, effect)


def _short(node: Node) -> str:
    return quoted(formatted(node))[1:-1]


def _is(node: Node, found: Expression) -> str:
    """`merchant_id is text`."""
    return f"{_short(node)} is {TYPE_WORDS[found.type]}"


def _advice(node: Node, found: Type, wanted: Sequence[Type]) -> str:
    """What to write instead, or ""."""
    if "bool" in wanted and found == "number":
        simple = isinstance(node, Name | Call | Number)
        return f"; compare it, as in {_short(node) if simple else 'amount'} > 500"
    if "bool" in wanted and found == "string":
        return "; compare it, as in country == 'DE'"
    if "number" in wanted and found == "bool":
        return "; turn it into a number, as in amount > 500 ? 1 : 0"
    if "number" in wanted and found == "string":
        return "; numbers stand without quotes" if isinstance(node, Text) else "; its length is size(merchant_id)"
    if "number" in wanted and found == "time":
        return "; seconds are a difference, as in received_at - occurred_at"
    if "string" in wanted and isinstance(node, Number):
        return f"; text stands in quotes: '{formatted(node)}'"
    return ""
