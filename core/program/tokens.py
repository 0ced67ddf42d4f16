"""The tokens of an expression, and what can be refused by them alone: length, characters, literals, brackets.

All of it is linear in the text and bounded before the parser sees anything. The limits hold for every text, whoever
wrote it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple

from core.program.errors import ProgramError, quoted
from core.program.syntax import At

CHARACTERS_MAX = 4_096
TOKENS_MAX = 1_024
LEVELS_MAX = 32
EXACT_INTEGER_MAX = 2**53

KEYWORDS = {"true": "TRUE", "false": "FALSE", "in": "IN"}
RESERVED = frozenset((
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "null", "package",
    "namespace", "return", "var", "void", "while",
))  # fmt: skip
"""Words that CEL keeps for itself."""

MARKS = {
    "||": "OR", "&&": "AND", "==": "RELATION", "!=": "RELATION", "<=": "RELATION", ">=": "RELATION", "<": "RELATION",
    ">": "RELATION", "+": "PLUS", "-": "MINUS", "*": "TIMES", "/": "TIMES", "%": "TIMES", "!": "NOT", "?": "ASK",
    ":": "ELSE", "(": "OPEN", ")": "CLOSE", "[": "OPEN_LIST", "]": "CLOSE_LIST", ",": "COMMA", ".": "DOT",
}  # fmt: skip

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<raw>[rR](?:'[^'\r\n]*'|\"[^\"\r\n]*\"))"
    r"|(?P<text>'(?:[^'\\\r\n]|\\[^\r\n])*'|\"(?:[^\"\\\r\n]|\\[^\r\n])*\")"
    r"|(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<mark>\|\||&&|==|!=|<=|>=|[<>+\-*/%!?:()\[\],.])"
)
_ESCAPE = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})"
    r"|(?P<octal>[0-3][0-7]{2})|(?P<bad>.))"
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_TAIL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CLOSING = {"(": ")", "[": "]"}

_WRONG = {
    "=": "a single = means nothing here; equality is written ==, as in country == 'DE'",
    "&": "a single & means nothing here; 'and' is written &&",
    "|": "a single | means nothing here; 'or' is written ||",
    "\u201c": "typographic quotes are not read; use ' or \", as in 'DE'",
    ";": "; means nothing here; an expression is one formula, and conditions are joined with && or ||",
    "$": "$ means nothing here; amounts are plain numbers in the base currency, as in amount > 500",
    "^": "^ means nothing here; multiply instead, as in amount * amount",
    "{": "braces mean nothing here; names are written as they are, as in amount > 500",
    "#": "comments stand outside the expression",
    "\\": "a backslash stands only inside quotes",
    "\u2264": "\u2264 is written <=",
    "\u2265": "\u2265 is written >=",
    "\u2260": "\u2260 is written !=",
    "\u00d7": "\u00d7 is written *",
    "\u00f7": "\u00f7 is written /",
    "\u2212": "this is a typographic minus sign; the one that is read is -",
}
_ALIKE = {
    "\u201c": "\u2018\u2019\u201a\u201b\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u00b4`",
    "$": "\u20ac\u00a3\u00a5",
    "{": "}",
    "\u2212": "\u2010\u2011\u2012\u2013\u2014\u2015",
}
_WRONG |= {each: _WRONG[sign] for sign, others in _ALIKE.items() for each in others}


class Token(NamedTuple):
    """type: as the grammar names it. text: as written. value: of a literal. start: offset in the text."""

    type: str
    text: str
    value: float | str
    start: int


class Reading(NamedTuple):
    """A text as tokens, and the offsets at which its lines begin."""

    text: str
    tokens: list[Token]
    lines: list[int]

    def at(self, offset: int) -> At:
        line = bisect_right(self.lines, offset)
        return At(line, offset - self.lines[line - 1] + 1)

    def error(self, message: str, offset: int) -> ProgramError:
        return ProgramError(message, *self.at(offset))


def read(text: str) -> Reading:
    """The tokens of a text. Raises ProgramError."""
    if len(text) > CHARACTERS_MAX:
        raise ProgramError(
            f"the expression has {len(text):,} characters, and {CHARACTERS_MAX:,} are allowed; give a part of it "
            "a name of its own",
            1, 1,
        )  # fmt: skip
    reading = Reading(text, [], [0, *(found.end() for found in re.finditer("\n", text))])
    if found := _FORBIDDEN.search(text):
        code = ord(found[0])
        raise reading.error(f"the control character U+{code:04X} can't stand in an expression", found.start())
    offset = 0
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None:
            raise _unreadable(reading, offset)
        if match.lastgroup != "space":
            if len(reading.tokens) == TOKENS_MAX:
                raise reading.error(f"the expression has more than {TOKENS_MAX:,} names, values and signs", offset)
            reading.tokens.append(_token(reading, match))
        offset = match.end()
    if not reading.tokens:
        raise ProgramError("the expression is empty; a condition is, for example, amount > 500", 1, 1)
    _check_brackets(reading)
    return reading


def _token(reading: Reading, match: re.Match[str]) -> Token:
    text, offset = match[0], match.start()
    match match.lastgroup:
        case "name":
            return Token(KEYWORDS.get(text, "NAME"), text, text, offset)
        case "mark":
            return Token(MARKS[text], text, text, offset)
        case "number":
            return Token("NUMBER", text, _number(reading, match), offset)
        case "raw":
            return Token("TEXT", text, text[2:-1], offset)
        case _:
            return Token("TEXT", text, _unescaped(reading, text, offset), offset)


def _number(reading: Reading, match: re.Match[str]) -> float:
    text, offset, end = match[0], match.start(), match.end()
    if tail := _TAIL.match(reading.text, end):
        if tail[0] in ("s", "m", "h", "d"):
            raise reading.error(f"a duration stands in quotes: write '{text}{tail[0]}'", offset)
        raise reading.error(f"{quoted(text + tail[0])} is neither a number nor a name; {NO_UNITS}", offset)
    if reading.text.startswith(".", end):
        raise reading.error(f"a digit is expected after the point of {quoted(text + '.')}, as in 1.0", offset)
    if text[:2] in ("0x", "0X"):
        whole = int(text, 16) if len(text) <= 32 else EXACT_INTEGER_MAX + 1
    elif text.isdigit():
        whole = int(text) if len(text) <= 308 else EXACT_INTEGER_MAX + 1
    else:
        value = float(text)
        if value in (float("inf"), 0.0) and re.search("[1-9]", re.split("[eE]", text)[0]):
            size = "large" if value else "small"
            raise reading.error(f"{quoted(text)} is too {size} for a number of 64 bits", offset)
        return value
    if whole > EXACT_INTEGER_MAX and (len(text) > 308 or int(float(whole)) != whole):
        raise reading.error(
            f"{quoted(text)} is not exact as a number: whole numbers are up to 2^53 = {EXACT_INTEGER_MAX}; "
            "an ID is text and stands in quotes",
            offset,
        )
    return float(whole)


NO_UNITS = "numbers have no unit and no separators, and amounts are in the base currency, as in amount > 500"


def _unescaped(reading: Reading, text: str, offset: int) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found["plain"]:
            return _PLAIN.get(found["plain"], found["plain"])
        if found["bad"] is not None:
            raise reading.error(
                f"{quoted(found[0])} is not an escape sequence; a backslash is written \\\\, or the text as r'…'",
                offset + 1 + found.start(),
            )
        digits = found["x"] or found["u"] or found["U"]
        code = int(digits, 16) if digits else int(found["octal"], 8)
        if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            raise reading.error(f"{quoted(found[0])} is not a Unicode character", offset + 1 + found.start())
        return chr(code)

    return _ESCAPE.sub(replaced, text[1:-1]) if "\\" in text else text[1:-1]


def _unreadable(reading: Reading, offset: int) -> ProgramError:
    char = reading.text[offset]
    if char in "'\"":
        return reading.error(f"the text that begins here has no closing {char} on its line", offset)
    if char == "=" and offset and reading.text[offset - 1] in "=!":
        return reading.error("one = too many: equality is written ==, inequality !=", offset)
    if char == "=" and reading.text[offset + 1 : offset + 2] in ("<", ">"):
        return reading.error(f"={reading.text[offset + 1]} is written {reading.text[offset + 1]}=", offset)
    if char in _WRONG:
        return reading.error(_WRONG[char], offset)
    code = f"U+{ord(char):04X}"
    if char.isalpha():
        return reading.error(
            f"{quoted(char)} ({code}) can't stand in a name: names have the letters a to z, digits and _, and text "
            "stands in quotes",
            offset,
        )
    return reading.error(f"{quoted(char)} ({code}) means nothing outside of quotes", offset)


def _check_brackets(reading: Reading) -> None:
    opened: list[Token] = []
    for token in reading.tokens:
        if token.text in ("(", "[") and token.type in ("OPEN", "OPEN_LIST"):
            opened.append(token)
            if len(opened) > LEVELS_MAX:
                raise reading.error(f"more than {LEVELS_MAX} brackets are open here; {TOO_DEEP}", token.start)
        elif token.type in ("CLOSE", "CLOSE_LIST"):
            if not opened:
                raise reading.error(f"this {token.text} closes nothing: no bracket is open", token.start)
            start = opened.pop()
            if token.text != _CLOSING[start.text]:
                line, column = reading.at(start.start)
                raise reading.error(
                    f"{_CLOSING[start.text]} is expected before this {token.text}: the {start.text} of line {line}, "
                    f"column {column} is still open",
                    token.start,
                )
    if opened:
        raise reading.error(
            f"this {opened[-1].text} is never closed: a {_CLOSING[opened[-1].text]} is missing", opened[-1].start
        )


TOO_DEEP = f"{LEVELS_MAX} levels are allowed: give a part of the expression a name of its own"
