"""Completion in bash, zsh and fish: `sentinel completion SHELL` prints the script, and what it asks is answered here.

The scripts and their protocol are Typer's; the words come from `completion_words.json`, so that an answer loads no
command's module. `make docs` writes the file from the commands themselves, and a test compares it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import msgspec

PROGRAM = "sentinel"
VARIABLE = "_SENTINEL_COMPLETE"
"""The scripts set it to ask."""
SHELLS = ("bash", "zsh", "fish")
KEPT_MAX, SHOWN_MAX = 400, 90
"""Characters of a command's help in the file, and beside a word that a shell offers."""
FILE = Path(__file__).parent / "completion_words.json"


class Words(msgspec.Struct, frozen=True):
    """What may follow a command: subcommands, and options, those of its group too, with their help; valued: the options
    that take a value.
    """

    commands: dict[str, str] = {}
    options: dict[str, str] = {}
    valued: frozenset[str] = frozenset()


def words_of(program: Any) -> dict[str, Words]:
    """All commands' words by their path ("", "case", "case assign"), from the program itself."""
    found: dict[str, Words] = {}

    def walk(command: Any, path: tuple[str, ...], above: Words) -> None:
        below = {name: each for name, each in getattr(command, "commands", {}).items() if not each.hidden}
        shown = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
        helped = {name: _first_line(each.help) for each in shown for name in (*each.opts, *each.secondary_opts)}
        found[" ".join(path)] = Words(
            {name: each.get_short_help_str(KEPT_MAX) for name, each in below.items()},
            above.options
            | {name: text for name, text in helped.items() if name.startswith("--")}
            | {"--help": "Show help."},
            above.valued | {name for each in shown if not each.is_flag for name in each.opts},
        )
        for name, each in below.items():
            walk(each, (*path, name), found[" ".join(path)] if path else Words())

    walk(program, (), Words())
    return found


def _first_line(text: str | None) -> str:
    return (text or "").partition(". ")[0].rstrip(".")


def candidates(known: Mapping[str, Words], before: Sequence[str], begun: str) -> dict[str, str]:
    """The words that may come next, with their help; {} where a value or a file is expected. before: the words between
    the program's name and the one that is begun.
    """
    path, here = "", known[""]
    is_value = False
    for word in before:
        if is_value:
            is_value = False
        elif word.startswith("-"):
            is_value = word in here.valued
        elif word in here.commands:
            path = f"{path} {word}".strip()
            here = known[path]
    if is_value:
        return {}
    offered = here.options if begun.startswith("-") else here.commands
    return {word: text for word, text in offered.items() if word.startswith(begun)}


def answer() -> str:
    """What the shell that asks, by the environment, shall offer."""
    from typer import completion  # noqa: F401  registers the shells
    from typer._click import shell_completion
    from typer._click.shell_completion import CompletionItem
    from typer._completion_classes import completion_init

    completion_init()
    shell = os.environ[VARIABLE].removeprefix("complete_")
    kind = shell_completion.get_completion_class(shell)
    if kind is None or shell not in SHELLS:
        return ""
    known = msgspec.json.decode(FILE.read_bytes(), type=dict[str, Words])

    class Asked(kind):  # type: ignore[misc, valid-type]
        def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
            found = candidates(known, args, incomplete)
            return [
                CompletionItem(word, help=shorten(text, SHOWN_MAX, placeholder="…")) for word, text in found.items()
            ]

        def format_completion(self, item: CompletionItem) -> str:
            return re.sub(r" *\n", " ", super().format_completion(item))  # Typer breaks help at 80 columns

    said: str = Asked(None, {}, PROGRAM, VARIABLE).complete()
    return said


def script(shell: str) -> str:
    """The shell's script."""
    from typer._completion_shared import get_completion_script

    return get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell)
