"""Outcomes on their way into the log.

unsent ──send──► reported ──(the log holds it)──► settled
   ▲               │
   │               ├──(the log passed it by)──► rejected: told once, and not acted on again
   ├── the topic was made again, or Kafka lost messages that were passed: the log will not get it
   ├── it is unknown whether Kafka has it: sent again after the fence, if the log still lacks it
   └── the log lost its tail, and decides again: so, too, since an outcome may come before its alert then
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from core.codec import encode
from core.events import AccountBlocked, AccountEvent, Position
from responders.outbox import Item, Key, Part
from responders.ports import Outgoing, Outlet


class Outcome(NamedTuple):
    """An item's events. blocks: the account that they block, "" for none. position: of the last one, once sent."""

    item: Item
    events: list[Outgoing]
    blocks: str = ""
    position: Position | None = None


@dataclass(slots=True)
class Reports:
    """Outcomes by key, unsent and reported. blocking: by account, blocks among them that the log does not hold yet."""

    unsent: dict[Key, Outcome] = field(default_factory=dict)
    reported: dict[Key, Outcome] = field(default_factory=dict)
    blocking: dict[Key, str] = field(default_factory=dict)

    def put(self, item: Item, events: Sequence[AccountEvent]) -> None:
        """Report this outcome with the next `send`."""
        blocks = next((event.account_id for event in events if isinstance(event, AccountBlocked)), "")
        self.unsent[item.key] = Outcome(item, [item.outgoing(encode(event)) for event in events], blocks)
        if blocks:
            self.blocking[item.key] = blocks

    def __contains__(self, key: Key) -> bool:
        return key in self.unsent or key in self.reported

    def send(self, outlet: Outlet, opened: Container[int]) -> None:
        """Send the outcomes of the open partitions and wait until Kafka has them. Raises Unavailable, after which
        nothing is reported.
        """
        mine = {key: outcome for key, outcome in self.unsent.items() if outcome.item.partition in opened}
        if mine:
            positions = iter(outlet.send([event for outcome in mine.values() for event in outcome.events]))
            for key, outcome in mine.items():
                last = [next(positions) for _ in outcome.events][-1]
                del self.unsent[key]
                self.reported[key] = outcome._replace(position=last)

    def send_again(self, partition: int) -> None:
        """The partition's fence is reached: what was reported and waits nevertheless is sent again. The log lost its
        tail, and holds the outcome before the alert, where it settles nothing; or the worker rejected it, and will
        once more.
        """
        for key in [key for key, outcome in self.reported.items() if outcome.item.partition == partition]:
            self.unsent[key] = self.reported.pop(key)._replace(position=None)

    def settle(self, part: Part, reached: Position, gone: Position) -> list[Key]:
        """The keys of a partition that the log has settled; they are forgotten. Tells of those that it passed.

        reached: the last feedback position that the outbox was folded to. gone: up to where the log will never have
        what it lacks now. An outcome that the worker rejected there is sent once more, and rejected once more.
        """
        done = []
        for key, outcome in [*self.reported.items(), *self.unsent.items()]:
            if outcome.item.partition != part.partition:
                continue
            if not _waits(part, outcome.item):
                done.append(key)
                self.drop(key)
                continue
            position = outcome.position
            if position is None or not position.generation:
                continue
            if position <= gone:
                self.unsent[key] = outcome._replace(position=None)
                del self.reported[key]
            elif position <= reached:
                self.reported[key] = outcome._replace(position=None)
                structlog.get_logger().error(
                    "respond.outcome_rejected", alert=key[0], action=key[1], position=str(position)
                )
        return done

    def drop(self, key: Key) -> None:
        """Forget an outcome."""
        self.unsent.pop(key, None)
        self.reported.pop(key, None)
        self.blocking.pop(key, None)


def _waits(part: Part, item: Item) -> bool:
    """Whether the log still lacks the outcome of this very request."""
    waiting = part.waiting.get(item.key)
    return waiting is not None and waiting.asked == item.asked
