"""Which recommended actions responders carry out, and from where on: the fold of `ResponsesChanged`. Pure.

    unknown ──on (begins)──► on ◄──on (begins, or () to catch up)── off
                              └────────────off──────────────────────►

An action that was never switched on is not carried out. What is carried out is therefore a fact of the log, never of
some responder's configuration: an action is due if its alert lies after `begins` of its partition, and no outcome of it
is in the log (`responders.outbox`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from core.errors import BadInput
from core.events import ResponsesChanged

ACTIONS_MAX = 64
NEVER = 2**62
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Switch(NamedTuple):
    """The state of one action. begins: by partition, the seal after which alerts count."""

    enabled: bool
    begins: tuple[int, ...]

    def begin(self, partition: int) -> int:
        """The seal of a partition after which alerts count; of one that the event does not name, none does."""
        return self.begins[partition] if partition < len(self.begins) else NEVER


def check(event: ResponsesChanged) -> None:
    """Raise BadInput if the event is invalid in itself."""
    if not 1 <= len(event.actions) <= ACTIONS_MAX or len(set(event.actions)) != len(event.actions):
        raise BadInput(f"a change of responses names 1 to {ACTIONS_MAX} actions, each once")
    for action in event.actions:
        if not _NAME.fullmatch(action):
            raise BadInput(f"{action!r} is not the name of an action")
    if any(sequence < 0 for sequence in event.begins):
        raise BadInput("a change of responses begins at seals, which are not negative")
    if event.begins and not event.enabled:
        raise BadInput("only actions that are switched on have a beginning")


def changed(switches: Mapping[str, Switch], event: ResponsesChanged) -> dict[str, Switch]:
    """The switches after a valid event. An action that never had a beginning stays unknown without one."""
    found = dict(switches)
    for action in event.actions:
        known = found.get(action)
        begins = event.begins or (known.begins if known is not None else ())
        if begins:
            found[action] = Switch(event.enabled, begins)
    return found
