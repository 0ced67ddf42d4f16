"""How the faults of a schedule strike a stage, and how what they broke is mended (`faults` says which there are)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from core.codec import decode_control
from core.events import LogCreated
from ingest.evidence import COMMITTED_BY
from tests.simulation.broker import Partition
from tests.simulation.faults import Fault
from tests.simulation.logs import Trouble
from tests.simulation.scenario import ROLES
from tests.simulation.world import Process

if TYPE_CHECKING:
    from tests.simulation.stage import Stage


class Striker:
    """Strikes each fault of the stage once, at its call; what struck is in `stage.struck`."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._next_fault = 0
        self._die_after: int | None = None

    def on_call(self, process: Process, what: str, number: int) -> None:
        """Before a call: strike with the faults that are due."""
        stage = self._stage
        while self._next_fault < len(stage.faults) and stage.faults[self._next_fault].at <= number:
            fault = stage.faults[self._next_fault]
            self._next_fault += 1
            if stage.is_stopping:
                continue
            stage.struck.append(fault)
            stage.world.note(f"--- {fault} strikes {process.name}")
            self._strike(fault, process, number)

    def on_done(self, process: Process, what: str, number: int) -> None:
        """After a call: die, if a kill was to strike after it."""
        if self._die_after == number:
            self._die_after = None
            self._stage.world.die()

    def _strike(self, fault: Fault, process: Process, number: int) -> None:
        stage = self._stage
        world, broker, server = stage.world, stage.broker, stage.server
        until = world.now + fault.seconds
        role = ROLES[fault.place % 2]
        partition = fault.place // 2 % stage.scenario.partitions
        match fault.kind:
            case "kill" if fault.how == "before":
                world.die()
            case "kill":
                self._die_after = number
            case "power":
                world.later(0.0, self._lose_power)
            case "stop":
                for worker in list(stage.workers.values())[: 1 + fault.place % 2]:
                    worker.stop()
            case "freeze":
                process.frozen_until = until
            case "cut off":
                for group in broker.groups.values():
                    for member in group.members:
                        if member.process is process:
                            member.cut_off_until = until
            case "request":
                only = ("append", "append", "append_control", "")[fault.place % 4]
                server.troubles.append(Trouble(fault.how, fault.seconds, only))
            case "log refuses":
                server.refuses, server.refuses_until = fault.how, until
                server.refuses_writes_only = fault.how in ("READONLY", "OOM")
            case "log forgets":
                stage.happened["writes forgotten"] += server.lose_tail(fault.seconds)
            case "log emptied":
                self._empty(fault.seconds)
            case "kafka away":
                broker.down_until = until
            case "slow fetch":
                broker.slow[role, partition] = until
            case "produce":
                broker.failing.append(fault.how)
            case "recreated":
                self._recreate(role)
            case "grown":
                self._grow(role, fault.seconds)
            case "expired":
                self._expire(role, partition)
            case "clock":
                process.clock_ahead_s += fault.seconds
                world.later(2.0, partial(self._set_clock, process))
            case "receiver" if fault.place % 2:
                stage.receiver.silent += 1
            case "receiver":
                stage.receiver.away_until = until
            case "disk full":
                stage.disk.full_until = until
            case kind:
                raise AssertionError(f"no such fault: {kind}")

    def _lose_power(self) -> None:
        self._stage.kill_everybody()
        self._stage.disk.lose_power(self._stage.chance)

    def _set_clock(self, process: Process) -> None:
        process.clock_ahead_s = 0.0

    def _has_evidence(self) -> bool:
        """Whether anything outside the log server proves that there was a log."""
        stage = self._stage
        mine = COMMITTED_BY + stage.settings.log_prefix
        committed = any(offset > 0 and text == mine for offset, text in stage.broker.committed.values())
        return committed or any(name.endswith(".snapshot") for name in stage.disk.names)

    def _empty(self, seconds: float) -> None:
        stage = self._stage
        if stage.server.backup is not None or not stage.server.log.control_head():
            return
        has_evidence = self._has_evidence()
        stage.happened["emptied with evidence" if has_evidence else "emptied without evidence"] += 1
        stage.server.empty()
        if has_evidence:
            stage.world.later(2.0 + seconds, self._restore)
        else:
            stage.server.backup = None  # nobody can know that there was a log

    def _restore(self) -> None:
        stage = self._stage
        begun = [decode_control(payload) for _, payload in stage.server.log.read_control()]
        is_late = any(fault.how == "late" for fault in stage.struck)  # it may be the log's own beginning that arrives
        if any(isinstance(event, LogCreated) for event in begun) and not is_late:
            stage.wrong.append("a new log was begun although there was evidence of one")
        stage.server.restore()

    def _recreate(self, role: str) -> None:
        stage = self._stage
        old = stage.broker.topics.pop(role, None)
        if old is None:
            return
        stage.happened["recreated"] += 1

        def create() -> None:
            stage.broker.create(role, stage.scenario.partitions, takes_append_time=old.takes_append_time)
            again = [each.message for each in stage.sent if each.topic_id == old.identity and each.message is not None]
            for message in again[: len(again) * 2 // 3]:
                stage.unsent += 1
                stage.send(message)

        stage.world.later(0.05 + stage.chance.random(), create)

    def _grow(self, role: str, seconds: float) -> None:
        stage = self._stage
        topic = stage.broker.topics.get(role)
        if topic is None or stage.happened["recreated"]:
            return
        stage.happened["grown"] += 1
        topic.partitions.append(Partition())

        def undo() -> None:
            stray = topic.partitions.pop()
            stage.sent = [e for e in stage.sent if e.topic_id != topic.identity or e.partition < len(topic.partitions)]
            for each in stray.messages:
                found = next(m for m in stage.scenario.messages if m.value == each.value and m.role == role)
                stage.unsent += 1
                stage.send(found)

        stage.world.later(seconds, undo)

    def _expire(self, role: str, partition: int) -> None:
        stage = self._stage
        topic = stage.broker.topics.get(role)
        if topic is None or not stage.has_begun():
            return
        part = topic.partitions[partition]
        head = stage.server.log.head(partition)
        at = head.transactions if role == ROLES[0] else head.feedback
        held = [m.offset for m in part.messages if m.offset >= at.offset]
        if held:
            stage.happened["expired"] += 1
            part.expire(held[len(held) // 2] + 1)
