"""The system's gauges and the checks of `/readyz`, as this process knows both: by the control stream, the read
models, and what Kafka and the log's servers say (`console.api.inspecting`).

Asked for at a scrape, in the metrics server's threads. What reads many entries is kept: places of read models for
STATUS_S, cases, drift and archive for COUNTS_S.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar, get_args

import msgspec
from prometheus_client import Metric

from console.api.desk import Desk
from console.api.inspecting import Facts, Inspector
from console.api.system import WAIT_S, lags
from console.follower_health import read_models, trouble
from core.errors import SentinelError
from core.events import Verdict
from core.log.archive.archived import ArchivedLog
from ingest import families
from projections.engine.feed import seal_at
from projections.engine.runner import Status
from projections.engine.states import States
from projections.views.cases import CASES, case_rows
from projections.views.drift import drift_answer

STATUS_S = 5.0
COUNTS_S = 15.0
T = TypeVar("T")


class _Counts(msgspec.Struct, frozen=True):
    """open, overdue: severities of cases; at_risk: amount in the base currency; resolved: by outcome and clock; drift:
    severities of open detections.
    """

    open: list[str | None]
    overdue: list[str | None]
    at_risk: float
    resolved: dict[str, dict[str, int]]
    drift: list[str]


class _Kept(Generic[T]):
    """A result that is made again once it is `old_s` old. Thread-safe; one thread makes it while others wait."""

    def __init__(self, make: Callable[[], T], old_s: float) -> None:
        self._make, self._old_s = make, old_s
        self._lock = threading.Lock()
        self._last: tuple[float, T] | None = None

    def get(self) -> T:
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > self._old_s:
                self._last = (time.monotonic(), self._make())
            return self._last[1]


class System:
    """See the module's docstring. Thread-safe."""

    def __init__(self, desk: Desk, inspector: Inspector) -> None:
        self._desk, self._inspector = desk, inspector
        self._statuses: _Kept[list[Status]] = _Kept(lambda: desk.views.status(_now_ms()), STATUS_S)
        self._counts: _Kept[_Counts] = _Kept(self._count, COUNTS_S)
        self._archive: _Kept[dict[int, float]] = _Kept(self._archive_ages, COUNTS_S)

    def checks(self) -> dict[str, str]:
        """Each part that a request needs, and what is wrong with it; "" for nothing."""
        return {"log": self.log(), "read models": self.read_models()}

    def log(self) -> str:
        """Why the log does not answer."""
        try:
            self._desk.log.control_head()
        except SentinelError as error:
            return str(error)
        return ""

    def read_models(self) -> str:
        """Why answers may be incomplete: read models stand still, or have too much left to fold."""
        desk = self._desk
        if desk.trouble or not desk.views.is_caught_up:
            return desk.trouble or "still reading the log"
        try:
            return trouble(self._statuses.get(), desk.settings.ready_lag_max)
        except SentinelError as error:
            return str(error)

    def collect(self) -> Iterable[Metric]:
        """All gauges that can be told now."""
        desk, state = self._desk, self._desk.control
        yield from families.deciding(state)
        yield from families.ages(state, _now_ms())
        yield from families.experiments(state)
        yield families.PARTITIONS.is_(len(desk.partitions))
        yield families.LOG_PARKED.of({(str(p),): p in state.parked for p in desk.partitions})
        yield families.LOG_DEGRADED.is_(len(state.missing))
        yield families.ACTIONS_ON.of({(name,): switch.enabled for name, switch in sorted(state.responses.items())})
        looked = self._inspector.facts(WAIT_S)
        if looked is not None:
            yield from self._servers(looked.found)
        if looked is None or "log server" in looked.found.problems:
            return  # what follows would wait for it
        for part in (self._of_log, self._of_read_models):
            try:
                yield from part()
            except SentinelError:  # the log does not answer: `sentinel_log_server_up` says so
                continue

    def _servers(self, facts: Facts) -> Iterable[Metric]:
        yield families.KAFKA_UP.is_(any(facts.ends.values()))
        yield families.SERVER_UP.is_("log server" not in facts.problems)
        by_server = {(each.address,): each for each in facts.servers}
        yield families.SERVER_MEMORY.of({name: each.memory_bytes for name, each in by_server.items()})
        yield families.SERVER_LIMIT.of({name: each.memory_max_bytes for name, each in by_server.items()})
        yield families.SERVER_CLIENTS.of({name: each.clients for name, each in by_server.items()})
        yield families.SERVER_UPTIME.of({name: each.uptime_s for name, each in by_server.items()})
        if facts.group is not None and (facts.group.owners or facts.group.state != "stable"):
            orphans = set(self._desk.partitions) - facts.group.assigned
            yield families.ORPHANS.is_(len(orphans))

    def _of_log(self) -> Iterable[Metric]:
        desk, looked = self._desk, self._inspector.facts(0.0)
        found = {} if looked is None else {p: lags(desk.log, desk.control, p, looked.found) for p in desk.partitions}
        known = {(role, str(p)): lag for p, by in found.items() for role, lag in by.items() if lag is not None}
        yield families.LAG.of(known)
        yield families.ARCHIVE_AGE.of({(str(p),): age for p, age in self._archive.get().items()})

    def _of_read_models(self) -> Iterable[Metric]:
        yield from read_models(self._statuses.get())
        counts = self._counts.get()
        yield families.by_severity(families.CASES_OPEN, counts.open)
        yield families.by_severity(families.CASES_OVERDUE, counts.overdue)
        yield families.CASES_AT_RISK.is_(counts.at_risk)
        resolved = ((outcome, clock, n) for outcome, by in counts.resolved.items() for clock, n in by.items())
        yield families.CASES_RESOLVED.of({(outcome, clock): n for outcome, clock, n in resolved})
        yield families.by_severity(families.DRIFT_OPEN, counts.drift)

    def _count(self) -> _Counts:
        return msgspec.json.decode(self._desk.views.answer("metrics", _counts), type=_Counts)

    def _archive_ages(self) -> dict[int, float]:
        log = self._desk.log
        if not isinstance(log, ArchivedLog):
            return {}
        found = {}
        for partition in self._desk.partitions:
            log.archive.refresh(partition)
            archived = log.archive.end(partition).sequence
            waits = log.head(partition).sequence > archived
            since = seal_at(log, partition, archived + 1).recorded_at if waits else _now_ms()
            found[partition] = max(_now_ms() - since, 0) / 1000
        return found


def _counts(states: States) -> _Counts:
    rows = [row for p, held in states.by_partition(CASES).items() for row in case_rows(held, p, states.moment)]
    left = [row for row in rows if row.case.stage != "resolved"]
    resolved = {outcome: dict.fromkeys(("met", "missed", "none"), 0) for outcome in get_args(Verdict)}
    for row in rows:
        if row.case.outcome is not None and row.case.stage == "resolved":
            resolved[row.case.outcome][row.clock] += 1
    return _Counts(
        [row.case.severity for row in left],
        [row.case.severity for row in left if row.clock == "overdue"],
        sum(row.amount_at_risk for row in left),
        resolved,
        [each.severity for each in drift_answer(states).open],
    )


def _now_ms() -> int:
    return int(time.time() * 1000)
