"""The people of a simulated installation: what they do by the scenario's plan, and what they mend when they see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core import control_stream
from core.codec import decode_seal
from core.errors import SentinelError
from core.identity import required
from core.log.seals import begins
from ingest import losses
from tests.simulation import acts
from tests.simulation.logs import Connection
from tests.simulation.world import text_of

if TYPE_CHECKING:
    from tests.simulation.stage import Stage


class People:
    """undone: how many acts of the scenario are still to come."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.undone = len(stage.scenario.acts)

    def act(self, name: str) -> None:
        """Carry out an act of the scenario."""
        stage = self._stage

        def carry_out() -> None:
            try:
                acts.carry_out(name, Connection(stage.server), int(stage.world.wall() * 1000))
                stage.happened[f"act: {name}"] += 1
            except SentinelError as error:
                stage.world.note(f"    {name}: {text_of(error)}")

        process = stage.world.start(f"person ({name})", carry_out)
        process.at_end.append(self._act_ended)

    def _act_ended(self) -> None:
        self.undone -= 1

    def watch(self) -> None:
        """Somebody who accepts what Kafka lost, and leaves mixed logs, some time after it is known."""
        stage = self._stage

        def look() -> None:
            while True:
                stage.world.sleep(2.0)
                if self._is_mixed():
                    stage.world.later(0.0, self._change_prefix)
                if "expired" in stage.happened or "messages_cut" in stage.happened:
                    try:
                        self._accept()
                    except SentinelError as error:
                        stage.world.note(f"    accept-loss: {text_of(error)}")

        process = stage.world.start("operator", look)
        process.at_end.append(lambda: None if stage.world.closed else stage.world.later(0.5, self.watch))

    def _accept(self) -> None:
        stage = self._stage
        log = Connection(stage.server)
        parked = control_stream.current(log).parked
        for partition, code in sorted(parked.items()):
            if code == "messages_expired":
                now = int(stage.world.wall() * 1000)
                lost = losses.accept(log, stage.settings, partition, "ann", "it is gone", now)
                stage.happened["losses accepted"] += len(lost)

    def switch_responders_on(self) -> None:
        """Somebody switches the responders on, once there is a log."""
        stage = self._stage

        def carry_out() -> None:
            while not self._is_switched_on():
                try:
                    acts.carry_out("respond", Connection(stage.server), int(stage.world.wall() * 1000))
                except SentinelError as error:
                    stage.world.note(f"    respond: {text_of(error)}")
                stage.world.sleep(0.5)

        def ended() -> None:
            if not stage.world.closed and not stage.is_stopping:
                stage.world.later(0.7, self.switch_responders_on)

        stage.world.start("person (respond)", carry_out).at_end.append(ended)

    def _is_switched_on(self) -> bool:
        stage = self._stage
        return stage.has_begun() and bool(control_stream.current(stage.server.log).responses)

    def begin_anew(self) -> None:
        """Somebody finds that the log is lost for good, empties its server, and says so."""
        stage = self._stage
        if stage.server.backup is None and not stage.has_begun():
            stage.server.empty()
            stage.server.backup = None
            stage.new_log = "the server lost it"
            stage.happened["begun anew"] += 1

    def _is_mixed(self) -> bool:
        """Whether a partition of a new log on an emptied server begins as the former one: a worker parks it."""
        stage = self._stage
        if not stage.server.emptied or stage.server.backup is not None or not stage.has_begun():
            return False
        log, state = stage.server.log, control_stream.current(stage.server.log)
        firsts = {p: log.read(p, "seals", count=1) for p, code in state.parked.items() if code == "corrupt_log"}
        log_id = required(state.identity).log_id
        return any(first and decode_seal(first[0].payload).begins != begins(log_id, p) for p, first in firsts.items())

    def _change_prefix(self) -> None:
        """Somebody does as the worker says: stops all workers, and begins again under another prefix, where nothing of
        theirs arrives, and with another archive.
        """
        stage = self._stage
        stage.kill_everybody()
        stage.server.empty()
        stage.server.backup, stage.server.starts = None, stage.server.starts + 1
        stage.disk.names.clear()
        stage.disk.kept.clear()
        stage.new_log = "two logs were mixed"
        stage.happened["mixed logs left"] += 1
