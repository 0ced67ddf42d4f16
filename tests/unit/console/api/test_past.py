"""What the API holds in memory about the past equals a replay from the beginning, at any cut, however it was read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.api.past import states as past_states
from console.api.past.seals import Seals
from console.api.past.states import Past, PastStates
from console.api.views import Views
from core.codec import decode_account_event, decode_seal, encode
from core.events import FeedbackReceived, Position
from core.log.base import Entry
from core.log.memory import MemoryLog
from core.times import DAY_MS, HOUR_MS
from projections.audit.redecide import LoggedDecision, account_events, decisions, recompute
from projections.catalogue import ALL
from projections.engine.as_of import Cut, resolve
from projections.engine.base import CONTROL, NOWHERE, Place
from projections.engine.checkpoints import CheckpointStore
from projections.engine.feed import bound_at, facts_between
from projections.engine.states import States
from projections.views import labels as labels_view
from projections.views.cases import CASES, cases_answer
from projections.views.labels import LABELS
from projections.views.labels_answers import labels_answer, sources_answer
from projections.views.lists import LISTS, lists_answer
from projections.views.profiles.answers import profile_answer
from projections.views.registry_answers import registry_answer
from projections.views.shadow import SHADOW
from projections.views.throughput import THROUGHPUT, stats_answer
from tests.builders.events import T0, transaction, verdict
from tests.builders.logs import PARTITIONS, Record, filled, tiny_timeline
from tests.builders.views import plain, shared_log, truncated

SEEDS = st.integers(1, 3)
SHARES = st.lists(st.floats(0, 1), min_size=PARTITIONS + 1, max_size=PARTITIONS + 1)


class Growing:
    """A log that others append to between two reads."""

    def __init__(self, log: MemoryLog) -> None:
        self.now = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


def followed(log: MemoryLog, ends: list[list[float]], directory: Path) -> tuple[Views, Growing]:
    """Views that read the log as it grew to these shares of its sources, and then to its end."""
    growing = Growing(truncated(log, at(log, [0.2] * (PARTITIONS + 1))))
    views = Views(growing, CheckpointStore(directory, "test"))  # type: ignore[arg-type]
    reached = at(log, [0.2] * (PARTITIONS + 1))
    for shares in ends:
        wanted = at(log, shares)
        reached = {source: max(reached[source], wanted[source]) for source in reached}
        growing.now = truncated(log, reached)
        views.follow()
    growing.now = log
    while views.follow().is_news:
        pass
    return views, growing


def at(log: MemoryLog, shares: list[float]) -> dict[int, int]:
    """Sequences at these shares of the sources; the control stream always reaches what the partitions saw."""
    ends = {p: int(log.head(p).sequence * share) for p, share in enumerate(shares[:PARTITIONS])}
    seen = max((_control(log, p, ends[p]) for p in ends), default=0)
    return {**ends, CONTROL: max(seen, int(log.control_head() * shares[-1]), 12)}


def _control(log: MemoryLog, p: int, sequence: int) -> int:
    seals = log.read(p, "seals", count=10**6)
    return decode_seal(seals[sequence - 1].payload).control if sequence else 0


@cache
def accounts(seed: int) -> list[tuple[str, int]]:
    log = shared_log(seed)
    found = {
        e["transaction"]["account_id"]: p
        for p in range(PARTITIONS)
        for kind, _, e, _ in plain(log, p)
        if kind == "decided"
    }
    return sorted(found.items())


def a_cut(log: MemoryLog, data: st.DataObject) -> Cut:
    """Any place in every source, also within a batch."""
    bounds = {}
    for p in range(PARTITIONS):
        sequence = data.draw(st.integers(0, log.head(p).sequence))
        inside = 0
        if sequence < log.head(p).sequence:
            facts = len([*facts_between(log, p, Place(sequence), Place(sequence + 1))])
            inside = data.draw(st.integers(0, facts - 1))
        bounds[p] = bound_at(log, p, Place(sequence, inside))
    return Cut(bounds, data.draw(st.integers(0, log.control_head())), T0 + 10**9)


def both(views: Views, log: MemoryLog, cut: Cut) -> tuple[PastStates, States]:
    """The states from memory, and those of a replay from the beginning."""
    held = views._past  # noqa: SLF001 - the part under test
    past = PastStates(log, range(PARTITIONS), cut, ALL, None, held, views._lock, views.index)  # noqa: SLF001
    return past, States(log, range(PARTITIONS), cut, ALL, None)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, ends=st.lists(SHARES, max_size=4), data=st.data())
def test_every_state_equals_a_replay(
    seed: int, ends: list[list[float]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cases, lists, everything of the control stream, and single accounts, whatever the log's growth was like."""
    log = shared_log(seed)
    views, _ = followed(log, ends, tmp_path_factory.mktemp("views"))
    cut = a_cut(log, data)
    past, replayed = both(views, log, cut)
    for p in range(PARTITIONS):
        assert past.of(CASES, p) == replayed.of(CASES, p)
        assert past.of(LISTS, p) == replayed.of(LISTS, p)
        assert past.of(THROUGHPUT, p) == replayed.of(THROUGHPUT, p)
        assert past.of(SHADOW, p) == replayed.of(SHADOW, p)
    for projection in ALL:
        if projection.reads_control:
            assert past.of_control(projection) == replayed.of_control(projection), projection.label
    account, partition = data.draw(st.sampled_from(accounts(seed)))
    assert_same_labels(past, replayed)
    alone = [projection for projection in ALL if projection.is_by_account]
    assert len(alone) > 2
    assert past.of_account_each(alone, account, partition) == replayed.of_account_each(alone, account, partition)
    for question in (
        cases_answer,
        lists_answer,
        registry_answer,
        stats_answer,
        lambda states: profile_answer(states, account),
    ):
        assert msgspec.json.encode(question(past)) == msgspec.json.encode(question(replayed))


def assert_same_labels(past: States, replayed: States) -> None:
    """All that an answer reads of the labels' states, and the answers."""
    for p in range(PARTITIONS):
        held, folded = past.of(LABELS, p), replayed.of(LABELS, p)
        assert (held.accounts, held.days) == (folded.accounts, folded.days)
        assert held.forgotten == {name: at for name, at in folded.forgotten.items() if name in folded.accounts}
    for question in (labels_answer, sources_answer):
        assert msgspec.json.encode(question(past)) == msgspec.json.encode(question(replayed))


@cache
def judged_log(seed: int) -> MemoryLog:
    """Few IDs of few accounts: verdicts before their payments, late, repeated, taken back; payments that come again."""
    rng, now, fed = random.Random(seed), T0, []
    for number in range(400):
        now += rng.choice((0, 60_000, HOUR_MS, 9 * HOUR_MS))
        account = f"a{rng.randrange(2 + number // 25)}"  # new ones keep coming
        name, at = f"{account}-{rng.randrange(8)}", now - rng.choice((0, 0, HOUR_MS, 2 * DAY_MS))
        if rng.random() < 0.5 and number < 330:  # whatever is known then, payments still come
            said, dated = rng.choice(("fraud", "legitimate", "unsure")), at - rng.choice((0, DAY_MS, 9 * DAY_MS))
            actor = rng.choice(("ann", "bob"))
            item: Any = verdict(account, said, at, transaction_id=name, transaction_occurred_at=dated, actor=actor)
        else:
            item = transaction(
                transaction_id=name, account_id=account, occurred_at=at, amount=float(rng.randrange(100))
            )
        topic = "feedback" if isinstance(item, FeedbackReceived) else "transactions"
        fed.append(Record(topic, account, now, encode(item)))
    return filled(seed, fed=fed)


@contextmanager
def short_memory(payments_max: int = 2_000) -> Iterator[None]:
    """Labels that forget payments after a day, and after five further ones of the account."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels_view, "SEEN_DAYS", 1)
        patch.setattr(labels_view, "SEEN_MAX", 5)
        patch.setattr(past_states, "PAYMENTS_MAX", payments_max)
        yield


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, ends=st.lists(SHARES, max_size=4), is_read_whole=st.booleans(), data=st.data())
def test_labels_of_any_moment_equal_a_replay(
    seed: int,
    ends: list[list[float]],
    is_read_whole: bool,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Also where payments come after their verdicts, come again, or are forgotten, and whenever an account's first
    verdict came."""
    log = judged_log(seed)
    with short_memory(3 if is_read_whole else 2_000):
        views, _ = followed(log, ends, tmp_path_factory.mktemp("views"))
        for _ in range(4):
            assert_same_labels(*both(views, log, a_cut(log, data)))


def test_judged_logs_have_every_case() -> None:
    """The property above is about payments known later than their verdicts, never or no more, and many verdicts."""
    log, cases = judged_log(1), {"later": 0, "forgotten": 0, "unknown": 0, "several": 0}
    with short_memory():
        for p in range(PARTITIONS):
            known: dict[tuple[str, str], bool] = {}
            state = LABELS.initial()
            for fact in facts_between(log, p, NOWHERE, Place(log.head(p).sequence)):
                LABELS.apply(state, fact)
                for account, of in state.accounts.items():
                    for name in of.verdicts:
                        was = known.setdefault((account, name), name in of.payments)
                        cases["later"] += not was and name in of.payments
            cases["forgotten"] += len(state.forgotten)
            every = [(of, name, said) for of in state.accounts.values() for name, said in of.verdicts.items()]
            cases["unknown"] += sum(name not in of.payments for of, name, _ in every)
            cases["several"] += sum(len(said) > 2 for _, _, said in every)
    assert min(cases.values()) > 2, cases


def test_the_states_come_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the queue nor the control stream's read models read the log; an account reads its own entries only."""
    log = shared_log(1)
    views, _ = followed(log, [], tmp_path)
    cut = resolve(log, range(PARTITIONS), str(T0 + 10**12))
    past, _ = both(views, log, cut)
    for name in ("read", "read_control", "head", "begin"):
        monkeypatch.setattr(log, name, lambda *_, **__: pytest.fail("the log was read"))
    for question in (cases_answer, registry_answer, lists_answer, stats_answer, labels_answer, sources_answer):
        question(past)
    assert all(past.of(SHADOW, p).recorded_at for p in range(PARTITIONS))


def test_a_decision_found_by_the_index_is_made_again_as_by_the_log(tmp_path: Path) -> None:
    """The same, byte for byte, with what was passed on the way; a log that grew since is read as ever."""
    log = shared_log(1)
    views, _ = followed(log, [], tmp_path)
    behind, _ = followed(truncated(log, at(log, [0.5] * (PARTITIONS + 1))), [], tmp_path / "behind")
    timeline = tiny_timeline(log)

    def made(p: int, account: str, place: Position, known: Views | None) -> Any:
        passed: list[LoggedDecision] = []
        events = account_events(log, p, [account])
        now = [*recompute(log, p, [place], [account], timeline, events, passed.append, known=known)]
        return [(each.decision, each.score, each.alert, each.differences) for each in now], passed

    for account, p in accounts(1)[:6]:
        last = [*decisions(log, p, [account], log.head(p).transactions)][-1].position
        found = views.places(p, account, last)
        assert found is not None and found[-1] == last
        expected = made(p, account, last, None)
        assert made(p, account, last, views) == made(p, account, last, behind) == expected
        names = {e.payload for e in log.read(p, "transactions", count=10**6)}
        assert views.accounts_at_most(p) <= len(names) + log.length(p, "feedback")
        assert views.accounts_at_most(p) >= len({a for a, q in accounts(1) if q == p})


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, share=st.floats(-0.1, 1.1), data=st.data())
def test_a_moments_cut_is_the_one_that_the_log_gives(
    seed: int, share: float, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also with batches that were recorded under a wrong clock, and for moments before and after the log."""
    log = shared_log(seed).clone()
    for p in range(PARTITIONS):
        if data.draw(st.booleans()):
            _set_clock(log, p, data.draw(st.integers(1, log.head(p).sequence)), data.draw(st.integers(-(10**7), 10**7)))
    views, _ = followed(log, [], tmp_path_factory.mktemp("views"))
    times = [decode_seal(e.payload).recorded_at for p in range(PARTITIONS) for e in log.read(p, "seals", count=10**6)]
    moment = int(min(times) + share * (max(times) - min(times)))
    assert views._past.cut(moment) == resolve(log, range(PARTITIONS), str(moment))  # noqa: SLF001


def _set_clock(log: MemoryLog, partition: int, sequence: int, by_ms: int) -> None:
    entry = log.read(partition, "seals", count=10**6)[sequence - 1]
    seal = decode_seal(entry.payload)
    log.tamper(
        partition, "seals", entry.id, encode(msgspec.structs.replace(seal, recorded_at=seal.recorded_at + by_ms))
    )


def test_a_log_that_lost_its_tail_is_read_again(tmp_path: Path) -> None:
    """What was read of batches that the log no longer has is forgotten, with the index."""
    log = shared_log(1)
    views, growing = followed(log, [], tmp_path)
    ends = {p: log.head(p).sequence // 2 for p in range(PARTITIONS)}
    growing.now = truncated(log, ends)
    while views.follow().is_news:
        pass
    assert {p: views.index.last(p) for p in ends} == {p: growing.now.head(p).transactions for p in ends}
    cut = resolve(growing.now, range(PARTITIONS), str(T0 + 10**12))
    past, replayed = both(views, growing.now, cut)
    assert all(past.of(CASES, p) == replayed.of(CASES, p) for p in range(PARTITIONS))
    assert isinstance(views._past, Past)  # noqa: SLF001
    assert {p: len(seals) for p, seals in views._past.seals.items()} == ends  # noqa: SLF001


def test_seals_know_their_bounds() -> None:
    """The end of every batch, as the log has it."""
    log, seals = shared_log(2), Seals()
    seals.follow(log, 0, log.head(0).sequence)
    assert len(seals) == log.head(0).sequence
    for sequence in range(len(seals) + 1):
        assert seals.bound(sequence) == bound_at(log, 0, Place(sequence))


def test_feedback_that_was_read_ahead_and_lost_is_read_again(tmp_path: Path) -> None:
    """The log server lost what had been read of it before the index came there, and got other verdicts instead."""
    log, other = judged_log(2), judged_log(2).clone()
    half = truncated(log, at(log, [0.5] * (PARTITIONS + 1)))
    views, growing = followed(half, [], tmp_path)
    heads = {p: log.head(p) for p in range(PARTITIONS)}
    growing.now = log
    views._past.expect(heads, {p: views.index.last(p) for p in heads})  # noqa: SLF001 - the connection broke after this
    for p in heads:
        for entry in log.read(p, "feedback", half.head(p).feedback, count=10**6):
            event = decode_account_event(entry.payload)
            assert isinstance(event, FeedbackReceived)
            other.tamper(p, "feedback", entry.id, encode(msgspec.structs.replace(event, verdict="unsure")))
    for growing.now in (half, other):
        while views.follow().is_news:
            pass
    assert_same_labels(*both(views, other, resolve(other, range(PARTITIONS), str(T0 + 10**12))))


def test_labels_of_an_unreadable_payment_are_folded_as_ever(tmp_path: Path) -> None:
    """What was heard can't be told, so the answer comes from the log, which tells the fault or has mended it."""
    log = judged_log(2)
    views, _ = followed(log, [], tmp_path)
    held = views._past.labels[0]  # noqa: SLF001
    held.hear(Entry(Position(9, 9), b"{}"), Entry(Position(9, 9), b"{}"))
    assert held.is_broken
    assert_same_labels(*both(views, log, resolve(log, range(PARTITIONS), str(T0 + 10**12))))
