"""Times a call. The learners have no clock; commands give them this one."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds_of(call: Callable[[], object]) -> float:
    """Call it and return the seconds it took."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
