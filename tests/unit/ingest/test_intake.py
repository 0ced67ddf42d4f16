"""Intake: two topics merged by message time, in one order however the records are fetched; nothing lost, nothing
doubled.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.receipt import AHEAD_MS
from ingest.intake import Intake, Message, Segment
from tests.builders.events import fuzz

Tagged = tuple[str, int]


def messages(timestamps: Sequence[int]) -> list[Message]:
    return [Message(offset, t, b"k", b"v") for offset, t in enumerate(timestamps)]


def flat(segments: Sequence[Segment]) -> list[Tagged]:
    """The order taken: ("f" or "t", offset)."""
    return [
        tagged
        for s in segments
        for tagged in ([("f", m.offset) for m in s.feedback] + [("t", m.offset) for m in s.transactions])
    ]


def backlog(transactions: Sequence[int], feedback: Sequence[int]) -> list[Tagged]:
    """The order of a backlog that is all there at once."""
    intake = Intake()
    intake.transactions.records.extend(messages(transactions))
    intake.feedback.records.extend(messages(feedback))
    intake.transactions.at_end = intake.feedback.at_end = True
    return flat(intake.take(10**9))


_times = st.lists(st.integers(0, 12), max_size=25)


@fuzz(max_examples=300)
@given(_times, _times, st.integers(0, 10**6))
def test_order_of_a_backlog_does_not_depend_on_fetches(transactions: list[int], feedback: list[int], seed: int) -> None:
    """Any way of splitting the arrival into fetches and takes gives one order, with every record exactly once."""
    rng = random.Random(seed)
    intake = Intake()
    waiting = {"t": messages(transactions), "f": messages(feedback)}
    sides = {"t": intake.transactions, "f": intake.feedback}
    taken: list[Tagged] = []
    while any(waiting.values()) or not intake.drained:
        which = rng.choice("tf")
        size = rng.randrange(4)
        sides[which].records.extend(waiting[which][:size])
        waiting[which] = waiting[which][size:]
        if not waiting[which] and rng.random() < 0.5:
            sides[which].at_end = True
        taken += flat(intake.take(rng.randrange(0, 7)))
    assert taken == backlog(transactions, feedback)
    assert sorted(taken) == sorted(
        [("t", i) for i in range(len(transactions))] + [("f", i) for i in range(len(feedback))]
    )


@fuzz(max_examples=200)
@given(_times, _times)
def test_backlog_order_is_the_merge_by_time(transactions: list[int], feedback: list[int]) -> None:
    """With times that ascend in each topic, the order is by time, feedback first on a tie."""
    transactions, feedback = sorted(transactions), sorted(feedback)
    wanted = sorted([(t, 0, i) for i, t in enumerate(feedback)] + [(t, 1, i) for i, t in enumerate(transactions)])
    assert backlog(transactions, feedback) == [("ft"[side], i) for _, side, i in wanted]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_take_obeys_its_limit(limit: int) -> None:
    """No call returns more records than asked for, and none returns nothing while records may go."""
    intake = Intake()
    intake.transactions.records.extend(messages([1, 3, 5]))
    intake.feedback.records.extend(messages([2, 4]))
    intake.transactions.at_end = intake.feedback.at_end = True
    sizes = []
    while not intake.drained:
        sizes.append(len(flat(intake.take(limit))))
    assert sum(sizes) == 5 and all(s == limit for s in sizes[:-1])
    assert intake.take(limit) == []


@pytest.mark.parametrize("empty", ["transactions", "feedback"])
def test_an_empty_side_that_is_not_at_its_end_holds_the_other_back(empty: str) -> None:
    """A topic that may still have earlier records stops the other one, until Kafka says that it has none."""
    intake = Intake()
    full = intake.feedback if empty == "transactions" else intake.transactions
    full.records.extend(messages([1, 2]))
    full.at_end = True
    assert intake.take(10) == [] and len(full.records) == 2 and not intake.drained
    getattr(intake, empty).at_end = True
    assert len(flat(intake.take(10))) == 2 and intake.drained


def test_the_held_side_goes_as_far_as_the_others_time() -> None:
    """Records before the other side's first go; later ones wait for what may still come before them."""
    intake = Intake()
    intake.transactions.records.extend(messages([1, 2, 9]))
    intake.feedback.records.extend(messages([5]))
    assert flat(intake.take(10)) == [("t", 0), ("t", 1), ("f", 0)]
    assert [m.timestamp for m in intake.transactions.records] == [9]


def test_segments_start_with_feedback() -> None:
    """Feedback that follows transactions opens a new segment, so that each segment is feedback, then transactions."""
    intake = Intake()
    intake.transactions.records.extend(messages([1, 4, 5]))
    intake.feedback.records.extend(messages([2, 3]))
    intake.transactions.at_end = intake.feedback.at_end = True
    shapes = [(len(s.feedback), len(s.transactions)) for s in intake.take(10)]
    assert shapes == [(0, 1), (2, 2)]


def test_drained_needs_both_ends() -> None:
    """An intake that holds nothing is drained only when both topics were at their ends."""
    intake = Intake()
    intake.transactions.at_end = True
    assert not intake.drained
    intake.feedback.at_end = True
    assert intake.drained


def placed(transactions: Sequence[int], feedback: Sequence[int], now: int) -> list[Tagged]:
    """The order of a backlog with these Kafka timestamps, fetched at `now`."""
    intake = Intake()
    for side, timestamps in ((intake.transactions, transactions), (intake.feedback, feedback)):
        times = [side.place(timestamp, now) for timestamp in timestamps]
        side.records.extend(messages(times))
        side.at_end = True
    return flat(intake.take(10**9))


@pytest.mark.parametrize("which", ["transactions", "feedback"])
@pytest.mark.parametrize("at", [0, 5, 49])
@pytest.mark.parametrize("timestamp", [4_000_000_000_000, 10**15, 0, -1])
def test_one_wrong_timestamp_moves_no_other_message(which: str, at: int, timestamp: int) -> None:
    """A message that claims to be of 2099, or of no time at all, leaves the order of all others as it is."""
    now = 2_000_000_000_000
    honest = {
        "transactions": [now - 10_000 * n for n in range(50, 0, -1)],
        "feedback": [now - 9_000 * n for n in range(50, 0, -1)],
    }
    wanted = placed(**honest, now=now)
    lying = {name: list(times) for name, times in honest.items()}
    lying[which][at] = timestamp
    mine = ("t" if which == "transactions" else "f", at)
    got = placed(**lying, now=now)
    assert [tagged for tagged in got if tagged != mine] == [tagged for tagged in wanted if tagged != mine]
    assert abs(got.index(mine) - wanted.index(mine)) <= 100


def test_a_producers_clock_that_is_a_little_ahead_keeps_its_order() -> None:
    """Timestamps within the bound are taken as they are."""
    now = 2_000_000_000_000
    assert placed([now + AHEAD_MS], [now], now) == [("f", 0), ("t", 0)]
    assert placed([now + AHEAD_MS + 1], [now], now) == [("t", 0), ("f", 0)]
