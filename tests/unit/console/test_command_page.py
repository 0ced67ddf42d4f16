"""Exit codes stand in one table, and every command tells its help at every width."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest
import typer

from console.cli import application
from console.command_page import exit_codes
from core import errors
from core.errors import SentinelError

WIDTHS = (60, 130, 200)


def every_error() -> Iterator[type[SentinelError]]:
    """All that are raised on purpose."""
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, SentinelError):
            yield each


def test_every_error_has_its_exit_code_in_the_table() -> None:
    """With words of its own; no two mean different things by one code."""
    table = exit_codes()
    assert {each.exit_code for each in every_error()} | {0, 130} == set(table)
    assert all(text and "\n" not in text for text in table.values())
    assert len(set(table.values())) == len(table)


@pytest.fixture(scope="module", params=WIDTHS)
def program(request: pytest.FixtureRequest) -> Iterator[tuple[Any, int]]:
    """All commands on a terminal of this width, and the widest line that help may have there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(request.param))
        yield typer.main.get_command(application()), min(request.param, 160)


def paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group, as it is typed."""
    yield path
    for name, each in getattr(command, "commands", {}).items():
        yield from paths(each, (*path, name))


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_tells_its_help(option: str, program: tuple[Any, int]) -> None:
    """By either option, on stdout, on lines that fit the terminal and are never wider than 160 columns."""
    command, widest = program
    asked = list(paths(command))
    assert len(asked) > 100
    for path in asked:
        with redirect_stdout(io.StringIO()) as said:
            assert command.main([*path, option], prog_name="sentinel", standalone_mode=False) in (0, None)
        assert said.getvalue().startswith(" ".join(("Usage: sentinel", *path))), path
        too_wide = [line for line in said.getvalue().splitlines() if len(line) > widest]
        assert not too_wide, (path, too_wide)
