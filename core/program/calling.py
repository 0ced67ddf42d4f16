"""Calls: each argument is read as its parameter's kind says (`core.program.functions`)."""

from __future__ import annotations

import re
from typing import get_args

from core.errors import BadInput
from core.features import spec
from core.program import aggregate_calls, checking, patterns, spelling
from core.program.errors import ProgramError, listed, meant, quoted
from core.program.formatting import formatted
from core.program.functions import BY_NAME, Function, Parameter
from core.program.scope import PLACE_WORDS, Scope
from core.program.syntax import Call, Name, Node, Text, start
from core.program.typed import CHARACTERS, Apply, Column, Constant, Expression, Hit, Type
from core.times import HOUR_MS, MINUTE_MS

_EFFECTS = ("block", "watch", "allow")
_ZONE = re.compile(r"([+-])([0-9]{2}):([0-9]{2})")
_ZONE_MAX_MS = 14 * HOUR_MS
_WORDS = ("and", "or", "not")
_OTHER_WORDS = {
    "avg": "mean", "average": "mean", "len": "size", "length": "size", "stddev": "std", "sd": "std", "log": "log10",
    "beginswith": "startsWith", "starts_with": "startsWith", "ends_with": "endsWith", "lower": "lowerAscii",
    "coalesce": "default", "ifnull": "default", "exists": "has", "isnull": "has", "regex": "matches", "total": "sum",
    "unique": "distinct", "velocity": "count",
}  # fmt: skip
_NO_FUNCTION = "{} is a value, not a function; write it without parentheses"


def call(node: Call, scope: Scope) -> Expression:
    """What a call becomes. Raises ProgramError."""
    function = _function(node, scope)
    arguments = _arguments(node, function)
    match function.becomes:
        case "hit":
            return _hit(node, arguments[0][1], scope)
        case "listed":
            raise ProgramError(f"list can stand only after 'in', as in {function.example}", *node.at)
        case "library":
            _refuse_unstored(node, scope)
            return Column("number", "library", function.operation)
        case "aggregate":
            _refuse_unstored(node, scope)
            return aggregate_calls.aggregate(node, function, arguments, scope)
        case "operation":
            return _operation(node, function, arguments, scope)


def _function(node: Call, scope: Scope) -> Function:
    """The function that is meant; min and max are aggregates if an entity comes first."""
    named = BY_NAME.get(node.name, ())
    if not named:
        raise ProgramError(_unknown(node, scope), *node.at)
    function = named[0]
    if function.becomes == "library" and scope.column(node.name) and (node.arguments or not scope.has_aggregates):
        raise ProgramError(_NO_FUNCTION.format(quoted(node.name)), *node.at)
    if len(named) > 1 and node.arguments and isinstance(node.arguments[0], Name):
        first = node.arguments[0].name
        if scope.is_entity(first) and scope.column(first) is None:
            function = named[1]
    if function.style == "method" and node.receiver is None:
        inside = formatted(node.arguments[0]) if node.arguments else "merchant_id"
        rest = ", ".join(map(formatted, node.arguments[1:])) or ("" if function.name == "lowerAscii" else "'…'")
        raise ProgramError(f"{node.name} is written after its text: write {inside}.{node.name}({rest})", *node.at)
    if function.style == "function" and node.receiver is not None:
        inside = ", ".join(map(formatted, (node.receiver, *node.arguments)))
        raise ProgramError(f"{node.name} is written before its arguments: write {node.name}({inside})", *node.at)
    return function


def _unknown(node: Call, scope: Scope) -> str:
    lower = node.name.lower()
    if lower in _WORDS:
        sign, example = {
            "and": ("&&", "amount > 500 && country == 'DE'"),
            "or": ("||", "amount > 500 || country == 'DE'"),
            "not": ("!", "!(country == 'DE')"),
        }[lower]
        return f"'{lower}' is written {sign}, as in {example}"
    if scope.column(node.name) is not None:
        return _NO_FUNCTION.format(quoted(node.name))
    near = _OTHER_WORDS.get(lower)
    suggested = f"; did you mean {near}?" if near else meant(node.name, BY_NAME)
    example = ""
    if suggested:
        name = suggested.removeprefix("; did you mean ").removesuffix("?")
        example = f" For example {BY_NAME[name][0].example}"
    return f"no function is called {quoted(node.name)}{suggested}{example}"


def _arguments(node: Call, function: Function) -> list[tuple[Parameter, Node]]:
    """Each argument with its parameter. Raises ProgramError if there are too few or too many."""
    given = node.arguments if node.receiver is None else (node.receiver, *node.arguments)
    parameters = list(function.parameters)
    if len(given) < function.required:
        missing = parameters[len(given)]
        raise ProgramError(
            f"{node.name} needs {_kind_words(missing)} as its {function.ordinal(len(given))} argument: "
            f"{function.signature}, as in {function.example}",
            *node.at,
        )
    if parameters and parameters[-1].is_repeated:
        parameters += [parameters[-1]] * (len(given) - len(parameters))
    if len(given) > len(parameters):
        takes = f"takes {_number(len(parameters))}" if parameters else "takes no arguments"
        raise ProgramError(
            f"{node.name} {takes}, and this is one too many: {function.signature}, as in {function.example}",
            *start(given[len(parameters)]),
        )
    return list(zip(parameters, given, strict=False))


def _number(count: int) -> str:
    return f"{count} argument" + ("s" if count > 1 else "")


def _kind_words(parameter: Parameter) -> str:
    match parameter.kind:
        case "entity":
            return "an entity, such as account,"
        case "window":
            return "a window, such as '10m',"
        case "half_life":
            return "a half-life, such as '30d',"
        case "value":
            return "a number of the earlier payment, such as amount,"
        case "field":
            return "a field, such as merchant_id,"
        case "condition":
            return "a condition, such as amount > 100,"
        case "size":
            return "a whole number, such as 8,"
        case "pattern":
            return "a pattern, such as '^shop',"
        case "code":
            return "a rule's code, such as 'AMOUNT_HIGH',"
        case "effect":
            return "'block', 'watch' or 'allow'"
        case "any":
            return "a value"
        case "zone":
            return "an offset, such as '+02:00',"
        case _:
            return checking.TYPE_WORDS[parameter.kind]


def _operation(node: Call, function: Function, arguments: list[tuple[Parameter, Node]], scope: Scope) -> Expression:
    values: list[Expression] = []
    for index, (parameter, given) in enumerate(arguments):
        match parameter.kind:
            case "zone":
                values.append(Constant("number", float(_offset(given))))
            case "pattern":
                values.append(Constant("string", _pattern(given)))
            case "any":
                values.append(checking.check(given, scope))
                if function.name != "has":
                    checking.refuse_bare_outcome(given, values[-1])
            case kind:
                assert kind in get_args(Type)
                what = f"the {function.ordinal(index)} argument of {node.name}"
                if function.style == "method" and index == 0:
                    what = f"what {node.name} reads"
                values.append(checking.of_type(given, scope, kind, what))  # type: ignore[arg-type]
    if function.operation in ("hour", "weekday") and len(values) == 1:
        values.append(Constant("number", 0.0))
    if function.operation in CHARACTERS:
        for (parameter, given), value in zip(arguments, values, strict=True):
            if parameter.kind != "pattern":
                refuse_unread(given, value)
        _check_spelling(function.operation, arguments, values)
    if function.name == "default" and values[0].type != values[1].type:
        raise ProgramError(
            f"both arguments of default must be of one type, and {formatted(arguments[0][1])} is "
            f"{checking.TYPE_WORDS[values[0].type]}, while {formatted(arguments[1][1])} is "
            f"{checking.TYPE_WORDS[values[1].type]}",
            *start(arguments[1][1]),
        )
    result: Type = values[0].type if function.result == "any" else function.result
    return Apply(result, function.operation, tuple(values))


def _check_spelling(operation: str, arguments: list[tuple[Parameter, Node]], values: list[Expression]) -> None:
    match values:
        case [subject, Constant(value=str(text))]:
            (_, node), (_, written) = arguments
            if operation == "matches":
                spelling.check_pattern(node, subject, written, text)
            else:
                spelling.check_part(operation, node, subject, written, text)
        case _:
            pass


def refuse_unread(node: Node, value: Expression) -> None:
    """Refuse a text whose characters are not at hand: only those of fields are, and what is made of them."""
    match value:
        case Constant() | Column(source="field"):
            return
        case Apply(operation="lower" | "concat"):
            return
        case Apply(operation="default", arguments=chosen) | Apply(operation="choose", arguments=(_, *chosen)):
            for each in chosen:
                refuse_unread(node, each)
        case _:
            raise ProgramError(
                f"the characters of {quoted(formatted(node))} can't be read, only those of fields, as in "
                "merchant_id.startsWith('shop')",
                *start(node),
            )


def _text(node: Node, what: str, example: str) -> str:
    """A constant text."""
    if not isinstance(node, Text):
        more = ""
        if isinstance(node, Name):
            more = f": write '{node.name[:40]}'"
        raise ProgramError(f"{what} is a constant in quotes{more or f', as in {example}'}", *start(node))
    return node.value


def _offset(node: Node) -> int:
    """The ms of an offset from UTC."""
    text = _text(node, "the zone", "hour(occurred_at, '+02:00')")
    if text in ("UTC", "Z"):
        return 0
    if (found := _ZONE.fullmatch(text)) is not None:
        length = int(found[2]) * HOUR_MS + int(found[3]) * MINUTE_MS
        if length <= _ZONE_MAX_MS and int(found[3]) < 60:
            return -length if found[1] == "-" else length
        raise ProgramError(f"{quoted(text)} is not an offset from UTC: those are -14:00 to +14:00", *node.at)
    if re.search("[A-Za-z]", text):
        raise ProgramError(
            f"{quoted(text)} is the name of a zone: its rules change with the time zone database, and past decisions "
            "would change with them; write an offset, as in hour(occurred_at, '+02:00')",
            *node.at,
        )
    raise ProgramError(f"{quoted(text)} is not an offset from UTC; write it as '+02:00' or 'UTC'", *node.at)


def _pattern(node: Node) -> str:
    text = _text(node, "the pattern", "merchant_id.matches('^shop[0-9]+$')")
    try:
        patterns.compiled(text)
    except BadInput as error:
        raise ProgramError(f"{error}; an example is '^shop[0-9]+$'", *node.at) from None
    return text


def _hit(node: Call, given: Node, scope: Scope) -> Expression:
    if not scope.has_hits:
        raise ProgramError(
            f"hit can't stand in {PLACE_WORDS[scope.place]}; it reads earlier payments, as in "
            "count(account, '7d', hit('AMOUNT_HIGH')), and in [decision] this one",
            *node.at,
        )
    code = _text(given, "a rule's code", "hit('AMOUNT_HIGH')")
    if code not in scope.codes:
        raise ProgramError(f"no rule has the code {quoted(code)}{meant(code, sorted(scope.codes))}", *start(given))
    return Hit(code)


def list_effect(node: Call) -> str:
    """The effect that `list('watch')` names."""
    function = BY_NAME["list"][0]
    if node.receiver is not None:
        raise ProgramError(f"list is written before its argument, as in {function.example}", *node.at)
    ((_, given),) = _arguments(node, function)
    effect = _text(given, "the list", function.example)
    if effect not in _EFFECTS:
        shown = listed([f"'{each}'" for each in _EFFECTS])
        raise ProgramError(f"no list is called {quoted(effect)}: write {shown}{meant(effect, _EFFECTS)}", *start(given))
    return effect


def _refuse_unstored(node: Call, scope: Scope) -> None:
    if scope.has_aggregates:
        return
    if scope.place == "event":
        raise ProgramError(
            f"{node.name} can't stand inside an aggregate, which reads only the earlier payment's fields and outcome",
            *node.at,
        )
    text = formatted(node)
    shown = quoted(text)[1:-1].replace('"', "'")
    name = node.name if node.name in spec.NAMES else "my_feature"
    raise ProgramError(
        f"{node.name} can stand only in [features], so that its value is stored with the score: give it a name there, "
        f'{name} = "{shown}", and write {name} here',
        *node.at,
    )
