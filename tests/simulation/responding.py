"""Responders in the simulation: the product's engine, group owner and outlet; a receiver that may be away or silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from core.codec import decode_account_event, decode_alert
from core.errors import Unavailable
from core.events import AccountBlocked, AccountUnblocked, ActionOutcome, CaseRouted
from core.log.base import EventLog
from core.log.paging import entries
from core.partitions import partitions_of
from core.settings import Settings
from ingest.outlet import KafkaOutlet
from ingest.responding import GroupOwner
from responders.channels.base import DELIVERED, Message, Result
from responders.engine import Responder
from responders.following import Follower
from responders.outbox import ACTOR, BLOCKED_CODE, IN_LOG
from responders.ports import Clock
from responders.settings import ACTIONS, BLOCK, NOTIFYING, QUEUE, respond_settings
from tests.simulation.world import World

POLL_S = 0.2
SETTINGS = respond_settings(
    {
        "channels": {"soc": {"kind": "webhook", "url": "http://localhost/", "secret_env": "S"}},
        "actions": {name: {"channels": ["soc"]} for name in NOTIFYING},
        "blocks_per_hour": 100_000,
        "backoff_s": 0.2,
        "backoff_max_s": 1.0,
    }
)
HARMLESS = ("kill", "power", "stop", "slow fetch", "disk full", "receiver")
"""Faults after which each outcome is in the log exactly once; others make zombies or outcomes of unknown fate, and a
second outcome may follow, which changes nothing.
"""


@dataclass
class Receiver:
    """Who gets the messages. got: by idempotency key without the log's ID; silent: how many answers are lost."""

    world: World
    got: Counter[str] = field(default_factory=Counter)
    away_until: float = -1.0
    silent: int = 0

    def send(self, message: Message) -> Result:
        """As a channel does."""

        def effect() -> Result:
            if self.world.now < self.away_until:
                return Result("unavailable", "away")
            self.got[message.key.partition(":")[2]] += 1
            if self.silent:
                self.silent -= 1
                return Result("unavailable", "no answer")
            return DELIVERED

        return self.world.call("channel send", effect)


def work(world: World, settings: Settings, log: EventLog, receiver: Receiver, is_stopping: Callable[[], bool]) -> None:
    """One responder until it is asked to stop, as `sentinel respond` runs it."""
    owner = GroupOwner(settings, log)
    responder: Responder
    outlet = KafkaOutlet(settings, lambda: responder.follower.control.state.generations["feedback"].number)
    clock = Clock(lambda: int(world.wall() * 1000), lambda: world.now)
    responder = Responder(log, partitions_of(log), SETTINGS, {"soc": receiver}, outlet, owner, clock)
    owner.join(responder.released, responder.lost)
    try:
        while not is_stopping():
            try:
                responder.step()
            except Unavailable as error:
                world.note(f"    {world.current.name}: {error}")
                responder.wait(1.0)
                continue
            responder.wait(POLL_S)
    finally:
        owner.close()
        responder.close()


def is_finished(log: EventLog, partitions: range) -> bool:
    """Whether actions are switched on, and the log holds an outcome of everything that is to be done."""
    follower = Follower(log, partitions)
    follower.step()
    return bool(follower.rules.switches) and not any(follower.part(p).waiting for p in partitions)


def judged(
    log: EventLog, partitions: range, receiver: Receiver, *, is_exact: bool, is_damaged: bool = False
) -> list[str]:
    """What is wrong with what responders did. is_exact: whether no outcome may be in the log twice; is_damaged: whether
    the log lost its tail.
    """
    wrong: list[str] = []
    for partition in partitions:
        told = [decode_account_event(entry.payload) for entry in entries(log, partition, "feedback")]
        outcomes = [event for event in told if isinstance(event, ActionOutcome) and event.actor == ACTOR]
        done = Counter((event.causation_id, event.action) for event in outcomes)
        effects = {(e.causation_id, BLOCK) for e in told if isinstance(e, AccountBlocked) and e.actor == ACTOR}
        effects |= {(e.causation_id, QUEUE) for e in told if isinstance(e, CaseRouted) and e.actor == ACTOR}
        freed = {e.account_id for e in told if isinstance(e, AccountUnblocked) and e.actor != ACTOR}
        blocked = {e.account_id for e in told if isinstance(e, AccountBlocked)}
        for entry in entries(log, partition, "alerts"):
            alert = decode_alert(entry.payload)
            for action in alert.recommended_actions:
                if action not in ACTIONS:
                    continue
                key = alert.alert_id, action
                count = done.pop(key, 0)
                is_needless = action == BLOCK and (
                    alert.account_id in freed | blocked or BLOCKED_CODE in alert.reason_codes
                )
                is_settled = key in effects or is_needless if action in IN_LOG else count
                if not is_settled:
                    wrong.append(f"not done: {action} of alert {alert.alert_id}")
                if count > 1 and is_exact:
                    wrong.append(f"recorded {count} times: {action} of alert {alert.alert_id}")
                if action in NOTIFYING and not receiver.got[f"{alert.alert_id}:{action}"]:
                    wrong.append(f"nobody was told: {action} of alert {alert.alert_id}")
        if not is_damaged:  # else the alert was lost with the log's tail, and may not be raised again
            wrong += [f"an outcome without an alert: {key}" for key in done]
    return wrong
