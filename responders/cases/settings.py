"""All settings of casework: one frozen record, read from the `[cases]` table of the settings file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from core.errors import BadInput
from core.events import Verdict
from core.settings import unknown_name
from core.text import check_name

NOTE_CHARACTERS_MAX = 2_000


class Macro(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several acts under one name: resolve with this verdict and note, and block or unblock the account."""

    verdict: Verdict
    note: str = ""
    block: bool = False
    unblock: bool = False


class CaseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """check_share: of resolved cases, how many a second person shall look at. macros: by name."""

    check_share: float = 0.05
    macros: dict[str, Macro] = {}

    def __post_init__(self) -> None:
        if not 0.0 <= self.check_share <= 1.0:
            raise BadInput(f"cases: check_share must be between 0 and 1, not {self.check_share!r}")
        for name, macro in self.macros.items():
            check_name("cases.macros: a macro's name", name)
            if macro.note:
                check_name(f"cases.macros.{name}: note", macro.note, NOTE_CHARACTERS_MAX)
            if macro.block and macro.unblock:
                raise BadInput(f"cases.macros.{name}: block and unblock can't both be set")

    def macro(self, name: str) -> Macro:
        """The macro of this name. Raises BadInput for an unknown one."""
        if name not in self.macros:
            known = ", ".join(self.macros) or "none; add [cases.macros.NAME] to the settings file"
            raise BadInput(f"unknown macro {name!r}; known: {known}")
        return self.macros[name]


def case_settings(table: Mapping[str, Any]) -> CaseSettings:
    """Settings from a table of a configuration file. Raises BadInput with one line that names the setting."""
    for name in table:
        if name not in CaseSettings.__struct_fields__:
            raise BadInput(f"cases: {unknown_name(name, CaseSettings.__struct_fields__)}")
    try:
        return msgspec.convert(dict(table), CaseSettings)
    except msgspec.ValidationError as error:
        raise BadInput(f"cases: {error}") from None
