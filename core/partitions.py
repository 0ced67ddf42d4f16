"""A log's partitions: as many as the topic had when the first worker started on the log."""

from __future__ import annotations

from collections.abc import Iterable

from core import control_stream
from core.errors import BadInput
from core.log.base import EventLog


def partitions_of(log: EventLog, only: Iterable[int] | None = None) -> list[int]:
    """The log's partitions in ascending order, limited to `only` if given. Raises BadInput if no worker has ever
    started on the log, or if it lacks a partition in `only`.
    """
    known = control_stream.current(log).generations.get("transactions")
    if known is None:
        raise BadInput(
            "this log is empty: no worker has ever started on it (check REDIS_HOST, REDIS_PORT and the log prefix)"
        )
    wanted = sorted(set(only or range(known.partitions)))
    for partition in wanted:
        if not 0 <= partition < known.partitions:
            raise BadInput(f"no partition {partition}: the log has partitions 0 to {known.partitions - 1}")
    return wanted
