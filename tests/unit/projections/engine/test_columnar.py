"""Folding the archive by columns gives the state that folding it fact by fact gives, to the last bit and key order."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import encode
from core.events import (
    AccountBlocked,
    AccountUnblocked,
    AlertRaised,
    CaseOpened,
    Position,
    TransactionReceived,
    TransactionRejected,
    TransactionScored,
)
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.base import Batch, Entry
from core.log.memory import MemoryLog
from core.program.codes import ENGINE
from core.program.shipped import DEFAULT_PROGRAM
from projections.catalogue import ALL
from projections.engine.base import NOWHERE, ColumnarBatch, Place, fold
from projections.engine.checkpoints import CheckpointStore
from projections.engine.columnar import fold_archived, fold_between
from projections.engine.feed import facts_between
from projections.engine.runner import Runner
from projections.engine.states import open_states
from projections.views.profiles.columnar import ProfileColumns
from projections.views.profiles.projection import PROFILES
from projections.views.profiles.record import Profiles
from tests.builders.batches import batches_of, contents
from tests.builders.events import T0, fuzz, verdict
from tests.builders.logs import PARTITIONS, filled

EVER = 2**62
SEVERITIES = ("low", "medium", "high", "critical")


def random_log(seed: int, odd: float = 0.0) -> MemoryLog:
    """One partition of made-up decisions: many currencies and places, late events, feedback anywhere in a batch.

    odd: share of transactions and scores that carry a field which columns don't have.
    """
    rng = random.Random(seed)
    log, offset, said, clock = MemoryLog(), 0, 0, T0
    head = log.head(0)
    accounts = [f"a{i}" for i in range(rng.choice((1, 3, 20)))]

    def form(event: Any) -> bytes:
        payload = encode(event)
        return payload[:-1] + b',"unknown":1}' if rng.random() < odd else payload

    for sequence in range(1, rng.randrange(2, 25)):
        feedback = [account_event(rng, rng.choice([*accounts, "b1", "b2"]), clock) for _ in range(rng.randrange(4))]
        events = [Entry(Position(1, said + 1 + i), encode(event)) for i, event in enumerate(feedback)]
        said += len(events) + rng.randrange(2)
        seen = head.feedback
        batch = Batch(
            control=0, recorded_at=sequence, transactions_end=head.transactions, feedback_end=Position(1, said)
        )
        waiting = [entry.id for entry in events]
        for _ in range(rng.randrange(12)):
            while waiting and rng.random() < 0.3:
                seen = waiting.pop(0)
            clock += rng.randrange(1000)
            offset += rng.randrange(1, 3)
            at = Position(1, offset)
            transaction, score, alert = decision(rng, rng.choice(accounts), offset, clock, seen)
            batch.transactions.append(Entry(at, form(transaction)))
            batch.scores.append(Entry(at, form(score)))
            batch.alerts += [Entry(at, encode(alert))] if alert is not None else []
        batch.feedback = events
        batch.transactions_end = Position(1, offset) if offset else head.transactions
        reject = TransactionRejected(
            recorded_at=clock, topic="transactions", position="1-1", reason="r", detail="", key=None, value=None
        )
        batch.rejects = [Entry(Position(sequence, 1), encode(reject))][: rng.randrange(2)]
        head = log.append(0, batch, head)
    return log


def account_event(rng: random.Random, account: str, clock: int) -> Any:
    at = clock + rng.randrange(-10_000, 10_000)
    kind = rng.randrange(5)
    if kind == 0:
        return AccountBlocked(account_id=account, occurred_at=at, actor="ann", reason=rng.choice(("", "stolen")))
    if kind == 1:
        return AccountUnblocked(account_id=account, occurred_at=at, actor="bob")
    if kind == 2:
        return CaseOpened(account_id=account, case_id=f"c{at}", occurred_at=at, actor="ann")
    return verdict(
        account, rng.choice(("fraud", "legitimate", "unsure")), at, source=rng.choice(("analyst", "customer"))
    )


def decision(
    rng: random.Random, account: str, number: int, clock: int, seen: Position
) -> tuple[TransactionReceived, TransactionScored, AlertRaised | None]:
    severity: Any = rng.choice(SEVERITIES) if rng.random() < 0.3 else None
    chosen: Any = rng.choice(("approve", "review", "decline"))
    transaction = TransactionReceived(
        recorded_at=clock,
        transaction_id=f"t{number}",
        account_id=account,
        amount=rng.choice((0.0, 0.1, 1e16, rng.random() * 100)),
        occurred_at=clock - (rng.randrange(50_000) if rng.random() < 0.3 else 0),
        currency=rng.choice(("EUR", "EUR", "", "USD", "JPY", f"X{rng.randrange(30)}")),
        merchant_id=rng.choice(("", "m1", f"m{rng.randrange(25)}")),
        country=rng.choice(("", "DE", f"C{rng.randrange(12)}")),
    )
    score = TransactionScored(
        feedback_position=str(seen),
        control_position=0,
        model="m",
        digest="d",
        spec=1,
        engine=ENGINE,
        program=DEFAULT_PROGRAM[:16],
        margin=rng.random(),
        probability=rng.random(),
        decision=chosen,
        features=b"\x00" * 8,
        severity=severity,
    )
    if severity is None:
        return transaction, score, None
    alert = AlertRaised(
        alert_id=f"0:1-{number}",
        timestamp=clock,
        account_id=account,
        fraud_score=1.0,
        decision=chosen,
        severity=severity,
        reason_codes=(),
        values={},
        recommended_actions=(),
        transaction={},
    )
    return transaction, score, alert


def archived(log: MemoryLog, directory: str, size: int, until: int = EVER) -> ArchivedLog:
    """The log with the batches recorded by `until` archived in segments of about `size` transactions."""
    archive = open_archive(directory)
    archiver.archive_partition(log, archive, 0, recorded_until=until, segment_transactions=size)
    return ArchivedLog(log, archive)


def by_facts(log: MemoryLog, until: Place, after: Place = NOWHERE, state: Profiles | None = None) -> bytes:
    return PROFILES.encode(fold(PROFILES, facts_between(log, 0, after, until), state))


@given(seed=st.integers(0, 2**32), data=st.data())
@fuzz(max_examples=60)
def test_columns_give_the_state_of_the_facts(seed: int, data: st.DataObject) -> None:
    """Any log, archived in part, from any place to any place, bit for bit and with every dict in the same order."""
    log = random_log(seed, odd=data.draw(st.sampled_from((0.0, 0.0, 0.1))))
    top = log.head(0).sequence
    with tempfile.TemporaryDirectory() as directory:
        whole = archived(log, directory, data.draw(st.sampled_from((1, 10, 40, 1000))), data.draw(st.integers(0, top)))
        first, last = sorted((data.draw(st.integers(0, top)), data.draw(st.integers(0, top))))
        begin = Place(first)
        end = Place(last, data.draw(st.integers(0, 3)) if last < top else 0)
        before = by_facts(log, begin)
        got = fold_between(PROFILES, whole, 0, begin, end, PROFILES.decode(before))
        assert PROFILES.encode(got) == by_facts(log, end, begin, PROFILES.decode(before)) == by_facts(log, end)


@given(seed=st.integers(0, 2**32), data=st.data())
@fuzz(max_examples=25)
def test_a_runner_killed_anywhere_over_an_archive_ends_in_the_same_state(seed: int, data: st.DataObject) -> None:
    """Runners that stop at any step and resume from checkpoints, while the archive grows, end where facts end."""
    log = random_log(seed)
    end = log.head(0)
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("projections.engine.runner.SEGMENTS_PER_STEP", data.draw(st.integers(1, 3)))
        store = CheckpointStore(Path(directory), "t")
        for until in sorted(data.draw(st.lists(st.integers(0, end.sequence), max_size=3))):
            whole = archived(log, f"{directory}/archive", data.draw(st.sampled_from((1, 20))), until)
            runner = Runner(whole, [0], [PROFILES], store)
            for _ in range(data.draw(st.integers(0, 3))):
                runner.step(data.draw(st.integers(1, 4)))
            runner.checkpoint()
        runner = Runner(archived(log, f"{directory}/archive", 20, end.sequence), [0], [PROFILES], store)
        runner.catch_up()
        view = runner.view(PROFILES, 0)
        assert (view.place, view.condition) == (Place(end.sequence), "following")
        assert PROFILES.encode(view.state) == by_facts(log, view.place)


def test_everything_archived_is_folded_by_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runner and answers take the whole archive as columns, and apply no decision by itself."""
    taken: list[ColumnarBatch] = []
    take = ProfileColumns.take

    def spied(self: ProfileColumns, batch: ColumnarBatch) -> None:
        taken.append(batch)
        take(self, batch)

    monkeypatch.setattr(ProfileColumns, "take", spied)
    log = filled(3, 400)
    archive = open_archive(str(tmp_path))
    for p in range(PARTITIONS):
        archiver.archive_partition(log, archive, p, recorded_until=EVER, segment_transactions=50)
    whole = ArchivedLog(log, archive)
    runner = Runner(whole, range(PARTITIONS), [PROFILES])
    runner.catch_up()
    decisions = sum(log.length(p, "transactions") for p in range(PARTITIONS))
    assert sum(batch.decisions.num_rows for batch in taken) == decisions
    for p, state in open_states(whole, ALL, now_ms=0).by_partition(PROFILES).items():
        assert PROFILES.encode(state) == PROFILES.encode(runner.view(PROFILES, p).state)
    assert sum(batch.decisions.num_rows for batch in taken) == 2 * decisions


def test_a_segment_that_columns_cannot_tell_is_folded_fact_by_fact(tmp_path: Path) -> None:
    """A score whose `f` goes back, or an entry that does not decode, stops the fold by columns before its segment."""
    log = random_log(5)
    whole = archived(log, str(tmp_path), 30)
    rows = whole.archive.rows(0)
    segment = whole.archive.segment(rows[1])
    table = segment.table

    def backwards(*arguments: Any, **named: Any) -> Any:
        found = table(*arguments, **named)
        place = found.column_names.index("f_offset")
        return found.set_column(place, "f_offset", found["f_offset"].take(list(range(len(found)))[::-1]))

    segment.table = backwards  # type: ignore[method-assign]
    state = PROFILES.initial()
    place, mark = fold_archived(PROFILES, whole, 0, Place(0), Place(log.head(0).sequence), state)
    assert place == Place(rows[0].last_sequence)
    assert mark == rows[0].seal_digest
    assert PROFILES.encode(state) == by_facts(log, place)
    end = Place(log.head(0).sequence)
    assert PROFILES.encode(fold_between(PROFILES, whole, 0, Place(0), end)) == by_facts(log, end)


def test_a_fault_in_the_archive_is_shown_at_its_fact(tmp_path: Path) -> None:
    """An entry that does not decode faults the projection where a fold fact by fact faults it."""
    log = random_log(9)
    scores = log.read(0, "scores", count=10**6)
    log.tamper(0, "scores", scores[len(scores) // 2].id, b"not JSON")
    whole = archived(reseal(log), str(tmp_path), 10)
    seen = []
    for source in (whole, whole.hot):
        runner = Runner(source, [0], [PROFILES])
        runner.catch_up()
        view = runner.view(PROFILES, 0)
        seen.append((view.condition, view.error))
        assert PROFILES.encode(view.state) == by_facts(log, view.place)
    assert seen[0] == seen[1]
    assert seen[0][0] == "faulted"


def reseal(log: MemoryLog) -> MemoryLog:
    """The same entries in a log whose seals are right for them."""
    other = MemoryLog()
    for batch, _ in batches_of(contents(log, 0)):
        other.append(0, batch, other.head(0))
    return other
