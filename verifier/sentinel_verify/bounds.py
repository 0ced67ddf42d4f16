"""Bounds on what one verification may take, whatever the file is: memory and time of this process, by the operating
system, where it has them (Windows has neither). The bounds within the format hold everywhere (`bundle`).
"""

import contextlib
import signal
from typing import NoReturn

from .errors import Refused

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def limit(seconds: int, megabytes: int) -> None:
    """From here on Refused is raised after so many seconds, and MemoryError for more memory than this."""
    if resource is not None:
        with contextlib.suppress(OSError, ValueError):  # the system has a lower bound already, or can't set any
            resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, resource.getrlimit(resource.RLIMIT_AS)[1]))

    def stop(*_: object) -> NoReturn:
        raise Refused(f"it is not verified after {seconds} seconds; allow it more with --seconds")

    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, stop)
        signal.alarm(seconds)
