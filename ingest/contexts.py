"""The contexts under which a worker decides its partitions, and its reports of what it can't load (I12).

A decision's context is a pure function of control position and partition, for ever. What a worker can load is not. So
it says in the control stream what it can't load before it decides without it, and then decides as the stream says. Per
partition:

    everything in force loads, nothing is reported   → decided under the newest position
    something does not load and is not reported      → DegradationStarted is appended; until then the partition waits
    something reported loads again, or is no longer  → DegradationEnded is appended; until then it is decided as
    in force                                           reported, which is always possible

Failure cases:
    the log server is away           nothing can be appended, so waiting costs nothing; tried again at the next refresh
    another writer came first        the report is made again for the new position (`core.control_stream.append`)
    the worker dies while degraded   the report stands; the partition's next owner ends it if it can load everything
    two owners of one partition      each decides under the position that its seal names, so both decide as reported;
                                     the log lets only one of them append (I1)

A start is never delayed, because without it the partition would wait. After a start, an end waits for REPORT_PAUSE_S,
so a worker for which artifacts come and go writes at most two events in that time. What loaded once is held, so this
needs new deployments, new tables or restarts.

Cost: per refresh a look-up for each artifact in force; artifacts that do not load are tried again each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from core import pipeline
from core.context import Context, Resolver, in_force
from core.control import ControlState
from core.control_stream import ControlStream, append
from core.errors import ConcurrencyError, Conflict, SentinelError, Unavailable
from core.events import Control, DegradationEnded, DegradationStarted
from core.log.base import EventLog
from ingest import telemetry
from ingest.partition import Owned, Pending, convert, finish

ACTOR = "sentinel ingest"
REPORT_PAUSE_S = 10.0
ROUNDS_MAX = 5
"""How often a refresh looks again because other events came in between; then the next refresh goes on."""


class Contexts:
    """The owned partitions' contexts as of the last `refresh`. position, digest: of the control stream then."""

    def __init__(
        self,
        log: EventLog,
        resolver: Resolver,
        *,
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
        warn: Callable[..., object] = lambda event, **fields: None,
    ) -> None:
        self._log, self._resolver = log, resolver
        self._now_ms, self._monotonic = now_ms, monotonic
        self._warn = warn
        self._quiet_until = float("-inf")
        self._by_partition: dict[int, Context] = {}
        self._absent: dict[str, str] = {}
        self._partitions: frozenset[int] = frozenset()
        self.position = 0
        self.digest = ""
        self.unsettled = False
        """Whether something could not be loaded, is reported although it could, or could not be reported."""

    def of(self, partition: int) -> Context | None:
        """The partition's context; None if it must wait for a report."""
        return self._by_partition.get(partition)

    def covers(self, control: ControlStream, partitions: Collection[int]) -> bool:
        """Whether the last refresh was at the end of `control`, and for these partitions."""
        return self.position == control.position and self._partitions.issuperset(partitions)

    def usual(self, control: ControlStream) -> Context:
        """The context of a partition for which all that can't be loaded now is reported."""
        return self._resolver.context(control.state, self._resolver.unavailable(control.state))

    def refresh(self, control: ControlStream, partitions: Collection[int]) -> None:
        """Load what is in force at the end of `control`, report what changed for the partitions, and resolve their
        contexts. `control` is advanced by a report. Raises SentinelError if the log refuses the report.
        """
        absent = self._resolver.unavailable(control.state)
        try:
            for _ in range(ROUNDS_MAX):
                if not self._report(control, sorted(partitions), absent):
                    break
                absent = self._resolver.unavailable(control.state)
        except (Unavailable, ConcurrencyError) as error:
            self._warn("ingest.degradation_not_reported", error=str(error), artifacts=sorted(absent))
        if absent.keys() != self._absent.keys() and absent:
            self._warn("ingest.degraded", reason="; ".join(absent.values()), control=control.position)
        self._absent = absent
        self._resolve(control, partitions, absent)

    def _report(self, control: ControlStream, partitions: list[int], absent: Mapping[str, str]) -> bool:
        """Append what has to be said; whether anything was."""
        hold_back = self._monotonic() < self._quiet_until
        if not reports(control.state, partitions, absent, 0, hold_back=hold_back):
            return False
        now = self._now_ms()
        said = append(
            self._log, lambda known: reports(known.state, partitions, absent, now, hold_back=hold_back), control
        ).events
        if any(isinstance(event, DegradationStarted) for event in said):
            self._quiet_until = self._monotonic() + REPORT_PAUSE_S
        return True

    def _resolve(self, control: ControlStream, partitions: Iterable[int], absent: Mapping[str, str]) -> None:
        state = control.state
        self.position, self.digest = control.position, control.digest
        self._partitions = frozenset(partitions)
        self._by_partition = {}
        resolved: dict[tuple[str, ...], Context] = {}
        needed = _needed(state, absent)
        self.unsettled = bool(absent)
        for partition in partitions:
            reported = state.missing.get(partition, ())
            self.unsettled |= reported != needed
            if not set(needed).issubset(reported):
                continue
            try:
                if reported not in resolved:
                    resolved[reported] = self._resolver.context(state, reported)
            except SentinelError as error:
                self.unsettled = True
                self._warn("ingest.context_unavailable", partition=partition, error=str(error))
                continue
            self._by_partition[partition] = resolved[reported]


def live_contexts(log: EventLog, resolver: Resolver) -> Contexts:
    """Those of a worker, by this machine's clocks."""
    return Contexts(
        log,
        resolver,
        now_ms=lambda: int(time.time() * 1000),
        monotonic=time.monotonic,
        warn=telemetry.logger().warning,
    )


def check_reach(control: ControlStream, owned: Iterable[Owned]) -> None:
    """Raise Conflict if a partition was decided under a control position that does not exist. `control` must have been
    advanced since the partitions were loaded.
    """
    for each in owned:
        if each.head.control > control.position:
            raise Conflict(
                f"partition {each.partition} was decided under control event {each.head.control}, but the control"
                f" stream ends at {control.position}: its end was lost, so restore the log from a backup"
            )


def decide(pendings: Sequence[Pending], contexts: Contexts) -> None:
    """Decide and seal the batches, in one call for all partitions with one context: usually for all."""
    under: dict[int, tuple[Context, list[Pending]]] = {}
    for pending in pendings:
        context = contexts.of(pending.partition.partition)
        assert context is not None, "the partition waits, so nothing may be taken from it"
        pending.context = context
        convert(pending, context.rates)
        under.setdefault(id(context), (context, []))[1].append(pending)
    for context, group in under.values():
        decided = pipeline.decide(context, [pending.work for pending in group])
        finish(group, decided, contexts.position, contexts.digest)


def _needed(state: ControlState, absent: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(digest for digest in in_force(state) if digest in absent))


def reports(
    state: ControlState, partitions: Iterable[int], absent: Mapping[str, str], now: int, *, hold_back: bool
) -> list[Control]:
    """The events to append so that the stream says of each partition (ascending) exactly what can't be loaded. Pure.

    absent: why, by SHA-256. now: epoch ms. hold_back: say only what the partitions can't be decided without.
    """
    needed = _needed(state, absent)
    wrong = [p for p in partitions if state.missing.get(p, ()) != needed]
    if hold_back:
        wrong = [p for p in wrong if not set(needed).issubset(state.missing.get(p, ()))]
    if not wrong:
        return []
    if not needed:
        return [DegradationEnded(occurred_at=now, actor=ACTOR, reason="loaded again", partitions=tuple(wrong))]
    reason = "; ".join(absent[digest] for digest in needed)[:500]
    return [DegradationStarted(occurred_at=now, actor=ACTOR, reason=reason, partitions=tuple(wrong), artifacts=needed)]
