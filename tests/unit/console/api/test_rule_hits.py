"""Hits and precision by rule: against a count over the log and the labels, in a period and as of a moment."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from console.api import index as indexing
from console.api.index import DecisionIndex
from console.api.rule_hits import chosen, hits
from core.codec import decode_score, decode_transaction
from core.log.memory import MemoryLog
from core.log.paging import decision_pages
from core.times import DAY_MS, date_text
from learners import metrics
from projections.labelling.reader import LabelReader
from projections.labelling.view import LabelView
from tests.builders.api import Served
from tests.builders.baseline_log import PARTITIONS

EVER = {"start": "2000-01-01", "end": "2100-01-01"}


@pytest.fixture(scope="module")
def rows(decided: MemoryLog) -> list[tuple[Any, Any, str | None]]:
    """(transaction, score, label) of every decision."""
    labels = LabelReader(decided, range(PARTITIONS)).view()
    pairs = [
        (decode_transaction(t.payload), decode_score(s.payload))
        for p in range(PARTITIONS)
        for transactions, scores in decision_pages(decided, p)
        for t, s in zip(transactions, scores, strict=True)
    ]
    return [(t, s, labels.label(t.account_id, t.transaction_id)) for t, s in pairs]


def test_hits_are_those_of_the_log(api: Served, rows: list[tuple[Any, Any, str | None]]) -> None:
    """Counted one by one: hits, alerts, verdicts, amounts and days of every rule; the interval is Wilson's."""
    found = api.get("/v1/rules/hits", **EVER).json()
    assert found["decisions"] == len(rows) and found["uncounted"] == []
    count = Counter(code for _, s, _ in rows for code in s.rules)
    assert {rule["code"]: rule["hits"] for rule in found["rules"]} == count
    assert [rule["hits"] for rule in found["rules"]] == sorted(count.values(), reverse=True)
    for rule in found["rules"]:
        mine = [(t, s, label) for t, s, label in rows if rule["code"] in s.rules]
        judged = [label for *_, label in mine if label in ("fraud", "legitimate")]
        assert rule["alerts"] == sum(s.severity is not None for _, s, _ in mine)
        assert (rule["judged"], rule["confirmed"]) == (len(judged), judged.count("fraud"))
        assert rule["amount"] == pytest.approx(sum(t.amount * t.rate for t, *_ in mine))
        right = sum(t.amount * t.rate for t, _, label in mine if label == "fraud")
        assert rule["confirmed_amount"] == pytest.approx(right)
        days = Counter(date_text((t.received_at or t.occurred_at) // DAY_MS * DAY_MS) for t, *_ in mine)
        assert rule["days"] == days
        low, high = metrics.wilson(np.array([judged.count("fraud") * 1.0]), np.array([len(judged)]), 1.959964)
        assert (rule["low"], rule["high"]) == pytest.approx((low[0], high[0]), abs=1e-6)
        assert rule["precision"] == pytest.approx(judged.count("fraud") / len(judged))


def test_a_period_and_a_moment_limit_what_counts(api: Served, rows: list[tuple[Any, Any, str | None]]) -> None:
    """Start inclusive, end exclusive; as of a moment, later decisions and verdicts don't count; without a period, the
    30 days before the moment.
    """
    times = sorted(t.received_at or t.occurred_at for t, *_ in rows)
    low, high = times[500], times[1500]
    found = api.get("/v1/rules/hits", start=low, end=high).json()
    assert (found["start"], found["end"], found["decisions"]) == (low, high, sum(low <= t < high for t in times))
    then = api.get("/v1/rules/hits", as_of="p01:1-300", **EVER)
    everything = api.get("/v1/rules/hits", **EVER).json()
    assert 0 < then.json()["decisions"] < everything["decisions"]
    assert sum(r["judged"] for r in then.json()["rules"]) < sum(r["judged"] for r in everything["rules"])
    assert api.get("/v1/rules/hits", as_of=then.json()["as_of"], **EVER).headers["etag"] == then.headers["etag"]
    usual = api.get("/v1/rules/hits", as_of="p01:1-300").json()
    assert usual["end"] - usual["start"] == 30 * DAY_MS and f"t{usual['end']}" in usual["as_of"]


def test_rules_that_share_a_bit_are_not_told_apart(decided: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have a bit of their own are counted; the others are named."""
    monkeypatch.setattr(indexing, "RULES_MAX", 4)
    index = DecisionIndex(range(PARTITIONS))
    index.follow(decided, {p: decided.head(p).transactions for p in range(PARTITIONS)})
    answer = hits(chosen(index.columns(), 0, 2**60), index.bits, LabelView([], {}), "now", 0, 2**60)  # type: ignore[arg-type]
    assert len(answer.rules) == 3 and len(answer.uncounted) == len(index.bits) - 3 > 1
    assert all(rule.judged == 0 and rule.precision is None for rule in answer.rules)


@pytest.mark.parametrize("query", [{"start": "yesterday"}, {"start": "2026-02-01", "end": "2026-01-01"}])
def test_bad_periods_get_a_problem(api: Served, query: dict[str, str]) -> None:
    """400 in words."""
    assert api.get("/v1/rules/hits", **query).status_code == 400
