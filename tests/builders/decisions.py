"""Contexts, runs of items, and ways to put a stream through the pipeline."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from core import control_stream, pipeline
from core.codec import encode
from core.context import Context, Resolver
from core.control import ControlState
from core.control_stream import ControlEntry
from core.events import (
    Control,
    Position,
    Transaction,
)
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.scoring import Float32
from core.work import Decided, Run, Work
from tests.builders.events import Item
from tests.builders.models import ARTIFACT, deployed, load_tiny, no_blob


def context(*events: Any, scorer: bool = True, blobs: Sequence[bytes] = (ARTIFACT,)) -> Context:
    """The context after `events`, with the tiny model deployed first unless `scorer` is off."""
    held = {hashlib.sha256(b).hexdigest(): b for b in blobs}
    state = ControlState(identity=FIXED)
    for sequence, event in enumerate([*([deployed()] if scorer else []), *events], 1):
        state.apply(sequence, event)
    resolver = Resolver(lambda digest: held[digest] if digest in held else no_blob(digest), load_tiny)
    return resolver.context(state, resolver.unavailable(state))


def runs(items: Sequence[Item], first: tuple[int, int] = (0, 0)) -> list[Run]:
    """Items as runs. `first` = (transactions, feedback) offsets consumed before."""
    offset, feedback = first
    out = [Run(Position(1, feedback) if feedback else Position(0, 0))]
    for item in items:
        if isinstance(item, Transaction):
            offset += 1
            out[-1].positions.append(Position(1, offset))
            out[-1].transactions.append(item)
        else:
            feedback += 1
            if out[-1].transactions:
                out.append(Run(Position(1, feedback)))
            out[-1].feedback.append(item)
            out[-1].feedback_position = Position(1, feedback)
    return out


def counts(items: Sequence[Item]) -> tuple[int, int]:
    """(transactions, feedback) in `items`."""
    n = sum(isinstance(item, Transaction) for item in items)
    return n, len(items) - n


def decide_in(
    items: Sequence[Item], cuts: Sequence[int], under: Context | None = None, state: AccountState | None = None
) -> tuple[list[Decided], AccountState]:
    """Run the stream through `pipeline.decide`, cut at the given indices into calls of their own."""
    under = under or context(scorer=False)
    state = AccountState(FIXED) if state is None else state
    results = []
    edges = [0, *sorted(cuts), len(items)]
    for start, end in pairwise(edges):
        work = Work(0, state, runs(items[start:end], counts(items[:start])))
        results += pipeline.decide(under, [work])
    return results, state


def features_of(items: Sequence[Item], cuts: Sequence[int] = ()) -> Float32:
    """Feature vectors (n, WIDTH) of the stream's accepted transactions."""
    return np.concatenate([d.features for d in decide_in(items, cuts)[0]])


def append_unchecked(log: EventLog, *events: Control) -> int:
    """Append control events past every check, as somebody with another program may; the position of the last."""
    return log.append_control([encode(event) for event in events], log.control_head())


def created() -> MemoryLog:
    """A log that a worker has begun and that holds nothing else."""
    log = MemoryLog()
    append_unchecked(log, FIXED.event("worker"))
    return log


def control_entries(*events: Control) -> list[ControlEntry]:
    """The control stream of a log that holds these events, whether they may follow each other or not."""
    log = MemoryLog()
    append_unchecked(log, *events)
    return control_stream.history(log)
