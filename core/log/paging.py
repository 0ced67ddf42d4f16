"""Reads streams from one position to another, page by page, and proves of each page that nothing is missing before it.

The IDs of a stream may have gaps, so a page can't tell by itself whether the log still holds what came before. The
first seal that the log holds does (`EventLog.begin`). It is asked after each page, because a log may be trimmed while
it is read. Whoever folds a log reads it here; `EventLog.read` alone does not ask.

Cost: one or two small reads a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.errors import Corrupt, Incomplete
from core.events import START, Position
from core.log.base import Entry, EventLog, Stream

PAGE = 2000


def read(
    log: EventLog,
    partition: int,
    stream: Stream,
    after: Position = START,
    count: int = PAGE,
    until: Position | None = None,
) -> list[Entry]:
    """`EventLog.read`. Raises Incomplete if the log no longer holds, or never held, all entries after `after`."""
    page = log.read(partition, stream, after, count, until)
    begin = log.begin(partition, stream)
    if after < begin:
        raise Incomplete(
            f"partition {partition}: the {stream} up to {begin} are missing: they were trimmed from the log, and no"
            " archive that holds them is set. Set `archive` (SENTINEL_ARCHIVE) to its location, or restore it"
        )
    return page


def pages(
    log: EventLog,
    partition: int,
    stream: Stream,
    after: Position = START,
    until: Position | None = None,
    count: int = PAGE,
) -> Iterator[list[Entry]]:
    """The entries with after < ID ≤ until, ascending, in lists of 1 to `count`. Without `until`, up to the stream's
    end at the time the last page is read. Raises Incomplete as `read`.
    """
    while (until is None or after < until) and (page := read(log, partition, stream, after, count, until)):
        yield page
        after = page[-1].id


def entries(
    log: EventLog, partition: int, stream: Stream, after: Position = START, until: Position | None = None
) -> Iterator[Entry]:
    """`pages`, entry by entry."""
    for page in pages(log, partition, stream, after, until):
        yield from page


def entries_at(log: EventLog, partition: int, stream: Stream, positions: Sequence[Position]) -> list[Entry]:
    """The entries at positions that were read before, in this order. Raises Corrupt if the log lacks one now."""
    held: list[Entry] = []
    for position, payload in zip(positions, log.get_many(partition, stream, positions), strict=True):
        if payload is None:
            raise Corrupt(f"partition {partition}: {stream} {position} was read before, and is not in the log")
        held.append(Entry(position, payload))
    return held


def decision_pages(
    log: EventLog, partition: int, after: Position = START, until: Position | None = None, count: int = PAGE
) -> Iterator[tuple[list[Entry], list[Entry]]]:
    """Pages of transactions, each with its scores in the same order. Raises Corrupt if their IDs do not match."""
    for transactions in pages(log, partition, "transactions", after, until, count):
        scores = log.read(partition, "scores", after, count, transactions[-1].id)
        if [t.id for t in transactions] != [s.id for s in scores]:
            raise Corrupt(f"partition {partition}: the IDs of transactions and scores after {after} do not match")
        yield transactions, scores
        after = transactions[-1].id
