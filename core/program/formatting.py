"""The canonical text of a syntax tree: one line, one spacing, single quotes, no parenthesis that changes nothing.

Reading the text gives the tree back, and formatting what was read gives the same text, on every version of Python.
"""

from __future__ import annotations

import re

from core.program.syntax import Binary, Call, Choose, ListOf, Logical, Name, Node, Number, Text, Truth, Unary
from core.program.tokens import EXACT_INTEGER_MAX

# From loose to tight, as the grammar of `core.program.parsing` nests them.
_CHOOSE, _OR, _AND, _COMPARISON, _SUM, _PRODUCT, _SIGN, _VALUE = range(8)
_BINARY = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "%": _PRODUCT}

# Quotes, and what can't be seen: controls, invisible characters, separators, marks of direction.
_ESCAPED = re.compile(
    "['\\\\\x00-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_LETTERS = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def formatted(node: Node) -> str:
    """The canonical text of a tree."""
    return _text(node, _CHOOSE)


def number_text(value: float) -> str:
    """The shortest text that reads back as this number; a whole number below 2^53 has no point."""
    if value == 0.0:
        return "-0" if str(value)[0] == "-" else "0"
    if abs(value) < EXACT_INTEGER_MAX and value == int(value):
        return str(int(value))
    digits, mark, exponent = repr(value).partition("e")
    return f"{digits}e{int(exponent)}" if mark else digits


def string_text(value: str) -> str:
    """A text in single quotes."""
    return f"'{_ESCAPED.sub(_escaped, value)}'"


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    if char in _LETTERS:
        return _LETTERS[char]
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"


def _text(node: Node, tightness: int) -> str:
    """The node's text, in parentheses if it is looser than its place allows."""
    own, text = _plain(node)
    return text if own >= tightness else f"({text})"


def _plain(node: Node) -> tuple[int, str]:
    match node:
        case Number():
            return _SIGN, number_text(node.value)  # not _VALUE: the point of 5.f() would be the number's
        case Text():
            return _VALUE, string_text(node.value)
        case Truth():
            return _VALUE, "true" if node.value else "false"
        case Name():
            return _VALUE, node.name
        case Call():
            before = "" if node.receiver is None else f"{_text(node.receiver, _VALUE)}."
            return _VALUE, f"{before}{node.name}({_items(node.arguments)})"
        case ListOf():
            return _VALUE, f"[{_items(node.items)}]"
        case Unary():
            return _SIGN, node.operator + _text(node.operand, _SIGN)
        case Binary():
            own = _BINARY.get(node.operator, _COMPARISON)
            left = _text(node.left, _SUM if own == _COMPARISON else own)
            return own, f"{left} {node.operator} {_text(node.right, own + 1)}"
        case Logical():
            own = _OR if node.operator == "||" else _AND
            return own, f" {node.operator} ".join(_text(each, own + 1) for each in node.operands)
        case Choose():
            condition, then = _text(node.condition, _OR), _text(node.then, _OR)
            return _CHOOSE, f"{condition} ? {then} : {_text(node.otherwise, _CHOOSE)}"


def _items(nodes: tuple[Node, ...]) -> str:
    return ", ".join(_text(each, _CHOOSE) for each in nodes)
