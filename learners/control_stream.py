"""Appending to the control stream: read it to its end, decide from its fold, append if nobody wrote meanwhile.

    read → decide → checked → appended | somebody wrote first → read … | nothing to do

So what was checked against the stream still holds when it lands (optimistic concurrency), any number of people and
services may write at once, and a crash between any two steps leaves nothing half done. `decide` must be a pure function
of what it is given: it may be called several times. Cost: a fold of the control stream a call, some 3 µs an event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.codec import encode_control
from core.control import check
from core.errors import ConcurrencyError
from core.events import Control, Position
from core.log.base import EventLog
from core.replay import read_control_events
from projections.engine.base import CONTROL, Fact
from projections.views.registry import REGISTRY, Registry

ATTEMPTS_MAX = 20


def registry_of(log: EventLog) -> tuple[int, Registry]:
    """(the control stream's end, the registry there)."""
    state, position = REGISTRY.initial(), 0
    for position, event in read_control_events(log):
        REGISTRY.apply(state, Fact(CONTROL, Position(position, 1), event.occurred_at, event))
    return position, state


def append(log: EventLog, decide: Callable[[Registry], Sequence[Control]]) -> tuple[int, list[Control]]:
    """Append what `decide` makes of the registry; (the position of the last event, the events). Nothing to append is
    fine.

    Raises what `decide` raises, BadInput if an event may not follow (nothing is appended then), ConcurrencyError if
    others wrote first `ATTEMPTS_MAX` times in a row.
    """
    for _ in range(ATTEMPTS_MAX):
        position, registry = registry_of(log)
        events = list(decide(registry))
        if not events:
            return position, []
        for event in events:
            check(event, registry.governance)
            registry.governance.apply(event)
        try:
            return log.append_control([encode_control(event) for event in events], position), events
        except ConcurrencyError:
            continue
    raise ConcurrencyError(f"others wrote to the control stream first, {ATTEMPTS_MAX} times in a row")
