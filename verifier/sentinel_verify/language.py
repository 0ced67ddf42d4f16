"""The language of decision programs: a text becomes a typed expression, a tree of tuples.

    ("const", type, value)                          a literal; of a list, a tuple
    ("col", type, source, name, form)               a value of the payment: field, feature, parameter, library, outcome
    ("apply", type, operation, arguments)           an operation (`values.OPERATIONS`)
    ("listed", effect, column)                      whether a field's value is on a list
    ("hit", code)                                   whether a rule hit
    ("agg", type, function, entity, window_ms, size, on_verdicts, value, condition)     over the account's past

Programs of a log were checked when they were registered, so whatever is read here makes sense; what is unknown raises
NotRecomputed, and nothing is then said about it. docs/language.md of Stream-Sentinel describes the language.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import NotRecomputed

Node = tuple[Any, ...]
Expression = tuple[Any, ...]

STANDARD: dict[str, tuple[str, str]] = {
    "transaction_id": ("string", "raw"), "account_id": ("string", "text"), "amount": ("number", ""),
    "amount_sent": ("number", ""), "currency": ("string", "country"), "currency_known": ("bool", ""),
    "merchant_id": ("string", "text"), "merchant_category": ("string", "text"), "country": ("string", "country"),
    "channel": ("string", "text"), "device_id": ("string", "text"), "ip": ("string", "ip"),
    "card_id": ("string", "card"),
    "occurred_at": ("time", ""), "received_at": ("time", ""), "hour": ("number", ""), "weekday": ("number", ""),
    "id_conflict": ("bool", ""),
}  # fmt: skip
"""Type and canonical form of the fields that every payment has."""
OUTCOMES = {
    "probability": "number", "decision": "string", "severity": "string", "alerted": "bool", "reviews": "number",
    "verdict": "string",
}  # fmt: skip
CHARACTERS = ("size", "starts_with", "ends_with", "contains", "matches", "lower", "concat")

_PLACES = {
    "feature": (), "rule": (), "event": ("decision", "severity", "alerted", "verdict"),
    "decision": ("probability", "decision", "reviews"),
}  # fmt: skip
_NUMBERS = ("ratio", "abs", "min", "max", "floor", "ceil", "round", "sqrt", "log10", "exp")
_METHODS = {
    "startsWith": ("starts_with", "bool"), "endsWith": ("ends_with", "bool"), "contains": ("contains", "bool"),
    "matches": ("matches", "bool"), "lowerAscii": ("lower", "string"),
}  # fmt: skip
_AGGREGATES = {
    "count": "window condition", "sum": "window value condition", "mean": "window value condition",
    "min": "window value condition", "max": "window value condition", "std": "window value condition",
    "distinct": "window field condition", "share": "window condition", "first": "field condition",
    "last": "field condition", "since": "condition", "decayed": "window value", "typical": "value",
    "is_new": "field size",
}  # fmt: skip
"""What follows the entity."""
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder"}
_ORDER = {"<": ("less", False), "<=": ("less_equal", False), ">": ("less", True), ">=": ("less_equal", True)}


class Scope(NamedTuple):
    """What names mean. fields: type, form and standard or own name of a program's fields; features: types."""

    fields: Mapping[str, tuple[str, str, str]]
    features: Mapping[str, str]
    parameters: frozenset[str]
    entities: Mapping[str, tuple[str, ...]]
    place: str = "feature"

    def field(self, name: str) -> Expression | None:
        """The standard or own field of this name."""
        if name in STANDARD:
            return ("col", STANDARD[name][0], "field", name, STANDARD[name][1])
        if name in self.fields:
            kind, form, source = self.fields[name]
            return ("col", kind, "field", source, form)
        return None

    def column(self, name: str) -> Expression | None:
        """What the name means at this place."""
        if (field := self.field(name)) is not None:
            return field
        if name in _PLACES[self.place]:
            return ("col", OUTCOMES[name], "outcome", name, "raw" if OUTCOMES[name] == "string" else "")
        if self.place == "event":
            return None
        if name in self.features:
            return ("col", self.features[name], "feature", name, "")
        return ("col", "number", "parameter", name, "") if name in self.parameters else None


def typed(text: str, scope: Scope) -> Expression:
    """The typed expression of a text."""
    return _typed(parse(text), scope)


def type_of(expression: Expression) -> str:
    """Number, bool, string, time, numbers or strings."""
    return "bool" if expression[0] in ("listed", "hit") else str(expression[1])


def is_single(expression: Expression) -> bool:
    """Whether the number has the precision of float32: a feature, or what is chosen among features and constants."""
    if expression[0] == "col":
        return expression[2] in ("feature", "library")
    if expression[0] != "apply" or expression[1] != "number":
        return False
    operation, arguments = expression[2:]
    if operation == "single":
        return True
    if operation not in ("negate", "abs", "min", "max", "default", "choose"):
        return False
    chosen = [each for each in arguments[operation == "choose" :] if each[0] != "const"]
    return bool(chosen) and all(map(is_single, chosen))


# --- syntax ------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"[ \t\r\n]*(?:(?P<raw>[rR](?:'[^']*'|\"[^\"]*\"))|(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>\|\||&&|==|!=|<=|>=|[<>+\-*/%!?:()\[\],.]))"
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|X([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))"
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def parse(text: str) -> Node:
    """The syntax tree of a text."""
    parser = _Parser(text)
    node = parser.choice()
    if parser.kind:
        raise NotRecomputed(f"the expression {text[:80]!r} can't be read")
    return node


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text.rstrip(), 0
        self.kind, self.value = "", ""
        self._next()

    def _next(self) -> None:
        if self._at == len(self._text):
            self.kind, self.value = "", ""
            return
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise NotRecomputed(f"the expression {self._text[:80]!r} can't be read")
        self._at = found.end()
        self.kind, self.value = str(found.lastgroup), str(found[str(found.lastgroup)])

    def _take(self, *marks: str) -> str:
        """The mark (or the word `in`) that comes next, taken, if it is one of these; else ""."""
        if self.kind in ("mark", "name") and self.value in marks:
            taken = self.value
            self._next()
            return taken
        return ""

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise NotRecomputed(f"the expression {self._text[:80]!r} can't be read")

    def choice(self) -> Node:
        condition = self._chain("||")
        if not self._take("?"):
            return condition
        then = self._chain("||")
        self._expect(":")
        return ("choose", condition, then, self.choice())

    def _chain(self, mark: str) -> Node:
        found = [self._below(mark)]
        while self._take(mark):
            found.append(self._below(mark))
        if len(found) == 1:
            return found[0]
        flat = [part for each in found for part in (each[2] if each[:2] == ("logical", mark) else [each])]
        return ("logical", mark, flat)

    def _below(self, mark: str) -> Node:
        return self._chain("&&") if mark == "||" else self._comparison()

    def _comparison(self) -> Node:
        left = self._sum()
        mark = self._take("==", "!=", "<=", ">=", "<", ">", "in")
        return ("binary", mark, left, self._sum()) if mark else left

    def _sum(self) -> Node:
        left = self._product()
        while mark := self._take("+", "-"):
            left = ("binary", mark, left, self._product())
        return left

    def _product(self) -> Node:
        left = self._sign()
        while mark := self._take("*", "/", "%"):
            left = ("binary", mark, left, self._sign())
        return left

    def _sign(self) -> Node:
        mark = self._take("!", "-")
        if not mark:
            return self._value()
        inner = self._sign()
        if mark == "-" and inner[0] == "number" and str(inner[1])[0] != "-":
            return ("number", -inner[1])
        return ("unary", mark, inner)

    def _value(self) -> Node:
        node = self._first()
        while self._take("."):
            name = self.value
            self._next()
            self._expect("(")
            node = ("call", name, node, self._items(")"))
        return node

    def _first(self) -> Node:
        kind, value = self.kind, self.value
        self._next()
        if kind == "number":
            return ("number", float(int(value, 16)) if value[:2] in ("0x", "0X") else float(value))
        if kind == "raw":
            return ("text", value[2:-1])
        if kind == "text":
            return ("text", _ESCAPE.sub(_unescaped, value[1:-1]))
        if kind == "name":
            if value in ("true", "false"):
                return ("truth", value == "true")
            return ("call", value, None, self._items(")")) if self._take("(") else ("name", value)
        if value == "(":
            inner = self.choice()
            self._expect(")")
            return inner
        if value == "[":
            return ("list", self._items("]"))
        raise NotRecomputed(f"the expression {self._text[:80]!r} can't be read")

    def _items(self, close: str) -> list[Node]:
        found: list[Node] = []
        while not self._take(close):
            if found:
                self._expect(",")
                if self._take(close):
                    break
            found.append(self.choice())
        return found


def _unescaped(found: "re.Match[str]") -> str:
    if found[6]:
        return _PLAIN.get(found[6], found[6])
    return chr(int(found[5], 8) if found[5] else int(found[1] or found[2] or found[3] or found[4], 16))


# --- types -------------------------------------------------------------------------------------------------------


def _typed(node: Node, scope: Scope) -> Expression:
    kind = node[0]
    if kind in ("number", "text", "truth"):
        return ("const", {"number": "number", "text": "string", "truth": "bool"}[kind], node[1])
    if kind == "name":
        column = scope.column(node[1])
        if column is None:
            raise NotRecomputed(f"nothing is called {node[1]}")
        return column
    if kind == "unary":
        inner = _typed(node[2], scope)
        return ("apply", "bool", "not", (inner,)) if node[1] == "!" else ("apply", "number", "negate", (inner,))
    if kind == "logical":
        return _balanced("and" if node[1] == "&&" else "or", [_typed(each, scope) for each in node[2]])
    if kind == "choose":
        condition, then, other = (_typed(each, scope) for each in node[1:])
        return ("apply", type_of(then), "choose", (condition, then, other))
    if kind == "call":
        return _call(node, scope)
    if kind == "binary":
        return _member(node, scope) if node[1] == "in" else _binary(node, scope)
    raise NotRecomputed("a list stands where none can")


def _balanced(operation: str, operands: list[Expression]) -> Expression:
    """A chain as a tree of least depth."""
    if len(operands) == 1:
        return operands[0]
    half = len(operands) // 2
    return ("apply", "bool", operation, (_balanced(operation, operands[:half]), _balanced(operation, operands[half:])))


def _binary(node: Node, scope: Scope) -> Expression:
    mark, (left, right) = node[1], (_typed(each, scope) for each in node[2:])
    kind = type_of(left)
    if mark in _ARITHMETIC:
        if mark == "+" and kind == "string":
            return ("apply", "string", "concat", (left, right))
        if mark == "-" and kind == "time":
            return ("apply", "number", "elapsed", (left, right))
        return ("apply", "number", _ARITHMETIC[mark], (left, right))
    is_turned = False
    if mark in _ORDER:
        operation, is_turned = _ORDER[mark]
    else:
        operation = "equal" if mark == "==" else "unequal"
    if kind == "number":
        operation += "_single" if is_single(left) or is_single(right) else ""
    else:
        operation += f"_{kind}"
    return ("apply", "bool", operation, (right, left) if is_turned else (left, right))


def _member(node: Node, scope: Scope) -> Expression:
    left, right = node[2:]
    if right[:2] == ("call", "list"):
        column = scope.field(left[1])
        assert column is not None
        return ("listed", right[3][0][1], column)
    value = _typed(left, scope)
    items = tuple(each[1] for each in right[1])
    if type_of(value) == "string":
        return ("apply", "bool", "in_strings", (value, ("const", "strings", items)))
    operation = "in_numbers_single" if is_single(value) else "in_numbers"
    return ("apply", "bool", operation, (value, ("const", "numbers", items)))


def _call(node: Node, scope: Scope) -> Expression:
    name, receiver, given = node[1:]
    if receiver is not None:
        operation, result = _METHODS[name]
        return ("apply", result, operation, tuple(_typed(each, scope) for each in (receiver, *given)))
    first = given[0] if given else ("", "")
    is_entity = first[0] == "name" and (first[1] == "account" or first[1] in scope.entities)
    if name in _AGGREGATES and is_entity and scope.column(first[1]) is None:
        return _aggregate(name, given, scope)
    if name == "hit":
        return ("hit", first[1])
    if name in _NUMBERS or name == "size":
        return ("apply", "number", name, tuple(_typed(each, scope) for each in given))
    if name in ("has", "default"):
        arguments = tuple(_typed(each, scope) for each in given)
        return ("apply", "bool" if name == "has" else type_of(arguments[0]), name, arguments)
    if name in ("hour", "weekday"):
        offset = _offset(given[1][1]) if len(given) > 1 else 0
        return ("apply", "number", name, (_typed(first, scope), ("const", "number", float(offset))))
    if not given:
        return ("col", "number", "library", name, "")
    raise NotRecomputed(f"no function is called {name}")


def _offset(text: str) -> int:
    """The ms of an offset from UTC."""
    if text in ("UTC", "Z"):
        return 0
    length = int(text[1:3]) * 3_600_000 + int(text[4:6]) * 60_000
    return -length if text[0] == "-" else length


def _aggregate(name: str, given: list[Node], scope: Scope) -> Expression:
    events = scope._replace(place="event")
    entity: tuple[str, ...] = ()
    if given[0][1] != "account":
        entity = tuple(_source(each, scope) for each in scope.entities[given[0][1]] if each != "account_id")
    window = size = 0
    value = condition = None
    for part, each in zip(_AGGREGATES[name].split(), given[1:]):
        if part == "window":
            window = int(each[1][:-1]) * _UNITS[each[1][-1]]
        elif part == "size":
            size = int(each[1])
        elif part == "condition":
            condition = _typed(each, events)
        else:
            value = _typed(each, events)
    on_verdicts = any(each is not None and _reads_verdict(each) for each in (value, condition))
    result = {"is_new": "bool"}.get(name, "number")
    if name in ("first", "last"):
        assert value is not None
        result = type_of(value)
    return ("agg", result, name, entity, window, size, on_verdicts, value, condition)


def _source(name: str, scope: Scope) -> str:
    return scope.fields[name][2] if name in scope.fields else name


def _reads_verdict(expression: Expression) -> bool:
    if expression[0] == "apply":
        return any(map(_reads_verdict, expression[3]))
    return bool(expression[0] == "col" and expression[2:4] == ("outcome", "verdict"))


# --- identity ----------------------------------------------------------------------------------------------------

_ESCAPED = re.compile(
    "['\\\\\x00-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_LETTERS = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def serialised(expression: Expression) -> str:
    """The expression with everything that it means, on one line: equal ones, and no others, have the same."""
    kind = expression[0]
    if kind == "const":
        return f"{expression[1]} {_value(expression[2])}"
    if kind == "col":
        _, of, source, name, form = expression
        return f"{source} {of} {_value(name)} {_value(form)}"
    if kind == "apply":
        _, of, operation, arguments = expression
        return f"{operation} {of} ({', '.join(map(serialised, arguments))})"
    if kind == "listed":
        return f"listed {_value(expression[1])} ({serialised(expression[2])})"
    if kind == "hit":
        return f"hit {_value(expression[1])}"
    _, of, function, entity, window, size, on_verdicts, value, condition = expression
    inner = " ".join(f"({'' if each is None else serialised(each)})" for each in (value, condition))
    events = "verdicts" if on_verdicts else "payments"
    return f"aggregate {function} {of} ({', '.join(map(_value, entity))}) {window} {size} {events} {inner}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{_ESCAPED.sub(_escaped, value)}'"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if value == 0.0:
        return "-0" if str(value)[0] == "-" else "0"
    if abs(value) < 2**53 and value == int(value):
        return str(int(value))
    digits, mark, exponent = repr(value).partition("e")
    return f"{digits}e{int(exponent)}" if mark else digits


def _escaped(found: "re.Match[str]") -> str:
    char = found[0]
    if char in _LETTERS:
        return _LETTERS[char]
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"
