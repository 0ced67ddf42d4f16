"""One round of anchoring: sign what is new, give it to every destination, and record it in the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from console.anchoring.destinations import Destination, Directory
from console.anchoring.notary import Notary, Signed
from core.errors import Corrupt, SentinelError, Unavailable

CONTROL = "the control stream"
"""Among what failed: the checkpoint could not be recorded there."""


class Round(NamedTuple):
    """What a round did. signed: the checkpoint that is to be everywhere now, None if the log has none yet. failed: by
    destination, or CONTROL, why it does not have it.
    """

    signed: Signed | None
    is_new: bool
    delivered: list[str]
    failed: dict[str, str]


class Anchoring:
    """A notary with its destinations. A destination that fails is tried again each round, and blocks no other."""

    def __init__(self, notary: Notary, directories: Sequence[Directory], others: Sequence[Destination]) -> None:
        self._notary = notary
        self._directories, self._others = directories, others
        self._has: dict[str, int] = {}

    def adopt(self, tell: Callable[[str], None]) -> None:
        """Continue after the newest checkpoint that any directory holds, if it is newer than what the notary stored."""
        for directory in self._directories:
            try:
                content = directory.newest(self._notary.log_id)
            except Unavailable as error:
                tell(f"{directory.name}: {error}")
                continue
            if content is not None:
                self._notary.adopt(content)

    def round(self, now_ms: int) -> Round:
        """Sign, deliver, record. Raises Corrupt if the log does not contain what was signed before."""
        signed = self._notary.sign(now_ms)
        newest = self._notary.newest
        if newest is None:
            return Round(None, False, [], {})
        delivered, failed = self._deliver(newest)
        if any(self._has.get(each.name) == newest.checkpoint.number for each in self._directories):
            try:
                self._notary.record(now_ms)
            except SentinelError as error:  # the anchor stands all the same
                failed[CONTROL] = str(error)
        return Round(newest, signed is not None, delivered, failed)

    def _deliver(self, signed: Signed) -> tuple[list[str], dict[str, str]]:
        number = signed.checkpoint.number
        delivered: list[str] = []
        failed: dict[str, str] = {}
        for destination in (*self._directories, *self._others):
            if self._has.get(destination.name) == number:
                continue
            try:
                attachment = destination.deliver(signed, self._notary.states)
                if attachment is not None:
                    self._attach(signed, attachment.ending, attachment.content)
            except SentinelError as error:
                failed[destination.name] = str(error)
                continue
            self._has[destination.name] = number
            delivered.append(destination.name)
        return delivered, failed

    def _attach(self, signed: Signed, ending: str, content: bytes) -> None:
        """Put what a destination returned into every directory. Raises Unavailable if none takes it."""
        errors = []
        for directory in self._directories:
            try:
                directory.attach(signed, ending, content)
            except (Unavailable, Corrupt) as error:
                errors.append(str(error))
        if len(errors) == len(self._directories):
            raise Unavailable(f"no directory takes its answer: {errors[0]}")
