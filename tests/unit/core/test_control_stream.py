"""The one way to append to the control stream: whole, checked, once and in bounded time."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from core import control_stream
from core.codec import encode
from core.control_stream import ATTEMPTS_MAX, Blobs, ControlStream, Known, append
from core.errors import BadInput, ConcurrencyError, Conflict, Corrupt, Unavailable
from core.events import Control, ExperimentStopped, ModelRegistered, ThresholdsChanged
from core.log.memory import MemoryLog
from tests.builders.control_changes import anything
from tests.builders.decisions import append_unchecked

ROOT = Path(__file__).parents[3]


def thresholds(reason: str, review: float = 0.3, decline: float = 0.7) -> ThresholdsChanged:
    return ThresholdsChanged(occurred_at=1, actor="ann", reason=reason, review=review, decline=decline)


class FaultyLog:
    """A log on a bad day. An append may find that others were first, be said to have failed though it did not write
    (ConcurrencyError), or get no reply: lost on its way there, on its way back, or delivered late.
    """

    def __init__(self, log: MemoryLog, rng: random.Random, others: Callable[[], None]) -> None:
        self._log, self._rng, self._others = log, rng, others
        self._late: list[tuple[Sequence[bytes], int]] = []
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def read_control(self, after: int = 0, count: int = 1000) -> list[tuple[int, bytes]]:
        if self._rng.random() < 0.5:
            self._deliver()
        return self._log.read_control(after, self._rng.choice([1, 2, 1000]) + 1)

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        self.calls += 1
        chance = self._rng.random()
        if chance < 0.2:
            self._others()
        self._deliver()
        if chance > 0.9:
            raise ConcurrencyError("somebody was first")
        if 0.2 < chance < 0.3:
            self._late.append((payloads, expected))
            raise Unavailable("no reply")
        position = self._log.append_control(payloads, expected)
        if 0.3 < chance < 0.45:
            raise Unavailable("no reply")
        return position

    def _deliver(self) -> None:
        for payloads, expected in self._late:
            if self._log.control_head() == expected:
                self._log.append_control(payloads, expected)
        self._late = []


@pytest.mark.parametrize("seed", range(150))
def test_what_was_reported_appended_is_there_once_and_counts(seed: int) -> None:
    """Writers at once on a bad day: what an append returned stands at its position, once, and none of it is refused;
    what was refused or given up is not there; what is unknown is there at most once. No append calls without end.
    """
    rng, log, serial = random.Random(seed), MemoryLog(), count()
    reported: list[tuple[int, list[Control]]] = []
    absent: list[Control] = []
    unknown: list[Control] = []

    def act(depth: int) -> None:
        """One writer's append; another may write in the middle of it."""
        mine: list[Control] = []

        def decide(known: Known) -> list[Control]:
            if not mine:
                mine.extend(anything(rng, known.state, f"{next(serial)}") for _ in range(rng.choice([1, 1, 2, 3])))
            return mine

        faulty = FaultyLog(log, rng, lambda: act(depth - 1) if depth else None)
        try:
            done = append(faulty, decide)  # type: ignore[arg-type]
        except (BadInput, ConcurrencyError):
            absent.extend(mine)
        except Unavailable:
            unknown.extend(mine)
        else:
            reported.append((done.position, done.events))
        assert faulty.calls <= ATTEMPTS_MAX

    for _ in range(30):
        act(2)
        if rng.random() < 0.3:
            append_unchecked(log, anything(rng, control_stream.current(log), f"{next(serial)}"))
    held = control_stream.history(log)
    payloads = [entry.payload for entry in held]
    assert reported and absent
    for position, events in reported:
        standing = held[position - len(events) : position]
        assert [entry.event for entry in standing] == events
        assert [entry.refused for entry in standing] == [""] * len(events)
        assert all(payloads.count(encode(event)) == 1 for event in events)
    assert not any(encode(event) in payloads for event in absent)
    assert all(payloads.count(encode(event)) <= 1 for event in unknown)


def test_nothing_is_appended_if_one_event_may_not_follow() -> None:
    """The second event is wrong by itself, or after the first: BadInput says why, and neither is in the log."""
    log = MemoryLog()
    model: dict[str, Any] = {"occurred_at": 1, "actor": "a", "name": "m", "version": "1", "spec": 1}
    one, other = (ModelRegistered(**model, digest=digit * 64) for digit in "ab")
    for events, why in (
        ([thresholds("fine"), thresholds("not", 0.9, 0.1)], "review"),
        ([one, other], "another artifact"),
        ([one, ExperimentStopped(occurred_at=1, actor="a", experiment_id="e")], "not running"),
        ([thresholds("fine"), thresholds("not", float("nan"))], "thresholds"),
    ):
        with pytest.raises(BadInput, match=why):
            append(log, lambda known, events=events: events)
    assert log.control_head() == 0 and append(log, lambda known: []).events == []


def test_a_writer_who_is_always_second_gives_up() -> None:
    """Others write before each append: a conflict after ATTEMPTS_MAX, and nothing of it in the log."""
    log = MemoryLog()

    class Busy:
        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
            append_unchecked(log, thresholds("theirs"))
            return log.append_control(payloads, expected)

    with pytest.raises(ConcurrencyError, match="in a row"):
        append(Busy(), lambda known: [thresholds("mine")])  # type: ignore[arg-type]
    assert [event.reason for _, event in control_stream.accepted(log)] == ["theirs"] * ATTEMPTS_MAX


def test_a_server_that_takes_nothing_is_unavailable() -> None:
    """No reply twice at one place: the error is the server's, not a conflict."""
    log, sent = MemoryLog(), []

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
            sent.append(expected)
            raise Unavailable("out of memory")

    with pytest.raises(Unavailable, match="out of memory"):
        append(Full(), lambda known: [thresholds("mine")])  # type: ignore[arg-type]
    assert sent == [0, 0]


def test_no_event_stands_without_its_blob_if_the_server_lost_its_last_second_between() -> None:
    """The blob was stored, the server came back without it, and took the event that names it."""

    class Forgetful(MemoryLog):
        def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
            self._blobs.clear()
            return super().append_control(payloads, expected)

    log = Forgetful()
    blobs = Blobs(log)

    def decide(known: Known) -> list[Control]:
        digest = blobs.put(b"a model")
        return [ModelRegistered(occurred_at=1, actor="a", name="m", version="1", digest=digest, spec=1)]

    (event,) = append(log, decide, blobs=blobs).events
    assert isinstance(event, ModelRegistered) and log.get_blob(event.digest) == b"a model"


def test_a_decision_knows_what_was_read_last() -> None:
    """`decide` sees the state and the entries up to where the append lands; a followed stream gives what is new."""
    log = MemoryLog()
    stream = ControlStream()
    append_unchecked(log, thresholds("1"), thresholds("wrong", 0.9, 0.1))
    seen: list[tuple[int, list[str]]] = []

    def decide(known: Known) -> list[Control]:
        seen.append((known.state.position, [e.event.reason for e in known.entries]))
        return [thresholds("3", 0.2)]

    assert append(log, decide, stream).position == 3
    append_unchecked(log, thresholds("4"))
    assert append(log, decide, stream).position == 5
    assert seen == [(2, ["1", "wrong"]), (4, ["4"])]
    assert (stream.position, stream.state.review, list(stream.state.refused)) == (5, 0.2, [2])


class BreakingLog(MemoryLog):
    """A log whose control stream can be read so many times more, a new event or two at a time; None: always."""

    reads_left: int | None = None

    def read_control(self, after: int = 0, count: int = 1000) -> list[tuple[int, bytes]]:
        if self.reads_left is not None:
            if self.reads_left == 0:
                raise Unavailable("the log server does not answer")
            self.reads_left -= 1
        return super().read_control(after, min(count, 2))


@pytest.mark.parametrize("reads", range(5))
def test_a_read_that_breaks_off_loses_no_entry(reads: int) -> None:
    """What was folded before the log went away is returned by the next read, once and in order."""
    log, stream = BreakingLog(), ControlStream()
    events = [thresholds(f"number {k}") for k in range(5)]
    log.append_control([encode(event) for event in events], 0)
    log.reads_left = reads
    with pytest.raises(Unavailable):
        stream.advance(log)
    log.reads_left = None
    assert [(entry.position, entry.event) for entry in stream.advance(log)] == [*enumerate(events, 1)]
    assert stream.advance(log) == []


def test_a_stream_that_went_back_or_has_a_gap_is_not_followed() -> None:
    """The last event read is gone, or another one: Conflict. A number is left out: Corrupt."""
    log = MemoryLog()
    append_unchecked(log, thresholds("1"), thresholds("2"))
    stream = ControlStream()
    assert [entry.position for entry in stream.advance(log, 1)] == [1]
    assert [entry.position for entry in stream.advance(log)] == [2] and stream.advance(log) == []
    shorter, other, gap = MemoryLog(), MemoryLog(), MemoryLog()
    append_unchecked(shorter, thresholds("1"))
    append_unchecked(other, thresholds("1"), thresholds("another"), thresholds("3"))
    for log in (shorter, other):
        with pytest.raises(Conflict, match="event 2"):
            stream.advance(log)
    append_unchecked(gap, thresholds("1"), thresholds("2"), thresholds("3"))
    gap.read_control = lambda after=0, count=1000: [(1, encode(thresholds("1"))), (3, encode(thresholds("3")))]  # type: ignore[method-assign]
    with pytest.raises(Corrupt, match="event 2 is missing"):
        control_stream.history(gap)


# Calls that go past the one way. core/log holds the log's own modules, which treat events as bytes.
_METHODS = ("append_control", "read_control")
_EXEMPT = ("core/control_stream.py", "core/log/", "benchmarks/archive.py")


def test_nobody_else_appends_to_or_reads_the_control_stream() -> None:
    """No module of the product calls the log's control methods but `core.control_stream` and the log itself.

    benchmarks/archive.py copies a whole log, byte for byte, into another server to weigh it.
    """
    rooms = ("core", "models", "projections", "learners", "responders", "sources", "ingest", "console", "benchmarks")
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in rooms
        for path in sorted((ROOT / room).rglob("*.py"))
        if not str(path.relative_to(ROOT)).startswith(_EXEMPT)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in _METHODS
    ]
    assert calls == [], "use core.control_stream"
