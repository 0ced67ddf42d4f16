"""core/log/paging.py: the loop over a stream's pages."""

from __future__ import annotations

import pytest

from core.errors import Corrupt
from core.events import START, Position
from core.log.base import Entry, Head
from core.log.memory import MemoryLog
from core.log.paging import decision_pages, entries, entries_at, pages
from tests.builders.batches import batch_after


@pytest.fixture
def log() -> MemoryLog:
    log, head = MemoryLog(), Head()
    for _ in range(3):
        head = log.append(0, batch_after(head, transactions=3, alerts=1, feedback=2), head)
    return log


def ids(page: list[Entry]) -> list[int]:
    return [entry.id.offset for entry in page]


def test_pages_cover_what_lies_between_two_positions(log: MemoryLog) -> None:
    """Each entry once and in order; the first position is excluded, the last included; none is no page."""
    assert [ids(p) for p in pages(log, 0, "transactions", count=4)] == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]
    between = pages(log, 0, "transactions", Position(1, 2), Position(1, 7), count=3)
    assert [ids(p) for p in between] == [[3, 4, 5], [6, 7]]
    assert [*pages(log, 0, "transactions", Position(1, 7), Position(1, 7))] == []
    assert [*pages(log, 1, "transactions")] == []
    assert ids([*entries(log, 0, "feedback", until=Position(1, 5))]) == [1, 2, 3, 4, 5]


def test_a_walk_to_the_end_finds_what_was_appended_meanwhile(log: MemoryLog) -> None:
    """Without an end, the stream's end at the last read counts; with one, nothing beyond it is read."""
    walk = pages(log, 0, "transactions", count=9)
    bounded = pages(log, 0, "transactions", START, Position(1, 9), count=9)
    assert ids(next(walk)) == ids(next(bounded)) == [*range(1, 10)]
    head = log.head(0)
    log.append(0, batch_after(head, transactions=1), head)
    assert [ids(p) for p in walk] == [[10]]
    assert [*bounded] == []


def test_decisions_are_pairs_of_transactions_and_scores(log: MemoryLog) -> None:
    """A page's scores are those of its transactions; a score that is missing makes the log corrupt."""
    for transactions, scores in decision_pages(log, 0, Position(1, 1), count=3):
        assert ids(transactions) == ids(scores)
    log.tamper(0, "scores", Position(1, 5), None)
    found = decision_pages(log, 0, count=3)
    assert ids(next(found)[0]) == [1, 2, 3]
    with pytest.raises(Corrupt, match="after 1-3 do not match"):
        next(found)


def test_entries_are_read_again_by_their_positions(log: MemoryLog) -> None:
    """In the order that is asked for; one that is gone makes the log corrupt, and is named."""
    held = {entry.id: entry for entry in entries(log, 0, "scores")}
    wanted = [Position(1, 7), Position(1, 2), Position(1, 5)]
    assert entries_at(log, 0, "scores", wanted) == [held[position] for position in wanted]
    assert entries_at(log, 0, "scores", []) == []
    log.tamper(0, "scores", Position(1, 2), None)
    with pytest.raises(Corrupt, match="partition 0: scores 1-2 was read before"):
        entries_at(log, 0, "scores", wanted)
