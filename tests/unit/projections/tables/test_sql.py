"""SQL over the log: right answers from the columns that are needed, and nothing but the log within reach."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core.codec import decode_score, decode_transaction
from core.errors import BadInput, Incomplete
from core.log.base import EventLog
from core.log.memory import MemoryLog
from projections.tables import decisions
from projections.tables.sql import query
from tests.builders.baseline_log import PARTITIONS
from tests.builders.halves import archived
from tests.builders.logs import entries


def asked(log: EventLog, statement: str, **options: Any) -> list[dict[str, Any]]:
    """The rows of an answer."""
    return [row for batch in query(log, statement, **options).batches for row in batch.to_pylist()]


@pytest.mark.parametrize("form", ["hot", "half", "archive"])
def test_counts_and_sums_are_those_of_the_entries(form: str, held: dict[str, EventLog], log: MemoryLog) -> None:
    """Grouped, filtered by text, number and time, and joined by place."""
    on = held[form]
    logged = [
        (decode_transaction(t.payload), decode_score(s.payload))
        for p in range(PARTITIONS)
        for t, s in zip(entries(log, p, "transactions"), entries(log, p, "scores"), strict=True)
    ]
    rows = asked(on, "select decision, count(*) as n from decisions group by 1")
    assert {row["decision"]: row["n"] for row in rows} == Counter(s.decision for _, s in logged)
    account, moment = logged[700][0].account_id, logged[700][0].occurred_at
    joined = asked(
        on,
        f"select t.transaction_id, s.margin from transactions t join scores s using (place)"
        f" where t.account_id = '{account}' and epoch_ms(t.received_at) <= {moment} and s.probability < 0.5",
    )
    wanted = {
        t.transaction_id: s.margin
        for t, s in logged
        if t.account_id == account and t.occurred_at <= moment and s.probability < 0.5
    }
    assert {row["transaction_id"]: row["margin"] for row in joined} == wanted and wanted
    hits = asked(on, "select r as rule, count(*) as n from (select unnest(rules) as r from scores) group by 1")
    assert {row["rule"]: row["n"] for row in hits} == Counter(code for _, s in logged for code in s.rules)
    dear = asked(on, "select count(*) as n from decisions where amount > 100 and country in ('DE', 'FR')")
    assert dear[0]["n"] == sum(t.amount > 100 and t.country in ("DE", "FR") for t, _ in logged) > 5


def test_other_streams_can_be_joined(log: MemoryLog) -> None:
    """Alerts and their scores have one place; a field without a column is in the payload."""
    rows = asked(
        log,
        "select a.severity as a, s.severity as s, a.payload->>'$.alert_id' as id"
        " from alerts a join scores s using (place)",
    )
    assert len(rows) == sum(len(entries(log, p, "alerts")) for p in range(PARTITIONS)) > 50
    assert all(row["a"] == row["s"] and row["id"] for row in rows)


def test_names_that_a_statement_gives_twice_are_numbered(log: MemoryLog) -> None:
    """No value is lost or shifted where columns share a name, nor is a name taken that another column has."""
    assert asked(log, "select 1 as x, 2 as x, 3 as x_1, 4 as x, 5 as y") == [
        {"x": 1, "x_2": 2, "x_1": 3, "x_3": 4, "y": 5}
    ]
    found = query(log, "select * from alerts join scores using (place) where alerts.severity = 'high'")
    assert len(set(found.schema.names)) == len(found.schema.names) and "severity_1" in found.schema.names
    rows = [row for batch in found.batches for row in batch.to_pylist()]
    assert rows and all(row["severity"] == row["severity_1"] == "high" and row["received_at"] for row in rows)


def test_pivot_with_its_values_is_a_select(log: MemoryLog) -> None:
    """As the message for one without them says."""
    rows = asked(log, "with s as (select 1 as one, partition from seals) pivot s on partition in (0, 1) using count(*)")
    assert rows == [{"one": 1, **{str(p): len(entries(log, p, "seals")) for p in (0, 1)}}]


def test_as_of_a_moment_only_what_was_decided_is_seen(log: MemoryLog) -> None:
    """The answer's cut gives it again."""
    found = query(
        log, "select count(*) as n, max(position) as last from decisions where partition = 1", as_of="p01:1-200"
    )
    rows = [row for batch in found.batches for row in batch.to_pylist()]
    assert (
        rows[0]["last"] == 200
        and asked(log, "select count(*) as n from decisions where partition = 1", as_of=found.as_of)[0]["n"]
        == rows[0]["n"]
    )


def test_only_the_named_columns_are_read(held: dict[str, EventLog], monkeypatch: pytest.MonkeyPatch) -> None:
    """A count reads one small column, not the payments."""
    read: list[set[str]] = []
    before = decisions.columns_of

    def counted(part: Any, partition: int, names: Any, rows: Any = None) -> Any:
        read.append(set(names))
        return before(part, partition, names, rows)

    monkeypatch.setattr(decisions, "columns_of", counted)
    asked(held["archive"], "select sum(amount) from decisions where merchant_id = 'm00001' and not degraded is null")
    assert read and all(names == {"amount", "merchant_id", "degraded"} for names in read)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("select * from '/etc/passwd'", "does not exist"),
        ("select * from read_csv('/etc/passwd')", "disabled by configuration"),
        ("select * from read_text('HERE/secret')", "disabled by configuration"),
        ("select * from glob('/etc/*')", "disabled by configuration"),
        ("select * from read_parquet('https://example.com/x.parquet')", "disabled by configuration|httpfs"),
        ("select * from log", "does not exist"),
        ("copy decisions to 'HERE/out.csv'", "give one SELECT"),
        ("attach 'HERE/x.db'", "give one SELECT"),
        ("install httpfs", "give one SELECT"),
        ("set memory_limit = '100GB'", "give one SELECT"),
        ("create table x as select 1", "give one SELECT"),
        ("select 1; copy decisions to 'HERE/out.csv'", "give one SELECT"),
        ("", "give one SELECT"),
        ("pivot seals on partition using count(*)", "give PIVOT its values"),
        ("selec 1", "syntax error"),
        ("select nosuch from decisions", "nosuch"),
        ("select 1/0 as x, error('a' || chr(27)) ", "a"),
    ],
)
def test_nothing_but_the_log_is_within_reach(statement: str, said: str, log: MemoryLog, tmp_path: Path) -> None:
    """No file, no network, no setting, nothing that writes: one line says so."""
    (tmp_path / "secret").write_text("x")
    with pytest.raises(BadInput, match=said) as refused:
        asked(log, statement.replace("HERE", str(tmp_path)))
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_memory_is_limited(log: MemoryLog) -> None:
    """A statement that needs more fails, and is told so; nothing is spilled."""
    with pytest.raises(BadInput, match="Out of Memory"):
        asked(log, "select list(a.features) from decisions a, decisions b", memory_mb=64)


def test_what_reading_the_log_raises_is_told_as_it_is(log: MemoryLog, tmp_path: Path) -> None:
    """A log that was trimmed, without its archive, is incomplete: exit code 3, not a wrong statement."""
    broken = archived(log, tmp_path, 0.5).hot
    for statement in ("select count(*) from decisions", "select * from feedback"):
        with pytest.raises(Incomplete, match="are missing"):
            asked(broken, statement)
