"""Outcomes on their way into the log.

unsent ──send──► reported ──(the log holds it)──► settled
   ▲               │
   │               ├──(the log passed it by)──► rejected: told once, and not acted on again
   ├── the topic was made again: whether the log got it is unknown
   └── it is unknown whether Kafka has it: sent again after the fence, if the log still lacks it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    def send(self, outlet: Outlet, part_of: Callable[[int], Part | None]) -> list[Key]:
        """Send the outcomes of all open partitions and wait until Kafka has them; returns keys that need none any more,
        because the log has settled them. Raises Unavailable, after which nothing is reported.
        """
        mine = {k: o for k, o in self.unsent.items() if part_of(o.item.partition) is not None}
        settled = [key for key, outcome in mine.items() if not _waits(part_of(outcome.item.partition), outcome.item)]
        for key in settled:
            del mine[key]
            self.drop(key)
        if mine:
            positions = iter(outlet.send([event for outcome in mine.values() for event in outcome.events]))
            for key, outcome in mine.items():
                last = [next(positions) for _ in outcome.events][-1]
                del self.unsent[key]
                self.reported[key] = outcome._replace(position=last)
        return settled

    def settle(self, part: Part, reached: Position, generation: int) -> list[Key]:
        """The reported keys of a partition that the log has settled; they are forgotten. Tells of those that it passed.

        reached: the last feedback position that the outbox was folded to. generation: that of the feedback topic now.
        """
        done = []
        for key, outcome in list(self.reported.items()):
            if outcome.item.partition != part.partition:
                continue
            if not _waits(part, outcome.item):
                done.append(key)
                self.drop(key)
            elif outcome.position is not None and 0 < outcome.position.generation < generation:
                self.unsent[key] = outcome._replace(position=None)  # its topic was made again: nobody may have read it
                del self.reported[key]
            elif outcome.position is not None and outcome.position.generation and reached >= outcome.position:
                self.reported[key] = outcome._replace(position=None)
                where = str(outcome.position)
                structlog.get_logger().error("respond.outcome_rejected", alert=key[0], action=key[1], position=where)
        return done

    def drop(self, key: Key) -> None:
        """Forget an outcome."""
        self.unsent.pop(key, None)
        self.reported.pop(key, None)
        self.blocking.pop(key, None)


def _waits(part: Part | None, item: Item) -> bool:
    """Whether the log still lacks the outcome of this very request."""
    waiting = part.waiting.get(item.key) if part is not None else None
    return waiting is not None and waiting.asked == item.asked
