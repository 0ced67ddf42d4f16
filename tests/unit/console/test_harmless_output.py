"""Names that others chose reach no terminal, table, page or CSV file in a form that does anything."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from console import cli, wiring
from console.live_view import View
from core.codec import encode
from core.context import Resolver
from core.events import (
    AccountBlocked,
    AlertRaised,
    ListChanged,
    ModelDeployed,
    ModelRegistered,
    RatesChanged,
    RulesChanged,
    ThresholdsChanged,
)
from core.files import Visible, beneath
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest
from models.shipped import shipped_baseline
from sources.record import Record
from tests.builders.events import T0, transaction, verdict

ROOT = Path(__file__).resolve().parents[3]
NASTY = "\x1b[2J\x9b31m\u202e\r\x07"
MARKUP = "[/red]x"
FORMULA = '=HYPERLINK("http://x")'
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
ACCOUNTS = (MARKUP, FORMULA, "[bold]:smile:", "a\\")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def nasty() -> MemoryLog:
    """A log in which every name that anybody chooses is nasty: of accounts, merchants, models, actors, reasons."""
    log = MemoryLog()
    content, card = shipped_baseline()
    by: dict[str, Any] = {"occurred_at": T0, "actor": f"eve{NASTY}", "reason": f"{MARKUP}{NASTY}"}
    model = {"name": f"m{NASTY}", "version": f"1{MARKUP}", "digest": log.put_blob(content)}
    ingest = OfflineIngest(log, Resolver(log.get_blob, wiring.load_scorer), partitions=2, reference=False)
    ingest.change(
        [
            ModelRegistered(**by, **model, spec=int(card["spec"])),
            ModelDeployed(**by, **model),
            ThresholdsChanged(**by, review=0.001, decline=0.9),
            RulesChanged(**by, parameters={"amount_high": 5.0}),
            RatesChanged(**by, base="EUR", rates={"USD": 0.5}),
            ListChanged(**by, kind="merchant", effect="watch", add=(f"shop{NASTY}", MARKUP, FORMULA)),
            ListChanged(**by, kind="device", effect="block", add=(FORMULA,)),
        ]
    )
    records = []
    for number, account in enumerate(ACCOUNTS * 3):
        item = transaction(
            number,
            transaction_id=f"{FORMULA}{number}",
            account_id=account,
            merchant_id=MARKUP,
            device_id=FORMULA,
            occurred_at=T0 + number,
            attributes={f"agent{NASTY}": f"x{NASTY}"},
        )
        records.append(Record("transactions", account, item.occurred_at, encode(item)))
        said = verdict(
            account, transaction_id=item.transaction_id, occurred_at=T0 + number, actor=MARKUP, reason=FORMULA
        )
        records.append(Record("feedback", account, said.occurred_at, encode(said)))
        block = AccountBlocked(account_id=account, occurred_at=T0 + number, actor=MARKUP, reason=FORMULA)
        records.append(Record("feedback", account, block.occurred_at, encode(block)))
    ingest.feed(records)
    ingest.flush()
    return log


@pytest.fixture
def run(nasty: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command line on the log; (exit code, stdout, stderr)."""
    log = nasty.clone()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["sentinel", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


READING = [
    ("model", "list"),
    ("model", "show", f"m{NASTY}-1{MARKUP}"),
    ("model", "show", f"no{NASTY}"),
    ("model", "radius", f"m{NASTY}-1{MARKUP}"),
    *((group, what) for group in ("list", "threshold", "rule", "rates") for what in ("show", "history")),
    ("list", "add", f"k{NASTY}", "block", "x", "--reason", "y"),
    ("block", "--show"),
    ("block", "--history"),
    ("query", "profile", MARKUP),
    ("query", "profile", f"no{NASTY}"),
    ("query", "cases", "--all"),
    ("query", "labels"),
    ("query", "sources"),
    ("query", "registry"),
    ("query", "lists"),
    ("query", "lists", "--history"),
    ("query", "stats"),
    ("query", "drift"),
    ("query", "shadow"),
    ("audit", f"{FORMULA}0"),
    ("audit", f"no{NASTY}"),
    ("replay", "--verify", "--jobs", "1"),
    ("whatif", "--review", "0.5", "--jobs", "1"),
    (f"no{NASTY}",),
]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "arguments", READING, ids=lambda words: " ".join(words[:2]).encode("ascii", "replace").decode()
)
def test_what_commands_print_is_harmless(run: Run, arguments: tuple[str, ...], as_json: bool) -> None:
    """No command prints a character that a terminal obeys, reads markup in a name, or ends with a traceback."""
    code, out, err = run(*arguments, *(["--json"] if as_json else []))
    assert code in (0, 1, 2) and not UNSAFE.search(out + err), (out, err)
    if as_json and code == 0 and out:
        json.loads(out.splitlines()[-1])


def test_names_are_shown_as_they_are(run: Run) -> None:
    """Markup is text, and JSON holds the very characters."""
    assert MARKUP in run("list", "show")[1] and "\\u001b[2J" in run("model", "list")[1]
    models = json.loads(run("model", "list", "--json")[1])["models"]
    assert models[0]["model"]["name"] == f"m{NASTY}"


def test_a_csv_file_holds_no_formula(run: Run, tmp_path: Path) -> None:
    """Every cell of an export starts harmlessly."""
    assert run("model", "radius", f"m{NASTY}-1{MARKUP}", "--csv", "all.csv")[0] == 0
    rows = list(csv.reader(io.StringIO((tmp_path / "all.csv").read_text())))
    cells = [cell for row in rows for cell in row]
    assert f"'{FORMULA}" in cells and not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]


def test_a_page_holds_no_markup_of_others(run: Run, tmp_path: Path) -> None:
    """The audit page shows names as text."""
    assert run("audit", f"{FORMULA}0", "--html", "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert not UNSAFE.search(page) and "=HYPERLINK(&quot;" in page


@pytest.mark.parametrize("name", [MARKUP, "[red]", ":smile:", f"a{NASTY}", "\\[/red]"])
def test_the_live_view_takes_any_name(name: str) -> None:
    """An account or code is text, not markup, in the demo's view."""
    alert = AlertRaised(
        alert_id="1",
        timestamp=T0,
        account_id=name,
        fraud_score=0.5,
        decision="review",
        severity="low",
        reason_codes=(name,),
        values={},
        recommended_actions=(),
        transaction={"amount": 1.0},
    )
    view = View(10)
    view.alerts.append(alert)
    out = io.StringIO()
    Console(file=out, width=200).print(view)
    assert not UNSAFE.search(out.getvalue())
    if name != f"a{NASTY}":
        assert out.getvalue().count(name) == 3  # the account, the code, and the code as the reason


def test_the_guard_writes_escapes() -> None:
    """Whatever is printed beneath it is ours; lines and tabs stay."""
    out = io.StringIO()
    guarded = Visible(out)
    print("a\tb\x1b[2J", file=guarded)
    guarded.writelines(["\x07\n"])
    assert out.getvalue() == "a\tb\\u001b[2J\n\\u0007\n" and beneath(guarded) is out and beneath(out) is out  # type: ignore[arg-type]


def test_every_console_and_csv_writer_is_guarded() -> None:
    """Consoles are made in one place, and every CSV row that the program writes passes `csv_cell`."""
    consoles, writers = [], []
    for package in ("console", "learners", "sources", "ingest", "projections", "core"):
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    if called == "Console":
                        consoles.append(str(path.relative_to(ROOT)))
                    if called.endswith(".writerow") and not all(
                        isinstance(e, ast.Constant)
                        for e in ast.walk(node.args[0])
                        if isinstance(e, ast.expr) and not isinstance(e, ast.Tuple)
                    ):
                        writers.append((str(path.relative_to(ROOT)), ast.unparse(node.args[0])))
    assert consoles == ["console/terminal.py"]
    assert [at for at in writers if "csv_cell" not in at[1] and "__struct_fields__" not in at[1]] == []
