"""`sentinel program backtest` as its users type it: figures that a recount confirms, and errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console import backtest_page, wiring
from core.codec import decode_score, decode_transaction
from core.log.memory import MemoryLog
from projections.labelling.reader import LabelReader
from tests.builders.baseline_log import PARTITIONS, fill
from tests.builders.command_line import run_command
from tests.builders.logs import entries

Run = Callable[..., tuple[int, str]]
BIG = """
[program]
name = "big"
version = "1.0.0"
uses = ["standard@1"]

[limits]
alerts_per_day = 20
review_cost = 4
review_minutes = 6
chargeback_fee = 25

[[rules]]
code = "BIG"
when = "amount >= 120"
effect = "review"
"""
NEW = BIG.replace("[[rules]]", "[features]\nold_30d = \"count(account, '30d', amount > 10)\"\n\n[[rules]]").replace(
    "amount >= 120", "old_30d >= 3 && amount >= 120"
)


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    found = MemoryLog()
    fill(found, transactions=1500, accounts=30)
    return found


@pytest.fixture
def run(log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a backtest in a folder with two programs; (exit code, what it said)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)
    (tmp_path / "big.toml").write_text(BIG, encoding="utf-8")
    (tmp_path / "new.toml").write_text(NEW, encoding="utf-8")

    def run(*arguments: str) -> tuple[int, str]:
        return run_command(monkeypatch, capsys, "program", "backtest", *arguments).told

    return run


def asked(run: Run, *arguments: str) -> Any:
    code, out = run(*arguments, "--json")
    assert code == 0, out
    return json.loads(out.splitlines()[-1])


def test_figures_are_a_recount_of_the_log(run: Run, log: MemoryLog) -> None:
    """Alerts, frauds among them, value, money and hours of a rule on the amount follow from the logged decisions."""
    found = asked(run, "big.toml")
    labels = LabelReader(log, range(PARTITIONS)).view()
    before = after = frauds = hits = 0
    value = 0.0
    for p in range(PARTITIONS):
        for t, s in zip(entries(log, p, "transactions"), entries(log, p, "scores"), strict=True):
            payment, score = decode_transaction(t.payload), decode_score(s.payload)
            alerted = score.decision != "approve" or payment.amount >= 120  # the log allows nobody
            hits += payment.amount >= 120
            before += score.decision != "approve"
            after += alerted
            if alerted and labels.label(payment.account_id, payment.transaction_id) == "fraud":
                frauds += 1
                value += payment.amount
    assert found["way"] == "stored" and found["why"] == ""
    assert (found["before"]["alerts"], found["after"]["alerts"]) == (before, after) and after > before > 0
    assert found["after"]["frauds"] == frauds > 0
    assert found["after"]["value_detected"] == pytest.approx(value)
    assert found["after"]["net"] == pytest.approx(value + 25 * frauds - 4 * after)
    assert found["after"]["hours"] == pytest.approx(after / 10)
    assert found["after"]["precision"] == pytest.approx(frauds / after)
    rule = next(each for each in found["rules"] if each["code"] == "BIG")
    assert rule["after"] == sum(rule["days"].values()) == hits and rule["before"] == 0
    assert sum(day["alerts_after"] for day in found["days"]) == after
    changed = found["stricter"][0]
    payload = log.get(int(changed["position"][1:3]), "transactions", _position(changed["position"]))
    assert payload is not None and decode_transaction(payload).transaction_id == changed["transaction_id"]
    assert (changed["was"], changed["rules_now"][-1]) == ("approve", "BIG")


def _position(text: str) -> Any:
    from core.events import Position

    return Position.parse(text.partition(":")[2])


def test_text_tells_what_people_ask(run: Run, tmp_path: Path) -> None:
    """The measures, the matrix, the rule's days and the changes are there, on the page too."""
    code, out = run("big.toml", "--rule", "BIG", "--html", "report.html")
    assert code == 0
    for part in (
        "alerts a day",
        "value detection rate",
        "analyst hours",
        "net of [limits]",
        "budget of 20",
        "BIG would",
    ):
        assert part in out, part
    assert "AMOUNT_HIGH" not in out.split("rule ")[1].split("BIG would")[0]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "alerts a day" in page and "When it would have hit" in page


def test_the_page_links_payments_and_escapes_what_others_chose(run: Run, tmp_path: Path) -> None:
    """Each change leads to its payment by an address that is given; names become no markup and no other address."""
    found = asked(run, "big.toml", "--html", "report.html", "--link", "https://here.example/audit/{transaction_id}")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('<a href="https://here.example/audit/') == len(found["stricter"]) + len(found["milder"]) > 0
    assert "<script" not in page and 'src="' not in page
    changed = backtest_page.Changed("p00:1-2", '"/<b>', "a&b", 0, 1.0, "fraud", "approve", "review", [], ["X"])
    assert (
        backtest_page.address("https://x/{transaction_id}?a={account_id}", changed) == "https://x/%22%2F%3Cb%3E?a=a%26b"
    )


def test_a_new_feature_is_computed_and_the_report_says_why(run: Run) -> None:
    """What no score stores is computed from the log's columns, also in a part of the log's time."""
    found = asked(run, "new.toml", "--jobs", "1")
    assert found["way"] == "computed" and "old_30d" in found["why"]
    whole = asked(run, "big.toml")
    assert found["decisions"] == whole["decisions"]
    big, new = (next(r for r in each["rules"] if r["code"] == "BIG")["after"] for each in (whole, found))
    assert 0 < new < big


def test_a_sample_estimates_the_whole(run: Run) -> None:
    """A sample has fewer decisions, and estimates with intervals; a sample of all accounts gives the figures."""
    whole, half = asked(run, "big.toml"), asked(run, "big.toml", "--sample", "50%")
    assert 0 < half["decisions"] < whole["decisions"] and half["budget"] is None and whole["sample"] is None
    value, low, high = half["sample"]["estimates"]["alerts_after"]
    assert low < value < high and half["after"]["alerts"] == pytest.approx(value / 2)
    everybody = asked(run, "new.toml", "--sample", "1")["sample"]["estimates"]
    assert everybody["alerts_after"][0] == asked(run, "new.toml")["after"]["alerts"]
    assert "intervals at 95 %" in run("big.toml", "--sample", "0.5")[1]


def test_verdicts_of_a_past_time_can_be_asked_for(run: Run) -> None:
    """As of a time before every verdict nothing is labelled, and precision is nought."""
    found = asked(run, "big.toml", "--as-of", "2001-01-01")
    assert found["labelled"] == found["frauds"] == 0 < asked(run, "big.toml")["frauds"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("absent.toml",), "absent.toml"),
        (("big.toml", "--rule", "BOG"), "has no such rule"),
        (("big.toml", "--from", "2090-01-01"), "no decision is in this range"),
        (("big.toml", "--from", "yesterday"), "--from"),
        (("big.toml", "--html", "no/where.html"), "does not exist"),
        (("big.toml", "--sample", "0"), "--sample 0: give a share"),
        (("big.toml", "--sample", "many"), "--sample many: give a share"),
        (("big.toml", "--html", "x.html", "--link", "https://here.example/"), "name the payment by"),
    ],
)
def test_mistakes_are_named(run: Run, arguments: tuple[str, ...], said: str) -> None:
    """A wrong file, rule, range or path ends with exit code 2 and a sentence that says what is wrong."""
    code, out = run(*arguments)
    assert code == 2 and said in out and "Traceback" not in out, out
