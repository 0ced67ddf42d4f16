"""What is in force at each control position besides program and model: what a backtest decides under. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core.canonical import Members
from core.control import ControlState
from core.control_stream import ControlEntry
from core.currency import Rates
from core.events import ListEffect, ListKind
from core.replay import states_at


class Situation(NamedTuple):
    """What is in force at some control position besides program and model. parameters: those that are set, the
    thresholds among them.
    """

    number: int
    parameters: dict[str, float]
    disabled: tuple[str, ...]
    lists: dict[tuple[ListKind, ListEffect], Members]
    rates: Rates


class Situations:
    """Situations by control position; equal ones are one."""

    def __init__(self, entries: Sequence[ControlEntry], lists: frozenset[tuple[str, str]]) -> None:
        """lists: kinds and effects of the lists that are read."""
        self._state_at = states_at(entries)
        self._wanted = lists
        self._known: dict[int, Situation] = {}
        self._last: Situation | None = None

    def at(self, position: int) -> Situation:
        """Raises Corrupt if the control stream ends before it."""
        if position not in self._known:
            self._known[position] = self._of(self._state_at(position))
        return self._known[position]

    def _of(self, state: ControlState) -> Situation:
        last = self._last
        wanted = {key: members for key, members in state.lists.items() if members and key in self._wanted}
        found = Situation(
            0 if last is None else last.number + 1,
            state.program_parameters,
            state.disabled,
            {},
            state.rates,
        )
        was = None if last is None else (last.parameters, last.disabled, last.lists, last.rates)
        if last is not None and was == (found.parameters, found.disabled, wanted, found.rates):
            return last
        found.lists.update({key: Members.of(key[0], members) for key, members in wanted.items()})
        self._last = found
        return found
