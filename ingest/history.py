"""History mode: loads past data as if each message had been received when it was dated (`core.receipt`).

    topics' ends read → HistoryStarted (range, first offsets) → messages sent
                      → topics' ends read → HistoryEnded (offsets after the last)

Workers need not run meanwhile: what belongs to the history is decided by offsets. If the loader is killed between the
two events, the history stays open, messages outside its range are rejected, and `sentinel history` and `doctor` say so;
`sentinel history stop` ends it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from core.control_stream import Appended, Known, append
from core.errors import BadInput
from core.events import Control, HistoryEnded, HistoryStarted
from core.log.base import EventLog
from core.receipt import AHEAD_MS, FEEDBACK, TRANSACTIONS, History
from core.settings import Settings
from core.times import DAY_MS, date_text
from ingest import kafka_client
from sources.record import Record

ACTOR = "sentinel produce"
LATER_MS = 400 * DAY_MS
"""How long after now, or after its first row, a stream whose end is not known may still have rows."""
NOTICE_S = 0.3
"""Longer than a worker takes to read a new control event."""


def started(earliest: int, latest: int, begins: dict[str, tuple[int, ...]], **act: object) -> HistoryStarted:
    """The event that opens a history. act: the fields of every control event."""
    return HistoryStarted(earliest=earliest, latest=latest, begins=begins, **act)  # type: ignore[arg-type]


def open_history(known: Known) -> History | None:
    """The open history, if there is one."""
    histories = known.state.histories
    return histories[-1] if histories and histories[-1].ends is None else None


def start(log: EventLog, settings: Settings, earliest: int, latest: int, **act: object) -> Appended:
    """Open a history for the messages that are sent from now on. Raises BadInput if one is open; else as
    `core.control_stream.append`.
    """
    begins = offsets(settings)
    return append(log, lambda known: [started(earliest, latest, begins, **act)])


def stop(log: EventLog, settings: Settings, **act: object) -> Appended:
    """End the open history with the messages sent so far. Raises BadInput if none is open."""
    ends = offsets(settings)

    def decide(known: Known) -> list[Control]:
        return [HistoryEnded(ends=ends, **act)]  # type: ignore[arg-type]

    return append(log, decide)


def offsets(settings: Settings) -> dict[str, tuple[int, ...]]:
    """The offset after the last message of each partition, by role of the topic; a topic that does not exist is left
    out.
    """
    names = {TRANSACTIONS: settings.transactions_topic, FEEDBACK: settings.feedback_topic}
    found = kafka_client.end_offsets(settings, list(names.values()))
    return {role: found[name] for role, name in names.items() if name in found}


@contextmanager
def loading(
    open_log: Callable[[], EventLog],
    settings: Settings,
    chunks: Iterable[list[Record]],
    reason: str,
    last: int | None = None,
) -> Iterator[Iterator[list[Record]]]:
    """The same chunks, to be sent within the context: as history if their first record is not dated now, else live.

    last: no record is later, epoch ms. The history reaches no further, so no other message can be dated later; if
    it is not known, LATER_MS is allowed. Within an open history that holds the first record, that one is used and not
    ended. open_log is called only if the log is needed. Raises BadInput if another history is open; while the chunks
    are read, if a transaction is dated outside.
    """
    source = iter(chunks)
    first = next((chunk for chunk in source if chunk), [])
    everything = itertools.chain([first], source) if first else source
    now = int(time.time() * 1000)
    earliest = min((record.timestamp for record in first), default=now)
    if abs(earliest - now) <= AHEAD_MS:
        yield everything
        return
    latest = max(now, earliest) + LATER_MS if last is None else max(earliest, last)
    log = open_log()
    act = {"actor": ACTOR, "reason": reason}
    try:
        begins = offsets(settings)

        def decide(known: Known) -> list[Control]:
            opened = open_history(known)
            if opened is not None and opened.holds(earliest):
                return []
            return [started(earliest, latest, begins, occurred_at=now, **act)]

        is_own = bool(append(log, decide).events)
        time.sleep(NOTICE_S)
        try:
            yield _within(everything, earliest, latest) if is_own else everything
        finally:
            if is_own:
                stop(log, settings, occurred_at=int(time.time() * 1000), **act)
    finally:
        log.close()


def _within(chunks: Iterable[list[Record]], earliest: int, latest: int) -> Iterator[list[Record]]:
    for chunk in chunks:
        for record in chunk:
            if record.topic == TRANSACTIONS and not earliest <= record.timestamp <= latest:
                raise BadInput(
                    f"a record is dated {date_text(record.timestamp)}, but the stream began with"
                    f" {date_text(earliest)} and may reach to {date_text(latest)}: sort it by time"
                )
        yield chunk
