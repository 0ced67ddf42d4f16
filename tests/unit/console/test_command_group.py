"""A group's options before its subcommand and after it mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from console.cli import application
from console.command_group import Group, options_of

GIVEN: list[Any] = []
app = typer.Typer(cls=Group)


@app.callback()
def group(
    port: Annotated[int, typer.Option("--port")] = 1,
    file: Annotated[Path | None, typer.Option("--file")] = None,
    names: Annotated[list[str] | None, typer.Option("--name")] = None,
    loud: Annotated[bool, typer.Option("--loud/--quiet")] = False,
    shared: Annotated[str, typer.Option("--shared")] = "",
) -> None:
    GIVEN.append((port, file, names, loud, shared))


@app.command()
def do(
    words: Annotated[list[str] | None, typer.Argument()] = None,
    text: Annotated[str, typer.Option("--text")] = "",
    flag: Annotated[bool, typer.Option("--flag")] = False,
    shared: Annotated[str, typer.Option("--shared")] = "",
) -> None:
    GIVEN.append((words, text, flag, shared))


@app.command()
def other() -> None:
    """A second one, so that the group is one."""


def run(*arguments: str) -> list[Any]:
    """What group and subcommand were given."""
    GIVEN.clear()
    typer.main.get_command(app)([*arguments], standalone_mode=False)
    return list(GIVEN)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--port", "5", "do"], ["do", "--port", "5"]),
        (["--port=5", "--loud", "do", "a"], ["do", "--loud", "a", "--port=5"]),
        (["--file", "x", "do", "--flag", "a"], ["do", "--flag", "--file", "x", "a"]),
        (["--name", "a", "--name", "b", "do"], ["do", "--name", "a", "--name", "b"]),
        (["--quiet", "do", "--text", "--port"], ["do", "--text", "--port", "--quiet"]),
    ],
)
def test_before_and_after_mean_the_same(before: list[str], after: list[str]) -> None:
    """Values, flags, repeated options; a value that looks like an option stays a value."""
    assert run(*before) == run(*after) and len(GIVEN) == 2


def test_what_is_the_subcommands_stays_with_it() -> None:
    """An option that both have, and whatever follows `--`."""
    assert run("do", "--shared", "x") == [(1, None, None, False, ""), (None, "", False, "x")]
    assert run("do", "--", "--port", "5") == [(1, None, None, False, ""), (["--port", "5"], "", False, "")]


def test_every_group_of_the_program_takes_its_options_in_both_places() -> None:
    """No group was left out, and most name a server."""
    below = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    groups = {name: each for name, each in below.items() if hasattr(each, "commands")}
    assert len(groups) > 15 and all(isinstance(each, Group) for each in groups.values())
    assert sum("--redis-port" in options_of(each) for each in groups.values()) > 10
