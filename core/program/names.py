"""Which names a document may give: their form, and the ones that the language has already. Pure."""

from __future__ import annotations

import re

from core.program.document import NAME_CHARACTERS_MAX
from core.program.fields import OUTCOMES, STANDARD
from core.program.functions import FUNCTIONS
from core.program.scope import ACCOUNT
from core.program.tokens import KEYWORDS, RESERVED

NAME = re.compile(r"[a-z][a-z0-9_]*")
CODE = re.compile(r"[A-Z][A-Z0-9_]*")
LABEL = re.compile(r"[a-z][a-z0-9_-]*")
VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")
LIBRARY = re.compile(r"[a-z][a-z0-9_-]{0,63}@[1-9][0-9]{0,3}")

_FUNCTIONS = frozenset(each.name for each in FUNCTIONS if each.style == "function")
_WORDS = frozenset((ACCOUNT, *KEYWORDS, *RESERVED))


def name_fault(name: str) -> str:
    """Why a field, feature, parameter or entity can't have this name; "" if it can."""
    if not NAME.fullmatch(name) or len(name) > NAME_CHARACTERS_MAX:
        return f"a name has a–z, 0–9 and _, begins with a letter and has at most {NAME_CHARACTERS_MAX} characters"
    if name in STANDARD:
        return f"{name} is a standard field ({STANDARD[name].meaning}); choose another name"
    if name in OUTCOMES:
        return f"{name} is what was decided; choose another name"
    if name in _FUNCTIONS:
        return f"{name} is a function; choose another name"
    if name in _WORDS:
        return f"{name} is a word of the language; choose another name"
    return ""


def code_fault(code: str) -> str:
    """Why a rule can't have this code; "" if it can."""
    if not CODE.fullmatch(code) or len(code) > NAME_CHARACTERS_MAX:
        return f"a code has A–Z, 0–9 and _, begins with a letter and has at most {NAME_CHARACTERS_MAX} characters"
    return ""
