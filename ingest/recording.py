"""Records in the control stream how far the owned partitions have come, once an hour (I8).

Seals chain a partition, and name the control stream's digest. A `SealsRecorded` closes the circle: it names each
partition's seal, and every later seal of every partition contains it. So a partition that is cut, deleted or computed
again before its recorded seal is found by `sentinel verify` without a checkpoint; to hide it, the whole log must go
back or be computed again from there.

What is newer than an hour is not recorded yet. An event per worker and hour is 9,000 a year; every reader of the
control stream reads them, at about 4 µs each.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from core.control_stream import ControlStream, Known, append
from core.errors import BadInput, ConcurrencyError, Unavailable
from core.events import Control, SealPoint, SealsRecorded
from core.log.base import EventLog
from ingest import telemetry
from ingest.partition import Owned

ACTOR = "sentinel ingest"
RECORD_S = 3600.0


def record_seals(log: EventLog, control: ControlStream, owned: Iterable[Owned]) -> int:
    """Append the partitions' acknowledged heads that the stream does not record yet. Returns how many; if that is not
    possible now, none, and the next call records them.
    """
    now_ms = int(time.time() * 1000)
    heads = {each.partition: each.head for each in owned}

    def decide(known: Known) -> list[Control]:
        new = tuple(
            SealPoint(partition, head.sequence, head.digest)
            for partition, head in sorted(heads.items())
            if head.sequence > known.state.recorded.get(partition, 0)
        )
        return [SealsRecorded(occurred_at=now_ms, actor=ACTOR, seals=new)] if new else []

    try:
        said = append(log, decide, control).events
    except (Unavailable, ConcurrencyError, BadInput) as error:  # BadInput: its key was revoked, for example
        telemetry.logger().warning("ingest.seals_not_recorded", error=str(error))
        return 0
    return sum(len(event.seals) for event in said if isinstance(event, SealsRecorded))
