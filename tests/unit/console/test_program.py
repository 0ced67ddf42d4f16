"""The program as a whole: what it loads, and how it says that it was misused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from console import cli
from models.shipped import shipped_baseline


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "No such command 'nosuch' (sentinel --help)"),
        (["model", "promot"], "No such command 'promot'. Did you mean 'promote'? (sentinel model --help)"),
        (["model", "promote", "a-1.0.0"], "Missing option '--reason' (sentinel model promote --help)"),
        (["produce", "--zzz"], "No such option: --zzz (sentinel produce --help)"),
        (["query", "stats", "--zzz"], "No such option: --zzz (sentinel query stats --help)"),
        (["query", "stats", "--redis-port"], "Option '--redis-port' requires an argument (sentinel query --help)"),
        (
            ["query", "stats", "--redis-port", "x"],
            "Invalid value for '--redis-port': Input should be a valid integer, unable to parse string as an integer"
            " (sentinel query --help)",
        ),
        (["query", "cases", "--severity", "x"], "--severity must be one of low, medium, high, critical, not 'x'"),
        (
            ["produce", "--start", "soon"],
            "--start 'soon' is not a valid time; write 2026-03-06, 2026-03-06T12:00Z or epoch ms",
        ),
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
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert re.search(r"^  rollback ", shown.out + shown.err, re.M)


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["model", "-h"], ["model", "promote", "-h"]])
@pytest.mark.parametrize("columns", [60, 130])
def test_help_is_as_wide_as_the_terminal(
    arguments: list[str], columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sentinel` alone, -h and --help print help on stdout, on lines that fit the terminal, and exit with 0."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "argv", ["sentinel", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert (ended.value.code, shown.err) == (0, "")
    assert shown.out.startswith("Usage: sentinel") and "-h, --help" in shown.out
    widest = max(map(len, shown.out.splitlines()))
    assert columns - 45 < widest <= columns


def test_help_shows_every_command_once_under_a_heading(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program's help groups its commands by what they are for; all texts begin in one column."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["sentinel"])
    with pytest.raises(SystemExit):
        cli.main()
    commands, ending, _ = capsys.readouterr().out.partition("--help")[2].partition("\n  Exit codes: 0 done, 1 failed")
    _, *sections = re.split(r"^(\S.*):\n", commands, flags=re.M)
    shown = {
        title: re.findall(r"^  (\w+)( +)\S", rows, re.M) for title, rows in zip(*[iter(sections)] * 2, strict=True)
    }
    assert {title: [name for name, _ in rows] for title, rows in shown.items()} == {
        title: list(names) for title, names in cli.SECTIONS.items()
    }
    assert ending and len({len(name) + len(gap) for rows in shown.values() for name, gap in rows}) == 1
    assert len(cli.COMMANDS) == sum(map(len, cli.SECTIONS.values()))


HEAVY = ("lightgbm", "matplotlib", "optuna", "polars", "river", "scipy.special", "scipy.stats")
"""What takes longer to load than most commands take to answer."""


ABSENT = "sklearn"
"""Of the development group only (skl2onnx needs it). LightGBM loads it, and with it scipy.stats, if it is there."""


def loaded(code: str) -> set[str]:
    """Which of HEAVY a fresh interpreter has loaded after `code`, without what users do not install (`ABSENT`)."""
    before = f"import sys; sys.modules[{ABSENT!r}] = None"
    done = subprocess.run(
        [sys.executable, "-c", f"{before}\n{code}\nprint(*sorted({{*{HEAVY!r}}} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.returncode, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_a_command_loads_only_what_it_needs() -> None:
    """What makes streams has their libraries, what trains has LightGBM, what tests for drift has SciPy; nobody starts
    with Optuna, River or matplotlib.
    """
    streams, training = ["demo", "produce", "map", "analyze"], ["train", "learn"]
    light = [name for name in cli.COMMANDS if name not in (*streams, *training, "drift")]
    assert loaded(f"from console.cli import application; application({light})") == set()
    assert loaded(f"from console.cli import application; application({streams})") == {"polars", "scipy.special"}
    assert loaded(f"from console.cli import application; application({training})") == {
        "lightgbm",
        "polars",
        "scipy.special",
    }


def test_nothing_done_to_a_model_loads_the_libraries_of_training(tmp_path: Path) -> None:
    """A rollback in an emergency must not wait for, nor fail with, LightGBM or Optuna; nor must its siblings."""
    artifact = tmp_path / "model.txt"
    artifact.write_bytes(shipped_baseline()[0] + b"\n")
    code = """
import contextlib, io, json, sys
from console import cli, wiring
from core.context import Resolver
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest

log = MemoryLog()
OfflineIngest(log, Resolver(log.get_blob, wiring.load_scorer), partitions=1)
wiring.open_log = lambda settings: log

def run(*arguments):
    sys.argv = ["sentinel", "model", *arguments, "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            cli.main()
        except SystemExit as ended:
            assert not ended.code, arguments
    return json.loads(said.getvalue())

run("register", "--name", "first", "--version", "1.0.0")
run("promote", "first-1.0.0", "--reason", "r")
run("register", ARTIFACT, "--name", "next", "--version", "1.0.0")
run("promote", "next-1.0.0", "--reason", "r")
run("rollback", "--reason", "r")
run("promote", "next-1.0.0", "--as", "shadow", "--reason", "r")
run("withdraw", "shadow", "--reason", "r")
run("four-eyes", "on", "--reason", "r")
proposal = run("promote", "next-1.0.0", "--reason", "r", "--actor", "ann")["proposal_id"]
run("approve", proposal, "--reason", "r", "--actor", "bob")
run("list"), run("show", "next-1.0.0"), run("radius", "next-1.0.0")
"""
    assert loaded(f"ARTIFACT = {str(artifact)!r}\n{code}") == set()


@pytest.mark.parametrize(
    ("output", "code", "said"),
    [("| true", 1, ""), ("> /dev/full", 1, "sentinel: output can't be written: No space left on device\n")],
)
def test_output_that_nobody_takes_ends_without_a_traceback(output: str, code: int, said: str) -> None:
    """A reader that has gone, and a full disk."""
    command = f"set -o pipefail; {sys.executable} -u -m console.cli query --help {output}"
    ended = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (code, said)
