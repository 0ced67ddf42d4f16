"""Training sets: the logged bytes, the labels of the read model at any T, and nothing that came after T."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import codec
from core.context import Resolver
from core.errors import BadInput
from core.events import START, FeedbackReceived, FeedbackSource, Position, Transaction
from core.features import packing, spec
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.base import Batch, Entry, EventLog, Stream
from core.log.memory import MemoryLog
from core.program.codes import ENGINE
from core.times import DAY_MS, HOUR_MS
from ingest.offline import OfflineIngest
from learners.training import dataset, reading
from learners.training.dataset import STATUSES, TrainingSet, as_known, labelled
from projections.engine.base import DecidedTransaction
from projections.engine.feed import batches
from projections.labelling.consensus import Status, consensus, unjudged
from projections.labelling.view import view
from projections.views import labels
from tests.builders.decisions import created
from tests.builders.events import Shape, verdict
from tests.builders.logs import PARTITIONS, Record, assert_identical, filled, records
from tests.builders.models import load_tiny

SOURCES = get_args(FeedbackSource)
Row = tuple[int, Position]


def judged_log(seed: int, size: int = 700) -> MemoryLog:
    """A random log in which most verdicts are on real transactions, several on some, days later."""
    return fed(labelled_records(seed, size), seed)


def labelled_records(seed: int, size: int) -> list[Record]:
    rng = random.Random(seed)
    steps = (0, 60_000, HOUR_MS, 5 * HOUR_MS)
    out = records(seed, size, Shape(accounts=8, late=0.1, duplicates=0.02, steps=steps, weights=(1, 2, 3, 2)))
    for record in list(out):
        try:
            paid = msgspec.json.decode(record.value, type=Transaction)
        except msgspec.MsgspecError:
            continue
        if record.topic != "transactions":
            continue
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
            at = record.timestamp + rng.randrange(20 * DAY_MS)
            said = verdict(
                paid.account_id if rng.random() < 0.95 else "somebody-else",
                rng.choice(("fraud", "fraud", "legitimate", "unsure")),
                at - rng.randrange(2 * DAY_MS),
                transaction_id=paid.transaction_id,
                source=rng.choice(SOURCES),
                confidence=rng.choice((1.0, 0.5, 0.0)),
            )
            out.append(Record("feedback", said.account_id, at, codec.encode(said)))
    return sorted(out, key=lambda record: record.timestamp)


def fed(stream: list[Record], seed: int, log: MemoryLog | None = None) -> MemoryLog:
    log = log or MemoryLog()
    offline = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=PARTITIONS)
    rng = random.Random(seed)
    for record in stream:
        offline.feed([record])
        if rng.random() < 0.05:
            offline.flush()
    offline.flush()
    return log


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return judged_log(3)


def positions(data: TrainingSet) -> list[Row]:
    origin = data.origin
    assert origin is not None
    ids = zip(origin.generations.tolist(), origin.offsets.tolist(), strict=True)
    return [(p, Position(*place)) for p, place in zip(origin.partitions.tolist(), ids, strict=True)]


def statuses(data: TrainingSet) -> list[Status]:
    assert data.statuses is not None
    return [STATUSES[code] for code in data.statuses.tolist()]


def read_model(log: EventLog, until: int, maturity_days: int, clock: dataset.Clock) -> dict[Row, Status]:
    """The oracle: each decision's status from the labels read model, folded over what was known at `until`."""
    decided = []
    states: dict[int, labels.Labels] = {}
    for p in range(PARTITIONS):
        states[p] = labels.LABELS.initial()
        for batch in batches(log, p, 0, log.head(p).sequence):
            for each in batch.facts:
                fact = each
                if not isinstance(fact.event, DecidedTransaction | FeedbackReceived):
                    continue
                is_payment = isinstance(fact.event, DecidedTransaction)
                at = fact.event.transaction.occurred_at if is_payment else fact.event.occurred_at
                if clock == "event":
                    fact = fact._replace(recorded_at=at)
                if is_payment:
                    seen = at <= until and fact.recorded_at <= until
                    decided.append((p, fact.id, fact.event.transaction, seen))
                if fact.recorded_at <= until:
                    labels.LABELS.apply(states[p], fact)
    agreed = {
        (each.judged.partition, each.judged.account_id, each.judged.transaction_id): each.accepted
        for each in view(states).transactions
    }
    learned = view(states).learning.raters
    out: dict[Row, Status] = {}
    for p, place, paid, seen in decided:
        said = agreed.get((p, paid.account_id, paid.transaction_id), [])
        found = consensus(said, learned).label if said else unjudged(paid.occurred_at, until, maturity_days)
        out[p, place] = found if seen else "pending"
    return out


def test_features_are_the_logged_bytes_and_what_replay_computes(log: MemoryLog) -> None:
    """No training-serving skew: every vector is the score's, bit for bit, and replay computes the same score again."""
    assert_identical(log)
    data = reading.read(log, range(PARTITIONS))
    assert len(data) == sum(log.length(p, "scores") for p in range(PARTITIONS)) > 500
    for row, (partition, position) in enumerate(positions(data)):
        score = codec.decode_score(log.get(partition, "scores", position) or b"")
        paid = codec.decode_transaction(log.get(partition, "transactions", position) or b"")
        assert data.features[row].tobytes() == packing.plain(score.features)
        assert (data.times[row], data.amounts[row]) == (paid.occurred_at, paid.amount)
    assert (np.diff(data.times) >= 0).all()


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(0, 3), st.floats(-0.1, 1.1), st.integers(0, 20), st.sampled_from(["log", "event"]))
def test_labels_are_the_read_models_at_any_time(
    seed: int, share: float, maturity_days: int, clock: dataset.Clock
) -> None:
    """At any T, maturity and clock, a row's status is what the labels projection says of what was known then."""
    log = _logs(seed)
    data = _sets(seed)
    until = int(data.times[0] + share * (data.times[-1] + 20 * DAY_MS - data.times[0]))
    again = as_known(data, until, maturity_days * DAY_MS, clock)
    oracle = read_model(log, until, maturity_days, clock)
    assert dict(zip(positions(again), statuses(again), strict=True)) == oracle
    assert again.labels.tolist() == [status == "fraud" for status in statuses(again)]


_held: dict[int, tuple[MemoryLog, TrainingSet]] = {}


def _logs(seed: int) -> MemoryLog:
    if seed not in _held:
        log = judged_log(seed, 300)
        _held[seed] = (log, reading.read(log, range(PARTITIONS)))
    return _held[seed][0]


def _sets(seed: int) -> TrainingSet:
    _logs(seed)
    return _held[seed][1]


@settings(deadline=None, derandomize=True, max_examples=8)
@given(st.integers(0, 100), st.floats(0.2, 0.9))
def test_nothing_after_t_changes_the_set(seed: int, share: float) -> None:
    """The set as known at T is the same whether the log ends at T or goes on with payments and verdicts."""
    stream = labelled_records(seed, 250)
    cut = int(len(stream) * share)
    whole, prefix = MemoryLog(), MemoryLog()
    for target, end in ((whole, len(stream)), (prefix, cut)):
        offline = OfflineIngest(target, Resolver(target.get_blob, load_tiny), partitions=PARTITIONS)
        offline.feed(stream[:cut])
        offline.flush()
        offline.feed(stream[cut:end])
        offline.flush()
    until = stream[cut - 1].timestamp
    later = [r.timestamp for r in stream[cut:]]
    if later and later[0] == until:
        return  # the same millisecond is on both sides of the cut
    known, alone = (
        labelled(reading.read(log, range(PARTITIONS), until, maturity_ms=DAY_MS, clock="log"))
        for log in (whole, prefix)
    )
    assert positions(known) == positions(alone)
    assert np.array_equal(known.labels, alone.labels)
    assert known.features.tobytes() == alone.features.tobytes()
    assert np.array_equal(known.times, alone.times)


def test_an_archived_log_gives_the_same_set(log: MemoryLog, tmp_path: Path) -> None:
    """Columns of the archive and JSON of the hot log agree in every field; so does a log that is half archived."""
    hot = reading.read(log, range(PARTITIONS))
    whole, half = open_archive(str(tmp_path / "whole")), open_archive(str(tmp_path / "half"))
    middle = int(np.median([codec.decode_seal(e.payload).recorded_at for e in log.read(0, "seals")]))
    for p in range(PARTITIONS):
        archiver.archive_partition(log, whole, p, recorded_until=2**62, segment_transactions=50)
        archiver.archive_partition(log, half, p, recorded_until=middle, segment_transactions=50)
    assert 0 < half.count(0, "scores") < log.length(0, "scores")
    for archive in (whole, half):
        assert_same(reading.read(ArchivedLog(log, archive), range(PARTITIONS)), hot)


@pytest.mark.parametrize("archived", [False, True])
def test_a_window_is_part_of_the_whole(log: MemoryLog, tmp_path: Path, archived: bool) -> None:
    """Rows, labels and verdicts of a window are the whole set's, and no score before the window is read."""
    read_from: list[Position] = []

    class Watched(MemoryLog):
        def read(self, partition: int, stream: Stream, after: Position = START, *rest: Any, **kw: Any) -> list[Entry]:
            page = MemoryLog.read(self, partition, stream, after, *rest, **kw)
            if stream == "scores" and len(page) > 1:  # not what asks where the stream begins
                read_from.append(after)
            return page

    whole = reading.read(log, range(PARTITIONS), 2**60)
    watched = Watched()
    watched.__dict__.update(log.__dict__)
    source: EventLog = watched
    if archived:
        archive = open_archive(str(tmp_path))
        for p in range(PARTITIONS):
            archiver.archive_partition(log, archive, p, recorded_until=2**62, segment_transactions=50)
        source = ArchivedLog(watched, archive)
    start, end = (int(whole.times[int(len(whole) * share)]) for share in (0.6, 0.8))
    part = reading.read(source, range(PARTITIONS), 2**60, start=start, end=end)
    wanted = whole.rows((whole.times >= start) & (whole.times < end))
    assert 50 < len(part) < len(whole) / 2
    assert_same(part, wanted)
    first = min(position for _, position in positions(wanted))
    assert archived or min(read_from) >= Position(first.generation, first.offset - 1) > START


def assert_same(a: TrainingSet, b: TrainingSet) -> None:
    assert a.origin is not None and b.origin is not None and a.verdicts is not None and b.verdicts is not None
    assert a.features.tobytes() == b.features.tobytes()
    for name in ("labels", "times", "amounts", "accounts", "statuses"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert positions(a) == positions(b)
    assert np.array_equal(a.origin.recorded_at, b.origin.recorded_at)
    assert decided_by(a) == decided_by(b)
    for each in (
        "said",
        "accounts",
        "transactions",
        "rows",
        "events",
        "payments",
        "payments_recorded_at",
        "partitions",
    ):
        assert list(getattr(a.verdicts, each)) == list(getattr(b.verdicts, each)), each
    assert a.known == b.known and a.left_out == b.left_out


def decided_by(data: TrainingSet) -> list[tuple[str, str]]:
    origin = data.origin
    assert origin is not None
    return [
        (origin.model_names[m], origin.arm_names[a])
        for m, a in zip(origin.models.tolist(), origin.arms.tolist(), strict=True)
    ]


def test_model_and_arm_are_the_scores(tmp_path: Path) -> None:
    """Who decided a row is what its score says, on a log with two models."""
    log = filled(5, 400)
    data = reading.read(log, range(PARTITIONS))
    for (partition, position), who in zip(positions(data), decided_by(data), strict=True):
        score = codec.decode_score(log.get(partition, "scores", position) or b"")
        assert who == (score.model, score.arm)


@pytest.mark.parametrize("other", [{"spec": 0}, {"engine": ENGINE + 1}])
def test_decisions_under_another_feature_spec_or_engine_are_left_out(
    log: MemoryLog, tmp_path: Path, other: dict[str, int]
) -> None:
    """Rows of an older spec or engine, of another width, are not in the set, hot or archived; the others are whole."""
    mixed = created()
    mixed.append_control([payload for _, payload in log.read_control(mixed.control_head())], mixed.control_head())
    kept: set[Row] = set()
    for p in range(PARTITIONS):
        for number, batch in enumerate(_batches(log, p)):
            if number % 3 == 0:
                scores = [codec.decode_score(e.payload) for e in batch.scores]
                older = [msgspec.structs.replace(s, **other, features=s.features[:8]) for s in scores]
                batch.scores[:] = [Entry(e.id, codec.encode(s)) for e, s in zip(batch.scores, older, strict=True)]
            else:
                kept |= {(p, e.id) for e in batch.scores}
            mixed.append(p, batch, mixed.head(p))
    data = reading.read(mixed, range(PARTITIONS))
    assert set(positions(data)) == kept
    left_out = sum(mixed.length(p, "scores") for p in range(PARTITIONS)) - len(kept)
    assert data.left_out == data.rows(data.labels).left_out == left_out > 0
    whole = {place: v.tobytes() for place, v in _vectors(log)}
    assert all(vector.tobytes() == whole[place] for place, vector in zip(positions(data), data.features, strict=True))
    archive = open_archive(str(tmp_path))
    for p in range(PARTITIONS):
        archiver.archive_partition(mixed, archive, p, recorded_until=2**62, segment_transactions=10**6)
    assert_same(reading.read(ArchivedLog(mixed, archive), range(PARTITIONS)), data)


def _vectors(log: MemoryLog) -> Iterator[tuple[Row, np.ndarray]]:
    data = reading.read(log, range(PARTITIONS))
    return zip(positions(data), data.features, strict=True)


def _batches(log: MemoryLog, p: int) -> Iterator[Batch]:
    before = (Position(0, 0), Position(0, 0))
    for entry in log.read(p, "seals", count=10**6):
        seal = codec.decode_seal(entry.payload)
        ends = (Position.parse(seal.transactions), Position.parse(seal.feedback))
        streams = {
            name: log.read(p, name, before[0], 10**6, ends[0]) if before[0] < ends[0] else []
            for name in ("transactions", "scores", "alerts")
        }
        feedback = log.read(p, "feedback", before[1], 10**6, ends[1]) if before[1] < ends[1] else []
        yield Batch(
            seal.control, seal.recorded_at, *ends, Position(0, 0), seal.control_digest, **streams, feedback=feedback
        )
        before = ends


def test_a_verdict_on_a_payment_that_the_log_takes_later_does_not_count_yet(log: MemoryLog) -> None:
    """Quality control at T knows the payments of T: a verdict is on no transaction until its payment comes."""
    data = reading.read(log, range(PARTITIONS))
    assert data.verdicts is not None and data.known is not None and data.labels.any()
    after = np.full_like(data.verdicts.payments_recorded_at, data.known.until + 1)
    early = replace(data, verdicts=replace(data.verdicts, payments_recorded_at=after))
    assert not as_known(early, data.known.until, clock="log").labels.any()
    assert as_known(early, data.known.until + 1, clock="log").labels.any()


def test_what_has_no_verdicts_can_not_be_labelled_anew() -> None:
    """A set put together by hand is labelled as it is; asking for another T is bad input; an empty log too."""
    n = 3
    made = TrainingSet(
        np.zeros((n, spec.WIDTH), np.float32), np.zeros(n, np.bool_), np.arange(n), np.ones(n), np.arange(n)
    )
    assert labelled(made) is made and made.counts() == {}
    with pytest.raises(BadInput, match="cannot be relabelled"):
        as_known(made, 0)
    with pytest.raises(BadInput, match="no transaction"):
        reading.read(created(), range(2))
