"""What a worker says of itself: the checks of its `/readyz`, its gauges, and the figures of its statistics file.

    log          the log server answers
    partitions   it owns some, or others own all; none of its own is parked
    backlog      no partition that it owns has messages and does not get on, and not more than `ready_lag_max` wait
    progress     its loop goes round (`ingest.health`); while partitions are loaded, it does not

Asked in the health server's threads, beside the worker's: only reads, and copies before it iterates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Metric

from core.control_stream import ControlStream
from core.log.base import EventLog
from core.settings import Settings
from core.validation import REASONS
from ingest import families, telemetry
from ingest.fetching import Fetcher
from ingest.health import BOARD, Health, log_check
from ingest.ownership import Ownership
from ingest.parking import Parking
from ingest.vigilance import Vigilance

NAMED_MAX = 10
"""Partitions that a check names."""


class Condition:
    """See the module's docstring."""

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        fetcher: Fetcher,
        ownership: Ownership,
        parking: Parking,
        vigilance: Vigilance,
        control: Callable[[], ControlStream],
    ) -> None:
        self._lag_max = settings.ready_lag_max
        self._log = log
        self._fetcher = fetcher
        self._ownership = ownership
        self._parking = parking
        self._vigilance = vigilance
        self._control = control
        self._saved: dict[int, tuple[int, float]] = {}

    def report(self, health: Health) -> None:
        """Be asked from now on."""
        health.check("log", log_check(self._log))
        health.check("partitions", self._partitions)
        health.check("backlog", self._backlog)
        health.follow_steps()
        health.started()
        for reason in REASONS:
            telemetry.REJECTS.labels(reason)  # so that the first of each is an increase
        BOARD.put("worker", telemetry.WORKER.collect)
        BOARD.put("condition", self._families)

    def counts(self) -> dict[str, Any]:
        """What the statistics file says beside the counts (`ingest.stats`)."""
        owned = sorted(self._ownership.partitions.items())
        return {
            "partitions": [number for number, _ in owned],
            "parked": {str(number): each.code for number, each in self._parking.parked.items()},
            "control": self._control().position,
            "positions": {str(number): str(each.head.transactions) for number, each in owned},
        }

    def _partitions(self) -> str:
        parked = sorted((number, each.code) for number, each in list(self._parking.parked.items()))
        if parked:
            named = ", ".join(f"{number} ({code})" for number, code in parked[:NAMED_MAX])
            return f"parked: {named}"
        if self._ownership.partitions or self._vigilance.is_spare:
            return ""
        return "owns no partition, and it is not known that others own all"

    def _backlog(self) -> str:
        if stalled := self._vigilance.stalled:
            named = ", ".join(map(str, stalled[:NAMED_MAX]))
            return f"messages wait, and nothing is decided, in partitions {named}"
        waiting = sum(self._fetcher.lags().values())
        return f"{waiting:,} messages wait, more than {self._lag_max:,}" if waiting > self._lag_max else ""

    def _families(self) -> Iterable[Metric]:
        state = self._control().state
        yield from families.deciding(state)
        yield from families.ages(state, int(time.time() * 1000))
        yield families.LAG.of(self._fetcher.lags())
        yield families.SNAPSHOT_AGE.of({(str(p),): age for p, age in self._snapshot_ages().items()})

    def _snapshot_ages(self) -> dict[int, float]:
        """By partition, for how long its state has been ahead of its snapshot, as seen from here, s."""
        now, before = time.monotonic(), self._saved
        self._saved, found = {}, {}
        for number, owned in list(self._ownership.partitions.items()):
            sequence, since = before.get(number, (-1, now))
            if sequence != owned.snapshot_sequence or owned.head.sequence == owned.snapshot_sequence:
                since = now
            self._saved[number] = (owned.snapshot_sequence, since)
            found[number] = now - since
        return found
