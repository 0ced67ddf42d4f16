"""Canonical forms: which spellings of an account, a card, a merchant, a device, an IP address or a country are the same
to a list. Pure, and the same on every version of Python.

A list event's values and a transaction's fields are compared in canonical form, so `SHOP-66` and `shop-66 ` do not pass
a block on `shop-66`. Features and reference tables count merchants, categories, countries and devices by it, so another
spelling is neither new nor without a past. Only comparison uses it: the log keeps what the source sent.

    account, merchant, device   compatibility forms (NFKC), case folded, invisible characters dropped, dashes as "-",
                                white space trimmed and collapsed
    card                        the same, without spaces and hyphens
    ip                          the address: no leading zeros, IPv4-mapped IPv6 as IPv4, no zone, shortest form; a list
                                may hold networks, 10.0.0.0/8. What is not an address is compared as text
    country                     the same as an account, in capitals

Replay must give the same bits under every Python, but `str.casefold` and `unicodedata` follow a Unicode version that
changes between Python releases. So the tables are frozen (ADR 14): normalisation by Unicode 3.2, which Python carries
for internationalised domain names and never changes; case folding and invisible characters by the tables below. A
character that is newer than Unicode 3.2 is compared as it is.

Look-alikes of other scripts (Cyrillic for Latin a) stay different.

Cost: 0.1 µs for ASCII; other text and IP addresses are remembered.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal
from unicodedata import ucd_3_2_0

from core.errors import BadInput
from core.events import ListKind

REMEMBERED = 65_536

Form = Literal["", "raw", "text", "card", "ip", "country"]
"""How a string is brought into canonical form before it is compared. raw: as the source sent it. text: as a name or an
ID. country: in capitals, for currencies too. "": no string.
"""

# Case folding of Unicode 3.2 (status C) of characters without a decomposition: (first, last, step, distance).
_CASE = (
    (0x41, 0x5A, 1, 32), (0xC6, 0xC6, 1, 32), (0xD0, 0xD0, 1, 32), (0xD8, 0xD8, 1, 32), (0xDE, 0xDE, 1, 32),
    (0x110, 0x110, 1, 1), (0x126, 0x126, 1, 1), (0x141, 0x141, 1, 1), (0x14A, 0x14A, 1, 1), (0x152, 0x152, 1, 1),
    (0x166, 0x166, 1, 1), (0x181, 0x181, 1, 210), (0x182, 0x184, 2, 1), (0x186, 0x186, 1, 206), (0x187, 0x187, 1, 1),
    (0x189, 0x18A, 1, 205), (0x18B, 0x18B, 1, 1), (0x18E, 0x18E, 1, 79), (0x18F, 0x18F, 1, 202),
    (0x190, 0x190, 1, 203), (0x191, 0x191, 1, 1), (0x193, 0x193, 1, 205), (0x194, 0x194, 1, 207),
    (0x196, 0x196, 1, 211), (0x197, 0x197, 1, 209), (0x198, 0x198, 1, 1), (0x19C, 0x19C, 1, 211),
    (0x19D, 0x19D, 1, 213), (0x19F, 0x19F, 1, 214), (0x1A2, 0x1A4, 2, 1), (0x1A6, 0x1A6, 1, 218),
    (0x1A7, 0x1A7, 1, 1), (0x1A9, 0x1A9, 1, 218), (0x1AC, 0x1AC, 1, 1), (0x1AE, 0x1AE, 1, 218),
    (0x1B1, 0x1B2, 1, 217), (0x1B3, 0x1B5, 2, 1), (0x1B7, 0x1B7, 1, 219), (0x1B8, 0x1B8, 1, 1), (0x1BC, 0x1BC, 1, 1),
    (0x1E4, 0x1E4, 1, 1), (0x1F6, 0x1F6, 1, -97), (0x1F7, 0x1F7, 1, -56), (0x21C, 0x21C, 1, 1),
    (0x220, 0x220, 1, -130), (0x222, 0x224, 2, 1), (0x345, 0x345, 1, 116), (0x391, 0x3A1, 1, 32),
    (0x3A3, 0x3A9, 1, 32), (0x3C2, 0x3C2, 1, 1), (0x3D8, 0x3EE, 2, 1), (0x402, 0x404, 2, 80), (0x405, 0x406, 1, 80),
    (0x408, 0x40B, 1, 80), (0x40F, 0x40F, 1, 80), (0x410, 0x418, 1, 32), (0x41A, 0x42F, 1, 32), (0x460, 0x474, 2, 1),
    (0x478, 0x480, 2, 1), (0x48A, 0x4BE, 2, 1), (0x4C3, 0x4CD, 2, 1), (0x4D4, 0x4D4, 1, 1), (0x4D8, 0x4D8, 1, 1),
    (0x4E0, 0x4E0, 1, 1), (0x4E8, 0x4E8, 1, 1), (0x500, 0x50E, 2, 1), (0x531, 0x556, 1, 48),
    (0x10400, 0x10425, 1, 40),
)  # fmt: skip
# Default_Ignorable_Code_Point of Unicode 15, as ranges.
_INVISIBLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
_SPACES = (0x85, 0x1680, 0x2028, 0x2029)
"""White space that NFKC does not turn into U+0020."""
_DASHES = (0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2015, 0x2043, 0x2212)

_FOLD: dict[int, str | None] = {0xDF: "ss"}
_FOLD |= {code: chr(code + by) for first, last, step, by in _CASE for code in range(first, last + 1, step)}
_FOLD |= {code: None for first, last in _INVISIBLE for code in range(first, last + 1)}
_FOLD |= dict.fromkeys(_SPACES, " ") | dict.fromkeys(_DASHES, "-")
_CARD = str.maketrans("", "", " -")
_COUNTRY = re.compile(r"[A-Z]{2}")

FIELDS: dict[ListKind, str] = {
    "account": "account_id",
    "card": "card_id",
    "merchant": "merchant_id",
    "device": "device_id",
    "ip": "ip",
    "country": "country",
}
"""The field of a transaction that each kind of list is about."""

Address = tuple[int, int]
"""An IP address: its width (32 or 128 bits) and its number."""


def canonical(kind: ListKind, value: str) -> str:
    """The form in which values of this kind are compared. Never raises; "" if nothing is left of the value."""
    match kind:
        case "ip":
            return _ip(value)
        case "card":
            form = text(value).translate(_CARD)
            return form if form.isascii() else text(form)  # what stood apart may now combine
        case "country":
            form = text(value)
            return form.upper() if form.isascii() else form
        case _:
            return text(value)


def text(value: str) -> str:
    """The canonical form of a name or an ID."""
    return " ".join(value.lower().split()) if value.isascii() else _text(value)


def texts(values: list[str]) -> list[str]:
    """`text` of every value, in one call: 0.1 µs each where all are plain ASCII."""
    joined = "|".join(values)
    is_plain = (
        joined.isascii()
        and joined.isprintable()
        and joined.count("|") == max(len(values) - 1, 0)
        and not joined.startswith(" ")
        and not joined.endswith(" ")
        and not any(odd in joined for odd in ("  ", " |", "| "))
    )
    if not is_plain:
        return [text(value) for value in values]
    folded = joined.lower()
    return values if folded == joined else folded.split("|")


class Few(dict[str, str]):
    """The canonical forms of one field that has few distinct values: 0.04 µs each. Remembers at most REMEMBERED."""

    def __init__(self, kind: ListKind | None) -> None:
        """kind: as of `canonical`; None as of `text`."""
        super().__init__()
        self._kind = kind

    def __missing__(self, value: str) -> str:
        form = text(value) if self._kind is None else canonical(self._kind, value)
        if len(self) >= REMEMBERED:
            self.clear()
        self[value] = form
        return form

    def each(self, values: Iterable[str]) -> list[str]:
        """The form of every value."""
        return list(map(self.__getitem__, values))


def forms(kind: ListKind, values: list[str]) -> list[str]:
    """`canonical` of every value of one kind, in one call."""
    match kind:
        case "account" | "merchant" | "device":
            return texts(values)
        case _:
            return [canonical(kind, value) for value in values]


def in_form(form: Form, values: list[str]) -> list[str]:
    """Every value in its form, in one call."""
    match form:
        case "" | "raw":
            return values
        case "text":
            return texts(values)
        case kind:
            return forms(kind, values)


@lru_cache(maxsize=REMEMBERED)
def _text(value: str) -> str:
    folded = ucd_3_2_0.normalize("NFKD", value).translate(_FOLD)
    return " ".join(ucd_3_2_0.normalize("NFKC", folded).split())


@lru_cache(maxsize=REMEMBERED)
def address(value: str) -> Address | None:
    """The IP address that the text means; None if it is none."""
    plain = text(value).partition("%")[0]
    try:
        if ":" not in plain:
            parts = plain.split(".")
            if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
                return None
            return 32, int(ipaddress.IPv4Address(".".join(str(int(part)) for part in parts)))
        number = int(ipaddress.IPv6Address(plain.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None
    return (32, number & 0xFFFFFFFF) if number >> 32 == 0xFFFF else (128, number)


def shown(found: Address) -> str:
    """An address in its shortest form (RFC 5952)."""
    width, number = found
    return str(ipaddress.IPv4Address(number)) if width == 32 else str(ipaddress.IPv6Address(number))


def network(value: str) -> tuple[Address, int] | None:
    """(first address, prefix length) of `10.0.0.0/8`, its host bits cleared; None if the text is no network."""
    base, slash, length = text(value).partition("/")
    found = address(base)
    if not slash or found is None or not (length.isascii() and length.isdigit() and len(length) <= 3):
        return None
    bits = int(length)
    if ":" in base and found[0] == 32:  # IPv4-mapped: ::ffff:10.0.0.0/104
        bits -= 96
    if not 0 <= bits <= found[0]:
        return None
    return masked(found, bits), bits


def masked(found: Address, bits: int) -> Address:
    """The first address of the network of this prefix length that holds the address."""
    width, number = found
    return width, number >> (width - bits) << (width - bits)


def _ip(value: str) -> str:
    if (found := address(value)) is not None:
        return shown(found)
    if (net := network(value)) is None:
        return text(value)
    first, bits = net
    return shown(first) if bits == first[0] else f"{shown(first)}/{bits}"


def listed(kind: ListKind, value: str) -> str:
    """The canonical form of a value that a person puts on a list or takes off it. Raises BadInput if no transaction
    could ever match it.
    """
    form = canonical(kind, value)
    if not form:
        raise BadInput(f"{value!r} is not a valid {kind}: it is empty, or only white space or invisible characters")
    if kind == "country" and not _COUNTRY.fullmatch(form):
        raise BadInput(f"{value!r} is not a country code; write two letters (ISO 3166-1 alpha-2), such as DE")
    if kind == "ip" and address(form) is None:
        net = network(value)
        if net is None:
            raise BadInput(f"{value!r} is neither an IP address nor a network, such as 192.0.2.7 or 10.0.0.0/8")
        base = address(text(value).partition("/")[0])
        if base != net[0]:
            raise BadInput(f"{value!r} has bits set beyond its prefix; for the network write {form}")
    return form


class Members(dict[str, None]):
    """A list as it is matched: its values in canonical form.

    prefixes: (width, prefix length) of each kind of network among the values.
    """

    prefixes: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, kind: ListKind, values: Iterable[str]) -> Members:
        """The list that holds these canonical values."""
        members = cls((value, None) for value in values)
        if kind == "ip":
            nets = [net for value in members if "/" in value and (net := network(value))]
            members.prefixes = tuple(sorted({(first[0], bits) for first, bits in nets}))
        return members

    def has(self, form: str) -> bool:
        """Whether the list holds this canonical value, or a network around it."""
        if form in self:
            return True
        if not self.prefixes or (found := address(form)) is None:
            return False
        return any(
            width == found[0] and f"{shown(masked(found, bits))}/{bits}" in self for width, bits in self.prefixes
        )
