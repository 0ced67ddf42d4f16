"""One answer to "was this payment fraud?": every reader gives it, at every prefix of streams made to part them."""

from __future__ import annotations

import random
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import encode
from core.context import Resolver
from core.events import ModelDeployed
from core.features import spec
from core.log.memory import MemoryLog
from core.policy import Thresholds
from core.times import DAY_MS, HOUR_MS
from core.verdicts import VerdictRecord
from ingest.offline import OfflineIngest
from learners.drift import performance
from learners.drift.rows import Rows
from learners.drift.windows import WindowReader
from learners.loop.evidence import compare, decided_by, labels_since
from learners.loop.settings import LearnSettings
from learners.training import reading
from learners.training.dataset import STATUSES, TrainingSet
from projections.audit.blast_radius import affected
from projections.audit.whatif import Changes, Outcome, Scope, run
from projections.catalogue import ALL
from projections.engine.base import DecidedTransaction
from projections.engine.feed import batches
from projections.engine.states import open_states
from projections.labelling import quality, view
from projections.labelling.consensus import consensus
from projections.labelling.reader import LabelReader
from projections.labelling.reliability import count_patterns, learn
from projections.views import account_labels, experiments, experiments_answers
from projections.views.labels import LABELS
from projections.views.labels_answers import Filters, labels_answer
from projections.views.shadow import labelled, shadow_answer
from tests.builders.events import T0, fuzz, transaction, verdict
from tests.builders.experiments import ANN, TWO, started
from tests.builders.logs import SECOND, Record, assert_identical, tiny_timeline
from tests.builders.models import ARTIFACT, TinyScorer, deployed, load_tiny
from tests.builders.views import plain

PARTITIONS = [0, 1]
LIMIT = 4
Key = tuple[str, str]


@pytest.fixture(autouse=True, scope="module")
def a_low_limit() -> Any:
    """An analyst is over the rate with five verdicts an hour, a customer with five."""
    with pytest.MonkeyPatch.context() as patch:
        for source in ("analyst", "customer"):
            patch.setitem(quality.RULES.per_hour, source, LIMIT)
        yield


def stream(seed: int, size: int = 60) -> list[Record]:
    """Payments of accounts that share transaction IDs, and verdicts on them: of several raters that contradict each
    other, repeated, delivered days after they were said, in bursts over the rate, before their payment, of no payment.
    """
    rng = random.Random(seed)
    out: list[tuple[int, int, str, Any]] = []

    def say(delivered: int, said: int, account: str, payment: str, **changes: Any) -> None:
        word = verdict(account, changes.pop("word"), said, transaction_id=payment, **changes)
        out.append((delivered, len(out), "feedback", word))
        if rng.random() < 0.2:
            out.append((delivered + rng.randrange(3 * DAY_MS), len(out), "feedback", word))

    for number in range(size):
        now = T0 + number * 5 * HOUR_MS
        account, name = f"a{rng.randrange(6)}", f"t{number // 3}"
        payment = transaction(number, transaction_id=name, account_id=account, occurred_at=now)
        out.append((now, len(out), "transactions", payment))
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            said = now + rng.randrange(6 * DAY_MS) - (2 * DAY_MS if rng.random() < 0.1 else 0)
            delivered = max(said, now) + (rng.randrange(5 * DAY_MS) if rng.random() < 0.4 else 0)
            source = rng.choice(("analyst", "analyst", "chargeback", "representment", "customer"))
            say(
                delivered,
                said,
                account if rng.random() < 0.8 else f"a{rng.randrange(6)}",
                name,
                word=rng.choice(("fraud", "fraud", "legitimate", "unsure")),
                source=source,
                actor=rng.choice(("ann", "bob")) if source == "analyst" else "",
                confidence=rng.choice((1.0, 0.5)),
            )
        if rng.random() < 0.2:  # a burst
            for n in range(rng.choice((LIMIT, LIMIT + 1, LIMIT + 3))):
                say(now + 9 * HOUR_MS, now + 9 * HOUR_MS, f"a{n % 6}", f"t{n}", word="fraud", actor="bot")
    return [Record(topic, item.account_id, at, encode(item)) for at, _, topic, item in sorted(out, key=lambda x: x[:2])]


def decide(log: MemoryLog, records: list[Record], parts: int, start: list[Any] | None = None) -> Any:
    """Decide the records in so many parts; yields after each."""
    log.put_blob(ARTIFACT)
    log.put_blob(SECOND)
    shadow = ModelDeployed(**ANN, occurred_at=T0, name="tiny", version="1.1.0", digest=TWO, alias="shadow")
    events = [deployed(), shadow] if start is None else start
    resolver = Resolver(log.get_blob, load_tiny)
    ingest = OfflineIngest(log, resolver, partitions=len(PARTITIONS), reference=False, start=events)
    for part in np.array_split(np.arange(len(records)), parts):
        ingest.feed([records[i] for i in part.tolist()])
        ingest.flush()
        yield


def answer(log: MemoryLog, known_until: int = 2**62, is_learned: bool = True) -> dict[Key, str]:
    """The label of every payment with a verdict that counts, in one plain loop over the log's JSON."""
    paid: dict[Key, int] = {}
    said: dict[Key, list[tuple[int, int, dict[str, Any]]]] = {}
    hours: dict[tuple[str, str, int], int] = {}
    newest = 0
    for p in PARTITIONS:
        for kind, _, e, at in plain(log, p):
            if kind == "decided":
                t = e["transaction"]
                paid.setdefault((t["account_id"], t["transaction_id"]), t["occurred_at"] // 1000 * 1000)
                newest = max(newest, (t["occurred_at"] // DAY_MS + 1) * DAY_MS)
            elif kind == "feedback" and at <= known_until:
                key = (e["account_id"], e["transaction_id"])
                said.setdefault(key, []).append((e["occurred_at"], at, e))
                hour = (
                    e["source"],
                    e["account_id"] if e["source"] == "customer" else e.get("actor", ""),
                    at // HOUR_MS,
                )
                hours[hour] = hours.get(hour, 0) + 1
    counted = {}
    for key, words in sorted(said.items()):
        held: dict[str, Any] = {}
        heard = set()
        kept = []
        for when, at, e in sorted(words, key=lambda word: word[0]):
            who = f"{e['source']}:{e.get('actor', '')}" if e["source"] == "analyst" else e["source"]
            hour = (e["source"], key[0] if e["source"] == "customer" else e.get("actor", ""), at // HOUR_MS)
            if key not in paid or when < paid[key] - 300_000 or when > max(at, newest) + DAY_MS:
                continue
            if e["source"] in ("analyst", "customer") and hour[1] and hours[hour] > LIMIT:
                continue
            word = (e["verdict"], e.get("confidence", 1.0))
            if held.get(who) != word and (who, word, when) not in heard:
                held[who] = word
                kept.append(VerdictRecord(e["source"], *word, e.get("actor", ""), when, at))
            heard.add((who, word, when))
        if kept:
            counted[key] = kept
    learned = learn(count_patterns(counted.values())).raters if is_learned else None
    return {key: consensus(words, learned).label for key, words in counted.items()}


def windows(log: MemoryLog) -> Rows:
    return WindowReader(log, PARTITIONS).read(0, 2**60)


def decisions(log: MemoryLog) -> list[Key]:
    """Account and transaction of every decision, partition by partition."""
    return [
        (fact.event.transaction.account_id, fact.event.transaction.transaction_id)
        for p in PARTITIONS
        for batch in batches(log, p, 0, log.head(p).sequence)
        for fact in batch.facts
        if isinstance(fact.event, DecidedTransaction)
    ]


def of_training(data: TrainingSet) -> list[tuple[str, float]]:
    assert data.statuses is not None
    words = [STATUSES[code] for code in data.statuses.tolist()]
    return sorted((word, time) for word, time in zip(words, data.times.tolist(), strict=True))


@given(st.integers(0, 10**6))
@fuzz(max_examples=12)
def test_every_reader_gives_the_one_answer_at_every_prefix(seed: int) -> None:
    """Queries, training, guard, drift's performance, shadow, what-if and blast radius against the plain loop."""
    log = MemoryLog()
    reader = LabelReader(log, PARTITIONS)
    for _ in decide(log, stream(seed), parts=5):
        expected = answer(log)
        paid = decisions(log)
        labels = [expected.get(key) for key in paid]
        states = open_states(log, ALL, now_ms=2**50)

        rows = labels_answer(states, Filters(limit=10**6)).labels
        assert {(r.account_id, r.transaction_id): r.consensus.label for r in rows if r.consensus} == expected
        assert {k: reader.view().label(*k) for k in expected} == expected

        data = reading.read(log, PARTITIONS, clock="log", maturity_ms=0)
        times = [t.occurred_at for t in _transactions(log)]
        wanted = [(label or "presumed_legitimate", time) for time, label in zip(times, labels, strict=True)]
        assert of_training(data) == sorted(wanted)
        assert data.labels.sum() == labels.count("fraud")

        window = windows(log)
        found = reader.view().of_rows(window.accounts, window.transactions)
        assert sorted(found.tolist()) == sorted(_CODES[label] for label in labels)
        measured = performance.labelled(window, window.digests[0], reader.view(), 10**4 * DAY_MS)
        assert len(measured.labels) == len(labels) - labels.count("review")
        assert measured.labels.sum() == labels.count("fraud")

        shadow = shadow_answer(states)
        (pair,) = shadow.pairs.values()
        truth = labelled(pair, shadow.labels, shadow.clocks, maturity_days=0)
        assert truth.fraud.sum() == labels.count("fraud")
        assert truth.unlabelled >= labels.count("review")

        parts = [
            run(log, p, log.head(p), tiny_timeline(log), Changes(), Scope(), reader.view().of_partition(p))
            for p in PARTITIONS
        ]
        outcome = Outcome.joined(parts, 10)
        assert outcome.fraud.tolist() == [label == "fraud" for label in labels]
        assert outcome.labelled.tolist() == [label in ("fraud", "legitimate") for label in labels]
        radius = {(r.account_id, r.transaction_id): r.fraud for r in affected(log, PARTITIONS, ONE, reader.view)}
        truths = {"fraud": True, "legitimate": False, "review": None, None: None}
        assert radius == {key: truths[label] for key, label in zip(paid, labels, strict=True)}

        accepted = sum(count for status, count in labels_answer(states).quality.items() if status == "accepted")
        assert labels_since(reader.view(), 0).verdicts == accepted


ONE = deployed().digest
_CODES = {None: view.UNJUDGED, "fraud": view.FRAUD, "legitimate": view.LEGITIMATE, "review": view.REVIEW}


def _transactions(log: MemoryLog) -> list[Any]:
    return [
        fact.event.transaction
        for p in PARTITIONS
        for batch in batches(log, p, 0, log.head(p).sequence)
        for fact in batch.facts
        if isinstance(fact.event, DecidedTransaction)
    ]


@given(st.integers(0, 10**6))
@fuzz(max_examples=10)
def test_an_experiments_outcome_is_the_answer_at_maturity_and_stays_so(seed: int) -> None:
    """With fixed reliabilities and what was recorded by maturity; more log changes no outcome that was final."""
    log = MemoryLog()
    final: dict[Any, Any] = {}
    records = stream(seed, 90)
    for _ in decide(log, records, parts=4, start=[deployed(), started(window_ms=4 * DAY_MS, maturity_ms=2 * DAY_MS)]):
        of = open_states(log, ALL, now_ms=2**50)
        states, labels = of.by_partition(experiments.EXPERIMENTS), of.by_partition(LABELS)
        (experiment,) = of.of_control(experiments.EXPERIMENTS).experiments.values()
        memory: Any = {}
        experiments_answers.observe(experiment, states, labels, final=memory)
        assert {key: memory[key] for key in final} == final
        final = memory
        for (partition, account), (outcomes, conflicts) in memory.items():
            enrolment = states[partition].enrolled["e1"].accounts[account]
            mature_at = enrolment.recorded_at + 6 * DAY_MS
            expected = answer(log, mature_at, is_learned=False)
            rows = np.frombuffer(bytes(enrolment.rows), dtype=experiments.ROW)
            names = {
                int(account_labels.transaction_keys([t])[0]): label
                for (a, t), label in expected.items()
                if a == account
            }
            seen = [r for r in rows if r["received_at"] < enrolment.received_at + 4 * DAY_MS]
            said = [names.get(int(r["key"]), "legitimate") for r in seen if r["recorded_at"] <= mature_at]
            assert bool(outcomes[0] or outcomes[1]) == ("fraud" in said)
            assert conflicts == said.count("review")


# --- the examples that were answered in several ways --------------------------------------------------------------


def log_of(*items: tuple[int, Any]) -> MemoryLog:
    """A log of payments and verdicts, each delivered at its time (epoch ms), with a shadow beside the champion."""
    log = MemoryLog()
    records = [
        Record("feedback" if hasattr(item, "verdict") else "transactions", item.account_id, at, encode(item))
        for at, item in items
    ]
    for _ in decide(log, records, parts=1):
        pass
    return log


def frauds(log: MemoryLog) -> dict[str, int]:
    """How many payments each reader takes for fraud."""
    reader = LabelReader(log, PARTITIONS)
    window, states = windows(log), open_states(log, ALL, now_ms=2**50)
    shadow = shadow_answer(states)
    (pair,) = shadow.pairs.values()
    seen = decided_by(WindowReader(log, PARTITIONS), 1, deployed().digest, TinyScorer(ARTIFACT))
    assert seen is not None
    settings = LearnSettings()
    outcomes = [
        run(log, p, log.head(p), tiny_timeline(log), Changes(), Scope(), reader.view().of_partition(p))
        for p in PARTITIONS
    ]
    return {
        "queries": labels_answer(states).counts.get("fraud", 0),
        "training": int(reading.read(log, PARTITIONS, clock="log").labels.sum()),
        "new labels": labels_since(reader.view(), 0).frauds,
        "guard": compare(seen.rows, seen.logged, seen.other, reader.view(), Thresholds(0.5, 0.8), settings).frauds,
        "drift": int(performance.labelled(window, window.digests[0], reader.view(), 99 * DAY_MS).labels.sum()),
        "shadow": int(labelled(pair, shadow.labels, shadow.clocks).fraud.sum()),
        "what-if": sum(int(part.fraud.sum()) for part in outcomes),
        "blast radius": sum(r.fraud is True for r in affected(log, PARTITIONS, ONE, reader.view)),
    }


def test_a_source_over_its_limit_counts_for_nobody() -> None:
    """Five verdicts of one analyst in an hour where four are allowed: no reader takes a payment for fraud."""
    paid = [(T0, transaction(n, account_id=f"a{n}")) for n in range(LIMIT + 1)]
    at = T0 + DAY_MS
    said = [(at, verdict(f"a{n}", occurred_at=at, transaction_id=f"t{n}", actor="bot")) for n in range(LIMIT + 1)]
    assert set(frauds(log_of(*paid, *said[:-1])).values()) == {LIMIT}
    assert set(frauds(log_of(*paid, *said)).values()) == {0}


def test_a_verdict_is_on_its_accounts_payment_only() -> None:
    """Two accounts have a payment t1; the verdict on the one says nothing of the other."""
    paid = [(T0, transaction(1, account_id=account)) for account in ("a1", "a2", "a3", "a4")]
    said = (T0 + DAY_MS, verdict("a1", occurred_at=T0 + DAY_MS))
    assert set(frauds(log_of(*paid, said)).values()) == {1}


def test_the_word_said_last_counts_not_the_one_delivered_last() -> None:
    """Ann says legitimate, then fraud; whichever message comes first, her word is fraud."""
    first = verdict("a1", "legitimate", T0 + 3 * DAY_MS, actor="ann")
    last = verdict("a1", "fraud", T0 + 5 * DAY_MS, actor="ann")
    for order in ((first, last), (last, first)):
        log = log_of((T0, transaction(1)), *((T0 + (6 + n) * DAY_MS, word) for n, word in enumerate(order)))
        assert set(frauds(log).values()) == {1}, order


def test_a_source_over_its_limit_is_left_out_of_features_from_the_next_tables_on() -> None:
    """Live features count its verdicts until a quarantine says that it was over its rate over all partitions; replay
    tells the same, and the merchants' table never counted them.
    """
    accounts = [f"a{n}" for n in range(LIMIT + 1)]
    records = [Record("transactions", a, T0, encode(transaction(n, account_id=a))) for n, a in enumerate(accounts)]
    at = T0 + HOUR_MS
    for n, a in enumerate(accounts):
        word = verdict(a, occurred_at=at, transaction_id=f"t{n}", actor="bot", merchant_id="m1")
        records.append(Record("feedback", a, at, encode(word)))
    for days in (0, 1, 2):
        when = T0 + 2 * HOUR_MS + days * DAY_MS
        for n, a in enumerate(accounts):
            payment = transaction(100 * (days + 1) + n, account_id=a, occurred_at=when)
            records.append(Record("transactions", a, when, encode(payment)))
    log = MemoryLog()
    log.put_blob(ARTIFACT)
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=len(PARTITIONS), start=[deployed()])
    ingest.feed(records)
    ingest.flush()
    assert all(log.length(p, "feedback") for p in PARTITIONS)
    data = reading.read(log, PARTITIONS, clock="log")
    frauds = data.features[:, spec.index("fraud_verdicts")].reshape(4, len(accounts))
    assert frauds.tolist() == [[0.0] * 5, [1.0] * 5, [0.0] * 5, [0.0] * 5]
    assert np.isnan(data.features[10:, spec.index("days_since_fraud")]).all()
    assert set(data.features[10:, spec.index("merchant_reports_7d")].tolist()) == {0.0}
    assert not data.labels.any()
    assert_identical(log)


def test_random_streams_hold_what_parts_readers() -> None:
    """Every status of quality control, every label and shared transaction IDs occur in the streams above."""
    log = MemoryLog()
    for _ in decide(log, stream(2, 120), parts=1):
        pass
    answers = labels_answer(open_states(log, ALL, now_ms=2**50))
    assert set(answers.quality) == set(get_args(quality.Quality))
    assert set(answers.counts) >= {"fraud", "legitimate", "review"}
    paid = decisions(log)
    assert len({transaction_id for _, transaction_id in paid}) < len(set(paid))
