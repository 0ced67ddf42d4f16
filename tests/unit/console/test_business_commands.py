"""`sentinel list`, `threshold`, `rule`, `block` and `unblock` as their users type them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console import wiring
from console.commands import block as block_command
from core.codec import decode_account_event
from core.errors import Unavailable
from core.events import ListChanged, RatesChanged, RulesChanged, ThresholdsChanged
from core.log.memory import MemoryLog
from core.settings import load
from core.validation import decode_feedback
from ingest import bootstrap
from ingest.producer import PublishReport
from sources.record import Record
from tests.builders.baseline_log import fill
from tests.builders.command_line import run_command
from tests.builders.decisions import append_unchecked

Run = Callable[..., tuple[int, str]]
WHY = ("--reason", "card testing", "--actor", "ann")


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    """A decided log that no test changes."""
    log = MemoryLog()
    fill(log, transactions=800, accounts=20)
    return log


@pytest.fixture
def log(decided: MemoryLog) -> MemoryLog:
    """The decided log; what is appended to it is this test's own."""
    return decided.clone()


@pytest.fixture
def sent() -> list[Record]:
    """What went to Kafka."""
    return []


@pytest.fixture
def run(
    log: MemoryLog,
    sent: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    """Runs a command line on the log; (exit code, what it said)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)

    def publish(chunks: Any, *_: Any, **__: Any) -> PublishReport:
        sent.extend(record for chunk in chunks for record in chunk)
        return PublishReport({"transactions": 0, "feedback": len(sent)}, 0, 0.1)

    monkeypatch.setattr(block_command, "publish", publish)

    def run(*arguments: str) -> tuple[int, str]:
        return run_command(monkeypatch, capsys, *arguments).told

    return run


def asked(run: Run, *arguments: str) -> Any:
    code, out = run(*arguments, "--json")
    assert code == 0, out
    return json.loads(out.splitlines()[-1])


def test_a_list_is_changed_shown_and_told(run: Run, tmp_path: Path) -> None:
    """Values from arguments and a file, in canonical form; who and why; as of an earlier position; every change."""
    (tmp_path / "shops.txt").write_text("\ufeffshop-77\n\n  SHOP-88 \r\n", encoding="utf-8")
    code, out = run("list", "add", "merchant", "block", "SHOP-66 ", "--file", "shops.txt", *WHY)
    assert code == 0 and "3 added: shop-66, shop-77, shop-88" in out
    first = asked(run, "list", "show")["as_of"]
    code, out = run("list", "add", "merchant", "block", "shop-66", *WHY)
    assert code == 0 and "1 unchanged" in out
    assert asked(run, "list", "remove", "merchant", "block", "Shop-77", "--reason", "mistake")["removed"] == ["shop-77"]
    rows = asked(run, "list", "show", "merchant", "block")["members"]
    assert [(row["value"], row["actor"], row["reason"]) for row in rows] == [
        ("shop-66", "ann", "card testing"),
        ("shop-88", "ann", "card testing"),
    ]
    assert len(asked(run, "list", "show", "merchant", "--as-of", first)["members"]) == 3
    told = asked(run, "list", "history", "merchant")["history"]
    assert [(edit["action"], edit["value"]) for edit in told] == [
        ("add", "shop-66"),
        ("add", "shop-77"),
        ("add", "shop-88"),
        ("remove", "shop-77"),
    ]
    code, out = run("list", "show")
    assert code == 0 and "country" in out and "shop-88" in out
    code, out = run("list", "history")
    assert code == 0 and "mistake" in out and "shop-77" in out


def test_thresholds_may_be_expected_losses(run: Run) -> None:
    """Set, shown, told in the history, and ended by a probability."""
    code, out = run("threshold", "set", "--review-loss", "15", *WHY)
    assert code == 0 and "review from an expected loss of 15, decline" in out
    assert asked(run, "threshold", "show")["review_loss"] == 15.0
    assert "review from an expected loss of 15" in run("threshold", "show")[1]
    assert "review loss none → 15" in run("threshold", "history")[1]
    assert "review 0.5, decline" in run("threshold", "set", "--review", "0.5", *WHY)[1]
    code, out = run("threshold", "set", "--review-loss", "15", "--decline-loss", "3", *WHY)
    assert code == 2 and "must not exceed" in out


def test_costs_of_thresholds_are_counted(run: Run, tmp_path: Path) -> None:
    """The table, the JSON with both curves and the plot; what can't be counted is said in one line."""
    code, out = run("threshold", "costs", "--review-cost", "15", "--maturity-days", "0", "--plot", "costs.png")
    assert code == 0 and "cheapest by loss" in out and "in force" in out
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")
    found = asked(run, "threshold", "costs", "--review-cost", "15", "--maturity-days", "0")
    assert [one["by"] for one in found["curves"]] == ["probability", "expected_loss"]
    assert found["probability"]["cost"] >= min(found["curves"][0]["cost"]) and found["frauds"] > 0
    for arguments, said in (
        (("--review-cost", "0"), "must be above 0"),
        (("--review-cost", "15", "--from", "soon"), "--from 'soon' is not a valid time"),
        (("--review-cost", "15", "--from", "2099-01-01"), "no transactions in the window"),
    ):
        code, out = run("threshold", "costs", *arguments)
        assert code == 2 and said in out and out.count("\n") == 1


def test_thresholds_are_set_shown_and_told(run: Run, log: MemoryLog) -> None:
    """The state in force with who and why; the history says from what to what, and what was refused."""
    append_unchecked(log, ThresholdsChanged(occurred_at=9, actor="eve", reason="oops", review=0.9, decline=0.2))
    code, out = run("threshold", "set", "--decline", "0.8", "--reason", "fewer complaints", "--actor", "ann")
    assert code == 0 and "review 0.5, decline 0.8 at c" in out
    assert "unchanged" in run("threshold", "set", "--decline", "0.8", "--reason", "again")[1]
    shown = asked(run, "threshold", "show")
    assert (shown["review"], shown["decline"], shown["set"]["actor"]) == (0.5, 0.8, "ann")
    history = asked(run, "threshold", "history")["history"]
    assert [edit["change"] for edit in history if not edit["refused"]][1:] == [
        "review 0.3 → 0.5, decline 0.7 → 0.9",
        "decline 0.9 → 0.8",
    ]
    assert [edit["actor"] for edit in history if edit["refused"]] == ["eve"]
    for command in ("show", "history"):
        assert run("threshold", command)[0] == 0
    assert "review <= decline" in run("threshold", "history")[1]


def test_rules_are_set_shown_and_told(run: Run, log: MemoryLog) -> None:
    """All rules with their parameters; changes of one leave the others; the history in words."""
    code, out = run("rule", "set", "velocity_10m=6", "amount_high=2500", "--reason", "holidays", "--actor", "ann")
    assert code == 0 and "velocity_10m 6" in out and "UNUSUAL_HOUR" in out
    assert asked(run, "rule", "set", "travel_km", "900", "--reason", "x")["parameters"]["travel_km"] == 900
    assert asked(run, "rule", "enable", "UNUSUAL_HOUR", "--reason", "x")["disabled"] == []
    assert asked(run, "rule", "disable", "NEW_MERCHANT", "--reason", "x")["disabled"] == ["NEW_MERCHANT"]
    assert "travel_km" not in asked(run, "rule", "reset", "travel_km", "--reason", "x")["parameters"]
    assert "unchanged" in run("rule", "disable", "NEW_MERCHANT", "--reason", "x")[1]
    (row,) = asked(run, "rule", "show", "VELOCITY_10M")["rules"]
    assert (row["state"], row["parameters"]) == ("enabled", {"velocity_10m": 6.0})
    append_unchecked(log, RulesChanged(occurred_at=9, actor="eve", disabled=("no such",)))
    history = asked(run, "rule", "history")["history"]
    assert [edit["change"] for edit in history if not edit["refused"]][-5:] == [
        "velocity_10m 4 → 6, amount_high 1000 → 2500",
        "travel_km 1000 → 900",
        "UNUSUAL_HOUR enabled",
        "NEW_MERCHANT disabled",
        "travel_km 900 → 1000 (default)",
    ]
    assert "no such" in next(edit for edit in history if edit["refused"])["refused"]
    code, out = run("rule", "show")
    assert code == 0 and "amount_high 2,500" in out.replace("2500", "2,500") and "disabled" in out
    assert run("rule", "history")[0] == 0


def test_an_account_is_blocked_through_the_feedback_topic(run: Run, sent: list[Record], log: MemoryLog) -> None:
    """One message an account, which passes the worker's edge; accounts that the log does not know are warned of."""
    account = next(iter(msgspec.json.decode(e.payload)["account_id"] for e in log.read(0, "transactions")))
    code, out = run("block", account, "nobody", account, *WHY)
    assert code == 0 and "2 sent to be blocked" in out
    assert out.count("warning:") == 1 and "account nobody has no transaction in the log" in out
    assert [record.key for record in sent] == [account, "nobody"]
    event: Any = decode_feedback(sent[0].value, account.encode(), 0)
    assert (type(event).__name__, event.actor, event.reason) == ("AccountBlocked", "ann", "card testing")
    sent.clear()
    assert asked(run, "unblock", "nobody", *WHY)["not_in_log"] == ["nobody"]
    assert type(decode_account_event(sent[0].value)).__name__ == "AccountUnblocked"


def test_blocked_accounts_are_shown(run: Run, log: MemoryLog) -> None:
    """Who is blocked since when, and every block and unblock, equal to the log's events."""
    names = {
        event["account_id"]
        for partition in range(3)
        for entry in log.read(partition, "feedback")
        if (event := msgspec.json.decode(entry.payload))["type"] == "account_blocked.v1"
    }
    shown = asked(run, "block", "--show")["blocked_accounts"]
    assert set(shown) <= names
    assert {edit["value"] for edit in asked(run, "block", "--history")["history"]} == names
    assert run("block", "--show")[0] == run("block", "--history")[0] == 0
    assert asked(run, "block", "nobody", "--show")["blocked_accounts"] == {}


RATES = {
    "rates.csv": "\ufeffCurrency,Rate\n usd , 0.92\n\nBTC,60000\n",
    "rates.json": '{"base": "eur", "rates": {"usd": 0.92, "BTC": 60000, "EUR": 1}}',
    "rates.toml": 'base = "EUR"\n[rates]\nusd = 0.92\nBTC = 60000\n',
    "flat.json": '{"usd": 0.92, "BTC": 60000}',
}


@pytest.mark.parametrize("name", RATES)
def test_rates_are_set_shown_and_told(run: Run, name: str, tmp_path: Path) -> None:
    """From each format, all at once; who and why; the history says what changed."""
    (tmp_path / name).write_text(RATES[name], encoding="utf-8")
    base = () if "base" in RATES[name] else ("--base", "eur")
    code, out = run("rates", "set", name, *base, *WHY)
    assert code == 0 and "2 rates in EUR at c" in out
    assert "unchanged" in run("rates", "set", name, *WHY)[1]
    shown = asked(run, "rates", "show")
    assert (shown["base"], shown["rates"], shown["set"]["actor"]) == ("EUR", {"USD": 0.92, "BTC": 60000.0}, "ann")
    (tmp_path / "less.csv").write_text("USD,0.93\nGBP,1.17")
    assert asked(run, "rates", "set", "less.csv", *WHY)["rates"] == {"USD": 0.93, "GBP": 1.17}
    assert [edit["change"] for edit in asked(run, "rates", "history")["history"]] == [
        "base none → EUR, USD 0.92 added, BTC 60000 added",
        "USD 0.92 → 0.93, GBP 1.17 added, BTC removed",
    ]
    assert run("rates", "show")[0] == run("rates", "history")[0] == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "USD,0.9", "the log has no base currency yet: name it, for example with --base EUR"),
        ("a.csv", "USD", "a.csv, line 1: expected currency,rate, got 1 cells"),
        ("a.csv", "USD,x", "a.csv, line 1: the rate of USD must be a number, not 'x'"),
        ("a.csv", "USD,1\nUSD,2", "a.csv, line 2: the rate of USD is given twice"),
        ("a.json", '{"base":"EUR","rates":{"USD":0}}', "the rate of USD must be a number from 1e-09 to 1e+09, not 0.0"),
        ("a.json", '{"base":"EUR","rates":{"USD":NaN}}', "the rate of USD must be a number from"),
        ("a.json", '{"base":"EUR","rates":{"USD":true}}', "the rate of USD must be a number, not True"),
        ("a.json", '{"base":"EUR","rates":{"USD":1,"usd":2}}', "the rate of USD is given twice"),
        ("a.json", '{"USD":1,"USD":2}', "a key stands twice"),
        ("a.json", '{"base":"EUR","rates":{"EUR":2}}', "EUR is the base currency, so its rate is 1, not 2"),
        ("a.json", '{"base":"€","rates":{}}', "'€' is not a currency code"),
        ("a.json", '{"base":"EUR","rate":{},"rates":{}}', "unknown key 'rate'"),
        ("a.json", "[]", "holds no rates by currency"),
        ("a.json", "{", "a.json is not valid JSON"),
        ("a.toml", "=", "a.toml: not TOML"),
        ("a.txt", "USD,1", "must end in .csv, .json or .toml"),
    ],
)
def test_wrong_rates_are_one_line(run: Run, name: str, content: str, said: str, tmp_path: Path) -> None:
    """What is wrong with the file, and where; nothing is appended."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    code, out = run("rates", "set", name, *WHY)
    assert code == 2 and out.startswith("sentinel: ") and out.count("\n") == 1 and said in out, out
    assert asked(run, "rates", "history")["history"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "add", "shop", "block", "x", *WHY), "'shop' is not a kind of list; choose account, card, merchant"),
        (("list", "add", "merchant", "ban", "x", *WHY), "'ban' is not an effect of a list; choose block, watch, allow"),
        (("list", "add", "merchant", "block", *WHY), "no value given"),
        (("list", "add", "merchant", "block", "--file", "none.txt", *WHY), "can't read none.txt"),
        (("list", "add", "country", "block", "Germany", *WHY), "'Germany' is not a country code"),
        (("list", "add", "merchant", "block", "x"), "Missing option '--reason'"),
        (("list", "add", "merchant", "block", "x", "--reason", " "), "actor and reason are required"),
        (
            ("list", "add", "merchant", "block", "x", "--reason", "a\x1b[2J"),
            "reason holds the control character \\u001b",
        ),
        (("threshold", "set", "--reason", "x"), "give --review, --decline, --review-loss or --decline-loss"),
        (("threshold", "set", "--review", "2", "--reason", "x"), "review <= decline"),
        (("rule", "set", "speed=3", "--reason", "x"), "unknown rule parameter 'speed'"),
        (("rule", "set", "velocity_10m", "--reason", "x"), "write NAME=VALUE"),
        (("rule", "set", "velocity_10m=fast", "--reason", "x"), "velocity_10m must be a number, not 'fast'"),
        (("rule", "disable", "SPEED", "--reason", "x"), "unknown rule 'SPEED'"),
        (("rule", "show", "SPEED"), "unknown rule 'SPEED'"),
        (("block", *WHY), "no account given"),
        (("block", "a1"), "actor and reason are required"),
        (("block", "a\x00b", *WHY), "can't be blocked: account_id holds"),
        (("block", "a1", "--as-of", "c1", *WHY), "--as-of goes with --show or --history"),
    ],
)
def test_mistakes_are_one_line(run: Run, sent: list[Record], arguments: tuple[str, ...], said: str) -> None:
    """What is wrong, where, and what to do; nothing is sent or appended."""
    code, out = run(*arguments)
    assert code == 2 and out.startswith("sentinel: ") and out.count("\n") == 1 and said in out, out
    assert not sent


def test_without_the_log_an_account_can_be_blocked(
    run: Run, sent: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreachable log is an error that says how to go on."""

    def unreachable(settings: Any) -> Any:
        raise Unavailable("no answer")

    monkeypatch.setattr(wiring, "open_log", unreachable)
    code, out = run("block", "a1", *WHY)
    assert code == 4 and "--no-lookup" in out and not sent
    assert run("block", "a1", "--no-lookup", *WHY)[0] == 0 and len(sent) == 1


@pytest.mark.parametrize("given", [{}, {"FRAUD_THRESHOLD": "0.8"}, {"FRAUD_THRESHOLD": "0.5"}])
def test_a_threshold_that_is_ignored_is_said(log: MemoryLog, given: dict[str, str], tmp_path: Path) -> None:
    """A setting that differs from the log's threshold is named with the command that changes it; a default is not."""
    from core import control_stream

    state, settings = control_stream.current(log), load(given, None)
    said = bootstrap.ignored_threshold(state, settings)
    assert bool(said) == bool(given)
    if given:
        assert f"sentinel threshold set --decline {given['FRAUD_THRESHOLD']}" in said and "0.9" in said
    assert bootstrap.ignored_threshold(state, load({"FRAUD_THRESHOLD": "0.9"}, None)) == ""
    file = tmp_path / "s.toml"
    file.write_text("fraud_threshold = 0.8")
    assert bootstrap.ignored_threshold(state, load({}, file)) != ""


def test_a_base_currency_that_is_ignored_is_said(log: MemoryLog) -> None:
    """Like the threshold: the setting has no effect on a log that has begun with another base."""
    from core import control_stream

    state = control_stream.current(log)
    said = bootstrap.ignored_settings(state, load({"SENTINEL_BASE_CURRENCY": "EUR"}, None))
    assert list(said) == ["currency"] and "sentinel rates set FILE --base EUR" in said["currency"]
    append_unchecked(log, RatesChanged(occurred_at=9, actor="ann", base="EUR"))
    state = control_stream.current(log)
    assert bootstrap.ignored_settings(state, load({"SENTINEL_BASE_CURRENCY": "eur"}, None)) == {}


def test_lists_hold_canonical_forms_whoever_wrote_them(run: Run, log: MemoryLog) -> None:
    """A value that another program listed in another spelling is shown, and taken off, in canonical form."""
    append_unchecked(log, ListChanged(occurred_at=9, actor="eve", kind="card", effect="block", add=("41 11-1",)))
    assert [row["value"] for row in asked(run, "list", "show", "card")["members"]] == ["41111"]
    assert asked(run, "list", "remove", "card", "block", "4111-1", "--reason", "x")["removed"] == ["41111"]
