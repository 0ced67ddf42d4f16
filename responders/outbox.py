"""The outbox: what is still to be done, as a fold of the log. Alerts minus outcomes; nothing else stores it. Pure.

An item is one action of one alert. Its key, alert ID and action, is the idempotency key for everybody outside.

    AlertRaised       makes an item of each action that is switched on, if the alert lies after the action's beginning
                      (`core.responses`) and its payment is live (`core.receipt`: loading history alarms nobody)
    ActionSucceeded   settles it
    AccountBlocked    by a responder: settles it, too; if the block ends by itself, makes another item for that time,
                      `unblock_account`. By a person: settles the account's waiting unblock: the block is now theirs
    AccountUnblocked  by a responder: settles it. By a person: settles the account's waiting blocks, since what the
                      person knows is newer than the alert
    CaseRouted        by a responder: settles it
    ActionFailed      settles it as parked
    ActionRequested   makes a parked item wait again

What has an effect in the log is its own outcome, so a responder killed between that and its ActionSucceeded repeats
nothing. If Kafka lost the effect, and its ActionSucceeded arrives alone, the item waits again; after LOST_MAX times it
is parked. The first outcome of an item counts. Another one, of a responder that woke up after its place was taken,
changes nothing and is counted. Within a batch, account events come before alerts. So an outcome in the batch of its own
alert, as a log that lost its tail has it when the alert is decided again, settles nothing: it is sent once more
(`responders.reporting`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from core.authority import RESPONDER
from core.codec import decode_alert
from core.events import (
    AccountBlocked,
    AccountEvent,
    AccountUnblocked,
    ActionFailed,
    ActionOutcome,
    ActionRequested,
    ActionSucceeded,
    CaseRouted,
    Position,
    Severity,
)
from core.receipt import TRANSACTIONS, History, covering
from core.responses import Switch
from core.times import HOUR_MS
from responders.ports import Outgoing
from responders.settings import BLOCK, QUEUE, UNBLOCK

ACTOR = RESPONDER
"""The actor of everything that responders do by themselves."""
PARKED_MAX = 10_000
BLOCKED_CODE = "ACCOUNT_BLOCKED"
"""The rule of `standard@1` that hits on every payment of a blocked account."""
LOST_MAX = 3
"""How often an item waits again because its effect did not reach the log."""
IN_LOG = (BLOCK, UNBLOCK, QUEUE)
"""Actions whose effect is an event of the log, which is their outcome."""

Key = tuple[str, str]
"""(alert ID, action)."""


class Item(NamedTuple):
    """What is to be done. position: the alert's; requested_at: when it was recorded, epoch ms; begins_at: not before
    then, 0 for at once. payload: the alert's JSON, b"" if it has to be read from the log. is_blocked: whether
    the alert says that its account was blocked already. asked: how often it began to wait again; lost: how often of
    these because its effect was lost.
    """

    partition: int
    position: Position
    action: str
    account_id: str
    severity: Severity | None
    requested_at: int
    begins_at: int = 0
    payload: bytes = b""
    is_blocked: bool = False
    asked: int = 0
    lost: int = 0

    @property
    def alert_id(self) -> str:
        return f"{self.partition:02d}:{self.position}"

    @property
    def key(self) -> Key:
        return self.alert_id, self.action

    def outgoing(self, payload: bytes) -> Outgoing:
        """An event about it, on its way to Kafka."""
        return Outgoing(self.partition, self.account_id, payload)


class Parked(NamedTuple):
    """An item that failed for good, until somebody asks for it again."""

    item: Item
    code: str
    error: str
    failed_at: int


class Rules(NamedTuple):
    """What the control stream says: which actions are carried out, and which payments are history."""

    switches: Mapping[str, Switch]
    histories: Sequence[History]


@dataclass(slots=True)
class Part:
    """One partition's outbox. fresh: items that began to wait, for the reader to take. repeated: outcomes that came for
    a settled item. blocked_at: when automatic blocks of the last hour of log time were recorded, epoch ms, oldest
    first. blocked: accounts that were blocked since the fold's beginning, and still are.
    """

    partition: int
    waiting: dict[Key, Item] = field(default_factory=dict)
    parked: dict[Key, Parked] = field(default_factory=dict)
    fresh: list[Key] = field(default_factory=list)
    blocked_at: deque[int] = field(default_factory=deque)
    blocked: set[str] = field(default_factory=set)
    repeated: int = 0

    def alert(self, sequence: int, recorded_at: int, position: Position, payload: bytes, rules: Rules) -> None:
        """Fold an alert in the batch of this seal."""
        if covering(rules.histories, TRANSACTIONS, self.partition, position) is not None:
            return
        alert = decode_alert(payload)
        for action in alert.recommended_actions:
            switch = rules.switches.get(action)
            if switch is None or sequence <= switch.begin(self.partition):
                continue
            item = Item(
                self.partition,
                position,
                action,
                alert.account_id,
                alert.severity,
                recorded_at,
                payload=payload,
                is_blocked=BLOCKED_CODE in alert.reason_codes,
            )
            self._add(item)

    def event(self, event: AccountEvent, recorded_at: int) -> None:
        """Fold an account event."""
        match event:
            case AccountBlocked():
                self.blocked.add(event.account_id)
            case AccountUnblocked():
                self.blocked.discard(event.account_id)
            case _:
                pass
        match event:
            case AccountBlocked() if event.actor == ACTOR:
                self._blocked(event, recorded_at)
            case AccountBlocked():
                self._forget(event.account_id, UNBLOCK)
            case AccountUnblocked() if event.actor == ACTOR:
                self.waiting.pop((event.causation_id, UNBLOCK), None)
            case AccountUnblocked():
                self._forget(event.account_id, BLOCK)
            case CaseRouted() if event.actor == ACTOR:
                self.waiting.pop((event.causation_id, QUEUE), None)
            case ActionSucceeded():
                self._succeeded(event, recorded_at)
            case ActionFailed():
                self._failed(event, recorded_at)
            case ActionRequested():
                self._requested(event, recorded_at)
            case _:
                pass

    def _blocked(self, event: AccountBlocked, recorded_at: int) -> None:
        item = self.waiting.pop((event.causation_id, BLOCK), None)
        if item is None:
            self.repeated += 1
            return
        self.blocked_at.append(recorded_at)
        while self.blocked_at and self.blocked_at[0] <= recorded_at - HOUR_MS:
            self.blocked_at.popleft()
        if event.ends_at:
            self._add(item._replace(action=UNBLOCK, requested_at=event.ends_at, begins_at=event.ends_at, payload=b""))

    def _add(self, item: Item) -> None:
        self.waiting[item.key] = item
        self.fresh.append(item.key)

    def _succeeded(self, event: ActionSucceeded, recorded_at: int) -> None:
        item = self._settle(event)
        if item is None or event.actor != ACTOR or event.action not in IN_LOG or self.is_needless(item):
            return
        if item.lost < LOST_MAX:
            self._add(item._replace(asked=item.asked + 1, lost=item.lost + 1))
        else:
            self._park(item, "lost", f"its effect did not reach the log {LOST_MAX + 1} times", recorded_at)

    def is_needless(self, item: Item) -> bool:
        """Whether it is a block of an account that was blocked since, or of which the alert says that it was."""
        return item.action == BLOCK and (item.account_id in self.blocked or item.is_blocked)

    def _failed(self, event: ActionFailed, recorded_at: int) -> None:
        item = self._settle(event)
        if item is not None:
            self._park(item, event.code, event.error, recorded_at)

    def _park(self, item: Item, code: str, error: str, at: int) -> None:
        self.parked[item.key] = Parked(item._replace(payload=b""), code, error, at)
        if len(self.parked) > PARKED_MAX:
            del self.parked[next(iter(self.parked))]

    def _requested(self, event: ActionRequested, recorded_at: int) -> None:
        parked = self.parked.pop((event.causation_id, event.action), None)
        if parked is not None:
            asked = parked.item._replace(requested_at=recorded_at, begins_at=0, asked=parked.item.asked + 1, lost=0)
            self._add(asked)

    def _settle(self, event: ActionOutcome) -> Item | None:
        """The item of an outcome, no longer waiting; None if it does not wait."""
        item = self.waiting.pop((event.causation_id, event.action), None)
        if item is None and event.actor == ACTOR and event.action not in IN_LOG:
            self.repeated += 1
        return item

    def _forget(self, account: str, action: str) -> None:
        for key in [k for k, item in self.waiting.items() if k[1] == action and item.account_id == account]:
            del self.waiting[key]
