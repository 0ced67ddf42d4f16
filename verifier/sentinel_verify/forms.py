"""Canonical forms of names, cards, IP addresses and countries, in which programs compare them, on every Python.

Normalisation is Unicode 3.2's, which Python carries unchanged; case folding and invisible characters are tables of the
same version (docs/decisions/0014-canonical-forms.md of Stream-Sentinel).
"""

import ipaddress
import unicodedata

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
"""Case folding of characters without a decomposition: first, last, step, distance."""
_INVISIBLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip

_FOLD: dict[int, str | None] = {0xDF: "ss"}
_FOLD |= {code: chr(code + by) for first, last, step, by in _CASE for code in range(first, last + 1, step)}
_FOLD |= {code: None for first, last in _INVISIBLE for code in range(first, last + 1)}
_FOLD |= {code: " " for code in (0x85, 0x1680, 0x2028, 0x2029)}
_FOLD |= {code: "-" for code in (0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2015, 0x2043, 0x2212)}


def in_form(form: str, value: str) -> str:
    """The value in a canonical form; "" if nothing is left of it."""
    if form == "text":
        return text(value)
    if form == "country":
        found = text(value)
        return found.upper() if found.isascii() else found
    if form == "card":
        found = text(value).replace(" ", "").replace("-", "")
        return found if found.isascii() else text(found)
    return _ip(value) if form == "ip" else value


def text(value: str) -> str:
    """The canonical form of a name or an ID."""
    if value.isascii():
        return " ".join(value.lower().split())
    folded = unicodedata.ucd_3_2_0.normalize("NFKD", value).translate(_FOLD)
    return " ".join(unicodedata.ucd_3_2_0.normalize("NFKC", folded).split())


def address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a text means; IPv4-mapped IPv6 is IPv4."""
    plain = text(value).partition("%")[0]
    try:
        if ":" not in plain:
            parts = plain.split(".")
            if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
                return None
            return ipaddress.IPv4Address(".".join(str(int(part)) for part in parts))
        number = int(ipaddress.IPv6Address(plain.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None
    is_mapped = number >> 32 == 0xFFFF
    return ipaddress.IPv4Address(number & 0xFFFFFFFF) if is_mapped else ipaddress.IPv6Address(number)


def network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network that a text such as 10.0.0.0/8 means."""
    base, slash, length = text(value).partition("/")
    found = address(base)
    if not slash or found is None or not (length.isascii() and length.isdigit() and len(length) <= 3):
        return None
    bits = int(length) - (96 if ":" in base and found.version == 4 else 0)
    if not 0 <= bits <= found.max_prefixlen:
        return None
    return ipaddress.ip_network((found, bits), strict=False)


def _ip(value: str) -> str:
    if (found := address(value)) is not None:
        return str(found)
    if (net := network(value)) is None:
        return text(value)
    return str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)
