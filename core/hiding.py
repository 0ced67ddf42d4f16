"""Takes card numbers, security codes and magnetic-stripe data out of what is about to be stored. Pure.

    identifiers (account_id, card_id, …)   the whole value becomes a token (core.tokens), so it still identifies
    attributes and other text              a card number becomes `****` and its last four digits, a track `****`
    security codes                         `***`: three or four digits in an attribute that is named after one, or
                                           after its name in a text
    raw bytes of what was rejected         as other text, also behind escapes, in other scripts and in UTF-16

PCI DSS forbids keeping security codes and full tracks even encrypted (3.3.1), and asks for card numbers to be
unreadable wherever they are stored (3.5.1): by truncation, or by a keyed hash.

What holds no such data comes back unchanged, as the same object.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from core.card_numbers import CARD, DIGITS_MAX, DIGITS_MIN, NONE, TRACK, find, find_all, is_issued, is_suspicious
from core.events import ListChanged
from core.events.business import ListKind
from core.tokens import PREFIXES, Tokens

RAW_BYTES_MAX = 64 * 1024
"""Of longer rejected values that may hold card data, only so many bytes are kept."""
CODE = 3
KINDS = {CARD: "card_number", TRACK: "track", CODE: "security_code"}
"""What can be found, as metrics and messages name it."""
_PASSES = 4
NAMES_MAX = 65_536
LIST_FIELDS: dict[ListKind, str] = {
    "account": "account_id",
    "card": "card_id",
    "merchant": "merchant_id",
    "device": "device_id",
    "ip": "ip",
}

_TRACK_REST = re.compile(rb"[=Dd][0-9]+|\^[^^]{0,30}\^[0-9 ]+")
_CODE_NAMES = (
    "cvc2?", "csc2?", "cav2?", "cvv2?", "cvn2?", "cvd", "card[ _-]?code",
    "security[ _-]?code", "card[ _-]?security[ _-]?code",
    "card[ _-]?verification(?:[ _-]?(?:value|code|number))?",
)  # fmt: skip
# Each alternative begins with a letter, and case is folded before: so the search runs at the speed of a plain one.
_CODE_TEXT = re.compile(
    rf"(?:{'|'.join(_CODE_NAMES)})[^a-z0-9]{{0,6}}(?:(?:is|no|nr|number|code|value)[^a-z0-9]{{1,6}}){{0,2}}"
    r"([0-9]{3,4})(?![0-9]|\.[0-9])".encode()
)
_CODE_KEY = re.compile(
    rf"(?:{'|'.join((*_CODE_NAMES, 'cid', 'cvx', 'pin'))})(?:[_. -]?(?:code|value|number|no))?\\?[\"']?[ \t]{{0,4}}[:=]"
    r"[ \t]{0,4}\\?[\"']?[ \t]{0,4}([0-9]{3,4})(?![0-9]|\.[0-9])".encode()
)
_UNLIKE = re.compile(r"[^\x00-\x7f]")
_UNLIKE_RAW = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|\\(/)|[^\x01-\x7f]")
"""Characters that a text as ASCII does not hold as themselves; in raw bytes, escapes and zeros too."""
_CODE_WORDS = frozenset(
    ("cvv", "cvv2", "cvc", "cvc2", "cvn", "cvn2", "cav", "cav2", "csc", "cid", "cvd", "cvx", "icvv", "dcvv", "pin")
)
_CODE_PARTS = ("securitycode", "cardverification", "verificationvalue", "verificationnumber", "cardcode", "cvvcode")
_TRACK_NAMES = re.compile(r"track[123]?(?:data)?|pinblock|magstripe(?:data)?|magneticstripe(?:data)?")
_RESULT_WORDS = frozenset(
    ("result", "results", "response", "match", "matched", "check", "checked", "status", "present", "provided", "valid")
)
_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CODE_VALUE = re.compile(r"\s*[0-9]{3,4}(?:\.0+)?\s*")
T = TypeVar("T", bound=msgspec.Struct)


class _Span(NamedTuple):
    """What stands in text[start:end]; its ASCII form is `plain`."""

    start: int
    end: int
    kind: int
    plain: bytes


def masked(text: str, found: set[str] | None = None) -> str:
    """The text without card data. found: gets the kinds of what was taken out (`KINDS`)."""
    return _masked(text, found, is_raw=False)


def masked_bytes(content: bytes | None, found: set[str] | None = None) -> bytes | None:
    """Raw bytes without card data. Of more than RAW_BYTES_MAX bytes that may hold some, only so many are kept."""
    if not content:
        return content
    if len(content) > RAW_BYTES_MAX:
        if not is_suspicious(content) and b"\x00" not in content and _CODE_KEY.search(content.lower()) is None:
            return content
        content = content[:RAW_BYTES_MAX]
    text = content.decode("utf-8", "surrogateescape")
    without = _masked(text, found, is_raw=True)
    return content if without is text else without.encode("utf-8", "surrogateescape")


def holds_card_number(value: str) -> bool:
    """Whether there is a card number or a track in the value of an identifier."""
    plain, _ = _plain(value, is_raw=False)
    return bool(find(plain)[0] != NONE)


@lru_cache(maxsize=NAMES_MAX)
def named_after(name: str) -> int:
    """What an attribute holds by its name: CODE for a security code, TRACK for a track or PIN block, else NONE."""
    words = _WORD.findall(_HUMP.sub("_", unicodedata.normalize("NFKC", name)).casefold())
    if not _RESULT_WORDS.isdisjoint(words):
        return NONE
    joined = "".join(words)
    if _TRACK_NAMES.fullmatch(joined) or _TRACK_NAMES.fullmatch(joined.removeprefix("card")):
        return TRACK
    is_code = not _CODE_WORDS.isdisjoint(words) or any(part in joined for part in _CODE_PARTS) or joined in _CODE_WORDS
    return CODE if is_code else NONE


def without_notes(event: T) -> T:
    """The event with card data masked in what people wrote: notes, reasons and errors."""
    texts = {name: getattr(event, name) for name in ("note", "reason", "error") if name in event.__struct_fields__}
    changes = {name: new for name, text in texts.items() if (new := masked(text)) is not text}
    return replace(event, **changes) if changes else event


class Hiding:
    """Hides card data in what one log takes in. free: identifying fields in which no number is taken for a card's.
    always: identifying fields whose every value becomes a token.
    """

    def __init__(
        self, tokens: Tokens, free: frozenset[str] = frozenset(), always: frozenset[str] = frozenset()
    ) -> None:
        self._tokens = tokens
        self._free = free
        self._always = always
        self._harmless: set[str] = set()

    def is_named(self, attributes: dict[str, float | str]) -> bool:
        """Whether an attribute is named after a security code or a track."""
        if self._harmless.issuperset(attributes):
            return False
        fresh = [name for name in attributes if not named_after(name)]
        if len(self._harmless) + len(fresh) <= NAMES_MAX:
            self._harmless.update(fresh)
        return len(fresh) < len(attributes)

    def identifier(self, field: str, value: str, found: set[str] | None = None) -> str:
        """The value of an identifying field as the log holds it: by this it is looked up."""
        if field in self._always:
            return self._tokens.token(field, value) if value else value
        if field in self._free or not holds_card_number(value):
            return value
        if found is not None:
            found.add("card_number")
        return self._tokens.token(field, value)

    def event(self, event: T) -> tuple[T, frozenset[str]]:
        """The event without card data, and the kinds of what it held."""
        found: set[str] = set()
        changes: dict[str, Any] = {}
        for field in event.__struct_fields__:
            value = getattr(event, field)
            new = self._value(field, value, found)
            if new is not value:
                changes[field] = new
        return (replace(event, **changes), frozenset(found)) if changes else (event, frozenset())

    def list_change(self, event: ListChanged) -> ListChanged:
        """A change of a list, with tokens for card numbers."""
        field = LIST_FIELDS.get(event.kind)
        if field is None:
            return event
        add, remove = (tuple(self.identifier(field, v) for v in values) for values in (event.add, event.remove))
        return event if (add, remove) == (event.add, event.remove) else replace(event, add=add, remove=remove)

    def _value(self, field: str, value: Any, found: set[str]) -> Any:
        if isinstance(value, str):
            is_id = field in PREFIXES or field.endswith("_id")
            return self.identifier(field, value, found) if is_id else masked(value, found)
        if isinstance(value, tuple):
            new = tuple(masked(each, found) if isinstance(each, str) else each for each in value)
            return value if new == value else new
        if isinstance(value, dict):
            hidden = dict(_attribute(name, each, found) for name, each in value.items())
            return value if hidden == value else hidden
        return value


def _attribute(name: str, value: float | str, found: set[str]) -> tuple[str, float | str]:
    kind = named_after(name)
    if kind == CODE and _CODE_VALUE.fullmatch(_ascii(value) if isinstance(value, str) else f"{value:.1f}"):
        found.add(KINDS[CODE])
        return name, "***"
    if kind == TRACK and value not in ("", "****"):
        found.add(KINDS[TRACK])
        return name, "****"
    if isinstance(value, str):
        return masked(name, found), masked(value, found)
    if _is_card(value):
        found.add(KINDS[CARD])
        return masked(name, found), f"****{int(value) % 10_000:04d}" if value < 2**53 else "****"
    return masked(name, found), value


def _is_card(number: float) -> bool:
    """Whether a number is a card's. Above 2⁵³ a double no longer holds all its digits, so the formula says nothing."""
    if not 10 ** (DIGITS_MIN - 1) <= number < 10**DIGITS_MAX or not number.is_integer():
        return False
    digits = str(int(number))
    if number >= 2**53:
        return bool(is_issued(int(digits[:6]), len(digits)))
    return bool(find(digits.encode())[0] == CARD)


def _ascii(text: str) -> str:
    """The text with digits of all scripts as ASCII."""
    return text if text.isascii() else _plain(text, is_raw=False)[0].decode()


def _masked(text: str, found: set[str] | None, *, is_raw: bool) -> str:
    for turn in range(_PASSES):
        spans = list(_spans(text, is_raw=is_raw))
        if not spans:
            return text
        if found is not None:
            found |= {KINDS[span.kind] for span in spans}
        parts, at = [], 0
        for span in spans:
            if span.start < at:
                at = max(at, span.end)
                continue
            parts += [text[at : span.start], _mask(span, keeps_last=turn == 0)]
            at = span.end
        text = "".join([*parts, text[at:]])
    return text


def _mask(span: _Span, *, keeps_last: bool) -> str:
    if span.kind == CODE:
        return "***"
    if span.kind == CARD and keeps_last and b"e" not in span.plain.lower():
        return "****" + bytes(c for c in span.plain if 48 <= c <= 57)[-4:].decode()
    return "****"


def _spans(text: str, *, is_raw: bool) -> Iterator[_Span]:
    """What to take out, in order of where it begins."""
    plain, places = _plain(text, is_raw=is_raw)
    spans: list[tuple[int, int, int]] = []
    for what, start, end in find_all(plain).tolist():
        rest = _TRACK_REST.match(plain, end) if what == TRACK else None
        spans.append((start, end if rest is None else rest.end(), what))
    folded = plain.lower()
    for m in _CODE_TEXT.finditer(folded):
        if not folded[max(0, m.start() - 1) : m.start()].isalnum():
            spans.append((m.start(1), m.end(1), CODE))
    if is_raw:
        spans += [(m.start(1), m.end(1), CODE) for m in _CODE_KEY.finditer(folded)]
    for start, end, what in sorted(set(spans)):
        if places is None:
            yield _Span(start, end, what, plain[start:end])
        else:
            yield _Span(places.of(start)[0], places.of(end - 1)[1], what, plain[start:end])


class _Places:
    """From where to where in a text the character of each byte reaches: in runs, in which each is one character."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._runs: list[tuple[int, int]] = []  # the run's place in the text, and how far its characters reach

    def add(self, begin: int, start: int, size: int) -> None:
        """From the byte `begin` on, characters of `size` from `start` on."""
        self._begins.append(begin)
        self._runs.append((start, size))

    def of(self, byte: int) -> tuple[int, int]:
        """The place of a byte's character."""
        run = bisect_right(self._begins, byte) - 1
        start, size = self._runs[run]
        start += byte - self._begins[run]
        return start, start + size


def _plain(text: str, *, is_raw: bool) -> tuple[bytes, _Places | None]:
    """The text as ASCII: digits of all scripts as digits, spaces and dashes likewise, invisible characters left out,
    other letters as `x`; and the places of its bytes, or None if each is its character's. is_raw: escapes count as the
    characters that they mean.
    """
    has_escapes = is_raw and "\\" in text
    if text.isascii() and not has_escapes and not (is_raw and "\x00" in text):
        return text.encode(), None
    out, places = bytearray(), _Places()
    k = 0
    for m in (_UNLIKE_RAW if is_raw else _UNLIKE).finditer(text):
        start, end = m.span()
        if k < start:  # a run that is itself, which is nearly all of most texts
            places.add(len(out), k, 1)
            out += text[k:start].encode()
        k = end
        c = m[0]
        if c[0] == "\\":
            c = m[3] or chr(int(m[1] or m[2], 16))
        code = ord(c)
        shown = -1 if is_raw and code == 0 else code if code < 128 else _shown(c)
        if shown >= 0:
            places.add(len(out), start, end - start)
            out.append(shown)
    places.add(len(out), k, 1)
    out += text[k:].encode()
    return bytes(out), places


@lru_cache(maxsize=4096)
def _shown(c: str) -> int:
    """The ASCII code that a character of another script counts as; -1: it is left out."""
    if (digit := unicodedata.digit(c, -1)) >= 0:
        return 48 + digit
    match unicodedata.category(c):
        case "Zs":
            return 32
        case "Pd":
            return 45
        case "Cf" | "Mn" | "Me":
            return -1
        case _:
            return 45 if c == "\u2212" else 120
