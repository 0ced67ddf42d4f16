"""Semantic versions of models: what counts as major, minor and patch. Pure.

| part | incremented when | meaning |
|---|---|---|
| major | the feature spec changed | an older worker can't serve it |
| minor | trained from scratch, or of a new structure (kind, hyperparameters, columns used) | another model |
| patch | boosting continued, leaf values refitted, labels learned online, recalibrated | its parent, updated |
"""

from __future__ import annotations

import re
from typing import Literal

from core.errors import BadInput

ModelChange = Literal["features", "retrained", "structure", "boosted", "refitted", "online", "recalibrated"]

_PART: dict[ModelChange, int] = {
    "features": 0,
    "retrained": 1,
    "structure": 1,
    "boosted": 2,
    "refitted": 2,
    "online": 2,
    "recalibrated": 2,
}
_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")


def parts(version: str) -> tuple[int, int, int]:
    """(major, minor, patch), which sorts numerically. Raises BadInput unless `version` is `MAJOR.MINOR.PATCH`."""
    found = _VERSION.fullmatch(version)
    if not found:
        raise BadInput(f"not a semantic version MAJOR.MINOR.PATCH: {version[:40]!r}")
    return int(found[1]), int(found[2]), int(found[3])


def next_version(parent: str, change: ModelChange) -> str:
    """The version of a model made from `parent` by `change` (table above). Raises BadInput for an invalid version, or
    for a change that is not in the table.
    """
    if change not in _PART:
        raise BadInput(f"unknown kind of model change {change!r}; expected one of {', '.join(_PART)}")
    numbers = list(parts(parent))
    place = _PART[change]
    numbers[place] += 1
    numbers[place + 1 :] = [0] * (2 - place)
    return ".".join(map(str, numbers))
