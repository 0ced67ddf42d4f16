"""The merge of a partition's two sides: any way of fetching a backlog gives one order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.intake import TAKE_BYTES_MAX, Intake, Message, Segment

Order = list[tuple[str, int]]


def message(offset: int, timestamp: int, size: int = 1) -> Message:
    return Message(offset, timestamp, b"k", b"x" * size)


def flat(segments: list[Segment]) -> Order:
    return [
        pair
        for segment in segments
        for pair in [("f", m.offset) for m in segment.feedback] + [("t", m.offset) for m in segment.transactions]
    ]


def merged(transactions: list[int], feedback: list[int]) -> Order:
    """The order wanted: smaller head first, feedback on a tie."""
    order: Order = []
    t = f = 0
    while t < len(transactions) or f < len(feedback):
        if f < len(feedback) and (t == len(transactions) or feedback[f] <= transactions[t]):
            order.append(("f", f))
            f += 1
        else:
            order.append(("t", t))
            t += 1
    return order


TIMES = st.lists(st.integers(1, 12), max_size=12)
STEPS = st.lists(st.tuples(st.sampled_from("tf"), st.integers(1, 4), st.integers(1, 5)), max_size=20)


@settings(max_examples=300, deadline=None)
@given(transactions=TIMES, feedback=TIMES, steps=STEPS)
def test_a_backlog_has_one_order_however_it_is_fetched(
    transactions: list[int], feedback: list[int], steps: list[tuple[str, int, int]]
) -> None:
    """Whatever pieces arrive in whatever turns, and however much is taken at once: the order is the merge."""
    intake = Intake()
    left = {"t": list(enumerate(transactions)), "f": list(enumerate(feedback))}
    sides = {"t": intake.transactions, "f": intake.feedback}
    order: Order = []
    for name, count, take in [*steps, ("t", 99, 99), ("f", 99, 99)]:
        for offset, timestamp in left[name][:count]:
            sides[name].records.append(message(offset, timestamp))
        del left[name][:count]
        sides[name].at_end = not left[name]
        order += flat(intake.take(take))
    assert intake.drained
    assert order == merged(transactions, feedback)


def test_an_empty_side_holds_the_other_back_until_its_end_is_known() -> None:
    """Transactions wait for feedback that may still come, and go ahead once Kafka says that there is none."""
    intake = Intake()
    intake.transactions.records.append(message(0, 5))
    assert intake.take(10) == []
    intake.feedback.at_end = True
    assert flat(intake.take(10)) == [("t", 0)]


def test_one_take_is_bounded_in_bytes() -> None:
    """Huge records come a few at a time, on either side and mixed; every one comes, in order."""
    size = TAKE_BYTES_MAX // 3
    for name in ("t", "f", "tf"):
        intake = Intake()
        for offset in range(20):
            if "t" in name:
                intake.transactions.records.append(message(offset, offset, size))
            if "f" in name:
                intake.feedback.records.append(message(offset, offset, size))
        intake.transactions.at_end = intake.feedback.at_end = True
        takes = []
        while not intake.drained:
            takes.append(flat(intake.take(1_000)))
        assert max(map(len, takes)) == 4
        expected = [(side, offset) for offset in range(20) for side in sorted(name)]
        assert [pair for take in takes for pair in take] == expected
