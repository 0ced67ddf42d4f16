"""Acts on what responders do: switch actions on and off (the kill switch), each a control event with who and why.

Switched off, an action is held back at once: nothing of it is begun any more, whoever owns the partition. Switched on,
it counts from now on; with `catch_up`, what waited meanwhile is carried out, too, as far as it has not expired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core import control_stream
from core.errors import BadInput
from core.events import Control, ResponsesChanged
from core.log.base import EventLog
from core.partitions import partitions_of
from core.program.errors import meant
from core.responses import Switch
from core.text import REASON_CHARACTERS_MAX, check_name
from responders.settings import ACTIONS, BLOCK, UNBLOCK


class Switched(NamedTuple):
    """The control position after an act, and all switches there. changed: False if everything was so already."""

    position: int
    switches: dict[str, Switch]
    changed: bool


class Why(NamedTuple):
    """Who acts, why, and when (epoch ms)."""

    actor: str
    reason: str
    now_ms: int

    def check(self) -> None:
        """Raise BadInput unless both are given and readable."""
        if not self.actor.strip() or not self.reason.strip():
            raise BadInput("actor and reason are required for the audit trail (--actor, --reason)")
        check_name("actor", self.actor)
        check_name("reason", self.reason, REASON_CHARACTERS_MAX)


def switch_on(log: EventLog, actions: Sequence[str], why: Why, *, catch_up: bool = False) -> Switched:
    """Let responders carry out these actions. Raises BadInput."""
    _check(actions, why)
    if not actions:
        raise BadInput(f"name the actions to switch on: {', '.join(ACTIONS)}")
    heads = tuple(log.head(partition).sequence for partition in partitions_of(log))

    def events(known: control_stream.Known) -> list[Control]:
        now = known.state.responses
        if catch_up and (never := [action for action in actions if action not in now]):
            raise BadInput(f"{never[0]} was never switched on, so nothing of it waits: leave out --catch-up")
        wanted = [action for action in actions if action not in now or not now[action].enabled]
        if not wanted:
            return []
        changed = _event(True, wanted, why, () if catch_up else heads)
        # A block's end was announced with it, and no later beginning takes it back.
        lifts = BLOCK in wanted and UNBLOCK not in now
        return [changed, *([_event(True, [UNBLOCK], why, heads)] if lifts else [])]

    return _append(log, events)


def switch_off(log: EventLog, actions: Sequence[str], why: Why) -> Switched:
    """Hold these actions back, or all that are on. Raises BadInput."""
    _check(actions, why)

    def events(known: control_stream.Known) -> list[Control]:
        on = [name for name, switch in known.state.responses.items() if switch.enabled and name != UNBLOCK]
        wanted = [action for action in actions if action in on] if actions else on
        return [_event(False, wanted, why, ())] if wanted else []

    return _append(log, events)


def _check(actions: Sequence[str], why: Why) -> None:
    why.check()
    for action in actions:
        if action not in ACTIONS:
            raise BadInput(f"unknown action {action!r}{meant(action, ACTIONS)}; known: {', '.join(ACTIONS)}")
    if len(set(actions)) != len(actions):
        raise BadInput("name each action once")


def _event(enabled: bool, actions: Sequence[str], why: Why, begins: tuple[int, ...]) -> ResponsesChanged:
    return ResponsesChanged(
        occurred_at=why.now_ms,
        actor=why.actor,
        reason=why.reason,
        enabled=enabled,
        actions=tuple(actions),
        begins=begins,
    )


def _append(log: EventLog, events: control_stream.Decide) -> Switched:
    stream = control_stream.ControlStream()
    appended = control_stream.append(log, events, stream)
    return Switched(appended.position, dict(stream.state.responses), bool(appended.events))
