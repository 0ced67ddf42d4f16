"""The program as a whole: what it loads, and how it says that it was misused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from console import cli


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "No such command 'nosuch' (sentinel --help)"),
        (["model", "promot"], "No such command 'promot'. Did you mean 'promote'? (sentinel model --help)"),
        (["model", "promote", "a-1.0.0"], "Missing option '--reason' (sentinel model promote --help)"),
        (["produce", "--zzz"], "No such option: --zzz (sentinel produce --help)"),
        (["query", "cases", "--severity", "x"], "--severity is one of low, medium, high, critical, not 'x'"),
        (["produce", "--start", "soon"], "--start 'soon' is not a time (2026-03-06, 2026-03-06T12:00Z or epoch ms)"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command, option or value is told in one line that names the help to read."""
    monkeypatch.setattr(sys, "argv", ["sentinel", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"sentinel: {said}\n"


def test_a_group_without_a_command_shows_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sentinel model` lists what can be done with models."""
    monkeypatch.setattr(sys, "argv", ["sentinel", "model"])
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr()
    assert "rollback" in shown.out + shown.err


def test_a_command_loads_only_what_it_needs() -> None:
    """A query starts without the libraries of training, which take longer to load than it takes to answer."""
    code = (
        "import sys; from console.cli import application; application(['query'])\n"
        "print(*sorted({'river', 'lightgbm', 'scipy.stats', 'matplotlib', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
