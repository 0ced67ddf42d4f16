"""`sentinel feedback` without servers: files good and bad, what is sent, what is rejected, and never a traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import cli
from console.commands import feedback as command
from core.errors import Unavailable
from core.validation import REASONS, decode_feedback
from ingest.producer import PublishReport
from ingest.submission import Rejected, Tally, submit
from projections.audit.lookup import Payment
from sources.feedback_files import COLUMNS, Row
from sources.record import Record
from tests.builders.events import T0, fuzz

NOW = T0 + 86_400_000
HEADER = "transaction_id,account_id,verdict,source,occurred_at,confidence\n"
GOOD = "t1,a1,fraud,chargeback,2018-04-18T00:00Z,0.5\n"


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    sent: list[Record]


Sentinel = Callable[..., Ended]


@pytest.fixture
def sentinel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Sentinel:
    """Runs `sentinel feedback` in a folder of its own; what would go to Kafka is kept. A traceback fails the test."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ended:
        sent: list[Record] = []

        def publish(chunks: Any, *_: Any, **__: Any) -> PublishReport:
            for chunk in chunks:
                sent.extend(chunk)
            return PublishReport({"transactions": 0, "feedback": len(sent)}, 0, 0.1)

        monkeypatch.setattr(command, "publish", publish)
        monkeypatch.setattr(sys, "argv", ["sentinel", "feedback", *arguments])
        with pytest.raises(SystemExit) as done:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ended(int(done.value.code or 0), captured.out, captured.err, sent)

    return run


def kept(path: str) -> list[dict[str, Any]]:
    """The rejects file."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_one_verdict_is_sent_as_the_worker_takes_it(sentinel: Sentinel) -> None:
    """The flags become one message, keyed by the account, that passes the worker's edge."""
    ended = sentinel(
        "t1",
        "--account",
        "a1",
        "--verdict",
        "fraud",
        "--source",
        "analyst",
        "--actor",
        "ann",
        "--amount",
        "12.5",
        "--no-lookup",
    )
    assert ended.code == 0 and "1 delivered" in ended.out
    (record,) = ended.sent
    event = decode_feedback(record.value, record.key.encode(), 0)
    assert (event.account_id, event.actor, record.topic) == ("a1", "ann", "feedback")
    assert json.loads(record.value)["amount"] == 12.5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give exactly one of"),
        (("t1", "--file", "x.csv"), "give exactly one of"),
        (
            ("t1", "--no-lookup", "--account", "a1", "--source", "analyst"),
            "--verdict is required: fraud, legitimate, unsure",
        ),
        (
            ("t1", "--no-lookup", "--account", "a1", "--source", "me", "--verdict", "fraud"),
            "--source must be one of analyst",
        ),
        (("t1", "--no-lookup", "--source", "analyst", "--verdict", "fraud"), "no_account"),
        (
            ("t1", "--no-lookup", "--account", "a", "--source", "analyst", "--verdict", "fraud", "--confidence", "2"),
            "bad_confidence",
        ),
        (
            ("t", "--no-lookup", "--account", "a", "--source", "analyst", "--verdict", "fraud", "--amount", "nan"),
            "wrong_type",
        ),
        (
            ("t", "--no-lookup", "--account", "a", "--source", "analyst", "--verdict", "fraud", "--occurred-at", "now"),
            "bad_time",
        ),
        (("--file", "missing.csv"), "can't be read"),
        (("--file", "verdicts.xls"), "must end in .csv"),
        (("--event", "missing.jsonl"), "can't read missing.jsonl"),
        (("--event", "missing.jsonl", "--verdict", "fraud"), "remove --verdict"),
        (("t1", "--rejects", "x"), "--rejects requires"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_sent(sentinel: Sentinel, arguments: tuple[str, ...], says: str) -> None:
    """Exit code 2, the mistake named on one line of stderr."""
    more = ("--no-lookup",) if "--file" in arguments and "t1" not in arguments else ()
    ended = sentinel(*arguments, *more)
    assert ended.code == 2 and says in ended.err and ended.err.count("\n") == 1
    assert not ended.sent


def test_bad_rows_are_kept_with_their_lines_and_good_ones_sent(sentinel: Sentinel) -> None:
    """Every kind of bad row gets its line number and reason in the rejects file; the good ones go out, in order."""
    Path("v.csv").write_bytes(
        (
            HEADER
            + GOOD
            + "t2,a1,maybe,chargeback,,\n"
            + "t3,a1,fraud\n"
            + "t4,a1,fraud,chargeback,yesterday,\n"
            + '"t5\nt5",a1,fraud,chargeback,,\n'
            + "t6,,fraud,chargeback,,\n"
            + "t7,a1,fraud,chargeback,1999-01-01,\n"
            + ",a1,fraud,chargeback,,\n"
            + "t8,a1,fraud,analyst,,7\n"
            + "\n"
            + f"{'x' * 200},a1,fraud,chargeback,,\n"
        ).encode()
        + b"t\xff,a1,fraud,chargeback,,\n"
        + b't9,"a"1",fraud,chargeback,,\n'
        + b"t10,a2,legitimate,analyst,,\n"
    )
    ended = sentinel("--file", "v.csv", "--no-lookup")
    assert ended.code == 1 and "2 delivered" in ended.out
    assert [json.loads(r.value)["transaction_id"] for r in ended.sent] == ["t1", "t10"]
    found = {row["line"]: row["reason"] for row in kept("v.csv.rejects.jsonl")}
    assert found == {
        3: "wrong_type",
        4: "wrong_cells",
        5: "bad_time",
        6: "bad_id",
        8: "no_account",
        9: "absurd_time",
        10: "missing_field",
        11: "bad_confidence",
        13: "bad_id",
        14: "not_utf8",
        15: "not_csv",
    }
    assert "line 3: wrong_type" in ended.err and "and 1 more" in ended.err


def test_check_sends_nothing(sentinel: Sentinel) -> None:
    """--check reports the same and gives the same exit codes."""
    Path("v.csv").write_text(HEADER + GOOD)
    ended = sentinel("--file", "v.csv", "--no-lookup", "--check", "--json")
    assert (ended.code, ended.sent) == (0, [])
    assert json.loads(ended.out)["accepted"] == 1 and json.loads(ended.out)["sent"] == 0
    Path("v.csv").write_text(HEADER + GOOD + "t2,a1,x,analyst,,\n")
    assert sentinel("--file", "v.csv", "--no-lookup", "--check").code == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("v.csv", b"", "empty"),
        ("v.csv", b"transaction_id,verdict,account\n", "unknown column 'account'"),
        ("v.csv", b"transaction_id,verdict,verdict\n", "appears twice"),
        ("v.csv", b"verdict\nfraud\n", "transaction_id is missing"),
        ("v.csv", b"transaction_id," + b"x" * (1 << 20), "v.csv, line 1: longer than 1,048,576 characters"),
        ("v.jsonl", b'{"transaction_id": "' + b"x" * (1 << 20), "v.jsonl, line 1: longer than 1,048,576 characters"),
        ("v.parquet", b"not parquet", "can't be read"),
    ],
)
def test_a_file_of_another_form_is_refused_whole(sentinel: Sentinel, name: str, content: bytes, says: str) -> None:
    """Exit code 2 and one line: nothing is guessed."""
    Path(name).write_bytes(content)
    ended = sentinel("--file", name, "--no-lookup")
    assert ended.code == 2 and says in ended.err and ended.err.count("\n") == 1


def test_json_lines_and_parquet_say_the_same_as_csv(sentinel: Sentinel) -> None:
    """The three forms of one table give the same messages; defaults fill what rows leave out."""
    Path("v.csv").write_text("transaction_id,account_id,occurred_at,confidence\n7,a1,2018-04-18T00:00Z,0.5\n8,a2,,\n")
    Path("v.jsonl").write_text(
        '{"transaction_id": "7", "account_id": "a1", "occurred_at": 1524009600000, "confidence": 0.5}\n\n'
        '{"transaction_id": "8", "account_id": "a2", "confidence": null}\n'
        '["not an object"]\n{"transaction_id": 7, "account_id": "a"}\n{"transaction_id": "9", "who": 1}\nnot json\n'
    )
    frame = pl.DataFrame(
        {"transaction_id": [7, 8], "account_id": ["a1", "a2"], "confidence": [0.5, None]},
    ).with_columns(pl.Series("occurred_at", ["2018-04-18", None]).str.to_datetime(time_unit="ms", time_zone="UTC"))
    frame.write_parquet("v.parquet")
    values = []
    for name in ("v.csv", "v.jsonl", "v.parquet"):
        ended = sentinel("--file", name, "--no-lookup", "--verdict", "fraud", "--source", "chargeback")
        assert ended.code == (1 if name == "v.jsonl" else 0)
        values.append([{**json.loads(r.value), "occurred_at": 0} for r in ended.sent])
        assert json.loads(ended.sent[0].value)["occurred_at"] == 1_524_009_600_000
    assert values[0] == values[1] == values[2] and len(values[0]) == 2
    assert [(row["line"], row["reason"]) for row in kept("v.jsonl.rejects.jsonl")] == [
        (4, "wrong_type"),
        (5, "wrong_type"),
        (6, "unknown_field"),
        (7, "not_json"),
    ]


def test_events_of_any_kind_are_sent_as_they_are(sentinel: Sentinel) -> None:
    """--event passes blocks and cases on byte for byte, keyed by account, and rejects what the worker would."""
    block = f'{{"type":"account_blocked.v1","account_id":"a1","occurred_at":{T0},"actor":"ann"}}'
    Path("e.jsonl").write_text(f'{block}\n{{"type":"nothing.v1","account_id":"a1"}}\n{{"account_id":5}}\n')
    ended = sentinel("--event", "e.jsonl")
    assert ended.code == 1
    assert [(r.key, r.value.decode()) for r in ended.sent] == [("a1", block)]
    assert [(row["line"], row["reason"]) for row in kept("e.jsonl.rejects.jsonl")] == [
        (2, "unknown_event"),
        (3, "not_an_event"),
    ]


def test_a_log_that_can_not_be_asked_is_said_so(sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a log server the message names the way round it, with exit code 4."""

    def away(_: Any) -> None:
        raise Unavailable("no log at 127.0.0.1:1")

    monkeypatch.setattr(command.wiring, "open_log", away)
    ended = sentinel("t1", "--verdict", "fraud", "--source", "analyst")
    assert ended.code == 4 and "--no-lookup" in ended.err and ended.err.count("\n") == 1


# --- the rows themselves -------------------------------------------------------------------------------------------


def submitted(rows: list[Row], payments: list[Payment] | None = None) -> tuple[list[Record], list[Rejected], Tally]:
    found: dict[str, list[Payment]] = {}
    for payment in payments or ():
        found.setdefault(payment.transaction_id, []).append(payment)
    rejected: list[Rejected] = []
    tally = Tally()
    lookup = None if payments is None else lambda wanted: found
    chunks = list(submit(rows, {}, NOW, lookup, tally, rejected.append))
    return [record for chunk in chunks for record in chunk], rejected, tally


def row(**changes: Any) -> Row:
    values = {"transaction_id": "t1", "verdict": "fraud", "source": "chargeback"} | changes
    return Row(2, {name: value for name, value in values.items() if value is not None})


def test_the_log_fills_in_what_a_row_leaves_out() -> None:
    """Account, amount, merchant, device and time come from the transaction; what the row says stays."""
    payment = Payment("t1", "a7", 42.0, T0, "m3", "d9")
    records, rejected, tally = submitted([row(), row(amount="7", merchant_id="m1")], [payment])
    first, second = (msgspec.json.decode(r.value) for r in records)
    assert not rejected and tally.unknown == 0
    assert first == {
        "type": "feedback.v1",
        "account_id": "a7",
        "transaction_id": "t1",
        "occurred_at": NOW,
        "source": "chargeback",
        "verdict": "fraud",
        "confidence": 1.0,
        "amount": 42.0,
        "merchant_id": "m3",
        "device_id": "d9",
        "transaction_occurred_at": T0,
    }
    assert (second["amount"], second["merchant_id"], second["device_id"]) == (7.0, "m1", "d9")


def test_what_the_log_knows_better_is_refused_or_noted() -> None:
    """No account and several candidates, or a time before the payment: rejected. An account whose transaction is not
    there yet: sent, and counted.
    """
    payments = [Payment("t1", "a1", 1.0, T0), Payment("t1", "a2", 1.0, T0)]
    _, rejected, _ = submitted([row(), row(account_id="a1", occurred_at=str(T0 - 10**7))], payments)
    assert [r.reason for r in rejected] == ["ambiguous_transaction", "impossible_time"]
    records, rejected, tally = submitted([row(account_id="a3"), row(transaction_id="t2")], payments)
    assert (len(records), [r.reason for r in rejected], tally.unknown) == (1, ["no_account"], 1)


cells = st.one_of(
    st.text(max_size=12),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from(["fraud", "analyst", "a1", "2018-04-17", "1e999", "-1", "\x00", "0x10", "９", "t" * 300, "\ud800"]),
    st.lists(st.integers(), max_size=2),
)


@given(st.dictionaries(st.sampled_from([*COLUMNS, "other"]), cells), st.booleans())
@fuzz(max_examples=400)
def test_any_row_is_either_rejected_or_passes_the_workers_edge(values: dict[str, Any], has_good: bool) -> None:
    """Whatever cells hold, there is one message that the worker accepts, or one reason; never an exception."""
    base = {"transaction_id": "t1", "verdict": "fraud", "source": "analyst", "account_id": "a1"} if has_good else {}
    records, rejected, tally = submitted([Row(5, {**base, **values})], [])
    assert len(records) + len(rejected) == tally.rows == 1
    for record in records:
        decode_feedback(record.value, record.key.encode(), NOW)
    for each in rejected:
        own = {"bad_time", "no_account", "impossible_time", "missing_field"}
        assert each.line == 5 and each.reason in {*REASONS, *own} and each.detail
