"""Searches for decisions against a plain look at every entry, in the archive, in the hot log and across the seam."""

from __future__ import annotations

import random
from typing import Any

import pytest

from console.api.answers import DecisionRow, row_of
from core.codec import decode_score, decode_transaction
from core.errors import BadInput
from core.log.base import EventLog
from core.log.memory import MemoryLog
from projections.tables.decisions import DECISIONS
from projections.tables.query import IDENTIFIERS, Query, check_query
from projections.tables.searching import search
from tests.builders import baseline_log
from tests.builders.logs import entries

NAMES = ["received_at" if name == "at" else name for name in DecisionRow.__struct_fields__]


@pytest.fixture(scope="module")
def everything(log: MemoryLog) -> list[DecisionRow]:
    """Every decision as the API gives it, newest first."""
    rows = []
    for p in range(baseline_log.PARTITIONS):
        for t, s in zip(entries(log, p, "transactions"), entries(log, p, "scores"), strict=True):
            rows.append((p, t.id, row_of(f"p{p:02d}:{t.id}", decode_transaction(t.payload), decode_score(s.payload))))
    return [row for p, at, row in sorted(rows, key=lambda each: (each[2].at, *each[:2]), reverse=True)]


def as_rows(frame: Any) -> list[DecisionRow]:
    """The frame as the API's rows."""
    import polars.selectors as of

    plain = frame.rename({"received_at": "at"}).with_columns(of.datetime().dt.epoch("ms")).to_dicts()
    return [
        DecisionRow(**{**row, "rules": tuple(row["rules"]), "shadow_rules": tuple(row["shadow_rules"])})
        for row in plain
    ]


def matches(row: DecisionRow, query: Query) -> bool:
    """The conditions, one by one."""
    return (
        all(getattr(query, name) in (None, getattr(row, field)) for name, field in IDENTIFIERS.items())
        and query.decision in (None, row.decision)
        and query.severity in (None, row.severity)
        and (query.rule is None or query.rule in row.rules)
        and (not query.alerts or row.severity is not None)
        and (query.start is None or row.at >= query.start)
        and (query.end is None or row.at < query.end)
        and (query.low is None or row.amount_base >= query.low)
        and (query.high is None or row.amount_base <= query.high)
    )


@pytest.mark.parametrize("form", ["hot", "half", "archive"])
def test_all_columns_are_what_the_entries_hold(
    form: str, held: dict[str, EventLog], everything: list[DecisionRow]
) -> None:
    """Without conditions and with room for all, a search is the whole log, newest first."""
    found = search(held[form], Query(), 10_000, NAMES)
    assert as_rows(found.rows) == everything


@pytest.mark.parametrize("form", ["hot", "half", "archive"])
def test_what_is_found_is_what_matches(form: str, held: dict[str, EventLog], everything: list[DecisionRow]) -> None:
    """Any conditions that some payment of the log meets, with any limit."""
    rng = random.Random(7)
    found_some = 0
    for _ in range(80):
        of, other = rng.choices(everything, k=2)
        low, high = sorted([of.amount_base, other.amount_base])
        start, end = sorted([of.at, other.at + 1])
        choices: dict[str, list[Any]] = {
            **{name: [None, None, getattr(of, field)] for name, field in IDENTIFIERS.items()},
            **{"decision": [None, of.decision], "severity": [None, of.severity], "rule": [None, *of.rules]},
            **{"start": [None, start], "end": [None, end], "low": [None, low], "high": [None, high]},
        }
        query = Query(**{name: rng.choice(each) for name, each in choices.items()}, alerts=rng.random() < 0.3)
        limit = rng.choice([1, 3, 50])
        wanted = [row for row in everything if matches(row, query)][:limit]
        assert as_rows(search(held[form], query, limit, NAMES).rows) == wanted, query
        found_some += len(wanted) > 1
    assert found_some > 5


def test_as_of_a_moment_nothing_later_is_found(held: dict[str, EventLog], everything: list[DecisionRow]) -> None:
    """As of a position, exactly what was decided by then; the answer's own cut gives it again."""
    moment = next(row.place for row in everything[500:] if row.place.startswith("p01"))
    for log in held.values():
        found = search(log, Query(), 10_000, NAMES, moment)
        assert 0 < found.rows.height < len(everything) and moment in found.rows["place"].to_list()
        assert search(log, Query(), 10_000, NAMES, found.as_of).rows.equals(found.rows)


def test_features_are_those_of_the_scores(held: dict[str, EventLog]) -> None:
    """A row's features are what its score stores, bit for bit, in every form of the log."""
    hot, half, archive = (
        search(held[form], Query(), 10_000, ["place", "features"]).rows for form in ("hot", "half", "archive")
    )
    assert hot["features"].list.len().min() > 50
    assert hot.equals(half) and hot.equals(archive)


def test_every_column_is_the_same_in_every_form(held: dict[str, EventLog]) -> None:
    """All columns of the table, those that are made from others too."""
    hot, half, archive = (search(each, Query(), 10_000, list(DECISIONS)).rows for each in held.values())
    assert hot.equals(half) and hot.equals(archive)


def test_conditions_that_nothing_can_meet_are_refused() -> None:
    """A period that ends before it begins, and amounts the wrong way round."""
    for query in (Query(start=2, end=2), Query(low=2.0, high=1.0)):
        with pytest.raises(BadInput):
            check_query(query)
