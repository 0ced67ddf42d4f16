"""A search's summary against plain counting over the log."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from console.api.summary import BINS_MAX, TOP_MAX
from core.codec import decode_score, decode_transaction
from core.log.memory import MemoryLog
from core.log.paging import decision_pages
from tests.builders.api import Served
from tests.builders.baseline_log import PARTITIONS

KINDS = {"merchant": "merchant_id", "account": "account_id", "device": "device_id", "card": "card_id"}


@pytest.fixture(scope="module")
def rows(decided: MemoryLog) -> list[dict[str, Any]]:
    """Every decision with its payment."""
    found = []
    for p in range(PARTITIONS):
        for transactions, scores in decision_pages(decided, p):
            for entry, score in zip(transactions, scores, strict=True):
                t, s = decode_transaction(entry.payload), decode_score(score.payload)
                at = t.received_at or t.occurred_at
                found.append({**msgspec.to_builtins(t), **msgspec.to_builtins(s), "at": at, "base": t.amount * t.rate})
    return found


def totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "count": len(rows),
        "alerts": sum(row.get("severity") is not None for row in rows),
        "amount": pytest.approx(sum(row["base"] for row in rows)),
        "decisions": {d: sum(row["decision"] == d for row in rows) for d in ("approve", "review", "decline")},
    }


def tops(rows: list[dict[str, Any]], before: list[dict[str, Any]] | None) -> dict[str, tuple[Counter[str], Any]]:
    """By kind: all counts now, and before."""

    def counts(of: list[dict[str, Any]], kind: str) -> Counter[str]:
        if kind == "rule":
            return Counter(code for row in of for code in row.get("rules", ()))
        return Counter(row[KINDS[kind]] for row in of if row.get(KINDS[kind]))

    return {k: (counts(rows, k), None if before is None else counts(before, k)) for k in (*KINDS, "rule")}


@pytest.mark.parametrize("days", [None, 1, 5, 12])
@pytest.mark.parametrize("conditions", [{}, {"alerts": True}, {"decision": "decline"}, {"amount_min": 100.0}])
def test_a_summary_is_what_counting_finds(
    api: Served, rows: list[dict[str, Any]], days: int | None, conditions: dict[str, Any]
) -> None:
    """Totals, bins and frequent values, of the period and of the one before."""
    last = max(row["at"] for row in rows)
    length = 0 if days is None else days * 86_400_000
    period = {} if days is None else {"start": last - length, "end": last}
    told = api.get("/v1/summary", "auditor", **conditions, **period).json()

    def matching(start: int, end: int) -> list[dict[str, Any]]:
        return [
            row
            for row in rows
            if start <= row["at"] < end
            and (not conditions.get("alerts") or row.get("severity") is not None)
            and conditions.get("decision") in (None, row["decision"])
            and row["base"] >= conditions.get("amount_min", 0.0)
        ]

    now = matching(period.get("start", 0), period.get("end", 2**62))
    before = None if days is None else matching(last - 2 * length, last - length)
    assert told["totals"] == totals(now)
    assert told["before"] == (None if before is None else totals(before))
    step = told["step_ms"]
    expected: dict[int, Counter[str]] = {}
    for row in now:
        expected.setdefault(row["at"] // step * step, Counter())[row["decision"]] += 1
    assert [each["at"] for each in told["series"]] == sorted(expected)
    for each in told["series"]:
        assert {d: n for d, n in each["decisions"].items() if n} == expected[each["at"]]
    assert (told["end"] - told["start"]) / step <= BINS_MAX
    for kind, (counted, earlier) in tops(now, before).items():
        shown = told["top"][kind]
        assert [each["count"] for each in shown] == sorted(counted.values(), reverse=True)[:TOP_MAX]
        for each in shown:
            assert each["count"] == counted[each["value"]]
            assert each["before"] == (None if earlier is None else earlier[each["value"]])


def test_a_past_moment_knows_nothing_later(api: Served, rows: list[dict[str, Any]]) -> None:
    """As of a moment, later decisions are not counted; what matches nothing is empty."""
    moment = sorted(row["recorded_at"] for row in rows)[len(rows) // 2]
    told = api.get("/v1/summary", "viewer", as_of=str(moment)).json()
    assert told["totals"]["count"] == sum(row["recorded_at"] <= moment for row in rows)
    nothing = api.get("/v1/summary", "viewer", merchant="no such shop").json()
    assert (nothing["totals"]["count"], nothing["series"], nothing["top"]["rule"]) == (0, [], [])
    assert api.get("/v1/summary", "viewer", start="2026-02-01", end="2026-01-01").status_code == 400
