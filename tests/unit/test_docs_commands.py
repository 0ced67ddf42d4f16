"""Every command line that a document shows, parsed by the program itself."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from console.cli import application

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMED = re.compile(r"`(sentinel [^`]+)(?:`|$)")
BLOCK = re.compile(r"^```(?:sh|bash|shell|text)?\n(.+?)^```|((?:^    \S.*\n)+)", re.M | re.S)
INLINE = re.compile(r"`((?:\.venv/bin/)?sentinel [^`]+)`")


def shown(page: Path) -> Iterator[str]:
    """The `sentinel …` lines of a page's shell blocks; what a synopsis has in brackets counts as given."""
    for fenced, indented in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in (fenced or indented).splitlines():
            if re.match(r" *(\.venv/bin/)?sentinel\b(?!:)", line):
                yield re.sub(r"\[(--[^\]]+)\]", r"\1", re.split(r"  +(?=\S)", line.strip())[0])


def words_of(line: str) -> list[str]:
    """The words of the line's first command, without comment and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    return list(itertools.takewhile(lambda word: not set(word) <= set("|&;<>"), lexer))


@cache
def program() -> Any:
    """The program's commands, which take a while to put together."""
    return get_command(application())


def parse(line: str) -> None:
    """Parse a command line without running it. Raises the command line's own usage error."""
    command = program()
    words, parent = words_of(line)[1:], None
    name = "sentinel"
    while True:
        context = command.make_context(name, words, parent=parent)
        if not hasattr(command, "commands"):
            return
        known = {option: each for each in command.params for option in each.opts}
        while words and words[0] in known:  # the group's own options come first
            words = words[1 if known[words[0]].is_flag else 2 :]
        if not words and getattr(command, "invoke_without_command", False):
            return
        name, command, words = command.resolve_command(context, words)
        parent = context


LINES = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in shown(page)]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}: {line}" for page, line in LINES])
def test_a_command_line_is_accepted(page: str, line: str) -> None:
    """Its command, options, values and arguments are the program's."""
    parse(line)


def test_the_documents_show_commands() -> None:
    """The blocks are found: an empty list would prove nothing."""
    assert len(LINES) > 60


def unknown_in(text: str) -> str:
    """The first word of `sentinel …` that is neither a command nor an option that it or its group has; "" if none."""
    command = program()
    known: set[str] = {"--help", "-h"}
    for word in text.split()[1:]:
        known |= {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        if word.startswith("-"):
            if word.partition("=")[0] not in known:
                return word
        elif hasattr(command, "commands") and re.fullmatch(r"[a-z-]+", word):
            if word not in command.commands:
                return word
            command = command.commands[word]
    return ""


def test_commands_inside_sentences_exist() -> None:
    """Each `sentinel …` in a sentence names a command, and only options that it or its group has."""
    for page in PAGES:
        for text in INLINE.findall(page.read_text(encoding="utf-8")):
            assert unknown_in(text) == "", f"{page.name}: {text}"


def test_commands_that_messages_name_exist() -> None:
    """The same for what the program itself says, and its docstrings: a remedy that does not exist helps nobody."""
    found = 0
    for room in sorted(
        path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name not in ("tests", "benchmarks")
    ):
        for module in sorted(room.rglob("*.py")):
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    for text in NAMED.findall(node.value):
                        found += 1
                        assert unknown_in(text.rstrip("`")) == "", f"{module.relative_to(ROOT)}: {text}"
    assert found > 200


def test_an_unknown_option_is_noticed() -> None:
    """The two tests above can fail."""
    assert unknown_in("sentinel archive --follow") == "--follow"
    assert unknown_in("sentinel query status") == "status"
    assert unknown_in("sentinel archive --trim") == ""
