"""The records of a partition under a layout: slots that begin anew, growth, and snapshots that cannot be mistaken."""

from __future__ import annotations

import random

import numpy as np
import pytest

from core.errors import Corrupt
from core.program.layout import Layout
from core.program.state import ProgramState
from tests.builders import aggregate_streams as streams
from tests.builders.aggregate_streams import OWN_FIELDS, Columns


def filled(seed: int = 1) -> tuple[ProgramState, Columns]:
    """A state with history, and what was folded into it."""
    rng = random.Random(seed)
    layout = Layout.of(streams.aggregates(rng, 10), OWN_FIELDS)
    events = streams.stream(rng, 60)
    state, columns = streams.started(layout, events), Columns.of(layout, events)
    columns.fold(state, columns.rows, *columns.outputs())
    return state, columns


def test_a_snapshot_gives_the_same_state() -> None:
    """Written and read again, a state has the same records, digest and size."""
    state, _ = filled()
    again = ProgramState.from_bytes(state.to_bytes(), state.layout)
    assert again.digest() == state.digest() and again.nbytes == state.nbytes == state.count * 8 * state.layout.words
    assert np.array_equal(again.records[: again.count], state.records[: state.count])


def test_a_changed_snapshot_is_refused() -> None:
    """Whichever byte of it is changed, or cut off, a snapshot does not load."""
    state, _ = filled()
    content = state.to_bytes()
    rng = random.Random(2)
    for at in [*range(60), *(rng.randrange(len(content)) for _ in range(200)), len(content) - 1]:
        with pytest.raises(Corrupt):
            ProgramState.from_bytes(
                content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :], state.layout
            )
        with pytest.raises(Corrupt):
            ProgramState.from_bytes(content[:at], state.layout)
    with pytest.raises(Corrupt):
        ProgramState.from_bytes(content + b"\0", state.layout)


def test_a_snapshot_of_another_layout_is_refused() -> None:
    """A snapshot loads under the layout that it was written under and no other."""
    state, _ = filled(1)
    other, _ = filled(2)
    with pytest.raises(Corrupt, match="another layout"):
        ProgramState.from_bytes(state.to_bytes(), other.layout)


def test_a_slot_that_begins_again_has_no_history() -> None:
    """An account in a slot that another one had gets what a first account gets."""
    state, columns = filled()
    wanted, got = columns.outputs(), columns.outputs()
    fresh = ProgramState(state.layout)
    fresh.begin(range(state.count))
    columns.fold(fresh, columns.rows, *wanted)
    state.begin(np.arange(state.count, dtype=np.int32))
    columns.fold(state, columns.rows, *got)
    assert state.digest() == fresh.digest() and not streams.difference(state.layout.aggregates, got, wanted)


def test_growing_keeps_the_records() -> None:
    """Slots that begin later leave the earlier ones as they are."""
    state, _ = filled()
    before = state.records[: state.count].copy()
    state.begin([state.count + 5, 10_000])
    assert np.array_equal(state.records[: len(before)], before) and state.count == 10_001
    assert not state.records[len(before) :].any()
    state.begin([])
    assert state.count == 10_001
