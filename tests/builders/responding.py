"""Surroundings of a responder in memory: a log of alerts, a Kafka that a worker reads when told to, and channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core import control_stream
from core.codec import decode_account_event, encode
from core.errors import Unavailable
from core.events import AccountEvent, AlertRaised, Control, Position, ResponsesChanged, Severity
from core.events import SourceGenerationStarted as Generation
from core.identity import FIXED
from core.log.base import Batch, Entry
from core.log.memory import MemoryLog
from responders.channels.base import DELIVERED, Message, Result
from responders.engine import Responder
from responders.ports import Clock, Outgoing
from responders.settings import RespondSettings, respond_settings
from tests.builders.facts import decided

T0 = 1_790_000_000_000
PARTITIONS = 2


@dataclass
class World:
    """A log, the feedback topic before it, and the time. `pump` is the worker: it records what Kafka holds."""

    log: MemoryLog = field(default_factory=MemoryLog)
    now: int = T0
    kafka: list[list[bytes]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    recorded: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    offsets: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    owned: set[int] = field(default_factory=lambda: set(range(PARTITIONS)))
    is_down: bool = False
    lose_replies: int = 0
    """How many sends arrive though the sender is told that nothing is known."""

    def __post_init__(self) -> None:
        names: tuple[Any, ...] = ("transactions", "feedback")
        generations = [
            Generation(
                occurred_at=0, actor="t", topic=n, topic_name=n, generation=1, topic_id="", partitions=PARTITIONS
            )
            for n in names
        ]
        self.control(FIXED.event("t"), *generations)

    # --- what happens ----------------------------------------------------------------------------------------------

    def control(self, *events: Control) -> None:
        control_stream.append(self.log, lambda known: events)

    def on(self, *actions: str, begins: tuple[int, ...] | None = None, enabled: bool = True) -> None:
        """Switch actions on from now on, or off."""
        heads = tuple(self.log.head(p).sequence for p in range(PARTITIONS))
        begins = () if not enabled else heads if begins is None else begins
        self.control(
            ResponsesChanged(
                occurred_at=self.now, actor="ann", reason="r", enabled=enabled, actions=actions, begins=begins
            )
        )

    def alert(
        self, *actions: str, partition: int = 0, account: str = "a1", severity: Severity = "high", **details: Any
    ) -> str:
        """Record an alert; returns its ID."""
        self.offsets[partition] += 1
        position = Position(1, self.offsets[partition])
        alert = AlertRaised(
            alert_id=f"{partition:02d}:{position}",
            timestamp=self.now,
            account_id=account,
            fraud_score=0.9,
            decision="decline",
            severity=severity,
            reason_codes=details.pop("codes", ("VELOCITY_10M",)),
            values={"count_10m": 7.0},
            recommended_actions=actions,
            transaction={"transaction_id": f"t{position.offset}", "amount": 12.5, "currency": "EUR", **details},
        )
        self._append(partition, alerts=[Entry(position, encode(alert))])
        return alert.alert_id

    def tell(self, event: AccountEvent, partition: int = 0) -> None:
        """Somebody sends an account event; it is recorded at once."""
        self.kafka[partition].append(encode(event))
        self.pump()

    def pump(self) -> None:
        """The worker records what Kafka holds."""
        for partition, messages in enumerate(self.kafka):
            first = self.recorded[partition]
            if len(messages) > first:
                new = [Entry(Position(1, n + 1), m) for n, m in enumerate(messages[first:], first)]
                self.recorded[partition] = len(messages)
                self._append(partition, feedback=new)

    def _append(self, partition: int, **streams: list[Entry]) -> None:
        head = self.log.head(partition)
        stream = control_stream.ControlStream()
        stream.advance(self.log)
        if alerts := streams.get("alerts"):
            whole: Any = decided(1).event
            score = msgspec.structs.replace(whole.score, control_position=stream.position)
            streams["transactions"] = [Entry(alert.id, encode(whole.transaction)) for alert in alerts]
            streams["scores"] = [Entry(alert.id, encode(score)) for alert in alerts]
        batch = Batch(
            control=stream.position,
            control_digest=stream.digest,
            recorded_at=self.now,
            transactions_end=Position(1, self.offsets[partition]),
            feedback_end=Position(1, self.recorded[partition]),
            **streams,  # type: ignore[arg-type]
        )
        self.log.append(partition, batch, head)

    # --- what the log holds ------------------------------------------------------------------------------------------

    def feedback(self, partition: int = 0) -> list[AccountEvent]:
        """All account events in the log."""
        return [decode_account_event(entry.payload) for entry in self.log.read(partition, "feedback", count=10**6)]

    def outcomes(self, partition: int = 0) -> list[str]:
        """The log's events as `type:action`, without the others' reasons and times."""
        found = []
        for event in self.feedback(partition):
            name = type(event).__name__
            found.append(f"{name}:{event.action}" if hasattr(event, "action") else name)
        return found

    # --- the ports -----------------------------------------------------------------------------------------------

    def send(self, events: Sequence[Outgoing]) -> list[Position]:
        if self.is_down:
            raise Unavailable("Kafka is down")
        positions = []
        for event in events:
            self.kafka[event.partition].append(event.payload)
            positions.append(Position(1, len(self.kafka[event.partition])))
        if self.lose_replies:
            self.lose_replies -= 1
            raise Unavailable("no acknowledgement in time")
        return positions

    def poll(self) -> Collection[int]:
        return self.owned

    def fence(self, partitions: Collection[int]) -> Mapping[int, Position]:
        if self.is_down:
            raise Unavailable("Kafka is down")
        return {p: Position(1, len(self.kafka[p])) if self.kafka[p] else Position(0, 0) for p in partitions}

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now / 1000)

    def responder(
        self, channels: Mapping[str, Any] | None = None, settings: RespondSettings | None = None, **table: Any
    ) -> Responder:
        """A responder of this world. table: its [responders] settings; every channel is a webhook that takes all."""
        made = settings or configured(channels or {}, **table)
        return Responder(self.log, range(PARTITIONS), made, channels or {}, self, self, self.clock())


def configured(channels: Mapping[str, Any], **table: Any) -> RespondSettings:
    """Settings in which all notifications go to all channels."""
    named = {name: {"kind": "webhook", "url": "http://localhost/", "secret_env": "S"} for name in channels}
    notifying = ("request_step_up_authentication", "notify_customer", "notify_fraud_team")
    actions = {name: {"channels": list(channels)} for name in notifying if channels}
    return respond_settings({"channels": named, **table, "actions": {**actions, **table.get("actions", {})}})


@dataclass
class Receiver:
    """A channel that remembers what it got, and answers with the given results, then with `then`."""

    results: list[Result] = field(default_factory=list)
    then: Result = DELIVERED
    got: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> Result:
        self.got.append(message)
        return self.results.pop(0) if self.results else self.then

    @property
    def keys(self) -> list[str]:
        """The idempotency keys, without the log's ID."""
        return [message.key.partition(":")[2] for message in self.got]


def settle(world: World, responder: Responder, steps: int = 6) -> None:
    """Step until channels have answered and the log holds their outcomes."""
    for _ in range(steps):
        responder.step()
        while any(lane.running for lane in responder.lanes.values()):
            responder.wait(1.0)
        responder.step()
        world.pump()
    responder.step()
