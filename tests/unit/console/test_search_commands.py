"""`sentinel decisions`, `alerts`, `sql` and `export` as their users type them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.ipc
import pytest

from console import wiring
from console.commands import alerts as alerts_command
from console.commands.export import DEFAULT
from core.codec import decode_alert, encode
from core.events import START, CaseResolved, Position
from core.log.base import Batch, Entry
from core.log.memory import MemoryLog
from core.settings import Settings
from core.times import parse_iso
from projections.catalogue import ALL
from projections.engine.states import open_states
from projections.views.alerts import AlertFilter, AlertRow, alerts_answer, just_raised
from tests.builders import baseline_log
from tests.builders.command_line import Ran, run_command
from tests.builders.logs import entries
from tests.builders.tokened import Tokened

NOW = parse_iso("2026-03-01")


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """A month of payments, decided."""
    found = MemoryLog()
    baseline_log.fill(found, transactions=1500, accounts=30)
    return found


@pytest.fixture
def run(log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Runs a command on the log, or on another one."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object, on: MemoryLog = log) -> Ran:
        monkeypatch.setattr(wiring, "open_log", lambda settings: on)
        return run_command(monkeypatch, capsys, *arguments)

    return command


def test_decisions_are_found_by_what_people_ask_for(run: Any) -> None:
    """Account, time, amount and alerts, with options in any order; the newest first."""
    some = run("decisions", "--limit", 1000, "--json").json["decisions"]
    assert len(some) == 1000 and [row["at"] for row in some] == sorted((row["at"] for row in some), reverse=True)
    account, amount = some[0]["account_id"], 50.0
    found = run("decisions", "--json", "--min-amount", amount, "--account", account, "--from", "2026-01-12").json
    assert found["decisions"]
    for row in found["decisions"]:
        assert (row["account_id"], row["amount_base"] >= amount) == (account, True)
        assert row["at"] >= parse_iso("2026-01-12")
    alerted = run("decisions", "--alerts-only", "--to", "2026-01-20", "--limit", 5, "--json").json["decisions"]
    assert len(alerted) == 5 and all(row["severity"] for row in alerted)
    mine = run("decisions", "--account", account, "--json").json
    again = run("decisions", "--as-of", mine["as_of"], "--account", account, "--json").json
    assert again["decisions"] == mine["decisions"]


def test_decisions_fit_the_terminal_and_a_spreadsheet(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is as wide as the terminal at most; CSV has the same rows as JSON."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("console.tables.WIDTH_PIPED", 80)
    shown = run("decisions", "--limit", 7)
    assert shown.code == 0 and max(map(len, shown.out.splitlines()[:-1])) <= 80
    rows = run("decisions", "--limit", 7, "--json").json["decisions"]
    read = list(csv.DictReader(run("decisions", "--limit", 7, "--csv").out.splitlines()))
    assert [row["transaction_id"] for row in read] == [row["transaction_id"] for row in rows]
    assert [float(row["amount"]) for row in read] == [row["amount"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["decisions", "--from", "2026-02-01", "--to", "2026-01-01"], "--from 2026-02-01 must be before"),
        (["decisions", "--min-amount", "5", "--max-amount", "4"], "--min-amount 5 must not be above"),
        (["decisions", "--decision", "maybe"], "--decision must be one of approve, review, decline"),
        (["decisions", "--json", "--csv"], "--json and --csv exclude each other"),
        (["decisions", "--as-of", "never"], "--as-of 'never' is not a time"),
        (["alerts", "old"], "the status must be one of open, closed, all, not 'old'"),
        (["alerts", "--follow", "--csv"], "--follow can't be combined with"),
        (["alerts", "--from", "soon"], "--from 'soon' is not a valid time"),
    ],
)
def test_misuse_is_one_line(run: Any, arguments: list[str], said: str) -> None:
    """What can't be asked is said in a line, with exit code 2."""
    ran = run(*arguments)
    assert ran.code == 2 and ran.err.count("\n") == 1 and said in ran.err


def test_nothing_found_is_exit_code_1(run: Any) -> None:
    """A script can tell that no payment and no alert matched."""
    assert run("decisions", "--account", "nobody", "--json").code == 1
    assert run("alerts", "all", "--account", "nobody", "--json").code == 1


def test_a_log_with_tokens_is_asked_by_raw_identifiers(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the vault, an account is found by its name, and shown by its token alone."""
    tokened = Tokened(tmp_path)
    monkeypatch.setattr(
        wiring, "settings", lambda *a, **k: Settings(tokenise=True, vault=str(tmp_path / "vault" / "keys"))
    )
    ran = run("decisions", "--account", "person-7", "--json", on=tokened.log)
    assert ran.code == 0 and len(ran.json["decisions"]) == 2
    assert {row["account_id"][:5] for row in ran.json["decisions"]} == {"acct_"} and "person" not in ran.out


def test_alerts_are_open_until_their_case_is_resolved(run: Any, log: MemoryLog) -> None:
    """Every logged alert is listed once; a resolved case closes its alerts."""
    closed_log = log.clone()
    alert = decode_alert(entries(log, 0, "alerts")[0].payload)
    head = closed_log.head(0)
    told = Position(head.feedback.generation, head.feedback.offset + 1)
    act = {"account_id": alert.account_id, "case_id": alert.alert_id, "occurred_at": NOW, "actor": "ann"}
    event = CaseResolved(**act, verdict="fraud", recorded_at=NOW)
    batch = Batch(head.control, NOW, head.transactions, told, feedback=[Entry(told, encode(event))])
    closed_log.append(0, batch, head)
    logged = {decode_alert(e.payload).alert_id for p in range(3) for e in entries(log, p, "alerts")}
    found = {
        status: {
            row["alert_id"] for row in run("alerts", status, "--limit", 10_000, "--json", on=closed_log).json["alerts"]
        }
        for status in ("open", "closed", "all")
    }
    assert found["all"] == logged and found["open"] | found["closed"] == logged
    assert alert.alert_id in found["closed"] and not found["open"] & found["closed"]


def test_alerts_are_found_by_score_rule_amount_and_time(run: Any) -> None:
    """Each condition leaves out what does not meet it, and only that."""
    first, last = parse_iso("2026-01-12"), parse_iso("2026-01-20")
    everything = run("alerts", "all", "--limit", 10_000, "--json").json["alerts"]
    conditions: list[tuple[list[Any], Any]] = [
        (["--min-score", 0.9], lambda row: row["fraud_score"] >= 0.9),
        (["--rule", "RECENT_FRAUD"], lambda row: "RECENT_FRAUD" in row["rules"]),
        (["--min-amount", 100, "--max-amount", 400], lambda row: 100 <= row["amount_base"] <= 400),
        (
            ["--from", "2026-01-12", "--to", "2026-01-20"],
            lambda row: first <= row["recorded_at"] < last,
        ),
        (["--severity", "high"], lambda row: row["severity"] == "high"),
        (["--account", everything[0]["account_id"]], lambda row: row["account_id"] == everything[0]["account_id"]),
    ]
    for options, holds in conditions:
        found = run("alerts", "all", "--limit", 10_000, "--json", *options).json["alerts"]
        assert found == list(filter(holds, everything)) and 0 < len(found) < len(everything), options


def test_new_alerts_are_told_as_they_are_raised(log: MemoryLog, capsys: pytest.CaptureFixture[str]) -> None:
    """From any position on: each alert that matches is one line, once, as the answer about now has it."""
    after = {p: log.head(p).transactions for p in range(3)}
    after[1] = START
    raised = [just_raised(log, 1, entry) for entry in entries(log, 1, "alerts")]
    wanted = AlertFilter(severity=raised[0].severity)
    alerts_command.tell_new(log, after, wanted, True)
    alerts_command.tell_new(log, after, wanted, False)
    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    chosen = [row for row in raised if row.severity == raised[0].severity]
    assert msgspec.convert(told, list[AlertRow]) == chosen
    assert 1 < len(told) < len(raised)
    states = open_states(log, ALL, now_ms=NOW)
    listed = {row.alert_id: row for row in alerts_answer(states, AlertFilter(), 10_000).alerts}
    for row in raised:
        known = listed[row.alert_id]
        fields = {"case_id": "", "stage": "open", "outcome": None, "due_at": 0}
        assert msgspec.structs.replace(known, **fields) == row


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)])
@pytest.mark.parametrize(
    "value", ["'infinity'::timestamp", "date '20000-01-01'", "{'t': '-infinity'::date}", "['infinity'::timestamptz]"]
)
def test_sql_says_what_to_do_with_times_beyond_the_years_of_python(value: str, form: tuple[str, ...], run: Any) -> None:
    """One line, and what it says helps."""
    refused = run("sql", f"select 1 as one, {value} as t", *form)
    assert refused.code == 2 and refused.err.startswith("sentinel: column 't' can't be printed: ")
    assert refused.err.endswith("cast(… as varchar)\n") and refused.err.count("\n") == 1
    assert run("sql", f"select cast({value} as varchar) as t", *form).code == 0


def test_sql_prints_each_column_of_a_name(run: Any) -> None:
    """In every form, beside its own name; times in nanoseconds too."""
    ask = "select 1 as x, 2 as x, '2026-01-01 00:00:00.000000001'::timestamp_ns as y"
    row = {"x": 1, "x_1": 2, "y": "2026-01-01 00:00:00.000000001"}
    assert run("sql", ask, "--json").json == [row]
    assert list(csv.DictReader(run("sql", ask, "--csv").out.splitlines())) == [
        {name: str(value) for name, value in row.items()}
    ]
    assert run("sql", ask).out.split()[:5] == ["x", "x_1", "y", "1", "2"]


def test_sql_is_answered_as_table_json_and_csv(run: Any) -> None:
    """One SELECT; the table is cut off at --limit, JSON and CSV hold all rows."""
    ask = "select account_id, amount, received_at, rules, severity from decisions order by received_at limit 30"
    rows = run("sql", ask, "--json").json
    assert len(rows) == 30 and set(rows[0]) == {"account_id", "amount", "received_at", "rules", "severity"}
    read = list(csv.DictReader(run("sql", "--csv", ask).out.splitlines()))
    assert [(row["account_id"], row["received_at"]) for row in read] == [
        (r["account_id"], r["received_at"]) for r in rows
    ]
    assert [msgspec.json.decode(row["rules"]) for row in read] == [row["rules"] for row in rows]
    shown = run("sql", ask, "--limit", 5)
    assert len(shown.out.splitlines()) == 6 and "the first 5 rows" in shown.err
    assert run("sql", "select * from rejects", "--json").json == []
    refused = run("sql", "drop table decisions")
    assert refused.told == (2, "sentinel: give one SELECT: the log is only read here\n")


def test_an_export_is_one_file_or_a_folder_of_them(run: Any, tmp_path: Path) -> None:
    """The name says the format; a folder gets all that the log holds, once."""
    said = run("export", "all", "--json").json
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(f"{name}.parquet" for name in DEFAULT)
    rows = {each["table"]: each["rows"] for each in said["files"]}
    assert rows["decisions"] == 1500 and rows["control"] > 5
    part = run(
        "export", "part.arrow", "--from", "2026-01-10", "--to", "2026-01-12", "--as-of", said["as_of"], "--json"
    ).json
    assert 0 < part["files"][0]["rows"] < 1500 and part["files"][0]["table"] == "decisions"
    assert pa.ipc.open_file(tmp_path / "part.arrow").read_all().num_rows == part["files"][0]["rows"]
    assert "rows" in run("export", "again", "--stream", "seals", "--stream", "rejects").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.parquet", "--stream", "seals", "--stream", "alerts"], "is one file, for one table"),
        (["x.xlsx"], "a file's name ends in .parquet or .arrow"),
        (["x.parquet", "--stream", "payments"], "there is no table 'payments'"),
        (["x", "--format", "orc"], "--format must be one of parquet, arrow, not 'orc'"),
        (["file/below"], "file/below: Not a directory"),
    ],
)
def test_an_export_that_is_not_possible_is_one_line(run: Any, tmp_path: Path, arguments: list[str], said: str) -> None:
    """And leaves nothing behind."""
    (tmp_path / "file").write_text("x")
    ran = run("export", *arguments)
    assert ran.code == 2 and ran.err.count("\n") == 1 and said in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
