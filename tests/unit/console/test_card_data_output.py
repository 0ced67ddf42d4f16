"""What people see of messages with card data, in errors, logs, lists of bad rows and previews, is masked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from console import cli
from core.hiding import masked
from ingest.telemetry import _harmless
from sources.datasets.chunks import BadRow
from sources.datasets.reading import RejectsFile

PAN = "4111111111111111"


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sentinel", *arguments])
    with pytest.raises(SystemExit):
        cli.main()


def test_an_error_does_not_repeat_a_card_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What a command refuses may be one."""
    monkeypatch.chdir(tmp_path)
    run("history", "start", "--from", PAN, "--reason", "x", monkeypatch=monkeypatch)
    run("audit", "x", "--html", f"{PAN}/page.html", monkeypatch=monkeypatch)
    shown = capsys.readouterr()
    assert "****1111" in shown.err and PAN not in shown.err + shown.out


def test_log_lines_are_masked() -> None:
    """Whatever field it is in."""
    line = _harmless(None, "", {"event": "x", "why": f"account {PAN} refused", "partition": 3})
    assert line == {"event": "x", "why": "account ****1111 refused", "partition": 3}


def test_bad_rows_of_a_file_are_masked(tmp_path: Path) -> None:
    """On the screen and in the file of rejects, which is its owner's alone."""
    row = BadRow("a.csv", "line", 3, "not_a_number", f"amount = '{PAN}'")
    assert str(row) == "a.csv: line 3: amount = '****1111'"
    with RejectsFile(tmp_path / "rejects.csv") as file:
        file.add(row)
    written = tmp_path / "rejects.csv"
    assert PAN not in written.read_text() and written.stat().st_mode & 0o777 == 0o600


def test_a_preview_of_a_file_is_masked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`sentinel map` shows the first rows."""
    source = tmp_path / "payments.csv"
    rows = "".join(f"t{n},a{n},{PAN},1{n}.50,2026-01-0{n}T00:00:00Z\n" for n in range(1, 6))
    source.write_text(f"id,account,card_number,amount,time\n{rows}")
    run("map", str(source), monkeypatch=monkeypatch)
    shown = capsys.readouterr()
    assert PAN not in shown.out + shown.err and "****1111" in shown.out


def test_masking_keeps_json_json() -> None:
    """A line of the rejects file of `sentinel feedback`."""
    line = json.dumps({"row": {"reason": PAN, "account_id": "a", "n": 3}})
    assert json.loads(masked(line)) == {"row": {"reason": "****1111", "account_id": "a", "n": 3}}
