"""A slow, plain scanner for card numbers, to compare the product's with. It shares no code with it: it goes through all
places and lengths, and knows the schemes as text prefixes.
"""

from __future__ import annotations

import random
import re
import unicodedata

_GROUP = re.compile(r"\d+")


def luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        if place % 2:
            value = value * 2 if value < 5 else value * 2 - 9
        total += value
    return total % 10 == 0


def issued(digits: str) -> bool:
    size, two, three, four = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4])
    long = 16 <= size <= 19
    if digits[0] == "4":
        return size in (13, 16, 18, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return size == 16
    if 2200 <= four <= 2205:
        return long
    if two in (34, 37):
        return size == 15
    if 300 <= three <= 305 or four == 3095 or two in (36, 38, 39):
        return long or size == 14
    if two in (50, 56, 57, 58, 63, 67):
        return 13 <= size <= 19
    if 3528 <= four <= 3589 or two in (60, 62, 65, 81, 82) or 644 <= three <= 649:
        return long
    return (four in (8600, 9860) or digits[:4] == "9792") and size == 16


def card_numbers(text: str) -> list[str]:
    """All card numbers in ASCII text, as written: overlapping ones too."""
    groups = [(m.start(), m.end()) for m in _GROUP.finditer(text)]
    found = []
    for first, (start, end) in enumerate(groups):
        if start >= 2 and text[start - 1] == "." and text[start - 2].isdigit():
            continue  # a fraction
        if text[max(0, start - 1) : start] == "+" and end - start == 13:
            continue  # a phone number
        for last in range(first, min(len(groups), first + 19)):
            written = text[start : groups[last][1]]
            sizes = [b - a for a, b in groups[first : last + 1]]
            seps = [text[groups[k][1] : groups[k + 1][0]] for k in range(first, last)]
            digits = "".join(c for c in written if c.isdigit())
            if len(digits) > 19:
                break
            if len(digits) >= 13 and _usual(sizes, seps) and luhn(digits) and issued(digits):
                found.append(written)
    return found


def _usual(sizes: list[int], seps: list[str]) -> bool:
    for sep, left, right in zip(seps, sizes[:-1], sizes[1:], strict=True):
        if re.fullmatch(r"[ -]{1,3}", sep):
            continue
        if not re.fullmatch(r"[./_]", sep) or left > 7 or right > 7:
            return False
    if sizes[0] >= 3:
        return all(size >= 3 for size in sizes[:-1])
    return all(size == sizes[0] for size in sizes[:-1]) and sizes[-1] <= sizes[0]


def card_number(dice: random.Random) -> str:
    """A valid number of a scheme, as digits."""
    prefix, size = dice.choice(
        (("4", 16), ("4", 13), ("4", 19), ("51", 16), ("2221", 16), ("34", 15), ("37", 15), ("36", 14), ("3530", 16),
         ("6011", 16), ("62", 17), ("5018", 13), ("6304", 18), ("6763", 19), ("2204", 16), ("8171", 16), ("9792", 16))
    )  # fmt: skip
    body = prefix + "".join(dice.choice("0123456789") for _ in range(size - len(prefix) - 1))
    return next(body + check for check in "0123456789" if luhn(body + check))


def spelled(number: str, dice: random.Random) -> str:
    """The number as people write it."""
    style = dice.randrange(8)
    if style < 3:
        return number
    fours = [number[k : k + 4] for k in range(0, len(number), 4)]
    if style == 3:
        return " ".join(fours)
    if style == 4:
        return "-".join(fours)
    if style == 5:
        return ".".join(fours)
    if style == 6:
        return " ".join(number)
    return " - ".join(fours)


def in_script(number: str, dice: random.Random) -> str:
    """The number in digits of another script."""
    zero = dice.choice(("\u0660", "\u06f0", "\u0966", "\uff10", "\U0001d7ce"))
    return "".join(chr(ord(zero) + int(c)) if c.isdigit() else c for c in number)


def digits_of(text: str) -> str:
    """The decimal digits in a text, of all scripts, in order."""
    return "".join(str(unicodedata.decimal(c)) for c in text if unicodedata.category(c) == "Nd")
