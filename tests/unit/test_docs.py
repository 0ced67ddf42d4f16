"""The documents that repeat what the code says, held against the code."""

from __future__ import annotations

import inspect
import re
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
from core import feedback_sources, rules
from core.events import Event
from core.events import page as event_page
from core.features import spec
from core.settings import Settings, environment_name
from core.validation import REASONS
from learners.drift import policy as drift_policy
from learners.loop.settings import LearnSettings
from learners.training.gate import GateSettings
from models import artifacts
from projections import catalogue
from projections.catalogue import ALL, QUESTIONS
from projections.engine.base import CONTROL
from sources.catalogue import SOURCE_NAMES
from sources.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
TOML = re.compile(r"```toml\n(.+?)```", re.S)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_features_document_is_generated_from_the_spec() -> None:
    """docs/features.md is exactly what `python -m core.features.spec` prints."""
    assert read("docs/features.md") == spec.markdown()


def test_rules_document_is_generated_from_the_table() -> None:
    """docs/rules.md is exactly what `python -m core.rules` prints."""
    assert read("docs/rules.md") == rules.markdown()


def test_drift_document_has_the_table_of_effect_sizes() -> None:
    """docs/drift.md holds what `python -m learners.drift.policy` prints."""
    assert drift_policy.markdown() in read("docs/drift.md")


def test_feedback_document_has_the_table_of_sources() -> None:
    """docs/feedback.md holds what `python -m core.feedback_sources` prints."""
    assert feedback_sources.markdown() in read("docs/feedback.md")


def test_queries_document_has_the_read_models_and_the_questions() -> None:
    """docs/queries.md holds what `python -m projections.catalogue` prints, and an example of every subcommand."""
    page = read("docs/queries.md")
    assert catalogue.markdown() in page
    commands = vars(get_command(query.app))["commands"]
    assert set(re.findall(r"^sentinel query ([a-z]+)", page, re.M)) == set(commands)


def test_training_document_has_the_table_of_artifacts() -> None:
    """docs/training.md holds what `python -m models.artifacts` prints."""
    assert artifacts.markdown() in read("docs/training.md")


def test_every_reason_code_is_documented() -> None:
    """docs/bad-input.md lists each reason code with the code's own words, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", read("docs/bad-input.md"), re.M)
    assert dict(rows) == REASONS


def test_events_document_is_generated_from_the_events() -> None:
    """docs/events.md is exactly what `python -m core.events.page` prints, and no event is left out of its streams."""
    assert read("docs/events.md") == event_page.markdown()
    listed = [event for _, events in event_page.STREAMS for event in events]
    assert {each.__struct_config__.tag for each in listed} == set(tags(Event)) and len(listed) == len(set(listed))


def tags(of: type[Event]) -> Iterator[str]:
    """The tags of all events below a class."""
    for each in of.__subclasses__():
        tag = each.__struct_config__.tag
        if isinstance(tag, str) and re.search(r"\.v\d+$", tag):
            yield tag
        yield from tags(each)


def test_read_models_are_documented() -> None:
    """The table of docs/queries.md holds every read model of the catalogue, in its order, and names where it reads."""
    rows = re.findall(r"^\| `(\w+)` \| (partitions|control|both) \|", read("docs/queries.md"), re.M)
    where = {(True, False): "partitions", (False, True): "control", (True, True): "both"}
    sources = [(set(each.sources(range(1))) - {CONTROL}, CONTROL in each.sources(range(1))) for each in ALL]
    assert rows == [(m.name, where[bool(p), c]) for m, (p, c) in zip(ALL, sources, strict=True)]


def test_questions_are_documented() -> None:
    """docs/queries.md shows every subcommand of `sentinel query`, and each question of the catalogue is one."""
    commands = {info.name or info.callback.__name__ for info in query.app.registered_commands if info.callback}
    named = set(re.findall(r"^sentinel query (\w+)", read("docs/queries.md"), re.M))
    assert named == commands and set(QUESTIONS) <= commands


def test_every_source_of_payments_is_documented() -> None:
    """docs/datasets.md has a row for every dataset, docs/synthetic.md one for every scenario."""
    rows = re.findall(r"^\| `([\w-]+)` \|", read("docs/datasets.md").partition("## ")[0], re.M)
    assert sorted(["synthetic", *rows]) == sorted(SOURCE_NAMES)
    rows = re.findall(r"^\| `(\w+)` \| \d+ % \|", read("docs/synthetic.md"), re.M)
    assert sorted(rows) == sorted(name for name in SCENARIOS if name)


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
    """Every TOML block with a table of settings that a document shows is a working sentinel.toml."""
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
    assert set(project["mypy"]["packages"]) == set(project["importlinter"]["root_packages"]) == rooms


def test_relative_links_lead_somewhere() -> None:
    """Links between the project's documents point at files that exist."""
    for page in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
