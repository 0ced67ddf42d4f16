"""The documents that repeat what the code says, held against the code."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.main import get_command

from console import wiring
from console.cli import COMMANDS
from console.commands import query
from core.events import Event
from core.events import page as event_page
from core.settings import Settings, environment_name
from core.validation import REASONS
from learners.loop.settings import LearnSettings
from learners.training.gate import GateSettings
from projections.catalogue import QUESTIONS
from sources.catalogue import SOURCE_NAMES
from sources.datasets import decode
from sources.datasets import load as load_mapping
from sources.scenarios import SCENARIOS
from tests.builders import pages

ROOT = Path(__file__).resolve().parents[2]
TOML = re.compile(r"```toml\n(.+?)```", re.S)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*pages.WHOLE, *pages.TABLES])
def test_a_page_is_what_the_code_says(name: str) -> None:
    """Pages and tables that repeat the code are what `make docs` writes."""
    assert read(f"docs/{name}") == pages.wanted(name), f"docs/{name} is out of date: make docs"


def test_every_reason_code_is_documented() -> None:
    """docs/bad-input.md lists each reason code with the code's own words, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", read("docs/bad-input.md"), re.M)
    assert dict(rows) == REASONS


def test_every_event_is_documented() -> None:
    """No event is left out of the streams of docs/events.md."""
    listed = [event for _, events in event_page.STREAMS for event in events]
    assert {each.__struct_config__.tag for each in listed} == set(tags(Event)) and len(listed) == len(set(listed))


def tags(of: type[Event]) -> Iterator[str]:
    """The tags of all events below a class."""
    for each in of.__subclasses__():
        tag = each.__struct_config__.tag
        if isinstance(tag, str) and re.search(r"\.v\d+$", tag):
            yield tag
        yield from tags(each)


def test_questions_are_documented() -> None:
    """docs/queries.md shows every subcommand of `sentinel query`, and each question of the catalogue is one."""
    commands = set(vars(get_command(query.app))["commands"])
    named = set(re.findall(r"^sentinel query (\w+)", read("docs/queries.md"), re.M))
    assert named == commands and set(QUESTIONS) <= commands


def test_every_source_of_payments_is_documented() -> None:
    """docs/datasets.md has a row for every dataset, docs/synthetic.md one for every scenario."""
    rows = re.findall(r"^\| `([\w-]+)` \|", read("docs/datasets.md").partition("## ")[0], re.M)
    assert sorted(["synthetic", *rows]) == sorted(SOURCE_NAMES)
    rows = re.findall(r"^\| `(\w+)` \| \d+ % \|", read("docs/synthetic.md"), re.M)
    assert sorted(rows) == sorted(name for name in SCENARIOS if name)


def test_datasets_page_says_why_rows_cannot_be_used(tmp_path: Path) -> None:
    """docs/datasets.md lists each reason with the code's own words, and its mapping is one."""
    page = read("docs/datasets.md")
    table = page.partition("| reason | the row |")[2].partition("\n\n")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.M)) == decode.REASONS
    blocks = TOML.findall(page)
    for block in blocks:
        (tmp_path / "m.toml").write_text(block, encoding="utf-8")
        assert load_mapping(tmp_path / "m.toml").columns
    assert blocks


def test_datasets_page_runs_as_printed(tmp_path: Path) -> None:
    """The first shell block of docs/datasets.md, which needs no server, runs as it stands, then the Python program."""
    page = read("docs/datasets.md")
    blocks = re.findall(r"```sh\n(.+?)```", page, re.S)[:1]
    program = re.search(r"In a Python program:\n\n```python\n(.+?)```", page, re.S)
    assert blocks and program
    (tmp_path / "sentinel").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m console.cli "$@"\n')
    (tmp_path / "sentinel").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    for command in (["bash", "-e", "-c", "\n".join(blocks)], [sys.executable, "-c", program[1]]):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr


def test_every_setting_is_documented() -> None:
    """docs/settings.md has a row for every setting, in order, with its variable and its default."""
    found = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| (?:`(.+?)`)? ?\| .+ \|$", read("docs/settings.md"), re.M)
    wanted = []
    for field in msgspec.structs.fields(Settings):
        default = getattr(Settings(), field.name)
        variable = "" if isinstance(default, dict) else environment_name(field.name)
        wanted.append((field.name, variable, "" if default in ("", {}) else msgspec.json.encode(default).decode()))
    assert found == wanted


@pytest.mark.parametrize(("table", "record"), [("learn", LearnSettings()), ("learn.gate", GateSettings())])
def test_every_setting_of_a_table_is_documented(table: str, record: Any) -> None:
    """docs/settings.md has a row for every setting of the loop and of its gate, in order, with its default."""
    section = read("docs/settings.md").partition(f"## `[{table}]`")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| (?:`(.+?)`)? ?\| .+ \|$", section, re.M)
    values = {name: getattr(record, name) for name in inspect.signature(type(record)).parameters}
    assert found == [
        (name, "" if value in ({}, None) else msgspec.json.encode(value).decode()) for name, value in values.items()
    ]


def test_documented_settings_files_are_accepted(tmp_path: Path) -> None:
    """Every TOML block with a table of settings that a document shows is a working settings file."""
    shown = [block for path in (ROOT / "docs").glob("*.md") for block in TOML.findall(path.read_text())]
    settings = [block for block in shown if re.match(r"\[(learn|kafka)", block)]
    for block in settings:
        (tmp_path / "s.toml").write_text(block)
        assert wiring.settings(tmp_path / "s.toml") != Settings()
    assert settings


def test_readme_names_only_commands_that_exist() -> None:
    """Every `sentinel COMMAND` in the README is a command of the program."""
    known = set(COMMANDS)
    named = set(re.findall(r"sentinel ([a-z]+)", read("README.md")))
    assert named <= known
    assert known - {"bench"} <= named


def test_every_make_command_is_documented() -> None:
    """docs/development.md has a row for every command of the Makefile but `help`."""
    commands = set(re.findall(r"^([a-z]+):.*## ", read("Makefile"), re.M)) - {"help"}
    assert set(re.findall(r"^\| `make (\w+)` \|", read("docs/development.md"), re.M)) == commands


def test_the_rooms_are_documented() -> None:
    """ARCHITECTURE.md says of every package what it owns; pyproject.toml names each for mypy and import-linter."""
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    table = read("ARCHITECTURE.md").partition("## Where things live")[2]
    assert rooms <= set(re.findall(r"`(\w+)/`", table))
    project = tomllib.loads(read("pyproject.toml"))["tool"]
    assert set(project["mypy"]["packages"]) == rooms | {"sentinel_verify"}  # in verifier/, a package of its own
    assert set(project["importlinter"]["root_packages"]) == rooms


def test_recipes_name_files_that_exist() -> None:
    """CONTRIBUTING.md has a recipe for everything in its table, and every path in it leads somewhere."""
    text = read("CONTRIBUTING.md")
    headings = {re.sub(r" ", "-", title.lower()) for title in re.findall(r"^## (.+)$", text, re.M)}
    assert headings == set(re.findall(r"\]\(#([\w-]+)\)", text))
    paths = {path for path in re.findall(r"`([\w./]+/[\w./]*)`", text) if "NAME" not in path}
    assert len(paths) > 30 and [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_invariants_name_what_is_there() -> None:
    """Modules and tests that ARCHITECTURE.md names for an invariant exist; a bare name lies beside the one before."""
    rows = re.findall(r"^\| (I\d+) \| .+? \| (.+?) \| (.+) \|$", read("ARCHITECTURE.md"), re.M)
    assert len(rows) >= 10
    missing = []
    for invariant, *cells in rows:
        for cell in cells:
            beside = ROOT
            for name in re.findall(r"`([\w./{},]+)`", cell):
                if "/" not in name and not name.endswith(".py"):
                    continue  # a function
                for path in braces(name):
                    found = ROOT / path if "/" in path else beside / path
                    missing += [] if found.exists() else [f"{invariant}: {path}"]
                    beside = found.parent
    assert missing == []


def braces(name: str) -> list[str]:
    """`a/{b,c}.py` as a/b.py and a/c.py."""
    match = re.match(r"(.*)\{(.*)\}(.*)", name)
    return [match[1] + part + match[3] for part in match[2].split(",")] if match else [name]


@pytest.mark.parametrize(("page", "rows"), [("docs/security.md", 45), ("docs/reliability.md", 15)])
def test_attacks_and_faults_name_tests_that_exist(page: str, rows: int) -> None:
    """Every numbered row names one test at least, as FILE::FUNCTION, and each is there."""
    found = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", read(page), re.M)
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1)) and len(found) >= rows
    for number, cell in found:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", cell)
        assert tests and len(tests) == cell.count("`") // 2, f"row {number}: {cell}"
        for path, name in tests:
            assert f"\ndef {name}(" in read(path), f"row {number}: {path}::{name}"


def test_relative_links_lead_somewhere() -> None:
    """Links between the project's documents point at files that exist."""
    for page in [
        *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING")),
        *sorted((ROOT / "docs").glob("*.md")),
    ]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_decisions_are_numbered() -> None:
    """The title of each record of a decision begins with the number of its file, and none is missing or used twice."""
    files = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    titles = [path.read_text(encoding="utf-8").partition(" ")[2].partition(". ")[0] for path in files]
    assert [int(path.name[:4]) for path in files] == [int(title) for title in titles] == [*range(1, len(files) + 1)]


def test_links_lead_somewhere() -> None:
    """Every relative link of a document names a file of the tree, and code cites no document that is not there."""
    for path in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
    for room in ("core", "models", "projections", "learners", "sources", "ingest", "console", "docs"):
        for path in (ROOT / room).rglob("*.*"):
            if path.suffix in (".py", ".md"):
                assert not re.search(r"\bDESIGN\b", path.read_text(encoding="utf-8")), path


def test_what_running_takes_is_part_of_what_developing_takes() -> None:
    """The two locks agree on every version and hash, and the smaller one has no tool of tests."""
    small, whole = (_pinned(read(name)) for name in ("requirements-run.lock", "requirements.lock"))
    assert small.items() <= whole.items()
    wanted = tomllib.loads(read("pyproject.toml"))["project"]["dependencies"]
    assert {re.split(r"[\[<>=; ]", each)[0] for each in wanted} <= small.keys()
    assert len(small) > 50
    assert not small.keys() & {"pytest", "mypy", "ruff", "playwright", "catboost"}


def test_the_image_holds_no_servers_and_no_tools() -> None:
    """Its lock is what running takes, without the local stack and with what traces take, and the
    Dockerfile installs that lock.
    """
    locks = ("requirements-image.lock", "requirements-run.lock", "requirements.lock")
    image, small, whole = (_pinned(read(name)) for name in locks)
    project = tomllib.loads(read("pyproject.toml"))["project"]
    local = {re.split(r"[\[<>=; ]", each)[0] for each in project["optional-dependencies"]["local"]}
    assert len(local) == 2 and local <= small.keys()
    assert image.items() <= whole.items()
    extras = {name for name in image.keys() - small.keys() if not name.startswith("opentelemetry-")}
    assert extras == {"googleapis-common-protos", "protobuf"}
    assert small.keys() - image.keys() == local | {"valkey"}  # the last one is only the first's client
    assert {re.split(r"[\[<>=; ]", each)[0] for each in project["dependencies"]} <= image.keys()
    assert re.findall(r"-r (\S+)", read("docker/Dockerfile")) == ["requirements-image.lock"]


def _pinned(lock: str) -> dict[str, str]:
    """Each package with its version and hashes; markers may be narrower where nothing but running needs it."""
    return {
        found[1]: found[2] + " ".join(sorted(re.findall(r"sha256:\w+", found[3])))
        for found in re.finditer(r"^([\w.-]+)==([\w.!+-]+)(.*(?:\n    .*)*)", lock, re.M)
    }
