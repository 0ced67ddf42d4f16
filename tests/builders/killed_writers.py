"""A process that ends before or after its n-th write, and another client of the same log."""

from __future__ import annotations

from typing import Any

from core.log.memory import MemoryLog


class Killed(Exception):
    """The process ends here."""


class Fuse:
    """Counts every write to the store and to the log, and ends the process before or after the n-th."""

    def __init__(self, at: int, after: bool) -> None:
        self.at, self.after, self.count = at, after, 0

    def around(self, write: Any) -> Any:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.at and not self.after:
                raise Killed
            result = write(*arguments, **named)
            if self.count == self.at:
                raise Killed
            return result

        return wrapped


def copy_view(hot: MemoryLog) -> MemoryLog:
    """Another client of the same log."""
    view = MemoryLog()
    view.__dict__.update(hot.__dict__)
    return view
