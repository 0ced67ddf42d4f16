"""The labels of a growing log, folded incrementally. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from core.control_stream import identity_of
from core.errors import BadInput
from core.hashing import HashKey
from core.log.base import EventLog
from projections.engine.base import Place, place_name
from projections.engine.runner import Runner
from projections.labelling.view import LabelView, given_until, view_of
from projections.views import labels as labels_view
from projections.views.labels import LABELS, Labels


class LabelReader:
    """Follows the labels of `log`. partitions: all of its partitions, because a label depends on every one.

    The first call folds the whole log: about 5 µs per decision of the hot log in memory, 3 µs of the archive.
    """

    def __init__(self, log: EventLog, partitions: Sequence[int]) -> None:
        self._partitions = list(partitions)
        self._log = log
        self._runner = Runner(log, self._partitions, [LABELS])
        self._kept: tuple[list[tuple[Place, str]], int | None, LabelView] | None = None

    @cached_property
    def _key(self) -> HashKey:
        return identity_of(self._log).key

    def states(self) -> dict[int, Labels]:
        """The read model's states at the log's heads, by partition. Raises BadInput if it is stalled."""
        self._runner.catch_up()
        views = [self._runner.view(LABELS, partition) for partition in self._partitions]
        for each in views:
            if each.condition != "following":
                where = place_name(each.source, each.place)
                raise BadInput(f"the read model {LABELS.label} is stalled at {where}: {each.error}")
        return {each.source: each.state for each in views}

    def view(self, moment: int | None = None) -> LabelView:
        """Every payment's label at the log's heads. moment: use only verdicts given by then (event time, epoch ms)."""
        states = self.states()
        views = [self._runner.view(LABELS, partition) for partition in self._partitions]
        places = [(each.place, each.mark) for each in views]
        if self._kept is None or self._kept[:2] != (places, moment):
            claims = list(labels_view.claims(states))
            given = claims if moment is None else given_until(claims, moment)
            of = view_of(given, labels_view.newest(states), key=self._key)
            self._kept = (places, moment, of)
        return self._kept[2]
