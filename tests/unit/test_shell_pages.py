"""The shell blocks of the documents: which there are, and that their runner is strict."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.builders import grouping, page_command, shell_pages, shell_places
from tests.builders.shell_pages import PAGES, PageFailed, blocks

NOT_RUN_MAX = 8
"""Blocks that need what a test can't have. Write a block so that it runs before you raise this."""


def page(folder: Path, text: str) -> Path:
    """A page with this text."""
    file = folder / "page.md"
    file.write_text(text, encoding="utf-8")
    return file


def test_every_fence_says_its_language() -> None:
    """So a shell block can't be missed: what is not run is `text`, or another language."""
    wrong = [f"{each.name} {each.kind!r}" for file in PAGES for each in shell_pages.all_blocks(file)]
    assert [each for each in wrong if each.split(" ")[1].strip("'") not in shell_pages.KINDS] == []


def test_no_command_hides_in_an_indented_block() -> None:
    """Commands stand in fences, where the runner finds them."""
    found = []
    for file in PAGES:
        text = re.sub(r"^( *)```.*?^\1```$", "", file.read_text(encoding="utf-8"), flags=re.M | re.S)
        found += [(file.name, line) for line in re.findall(r"^    (?:sentinel|make|python|docker|curl) .*", text, re.M)]
    assert found == []


def test_every_page_with_blocks_has_a_place() -> None:
    """tests/builders/shell_places.py says what each page needs, and names no other page."""
    wanted = {shell_pages.name_of(file) for file in PAGES if blocks(file)}
    assert {name for name in wanted if not shell_places.needs(shell_pages.ROOT / name)} == set()
    assert set(shell_places.PLACES) <= wanted
    assert {name for name in shell_places.PLACES if shell_places.is_on_port_8700(name)} >= {"docs/tutorial.md"}


def test_pages_on_one_port_run_in_one_process() -> None:
    """And what shares nothing, in any."""
    prefix = "tests/integration/test_shell_blocks.py::test_a_page_runs_as_printed"
    groups = {name: grouping.group_of(f"{prefix}[{name}]") for name in map(shell_pages.name_of, PAGES)}
    assert groups["README.md"] == groups["docs/tutorial.md"] == groups["docs/howto/erase.md"] == "port 8700"
    assert groups["docs/sql.md"] != groups["docs/audit.md"]
    browser = {grouping.group_of(f"tests/integration/browser/test_{name}.py::test_a") for name in ("a", "b")}
    assert browser == {"browser"}


def test_few_blocks_are_not_run() -> None:
    """Each says why; there are few, and many that run."""
    found = [each for file in PAGES for each in blocks(file)]
    left = [each for each in found if each.not_run]
    assert len(left) <= NOT_RUN_MAX and len(found) - len(left) > 50, shell_pages.summary()
    assert all(len(each.not_run) > 10 for each in left)
    marks = sum(file.read_text(encoding="utf-8").count("\n" + shell_pages.NOT_RUN) for file in PAGES)
    assert marks == len(left)  # a comment that is not just before a block would do nothing


def test_blocks_run_in_order_in_one_shell(tmp_path: Path) -> None:
    """A later block sees files and variables of an earlier one, and a file that the reader was told to write."""
    text = "```sh\nA=1; echo 2 > b\n```\n\n<!-- file: c.toml -->\n```toml\nc = $A\n```\n\n"
    text += "```sh\necho $A $(cat b c.toml)\n```\n"
    assert "\n1 2 c = $A\n" in shell_pages.run(page(tmp_path, text), tmp_path / "there", {})


@pytest.mark.parametrize(
    "wrong", ["false", "false | true", "echo x; exit 3", "echo 'Traceback (most recent call last)'"]
)
def test_a_page_fails_with_its_first_failure(tmp_path: Path, wrong: str) -> None:
    """What comes after it is not run, and the message names the block."""
    file = page(tmp_path, f"# Page\n\n```sh\n{wrong}\ntouch went-on\n```\n")
    with pytest.raises(PageFailed, match=r"page\.md:3"):
        shell_pages.run(file, tmp_path / "there", {})
    assert (tmp_path / "there" / "went-on").exists() == wrong.startswith("echo 'T")


def test_a_block_that_is_not_run_is_not(tmp_path: Path) -> None:
    """Its reason is read from the comment before it."""
    file = page(tmp_path, "<!-- not run: needs Docker -->\n```sh\nfalse\n```\n\n```sh\necho ran\n```\n")
    assert [each.not_run for each in blocks(file)] == ["needs Docker", ""]
    assert "\nran\n" in shell_pages.run(file, tmp_path / "there", {})


def test_servers_are_the_only_thing_replaced(tmp_path: Path) -> None:
    """The documents' names of servers become those of the test; nothing else changes."""
    named = "export KAFKA_SERVERS=broker:9092 REDIS_HOST=log REDIS_PORT=6379"
    file = page(tmp_path, f"```sh\n{named}\necho $REDIS_HOST\n```\n")
    assert "\nhere\n" in shell_pages.run(file, tmp_path / "there", {}, "REDIS_HOST=here")


@pytest.mark.parametrize(
    ("line", "follows"),
    [
        ("ingest --create-topics", True),
        ("serve", True),
        ("run --sample", True),
        ("respond", True),
        ("respond --dry-run", True),
        ("respond on block_account", False),
        ("learn --follow", True),
        ("learn", False),
        ("demo --loop --console", True),
        ("demo", False),
        ("up", False),
        ("serve --help", False),
    ],
)
def test_what_runs_until_interrupted_is_known(line: str, follows: bool) -> None:
    """The commands that a reader ends with Ctrl-C are started beside the page."""
    assert page_command.runs_on(line.split()) is follows


def test_a_follower_is_interrupted_and_its_exit_code_read(tmp_path: Path) -> None:
    """One that ends otherwise than in order fails the page."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys, time\nprint('Ctrl-C', flush=True)\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(int(os.environ['CODE'])))\ntime.sleep(60)\n"
    )
    file = page(tmp_path, "```sh\nsentinel run\necho beside\n```\n\n```sh\necho later\n```\n")
    environment = {"SHELL_PAGE_PROGRAM": str(program)}
    said = shell_pages.run(file, tmp_path / "well", {**environment, "CODE": "0"})
    assert said.index("beside") < said.index("later")
    file = page(tmp_path, "<!-- goes on -->\n```sh\nsentinel run\n```\n\n```sh\nls .followers\n```\n")
    said = shell_pages.run(file, tmp_path / "on", {**environment, "CODE": "0"})
    assert "000.json" in said and "000.ended" not in said
    with pytest.raises(PageFailed, match="ended with 3"):
        shell_pages.run(file, tmp_path / "badly", {**environment, "CODE": "3"})
