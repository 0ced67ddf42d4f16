"""Names of people and services: the form in which they are compared, and which can't be told from others by eye. Pure,
and the same on every version of Python (`core.canonical`).

`Ann`, `ann ` and `ａｎｎ` are one person. `b0b` passes for `bob` by its looks, as a name in Cyrillic letters may: such
names are not one person's, but can't stand beside each other (`skeleton`). A name that mixes scripts is nobody's: it
is refused (`lookalike`) instead of being mapped to what it looks like, which needs a table of all characters.
"""

from __future__ import annotations

import re
from unicodedata import ucd_3_2_0

from core import canonical

NAME_CHARACTERS_MAX = 64
PROGRAMS = "sentinel "
"""What the names of our own programs begin with, as actors of what they do by themselves."""
_PLAIN = re.compile(r"[0-9 ._@'+-]")
"""What names hold besides letters."""
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "KATAKANA-HIRAGANA")
"""First words of the names of characters that one language writes together."""
_LOOKS = str.maketrans(
    "01ı" + "асеорхуіјѕһԁԛԝѵӏкмтвн" + "αικνορτυχωγεη" + "օսհ",
    "oli" + "aceopxyijshdqwvlkmtbh" + "aikvoptuxwyen" + "ouh",
)
"""Digits, Cyrillic, Greek and Armenian letters that look like Latin ones, as small letters or as capitals."""


def person(name: str) -> str:
    """The form in which two names are compared: equal for one person."""
    return canonical.text(name)


def skeleton(name: str) -> str:
    """What a name looks like in Latin letters: equal for names that pass for each other by eye."""
    return person(name).translate(_LOOKS)


def lookalike(name: str) -> str:
    """Why a name may pass for another one by its looks; "" if it can't."""
    form = person(name)
    if form.isascii():
        return ""
    scripts = dict.fromkeys(_script(each) for each in form if ucd_3_2_0.category(each).startswith("L"))
    if len(scripts) > 1:
        return f"it mixes letters of {' and '.join(each.title() for each in scripts)}"
    return ""


def fault(name: str) -> str:
    """Why an identity can't have this name; "" if it can: letters of one script, digits and ``. _ - @ ' +``."""
    form = person(name)
    if not form:
        return "it is empty"
    if len(name) > NAME_CHARACTERS_MAX:
        return f"it has more than {NAME_CHARACTERS_MAX} characters"
    for each in form:
        if not (ucd_3_2_0.category(each)[0] in "LM" or _PLAIN.fullmatch(each)):
            return "it may hold letters, digits, spaces and . _ - @ ' + only"
    if is_program(name):
        return f"{PROGRAMS.strip()} … is the name of a program"
    return lookalike(name)


def _script(letter: str) -> str:
    """The script of a letter, by its Unicode name's first word; letters that one language mixes count as one script."""
    word = ucd_3_2_0.name(letter, "UNKNOWN").partition(" ")[0]
    return _EAST_ASIAN[0] if word in _EAST_ASIAN else word


def is_program(name: str) -> bool:
    """Whether an actor is one of our programs ("sentinel ingest"), which no identity is called."""
    return person(name).startswith(PROGRAMS)
