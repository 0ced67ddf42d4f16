"""A worker reports what it can't load before it decides without it, and decides as the control stream says (I12)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from core import control_stream
from core.context import Resolver, in_force
from core.control_stream import ControlStream
from core.errors import BadInput, Conflict, Corrupt, Unavailable
from core.events import DegradationEnded, DegradationStarted, ModelDeployed, ThresholdsChanged
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import Head
from core.log.memory import MemoryLog
from ingest.contexts import REPORT_PAUSE_S, Contexts, check_reach, reports
from ingest.partition import Owned
from ingest.recording import record_seals
from tests.builders.batches import filled
from tests.builders.decisions import append_unchecked
from tests.builders.events import T0
from tests.builders.models import ARTIFACT, deployed, load_tiny

ANN: dict[str, Any] = {"occurred_at": T0, "actor": "ann"}
SHA = deployed().digest
SECOND = deployed(ARTIFACT + b" ", "2.0.0")


class Log(MemoryLog):
    """A log that may refuse control events, and into which a rival writes before the next ones."""

    away: Exception | None = None
    rivals: tuple[Any, ...] = ()

    def append_control(self, payloads: Any, expected: int) -> int:
        if self.away is not None:
            raise self.away
        rivals, self.rivals = self.rivals, ()
        if rivals:
            append_unchecked(self, *rivals)
        return super().append_control(payloads, expected)


class Worker:
    """The part of a worker that this is about: its own clock, what it can't load, and its partitions."""

    def __init__(self, log: Log, *partitions: int) -> None:
        self.log, self.partitions, self.now = log, partitions, 1000.0
        self.broken: set[str] = set()
        self.control = ControlStream()
        resolver = Resolver(self._blob, self._load)
        self.contexts = Contexts(log, resolver, now_ms=lambda: int(self.now * 1000), monotonic=lambda: self.now)

    def _blob(self, digest: str) -> bytes:
        return self.log.get_blob(digest)

    def _load(self, content: bytes, label: str, digest: str) -> Any:
        if digest in self.broken:
            raise Corrupt(f"{label} is out of reach")
        return load_tiny(content, label, digest)

    def look(self) -> list[str | None]:
        """Read the control stream and refresh; each partition's `degraded`, "waits" if it may not be decided."""
        self.control.advance(self.log)
        self.contexts.refresh(self.control, self.partitions)
        found = []
        for p in self.partitions:
            context = self.contexts.of(p)
            found.append("waits" if context is None else context.degraded)
            if context is not None:  # what a replay would decide under
                state = control_stream.current(self.log, context.position)
                expected = Resolver(self.log.get_blob, load_tiny).context(state, state.missing.get(p, ()))
                assert (context.degraded, context.position) == (expected.degraded, expected.position)
                assert (context.scorer is None) == (expected.scorer is None)
        return found

    def forget(self) -> None:
        """Lose what was loaded, as a restart does."""
        self.contexts._resolver._scorers.clear()


def log_of(*events: Any) -> Log:
    log = Log()
    log.put_blob(ARTIFACT)
    log.put_blob(ARTIFACT + b" ")
    append_unchecked(log, FIXED.event("worker"), deployed(), *events)
    return log


def said(log: Log) -> list[str]:
    """The reports in the control stream."""
    short = {DegradationStarted: "started", DegradationEnded: "ended"}
    events = [event for _, event in control_stream.accepted(log)]
    return [f"{short[type(e)]} {list(e.partitions)}" for e in events if isinstance(e, tuple(short))]  # type: ignore[attr-defined,index]


def test_it_reports_before_it_decides_without() -> None:
    """A model that does not load: the report comes first, names the artifact and why, and the decisions follow it."""
    log = log_of()
    worker = Worker(log, 0, 2)
    worker.broken.add(SHA)
    assert worker.look() == ["model_unavailable"] * 2
    assert said(log) == ["started [0, 2]"]
    event = control_stream.accepted(log)[-1][1]
    assert isinstance(event, DegradationStarted)
    assert (event.artifacts, event.actor, "out of reach" in event.reason) == ((SHA,), "sentinel ingest", True)
    assert worker.contexts.position == log.control_head() and worker.contexts.digest == worker.control.digest
    assert worker.look() == ["model_unavailable"] * 2 and said(log) == ["started [0, 2]"]


@pytest.mark.parametrize("error", [Unavailable("away"), Unavailable("no reply")])
def test_while_the_log_does_not_answer_the_partition_waits(error: Exception) -> None:
    """No report, no decision; once the log answers, the report is appended once and the partition is decided."""
    log = log_of()
    worker = Worker(log, 1)
    worker.broken.add(SHA)
    log.away = error
    assert worker.look() == ["waits"] and worker.contexts.unsettled
    log.away = None
    assert worker.look() == ["model_unavailable"] and said(log) == ["started [1]"]


def test_a_log_that_refuses_the_report_ends_the_worker_with_its_reason() -> None:
    """Missing permissions will not mend themselves: the error is raised, and nothing is decided."""
    log = log_of()
    worker = Worker(log, 1)
    worker.broken.add(SHA)
    log.away = BadInput("no permission")
    with pytest.raises(BadInput, match="no permission"):
        worker.look()


def test_a_report_is_made_for_the_state_that_it_meets() -> None:
    """Another writer deploys a model that loads while the report is on its way: nothing is reported; one that does not
    load is reported with the next look.
    """
    log = log_of()
    worker = Worker(log, 0)
    worker.broken.add(SHA)
    log.rivals = (SECOND,)
    assert worker.look() == [None] and said(log) == []
    other = log_of()
    worker = Worker(other, 0)
    worker.broken |= {SHA, SECOND.digest}
    other.rivals = (SECOND,)
    assert worker.look() == ["model_unavailable"] and said(other) == ["started [0]"]


def test_recovery_is_reported_but_not_with_every_blink() -> None:
    """What loads again ends the report, after a start only when REPORT_PAUSE_S has passed; until then the partition is
    decided as reported. A start is never held back.
    """
    log = log_of()
    worker = Worker(log, 0)
    for blink in range(4):
        worker.broken.add(SHA)
        worker.forget()
        assert worker.look() == ["model_unavailable"], blink
        worker.broken.clear()
        worker.now += REPORT_PAUSE_S / 8
        assert worker.look() == ["model_unavailable"] and worker.contexts.unsettled
    assert said(log) == ["started [0]"]
    worker.now += REPORT_PAUSE_S
    assert worker.look() == [None] and said(log) == ["started [0]", "ended [0]"] and not worker.contexts.unsettled
    worker.broken.add(SECOND.digest)
    append_unchecked(log, SECOND)
    assert worker.look() == ["model_unavailable"] and said(log)[-1] == "started [0]"


def test_a_successor_ends_what_a_dead_worker_reported() -> None:
    """A worker that dies while degraded leaves its report; the next owner, which can load everything, ends it at once
    for its own partitions only.
    """
    log = log_of()
    first = Worker(log, 0, 1, 2)
    first.broken.add(SHA)
    assert first.look() == ["model_unavailable"] * 3
    successor = Worker(log, 1, 2)
    assert successor.look() == [None, None]
    assert said(log) == ["started [0, 1, 2]", "ended [1, 2]"]
    assert first.look()[0] == "model_unavailable"


def test_two_workers_report_for_their_own_partitions() -> None:
    """One can load, the other can't: each decides its partitions under the one control stream, at the same time."""
    log = log_of()
    blind, sighted = Worker(log, 0, 3), Worker(log, 1, 2)
    blind.broken.add(SHA)
    assert (blind.look(), sighted.look()) == (["model_unavailable"] * 2, [None, None])
    assert (blind.look(), sighted.look()) == (["model_unavailable"] * 2, [None, None])
    assert said(log) == ["started [0, 3]"]


def test_partitions_taken_over_may_differ_for_a_while() -> None:
    """While an end is held back, a degraded partition and a sound one are decided side by side, each as reported."""
    log = log_of(DegradationStarted(**ANN, partitions=(5,), artifacts=(SHA,)))
    worker = Worker(log, 4)
    worker.broken.add(SHA)
    worker.look()
    worker.broken.clear()
    worker.partitions = (4, 5, 6)
    assert worker.look() == ["model_unavailable", "model_unavailable", None]
    worker.now += REPORT_PAUSE_S
    assert worker.look() == [None] * 3 and said(log)[-1] == "ended [4, 5]"


def test_a_new_deployment_ends_what_concerned_the_old() -> None:
    """The model that could not be loaded is replaced: decisions are sound with the deployment itself, and the report,
    which means nothing now, is ended; so a rollback is not degraded by it.
    """
    log = log_of()
    worker = Worker(log, 0)
    worker.broken.add(SHA)
    worker.look()
    append_unchecked(log, SECOND)
    assert worker.look() == [None]
    worker.now += REPORT_PAUSE_S
    assert worker.look() == [None] and said(log)[-1] == "ended [0]"


def test_whatever_happens_decisions_and_stream_agree() -> None:
    """Random faults, deployments, rivals, takeovers and outages: `look` compares each context with what a replay would
    resolve; and the stream grows by at most two reports per worker and pause.
    """
    rng = random.Random(11)
    log = log_of()
    workers = [Worker(log, 0, 1), Worker(log, 2, 3)]
    for _ in range(300):
        worker = rng.choice(workers)
        worker.now += rng.choice([0.1, 1.0, 3.0])
        worker.broken = set(rng.sample([SHA, SECOND.digest], rng.randrange(3)))
        if rng.random() < 0.5:
            worker.forget()
        log.away = Unavailable("away") if rng.random() < 0.1 else None
        if rng.random() < 0.1:
            log.away = None
            log.rivals = (rng.choice([deployed(), SECOND, ThresholdsChanged(**ANN, review=0.2, decline=0.9)]),)
        if rng.random() < 0.1:
            workers[0].partitions, workers[1].partitions = workers[1].partitions, workers[0].partitions
        worker.look()
    assert len(said(log)) > 20


def test_reports_say_nothing_if_the_stream_says_it_already() -> None:
    """The events are a pure function: none for partitions of which the stream says what is so."""
    state = control_stream.current(log_of(DegradationStarted(**ANN, partitions=(1,), artifacts=(SHA,))))
    assert in_force(state) == [SHA]
    assert reports(state, [1], {SHA: "why"}, 5, hold_back=False) == []
    assert reports(state, [0], {}, 5, hold_back=False) == []
    (event,) = reports(state, [0, 1], {SHA: "why", "other": "unused"}, 5, hold_back=True)
    assert isinstance(event, DegradationStarted) and (event.partitions, event.artifacts) == ((0,), (SHA,))
    assert reports(state, [1], {}, 5, hold_back=True) == []


def test_a_model_deployed_without_a_digest_is_reported_too() -> None:
    """Whatever the stream names as a digest, it can be reported."""
    log = log_of(ModelDeployed(**ANN, name="ghost", version="9", digest="?"))
    assert Worker(log, 0).look() == ["model_unavailable"] and said(log) == ["started [0]"]


# --- recorded seals -------------------------------------------------------------------------------------------------


def test_seals_are_recorded_once() -> None:
    """Heads that the stream does not record yet are recorded in one event; nothing new, no event."""

    class Part:
        def __init__(self, partition: int) -> None:
            self.partition = partition

        @property
        def head(self) -> Any:
            return log.head(self.partition)

    log = log_of()
    control = ControlStream()
    owned: Any = [Part(0), Part(1)]
    assert record_seals(log, control, owned) == 0
    filled(log)
    assert record_seals(log, control, owned) == 1
    assert record_seals(log, control, owned) == 0
    assert control.state.recorded == {0: log.head(0).sequence}
    filled(log, 1)
    log.away = Unavailable("away")
    assert record_seals(log, control, owned) == 0
    log.away = None
    assert record_seals(log, control, owned) == 1


def test_partitions_that_came_since_are_not_covered() -> None:
    """A worker knows from `covers` that a partition loaded again needs its context."""
    worker = Worker(log_of(), 0)
    worker.look()
    assert worker.contexts.covers(worker.control, [0]) and not worker.contexts.covers(worker.control, [0, 1])
    append_unchecked(worker.log, SECOND)
    worker.control.advance(worker.log)
    assert not worker.contexts.covers(worker.control, [0])


def test_a_partition_decided_beyond_the_end_of_the_control_stream_is_a_conflict() -> None:
    """A control stream that lost its end: no score may name positions that other events will take."""
    control = ControlStream()
    control.advance(log_of())
    owned = Owned(3, Head(control=2), AccountState(FIXED), (1, 1))
    check_reach(control, [owned])
    owned.head = Head(control=3)
    with pytest.raises(Conflict, match="partition 3 was decided under control event 3"):
        check_reach(control, [owned])
