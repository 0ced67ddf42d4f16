"""TOML that others wrote, as `tomllib` reads it: bounded in depth, so that whoever walks it needs no care. Pure."""

from __future__ import annotations

import tomllib
from typing import Any

from core.errors import BadInput

DEPTH_MAX = 32
"""Of tables and arrays within each other. A dotted key of ten thousand parts is as many tables."""


def parse_toml(text: str) -> dict[str, Any]:
    """The document. Raises BadInput, without the file's name, if it is not TOML or deeper than DEPTH_MAX."""
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also an integer of thousands of digits, a date that does not exist
        raise BadInput(f"not TOML: {error}") from None
    level: list[Any] = [found]
    for _ in range(DEPTH_MAX):
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        level = [each for each in level if isinstance(each, (dict, list))]
        if not level:
            return found
    raise BadInput(f"not TOML that is read here: its tables and arrays are nested more than {DEPTH_MAX} levels deep")
