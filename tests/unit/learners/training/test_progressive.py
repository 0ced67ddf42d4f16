"""Delayed progressive validation against a replay of it event by event."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from learners.training.progressive import NEVER, progressive


class Recorder:
    """A learner that predicts how many labels it has learned, and remembers which rows, in which calls."""

    name, kind, digest = "recorder", "linear", ""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def predict(self, features: np.ndarray) -> np.ndarray:
        return np.full(len(features), float(sum(map(len, self.calls))))

    def learn(self, features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> None:
        assert labels.tolist() == [int(row) % 3 == 0 for row in features[:, 0]]
        self.calls.append([int(row) for row in features[:, 0]])

    def export(self) -> bytes:
        return b""

    def restore(self, content: bytes) -> None:
        raise NotImplementedError


@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 12), st.none())), max_size=40), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_each_row_is_predicted_with_the_labels_that_had_arrived(
    steps: list[tuple[int, int | None]], batch: int
) -> None:
    """Event by event in plain Python: wait, learn what has arrived if it is a batch, in order of arrival, predict."""
    times = np.cumsum([gap for gap, _ in steps], dtype=np.int64)
    delays = [delay for _, delay in steps]
    arrivals = np.array([NEVER if d is None else t + d for t, d in zip(times.tolist(), delays, strict=True)], np.int64)
    rows = np.arange(len(steps), dtype=np.float32)[:, None]
    recorder = Recorder()
    found = progressive(recorder, rows, np.arange(len(steps)) % 3 == 0, times, arrivals, batch)

    waiting = sorted(range(len(steps)), key=lambda i: (arrivals[i], i))
    calls: list[list[int]] = []
    expected = []
    for time in times.tolist():
        arrived = [i for i in waiting if arrivals[i] <= time]
        if len(arrived) >= batch:
            calls.append(arrived)
            waiting = waiting[len(arrived) :]
        expected.append(float(sum(map(len, calls))))
    assert found.tolist() == expected and recorder.calls == calls


def test_what_can_not_be_in_time_is_bad_input() -> None:
    """Descending times, labels before their rows, lengths that differ and a batch of none."""
    rows, labels = np.zeros((2, 1), np.float32), np.zeros(2, np.bool_)
    up, down = np.array([1, 2], np.int64), np.array([2, 1], np.int64)
    for times, arrivals, batch in ((down, up + 5, 1), (up, up - 1, 1), (up, up[:1], 1), (up, up, 0)):
        with pytest.raises(BadInput):
            progressive(Recorder(), rows, labels, times, arrivals, batch)
