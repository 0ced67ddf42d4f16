"""The framework of projections: time travel, kills, faults, versions, checkpoints."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput, ConcurrencyError, Unavailable
from core.events import FeedbackReceived
from core.log.memory import MemoryLog
from projections.catalogue import ALL, QUESTIONS
from projections.engine.base import CONTROL, DecidedTransaction, Fact, Place, Projection, fold
from projections.engine.checkpoints import CheckpointStore, current
from projections.engine.feed import batches, facts_between
from projections.engine.runner import ATTEMPTS, Runner
from projections.engine.states import open_states
from projections.views.cases import CASES
from projections.views.labels import LABELS
from projections.views.registry import REGISTRY
from tests.builders.events import fuzz
from tests.builders.logs import PARTITIONS
from tests.builders.views import SOURCES, plain, shared_log, truncated, view_digests

CALLS = range(PARTITIONS)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path, "t")


def ends(draw: st.DrawFn, log: MemoryLog) -> dict[int, int]:
    """A random place of every source."""
    tops = {p: log.head(p).sequence for p in CALLS} | {CONTROL: log.control_head()}
    return {source: draw(st.integers(0, top)) for source, top in tops.items()}


class ReadOnlyLog:
    """A log that must not be written."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        assert not name.startswith(("append", "put")), f"a projection called {name}"
        return getattr(self._log, name)


def test_facts_come_in_the_order_in_which_they_were_decided() -> None:
    """The feed gives every entry once, in the order that seals and scores' `f` say."""
    log = shared_log()
    for p in CALLS:
        got = [
            (str(fact.id), fact.recorded_at)
            for batch in batches(log, p, 0, log.head(p).sequence)
            for fact in batch.facts
        ]
        assert got == [(position, at) for _, position, _, at in plain(log, p)]


@given(data=st.data())
@fuzz(max_examples=40)
def test_as_of_a_position_is_what_stopped_there(data: st.DataObject) -> None:
    """A projection as of P, from any checkpoint, equals the projection on the log that ended at P."""
    log = shared_log()
    at, checkpoint = ends(data.draw, log), ends(data.draw, log)
    text = ",".join(f"p{p}:s{at[p]}" for p in CALLS) + f",c{at[CONTROL]}"
    with tempfile.TemporaryDirectory() as directory:
        kept = CheckpointStore(Path(directory), "t")
        once = truncated(log, checkpoint)
        runner = Runner(once, CALLS, ALL, kept)
        runner.catch_up()
        runner.checkpoint()
        states = open_states(log, ALL, kept, now_ms=0, as_of=text)
        assert states.as_of.startswith(",".join(f"p{p:02d}:s{at[p]}" for p in CALLS))
        stopped = truncated(log, at)
        for projection in ALL:
            expected = view_digests(stopped, projection)
            for source in projection.sources(CALLS):
                assert projection.digest(states.of(projection, source)) == expected[source]


@given(data=st.data())
@fuzz(max_examples=40)
def test_as_of_a_place_inside_a_batch_is_the_fold_up_to_it(data: st.DataObject) -> None:
    """Any number of facts into any batch, the view is the fold over exactly the facts before."""
    log = shared_log()
    p = data.draw(st.sampled_from(list(CALLS)))
    sequence = data.draw(st.integers(0, log.head(p).sequence - 1))
    everything = [fact for batch in batches(log, p, 0, log.head(p).sequence) for fact in batch.facts]
    before = sum(len(batch.facts) for batch in batches(log, p, 0, sequence))
    inside = data.draw(st.integers(0, len(next(iter(batches(log, p, sequence, sequence + 1))).facts) - 1))
    states = open_states(log, ALL, now_ms=0, as_of=f"p{p}:s{sequence}+{inside}")
    for projection in ALL:
        if projection.reads_partitions:
            expected = fold(projection, everything[: before + inside])
            assert projection.digest(states.of(projection, p)) == projection.digest(expected)


class Killed(BaseException):
    """What no handler catches."""


class DyingStore(CheckpointStore):
    """Dies before the n-th file, or after its rename."""

    fuse = 0
    after = False

    def _write(self, path: Path, parts: list[bytes]) -> None:
        self.fuse -= 1
        if self.fuse == 0 and not self.after:
            path.with_name(f".{path.name}.00.part").write_bytes(b"half")
            raise Killed
        super()._write(path, parts)
        if self.fuse == 0:
            raise Killed


@given(data=st.data())
@fuzz(max_examples=30)
def test_killed_anywhere_it_ends_in_the_same_state(data: st.DataObject) -> None:
    """Steps, checkpoints and kills in any order, with a growing log: the final views are those of one never killed."""
    log = shared_log()
    with tempfile.TemporaryDirectory() as directory:
        kept = DyingStore(Path(directory), "t")
        grown = dict.fromkeys(SOURCES, 0)
        runner = Runner(truncated(log, grown), CALLS, ALL, kept)
        for _ in range(data.draw(st.integers(1, 6))):
            further = ends(data.draw, log)
            grown = {source: max(grown[source], further[source]) for source in SOURCES}
            runner = Runner(truncated(log, grown), CALLS, ALL, kept)
            kept.fuse, kept.after = data.draw(st.integers(0, 9)), data.draw(st.booleans())
            try:
                for _ in range(data.draw(st.integers(0, 3))):
                    runner.step(data.draw(st.integers(1, 9)))
                    runner.checkpoint()
            except Killed:
                continue
        kept.fuse = 0
        runner = Runner(log, CALLS, ALL, kept)
        runner.catch_up()
        for projection in ALL:
            assert runner.digests(projection) == view_digests(log, projection)


def test_a_batch_is_never_applied_twice_nor_left_out() -> None:
    """A view refuses the batch that it has had and one that does not follow; neither changes it."""
    log = shared_log()
    runner = Runner(log, CALLS, [CASES])
    runner.step(2)
    view = runner.view(CASES, 0)
    before = CASES.digest(view.state), view.place
    first, *_, fourth = batches(log, 0, 0, 4)
    for batch in (first, fourth):
        with pytest.raises(ConcurrencyError, match="does not follow"):
            view.advance(batch)
    assert (CASES.digest(view.state), view.place) == before == (before[0], Place(2))


def test_a_step_is_bounded_by_its_facts_however_large_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step ends with the batch that reaches the bound, so that checkpoints are not minutes apart; the next ones go on
    to the same state.
    """
    log = shared_log()
    first, second, *_ = batches(log, 0, 0, log.head(0).sequence)
    monkeypatch.setattr("projections.engine.runner.FACTS_PER_STEP", len(first.facts) + len(second.facts))
    runner = Runner(log, [0], [CASES])
    runner.step()
    assert runner.view(CASES, 0).place == Place(2)
    runner.catch_up()
    assert runner.digests(CASES)[0] == view_digests(log, CASES)[0]


def test_rebuilding_beside_a_live_system_writes_nothing_to_the_log(store: CheckpointStore) -> None:
    """Folding from nothing, checkpoints and every question only read; the live view stays as it is."""
    log = shared_log()
    live = Runner(log, CALLS, ALL, store)
    live.catch_up()
    live.checkpoint()
    spy: Any = ReadOnlyLog(log)
    again = Runner(spy, CALLS, ALL, store, rebuild=[p.name for p in ALL])
    assert all(again.view(p, s).place == Place(0) for p in ALL for s in p.sources(CALLS))
    again.catch_up()
    for projection in ALL:
        assert again.digests(projection) == live.digests(projection)
    states = open_states(spy, ALL, store, now_ms=0)
    for question in QUESTIONS.values():
        question(states)


class Count(msgspec.Struct):
    seen: int = 0
    spoilt: int = 0


def counting(version: int = 1, fails_at: int = 0, times: Sequence[int] = (10**9,), step: int = 1) -> Projection[Count]:
    """Counts decisions. It spoils its state and raises at decision `fails_at`, `times[0]` times."""
    left = list(times)

    def count(state: Count, fact: Fact) -> None:
        if state.seen + step == fails_at * step and left[0] > 0:
            left[0] -= 1
            state.spoilt += 1
            raise ZeroDivisionError("no such luck")
        state.seen += step

    return Projection("count", version, Count, {DecidedTransaction: count})


def test_a_fault_is_shown_and_stops_nothing_else(store: CheckpointStore) -> None:
    """A projection that fails for good stands before the fact with its error; others go on; checkpoints stay sound."""
    log = shared_log()
    bad = counting(fails_at=7)
    runner = Runner(log, CALLS, [bad, CASES], store)
    runner.catch_up()
    runner.checkpoint()
    assert runner.digests(CASES) == view_digests(log, CASES)
    for status in runner.status(10**15):
        if status.projection == "cases":
            assert (status.condition, status.lag_events, status.lag_seconds, status.error) == ("following", 0, 0.0, "")
            continue
        assert (status.condition, status.attempts) == ("faulted", ATTEMPTS)
        assert status.error == "ZeroDivisionError: no such luck"
        assert status.lag_events > 0 and status.lag_seconds > 0
        view = runner.view(bad, status.source)
        done = list(facts_between(log, status.source, Place(0), view.place))
        assert sum(isinstance(fact.event, DecidedTransaction) for fact in done) == 6
        following = next(iter(facts_between(log, status.source, view.place, Place(view.place.sequence + 1))))
        assert isinstance(following.event, DecidedTransaction)
    assert runner.step() == 0


@pytest.mark.parametrize("failures", [1, 2])
def test_a_passing_fault_is_retried_to_the_same_state(store: CheckpointStore, failures: int) -> None:
    """Fewer failures than attempts: the spoilt state is taken back and the end is as if nothing had been."""
    log = shared_log()
    runner = Runner(log, [0], [counting(fails_at=20, times=[failures])], store)
    runner.step(3)
    runner.checkpoint()
    runner.catch_up()
    view = runner.view(counting(), 0)
    assert (view.condition, view.error) == ("following", "")
    assert view.state == Count(seen=log.length(0, "transactions"))


def test_an_entry_that_does_not_decode_is_a_fault_and_no_end(store: CheckpointStore) -> None:
    """A damaged entry stops the projections of its partition, named as Corrupt; other partitions go on."""
    log = shared_log().clone()
    log.tamper(1, "transactions", log.read(1, "transactions")[3].id, b"{")
    runner = Runner(log, CALLS, [CASES, REGISTRY], store)
    runner.catch_up()
    found = {(s.projection, s.source): s for s in runner.status(0)}
    assert found["cases", 1].condition == "faulted" and found["cases", 1].error.startswith("Corrupt: ")
    assert {found["cases", 0].condition, found["cases", 2].condition, found["registry", CONTROL].condition} == {
        "following"
    }


def test_a_new_version_is_built_beside_compared_and_swapped_in_one_step(store: CheckpointStore) -> None:
    """Green is swapped in only when it stands where blue stands and says the same; readers change with one rename."""
    log = shared_log()
    blue, green, other = counting(1), counting(2), counting(3, step=2)
    versions = [blue, green, other]
    old = Runner(log, CALLS, [blue], store)
    old.catch_up()
    old.checkpoint()
    assert current(store, "count", versions).version == 1
    runner = Runner(log, CALLS, versions, store)
    with pytest.raises(BadInput, match="not caught up"):
        runner.swap(blue, green)
    runner.step(1)
    assert runner.view(blue, 0).place > runner.view(green, 0).place
    runner.catch_up()
    with pytest.raises(BadInput, match="differs"):
        runner.swap(blue, other)
    assert current(store, "count", versions).version == 1
    runner.swap(blue, green)
    assert current(store, "count", versions).version == 2
    assert [s.version for s in runner.status(0) if s.current] == [2] * PARTITIONS
    runner.swap(green, other, accept_difference=True)
    assert current(store, "count", versions).version == 3
    with pytest.raises(BadInput):
        runner.swap(blue, CASES)


@given(data=st.data())
@fuzz(max_examples=60)
def test_a_damaged_checkpoint_is_never_trusted(data: st.DataObject) -> None:
    """Whatever byte is changed or cut off, what is loaded is either the right state or nothing."""
    log = shared_log()
    with tempfile.TemporaryDirectory() as directory:
        kept = CheckpointStore(Path(directory), "t")
        runner = Runner(log, CALLS, [LABELS], kept)
        runner.catch_up()
        runner.checkpoint()
        path = kept.path(LABELS)
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del content[at:]
        path.write_bytes(content)
        for source in CALLS:
            held = kept.load(LABELS, log, source, Place(10**9))
            if held is not None:
                expected = fold(LABELS, facts_between(log, source, Place(0), held.place))
                assert LABELS.digest(held.state) == LABELS.digest(expected)
        again = Runner(log, CALLS, [LABELS], kept)
        again.catch_up()
        assert again.digests(LABELS) == runner.digests(LABELS)


@pytest.mark.parametrize("absurd", [-1, 0, 2**31, 2**63, 2**64, 10**40])
@pytest.mark.parametrize("field", ["sequence", "offset", "length"])
def test_absurd_numbers_in_a_checkpoint_are_never_followed(store: CheckpointStore, field: str, absurd: int) -> None:
    """Whatever place and size a checkpoint claims, it is ignored and the log is folded; the next one replaces it."""
    log = shared_log()
    runner = Runner(log, CALLS, [LABELS], store)
    runner.catch_up()
    runner.checkpoint()
    path = store.path(LABELS)
    good = path.read_bytes()
    line, _, body = good.partition(b"\n")
    header = msgspec.json.decode(line)
    for section in header["sources"].values():
        section[field] = absurd
    path.write_bytes(json.dumps(header).encode() + b"\n" + body)
    held = [store.load(LABELS, log, source, Place(10**9)) for source in CALLS]
    first_section = field == "offset" and absurd == 0  # the first state's true offset
    assert sum(each is not None for each in held) == first_section
    again = Runner(log, CALLS, [LABELS], store)
    again.catch_up()
    again.checkpoint()
    assert again.digests(LABELS) == runner.digests(LABELS) and path.read_bytes() == good


def test_a_checkpoint_of_another_version_form_or_log_is_refused(store: CheckpointStore) -> None:
    """A file is loaded only for its own version and form of state, and where the log bears the same marks."""
    log = shared_log()
    runner = Runner(log, CALLS, [LABELS], store)
    runner.catch_up()
    runner.checkpoint()
    assert store.load(LABELS, log, 0, Place(10**9)) is not None
    assert store.load(LABELS, log, 0, Place(1)) is None
    assert store.load(LABELS, shared_log(seed=2), 0, Place(10**9)) is None
    later = replace(LABELS, version=LABELS.version + 1)
    store.path(later).write_bytes(store.path(LABELS).read_bytes())
    assert store.load(later, log, 0, Place(10**9)) is None
    reshaped = replace(LABELS, handlers={FeedbackReceived: LABELS.handlers[FeedbackReceived]})
    assert store.load(reshaped, log, 0, Place(10**9)) is None


def test_a_log_that_lost_its_tail_is_folded_again(store: CheckpointStore) -> None:
    """Views that ran ahead of a log server's crash give way to what the log holds now, live or from a checkpoint."""
    log, other = shared_log().clone(), shared_log(seed=2)
    runner = Runner(log, CALLS, ALL, store)
    runner.step(4)
    runner.checkpoint()
    runner.catch_up()
    for name in ("_heads", "_streams", "_control"):
        setattr(log, name, getattr(truncated(other, {0: 3, CONTROL: 4}), name))
    runner.catch_up()
    again = Runner(log, CALLS, ALL, store)
    again.catch_up()
    for projection in ALL:
        assert runner.digests(projection) == again.digests(projection) == view_digests(log, projection)


def test_an_unwritable_directory_is_one_clear_error(tmp_path: Path) -> None:
    """A checkpoint that can't be written says where, and the view lives on."""
    (tmp_path / "file").write_text("")
    runner = Runner(shared_log(), CALLS, [CASES], CheckpointStore(tmp_path / "file", "t"))
    runner.catch_up()
    with pytest.raises(Unavailable, match="cannot write"):
        runner.checkpoint()
    assert runner.digests(CASES) == view_digests(shared_log(), CASES)


def test_a_reworded_docstring_keeps_checkpoints() -> None:
    """A projection's spec depends on the state's fields, also one called `description`, and not on docstrings."""
    one, reworded, other = (
        msgspec.defstruct("State", [("description", kind, default)], namespace={"__doc__": text})
        for kind, default, text in ((int, 0, "One."), (int, 0, "Another."), (str, "", "One."))
    )
    first, second, third = (Projection("p", 1, state, {}).spec for state in (one, reworded, other))
    assert first == second != third
