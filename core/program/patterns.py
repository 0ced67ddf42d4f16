"""Regular expressions of RE2: the one place that compiles them, so that what the checker accepts, the engine runs.

RE2 matches in time linear in the text, whatever the pattern (Thompson 1968; Cox 2010).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

from core.errors import BadInput

CHARACTERS_MAX = 256
MEMORY_BYTES = 1 << 20
"""Of one compiled pattern, its automaton with it."""


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """The compiled pattern; `search` tells whether it matches anywhere. Raises BadInput."""
    if len(pattern) > CHARACTERS_MAX:
        raise BadInput(f"the pattern has {len(pattern):,} characters, and {CHARACTERS_MAX} are allowed")
    options = re2.Options()
    options.max_mem = MEMORY_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error.args[0])
        raise BadInput(f"the pattern is not a valid RE2 regular expression: {reason}") from None
