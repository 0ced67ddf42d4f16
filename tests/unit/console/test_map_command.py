"""`sentinel map` and `sentinel analyze` as a person or a program calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from console import cli
from core.errors import BadInput

CSV = """Konto;Betrag;Händler;Buchungszeit;Betrug
K1;1.234,56;Café;05.01.2026 10:00;Ja
K2;12,50;Bäcker;25.01.2026 11:30;Nein
K1;7,005;n/a;06.01.2026 09:15;
"""


def run(*arguments: str) -> int:
    """The program's exit code, in this process."""
    code = cli.application(["map", "analyze"])([*arguments], prog_name="sentinel", standalone_mode=False)
    return code if isinstance(code, int) else 0


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return result


def test_map_then_analyze_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mapping that `map` writes gives `analyze` the rows, accounts, sum, frauds and times that `map` printed."""
    data, written = tmp_path / "d.csv", tmp_path / "my.toml"
    data.write_bytes(CSV.encode("cp1252"))
    assert run("map", str(data), "--write", str(written), "--zone", "Europe/Berlin", "--json") == 0
    said = summary(capsys)
    assert run("analyze", "--dataset", "custom", str(data), "--mapping", str(written), "--json") == 0
    analyzed = summary(capsys)
    wanted = {
        "rows": 3,
        "accounts": 2,
        "amount_sum": 1254.065,
        "frauds": 1,
        "unlabelled": 1,
        "first_time": "2026-01-05T09:00:00+00:00",
        "last_time": "2026-01-25T10:30:00+00:00",
        "rejected": {},
    }
    assert {key: said[key] for key in wanted} == wanted == {key: analyzed[key] for key in wanted}
    assert (
        said["format"]["encoding"] == "cp1252" and said["decimal"] == "," and said["time_format"] == ["%d.%m.%Y %H:%M"]
    )
    assert said["labels"]["Ja"] == {"rows": 1, "fraud": True} and len(said["sample"]) == 3
    assert any("Windows-1252" in each for each in said["unsure"])
    assert "# Please check:" in written.read_text(encoding="utf-8")


def test_map_shows_rows_and_what_is_unsure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a person: sums, the first rows as sent, labels, doubts, the next command; without --write, the
    mapping itself.
    """
    data = tmp_path / "d.csv"
    data.write_bytes(CSV.encode())
    assert run("map", str(data)) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "3 rows, 2 accounts, sum 1,254.07",
        "1234.56",
        "'Ja' 1 fraud",
        "please check: times name no zone",
        "[columns]",
    ):
        assert words in out
    assert run("map", str(data), "--write", str(tmp_path / "m.toml")) == 0
    assert "next: sentinel analyze --dataset custom" in " ".join(capsys.readouterr().out.split())


def test_map_without_a_terminal_stops_and_names_the_option(tmp_path: Path) -> None:
    """An ambiguous file: nothing is written, one line, exit code 2."""
    data, written = tmp_path / "d.csv", tmp_path / "m.toml"
    data.write_text("account,amount,time\na,1.5,03/04/2026\n")
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", "map", str(data), "--write", str(written)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and not written.exists()
    assert "day first and month first; say so with --dates day-first or --dates month-first" in done.stderr
    assert done.stderr.count("\n") == 1


def test_map_asks_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """At a terminal it asks one thing after the other and goes on with the answers."""
    data = tmp_path / "d.csv"
    data.write_text("whose,amount,time\na,1.5,03/04/2026\n")
    answers = iter(["whose", "month-first"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: next(answers))
    assert run("map", str(data), "--write", str(tmp_path / "m.toml")) == 0
    assert "2026-03-04" in capsys.readouterr().out


def test_rows_that_cannot_be_used_make_the_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mapping is written all the same, the rows are counted, and analyze can leave them out and list them."""
    data, written, bad = tmp_path / "d.csv", tmp_path / "m.toml", tmp_path / "bad.csv"
    data.write_text("account,amount,time\na,1.5,2026-01-05\nb,x,2026-01-05\nc,2.5,2026-01-06\n")
    assert run("map", str(data), "--write", str(written), "--json") == 1
    assert summary(capsys)["rejected"] == {"bad_amount": 1}
    arguments = ("analyze", "--dataset", "custom", str(data), "--mapping", str(written), "--json")
    with pytest.raises(BadInput, match="line 3: amount = 'x' is not an amount"):
        run(*arguments)
    assert run(*arguments, "--bad-rows", "reject", "--rejects-file", str(bad)) == 0
    assert summary(capsys)["rejected"] == {"bad_amount": 1}
    assert bad.read_text().splitlines()[1].startswith(f"{data},3,bad_amount,")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--dates", "american", "--dates is day-first or month-first"),
        ("--column", "amount", "write FIELD=VALUE"),
        ("--column", "amount=nothing", "no column 'nothing'; it has account, amount, time"),
        ("--column", "colour=amount", "unknown field"),
        ("--constant", "colour=red", "unknown field"),
        ("--zone", "Mars/Base", "unknown time zone"),
        ("--encoding", "klingon", "unknown encoding"),
        ("--time-format", "german", "unknown time format"),
        ("--separator", ";;", "one character"),
    ],
)
def test_wrong_options_are_refused(option: str, value: str, message: str, tmp_path: Path) -> None:
    """One clear line for each."""
    data = tmp_path / "d.csv"
    data.write_text("account,amount,time\na,1.5,2026-01-05\n")
    with pytest.raises(BadInput, match=message):
        run("map", str(data), option, value)
