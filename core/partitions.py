"""Which partitions a log has: as many as the topic had when the first worker started on it."""

from __future__ import annotations

from collections.abc import Iterable

from core import control_stream
from core.errors import BadInput
from core.log.base import EventLog


def partitions_of(log: EventLog, only: Iterable[int] | None = None) -> list[int]:
    """The log's partitions, ascending; with `only`, those of them. Raises BadInput if no worker ever started on the
    log, or if it lacks one of `only`.
    """
    known = control_stream.current(log).generations.get("transactions")
    if known is None:
        raise BadInput(
            "this log is empty: no worker has ever started on it (check REDIS_HOST, REDIS_PORT and the log prefix)"
        )
    wanted = sorted(set(only or range(known.partitions)))
    for partition in wanted:
        if not 0 <= partition < known.partitions:
            raise BadInput(f"there is no partition {partition}; the log has 0 … {known.partitions - 1}")
    return wanted
