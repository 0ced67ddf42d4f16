"""The error hierarchy, by whose fault it is. Everything this project raises on purpose derives from `SentinelError`.

A command turns any of these into one clear line on stderr and an exit code; a traceback means a bug of ours.
"""

from __future__ import annotations

import msgspec


class SentinelError(Exception):
    """Base of every error raised on purpose. `exit_code` is what a command exits with."""

    exit_code = 1


class BadInput(SentinelError):
    """The caller's fault: a value, file, flag or message that can't be accepted.

    `reason` is a stable reason code where the input came through the stream (see `core.validation`).
    """

    exit_code = 2

    def __init__(self, message: str, *, reason: str = "bad_input") -> None:
        super().__init__(message)
        self.reason = reason


class Corrupt(SentinelError):
    """Stored bytes are not what was written: a digest, a chain, a snapshot or a model fails verification."""

    exit_code = 3


class Incomplete(Corrupt):
    """The log, as it can be read here, lacks entries that its seals cover: reading on would give wrong states."""


class NotDecidable(SentinelError):
    """A past decision can't be made again here: this release lacks the engine that made it, or the log the blob of a
    program, library, model or table. It says nothing about whether the decision was right.
    """

    exit_code = 6


class Unavailable(SentinelError):
    """A server or a file can't be reached now; the same call may succeed later."""

    exit_code = 4


class Conflict(SentinelError):
    """Somebody else wrote first."""

    exit_code = 5


class ConcurrencyError(Conflict):
    """An append found the log at another position than expected; nothing was written (I1)."""


UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a decoder of JSON or MessagePack raises for bytes that it can't read: wrong ones, no UTF-8, or nested deeply."""
