"""The labels of all payments as of a moment, from the read model that the desk keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from console.api.desk import Desk
from console.api.views import Columns
from core.control_stream import identity_of
from core.errors import BadInput
from core.events import Position
from core.times import DAY_MS
from projections.engine.states import States
from projections.labelling.verdicts import Claims
from projections.labelling.view import LabelView, view_of
from projections.views.labels import LABELS, claims, newest

RECENT_MS = 30 * DAY_MS
T = TypeVar("T")


def labels(desk: Desk, as_of: str | None) -> tuple[LabelView, dict[int, Position], str]:
    """The labels, up to which payment of each partition the moment reaches, and the cut in the syntax of as_of. The
    verdicts are copied while the read models stand still, and weighed after.
    """
    given, until, bounds, cut = desk.views.looked_at(as_of, lambda states, _: _given(states))
    return view_of(given, until, key=identity_of(desk.log).key), bounds, cut


def labels_with(desk: Desk, as_of: str | None, look: Callable[[States, dict[int, Columns]], T]) -> tuple[LabelView, T]:
    """The labels, and what `look` makes of the index's columns at the same moment."""

    def both(states: States, columns: dict[int, Columns]) -> tuple[list[Claims], int, T]:
        given, until, _, _ = _given(states)
        return given, until, look(states, columns)

    given, until, found = desk.views.looked_at(as_of, both)
    return view_of(given, until, key=identity_of(desk.log).key), found


def period_of(states: States, start: int | None, end: int | None) -> tuple[int, int]:
    """A period, start ≤ t < end in epoch ms; by default the RECENT_MS before the moment. Raises BadInput if it is
    empty.
    """
    until = states.moment if end is None else end
    since = until - RECENT_MS if start is None else start
    if since >= until:
        raise BadInput("start must be before end")
    return since, until


def _given(states: States) -> tuple[list[Claims], int, dict[int, Position], str]:
    held = states.by_partition(LABELS)
    bounds = {partition: bound.transactions for partition, bound in states.cut.partitions.items()}
    return list(claims(held)), newest(held), bounds, states.as_of
