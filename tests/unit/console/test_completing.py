"""Completion: the words are the program's, each shell takes its script, and an answer loads no command."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from console import cli, completing
from console.completing import SHELLS, candidates, script, words_of
from tests.builders import pages
from tests.builders.command_line import run_command

ROOT = Path(__file__).resolve().parents[3]
CPU_S_MAX = 0.3


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sentinel` of this tree, as a file that a shell can start."""
    path = tmp_path_factory.mktemp("bin") / "sentinel"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m console.cli "$@"\n')
    path.chmod(0o755)
    return path


def environment(program: Path, **more: str) -> dict[str, str]:
    """The program on the path."""
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", **more}


def test_the_words_are_those_of_the_commands() -> None:
    """`make docs` was run after the last change of a command; every command can be completed."""
    assert completing.FILE.read_bytes() == pages.completion_words()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_printed_that_its_shell_accepts(shell: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Its syntax is checked where the shell is installed."""
    ran = run_command(monkeypatch, capsys, "completion", shell)
    assert (ran.code, ran.out) == (0, script(shell) + "\n")
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=ran.out, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
    elif shell == "bash":
        pytest.fail("bash is not installed")


def test_another_shell_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """In one line that names those that there are."""
    ran = run_command(monkeypatch, capsys, "completion", "tcsh")
    assert ran.told == (2, "sentinel: there is no completion for 'tcsh'; there is for bash, zsh, fish\n")


@pytest.mark.parametrize(
    ("line", "wanted", "unwanted"),
    [
        ("sentinel ", {"decisions", "case", "produce"}, {"--json"}),
        ("sentinel pro", {"produce", "program", "project", "proposal", "prove"}, {"case"}),
        ("sentinel case ", {"assign", "close", "reopen"}, {"decisions"}),
        ("sentinel case as", {"assign"}, {"close"}),
        ("sentinel decisions --min", {"--min-amount"}, {"--max-amount"}),
        ("sentinel query --redis-port 6380 stats --as", {"--as-of"}, {"--redis-port"}),
        ("sentinel decisions --account ", set(), {"alerts", "--json"}),
    ],
)
def test_bash_completes(line: str, wanted: set[str], unwanted: set[str], program: Path) -> None:
    """Commands, subcommands and options, as bash itself asks for them; nothing where a value is expected."""
    words = line.split(" ")
    asked = f"""eval "$(sentinel completion bash)"
COMP_WORDS=({" ".join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}
_sentinel_completion sentinel; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", asked], capture_output=True, text=True, check=False, timeout=120, env=environment(program)
    )
    offered = set(done.stdout.split())
    assert not done.stderr and wanted <= offered and not unwanted & offered
    assert wanted or not offered


def test_zsh_and_fish_are_answered_in_their_forms(program: Path) -> None:
    """With each word's help."""
    said = {}
    for shell in ("zsh", "fish"):
        more = {"_SENTINEL_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "sentinel case as"}
        more["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
        done = subprocess.run(
            [program], capture_output=True, text=True, check=True, timeout=120, env=environment(program, **more)
        )
        said[shell] = done.stdout
    assert said["fish"] == "assign\tAssign a case to somebody.\n"
    assert '"assign":"Assign a case to somebody."' in said["zsh"]


def test_help_is_one_line_beside_its_word(program: Path) -> None:
    """However long it is: each further line would be offered as a word."""
    said = {}
    for shell in ("zsh", "fish"):
        more = {"_SENTINEL_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "sentinel "}
        more["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
        done = subprocess.run(
            [program], capture_output=True, text=True, check=True, timeout=120, env=environment(program, **more)
        )
        said[shell] = done.stdout.splitlines()
    commands = candidates(words_of(cli_program()), [], "")
    assert [line.partition("\t")[0] for line in said["fish"]] == sorted(commands)
    assert max(map(len, said["fish"])) > 90 and not any("  " in line for line in said["fish"])
    assert len([line for line in said["zsh"] if not line.startswith(('"', "_arguments"))]) == 0


def test_an_answer_takes_less_than_300_ms_and_loads_no_command(program: Path) -> None:
    """Of processor time, so that a busy machine fails nobody."""
    env = environment(program, _SENTINEL_COMPLETE="complete_bash", COMP_WORDS="sentinel whatif --", COMP_CWORD="2")
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=120, env=env)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "--decline" in done.stdout.split()
    assert min(times) < CPU_S_MAX
    code = "import sys; from console import cli; cli.main(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, env=env
    )
    assert not {"numba", "polars", "console.commands.whatif"} & set(loaded.stdout.split())


def test_an_option_of_a_group_is_passed_over() -> None:
    """With its value, and a flag without one."""
    known = words_of(cli_program())
    assert "stats" in candidates(known, ["query", "--redis-port", "1"], "")
    assert "--account" in candidates(known, ["decisions", "--json", "--csv"], "--")


def cli_program() -> Any:
    """The whole program."""
    import typer

    return typer.main.get_command(cli.application())
