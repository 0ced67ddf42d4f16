"""The report on sources: counting by hand, kappa by its definition, and the queries that show it."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import cli, wiring
from core.codec import encode
from core.context import Resolver
from core.events import FeedbackReceived, Position
from core.log.memory import MemoryLog
from core.times import DAY_MS
from ingest.offline import OfflineIngest
from projections.catalogue import ALL
from projections.engine.base import Fact, fold
from projections.engine.states import open_states
from projections.labelling.quality import Rules
from projections.labelling.sources import ANY, SourcesReport, kappa, report
from projections.labelling.view import view
from projections.views.labels import LABELS, Labels
from projections.views.labels_answers import Filters, labels_answer, sources_answer
from tests.builders.events import T0, fuzz, transaction, verdict
from tests.builders.facts import paid, told
from tests.builders.logs import PARTITIONS, Record
from tests.builders.models import ARTIFACT, deployed, load_tiny
from tests.builders.views import plain


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
@fuzz(max_examples=100)
def test_kappa_is_agreement_beyond_chance(pairs: list[tuple[bool, bool]]) -> None:
    """Cohen's formula over the 2 × 2 table; undefined where chance agreement is complete."""
    table = np.zeros((2, 2))
    for a, b in pairs:
        table[int(a), int(b)] += 1
    table /= table.sum()
    chance = float((table.sum(0) * table.sum(1)).sum())
    if chance > 1 - 1e-12:
        assert kappa(pairs) is None
    else:
        assert kappa(pairs) == pytest.approx((np.trace(table) - chance) / (1 - chance))


def small() -> tuple[dict[int, Labels], SourcesReport]:
    """Ten payments: ann calls t0 … t7 fraud and t8, t9 legitimate; chargebacks on t0 … t5 after 20 days, and on t8 ten
    days after that; the customer of t9 says fraud before the payment was made.
    """
    facts = [paid(f"t{n}", T0 + n * DAY_MS, number=n + 1) for n in range(10)]
    for n in range(10):
        facts.append(
            told("fraud" if n < 8 else "legitimate", T0 + (n + 2) * DAY_MS, transaction_id=f"t{n}", actor="ann")
        )
    for n in (*range(6), 8):
        late = 30 if n == 8 else 20
        facts.append(told("fraud", T0 + (n + late) * DAY_MS, transaction_id=f"t{n}", source="chargeback"))
    facts.append(told("fraud", T0, transaction_id="t9", source="customer"))
    states = {0: fold(LABELS, facts)}
    return states, report(view(states), states, T0 + 60 * DAY_MS)


def test_the_report_is_what_counting_by_hand_gives() -> None:
    """Volumes, held back, overlap, agreement with the others, overturned words and delays of a case small enough to
    count.
    """
    _, found = small()
    rows = {row.name: row for row in found.sources}
    assert list(rows) == ["analyst", "customer", "chargeback"]
    analyst, chargeback, customer = rows["analyst"], rows["chargeback"], rows["customer"]
    assert (analyst.verdicts, analyst.transactions, analyst.overlap) == (10, 10, 7)
    assert analyst.agreement == pytest.approx(6 / 7) and chargeback.agreement == pytest.approx(6 / 7)
    assert (analyst.fraud_share, analyst.overturned, chargeback.fraud_share) == (0.8, 0.0, 1.0)
    assert (customer.verdicts, customer.held_back, customer.transactions) == (1, {"impossible_time": 1}, 0)
    assert (analyst.delay_median_days, chargeback.delay_median_days) == (2.0, 20.0)
    assert [row.name for row in found.analysts] == ["analyst:ann"]
    assert not analyst.is_measured and 0.8 < (analyst.sensitivity or 0) < 0.95
    (pair,) = found.pairs
    assert (pair.first, pair.second) == ("analyst", "chargeback")
    assert (pair.both_fraud, pair.fraud_legitimate, pair.legitimate_fraud, pair.both_legitimate) == (6, 0, 1, 0)
    assert found.maturity[ANY].frauds == 8 and found.maturity["chargeback"].frauds == 6
    assert found.maturity[ANY].days_to["0.99"] == 2 and found.maturity["chargeback"].days_to["0.5"] == 20
    assert found.items == 7


def test_an_analyst_whose_word_is_overturned_is_seen() -> None:
    """Bob clears what a chargeback, a representment of nobody and ann call fraud: his rate of overturned words is 1."""
    facts: list[Fact] = []
    for n in range(30):
        facts.append(paid(f"t{n}", number=n + 1))
        for word, source, actor in (
            ("legitimate", "analyst", "bob"),
            ("fraud", "chargeback", ""),
            ("fraud", "analyst", "ann"),
            ("fraud", "early_fraud_warning", ""),
        ):
            facts.append(told(word, transaction_id=f"t{n}", source=source, actor=actor))
    states = {0: fold(LABELS, facts)}
    of = view(states)
    rows = {row.name: row for row in report(of, states, T0 + 9 * DAY_MS).analysts}
    assert (rows["analyst:bob"].overturned, rows["analyst:ann"].overturned) == (1.0, 0.0)
    assert rows["analyst:bob"].is_measured and rows["analyst:bob"].agreement == 0.0
    pair = report(of, states, T0 + 9 * DAY_MS).pairs[-1]
    assert (pair.first, pair.second, pair.fraud_legitimate) == ("analyst:ann", "analyst:bob", 30)


@cache
def judged_log() -> MemoryLog:
    """A log in which transactions get none to three verdicts, some of them twice, and one in nine names nothing."""
    log = MemoryLog()
    log.put_blob(ARTIFACT)
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=PARTITIONS, start=[deployed()])
    rng = random.Random(11)
    out: list[Record] = []
    for number in range(240):
        account, at = f"a{rng.randrange(12)}", T0 + number * DAY_MS // 8
        payment = transaction(number, account_id=account, occurred_at=at)
        out.append(Record("transactions", account, at, encode(payment)))
        fraud = rng.random() < 0.4
        for source, right in (("analyst", 0.9), ("chargeback", 0.95), ("customer", 0.7)):
            if rng.random() < 0.5:
                continue
            word = "fraud" if fraud == (rng.random() < right) else "legitimate"
            named = f"t{number}" if rng.random() > 1 / 9 else f"x{number}"
            late = at + rng.randrange(1, 40) * DAY_MS
            changes = {"transaction_id": named, "source": source, "actor": rng.choice(("ann", "bob"))}
            event = verdict(account, word, late, **changes)
            out += [Record("feedback", account, late, encode(event))] * rng.choice((1, 1, 2))
    for record in sorted(out, key=lambda r: r.timestamp):
        ingest.feed([record])
        if rng.random() < 0.1:
            ingest.flush()
    ingest.flush()
    return log


def test_labels_of_one_account_are_those_of_the_whole() -> None:
    """Asking for one account gives the same labels and statuses as asking for all, and lists its suspect verdicts."""
    log = judged_log()
    states = open_states(log, ALL, now_ms=10**13)
    whole = labels_answer(states, Filters(limit=10**6))
    for account in ("a0", "a1", "a7"):
        own = [row for row in labels_answer(states, Filters(account=account, limit=10**6)).labels if row.verdicts]
        assert own == [row for row in whole.labels if row.account_id == account]
    verdicts = sum(
        kind == "feedback" and event["type"] == "feedback.v1" for p in range(3) for kind, _, event, _ in plain(log, p)
    )
    assert sum(whole.quality.values()) == verdicts and whole.quality["unknown_transaction"] > 0
    suspect = labels_answer(states, Filters(is_suspect=True, limit=10**6)).labels
    assert suspect and all(set(row.quality) - {"accepted", "duplicate"} for row in suspect)
    fixed = labels_answer(states, Filters(account="a0", limit=10**6), is_fixed=True)
    assert {row.consensus.method for row in fixed.labels if row.consensus} == {"fixed"}
    assert "learned" in {row.consensus.method for row in whole.labels if row.consensus}
    assert [row.quality for row in fixed.labels] == [
        row.quality for row in labels_answer(states, Filters(account="a0", limit=10**6)).labels
    ]


def test_sources_as_of_an_earlier_moment_know_only_what_was_known() -> None:
    """The report on a prefix counts that prefix's verdicts, and asked with its own as_of it is the same."""
    log = judged_log()
    states = open_states(log, ALL, now_ms=10**13)
    early = sources_answer(open_states(log, ALL, now_ms=10**13, as_of="p0:s20"))
    late = sources_answer(states)
    assert sum(row.verdicts for row in early.report.sources) < sum(row.verdicts for row in late.report.sources)
    assert sources_answer(open_states(log, ALL, now_ms=10**13, as_of=early.as_of)) == early
    allowed = sources_answer(states, Rules(per_hour={"chargeback": 0})).quality
    assert allowed["rate_exceeded"] > 0 and late.quality.get("rate_exceeded", 0) == 0


def run(monkeypatch: pytest.MonkeyPatch, log: MemoryLog, *arguments: str) -> int:
    """`sentinel query …` on a log in memory; the exit code."""
    monkeypatch.setattr(wiring, "open_log", lambda s: log)
    monkeypatch.setattr("sys.argv", ["sentinel", "query", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return int(done.value.code or 0)


def test_query_sources_shows_tables_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text names every source with its figures; JSON is the answer; a bad rate is one line and exit code 2."""
    assert run(monkeypatch, judged_log(), "sources") == 0
    text = capsys.readouterr().out
    assert "analyst" in text and "sensitivity" in text and "unknown_transaction" in text
    assert run(monkeypatch, judged_log(), "sources", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in answer["report"]["sources"]] == ["analyst", "customer", "chargeback"]
    assert run(monkeypatch, judged_log(), "labels", "--suspect", "--limit", "3") == 0
    assert "[unknown_transaction]" in capsys.readouterr().out
    for bad in ("analyst", "analyst=", "nobody=3", "analyst=-1"):
        assert run(monkeypatch, judged_log(), "sources", "--rate", bad) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_said_keeps_what_the_verdict_claims() -> None:
    """The payment's time in the verdict is kept, for payments that the log has forgotten."""
    event: Any = verdict("a1", "fraud", T0, transaction_occurred_at=T0 - 5)
    assert isinstance(event, FeedbackReceived)
    state = fold(LABELS, [Fact(0, Position(1, 1), T0, event)])
    assert state.accounts["a1"].verdicts["t1"][0].claimed_at == T0 - 5
