"""The documents that repeat what the code says, held against the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from typer.main import get_command

from console.cli import COMMANDS
from console.commands import query
from core import rules
from core.events import FeedbackSource
from core.features import spec
from core.validation import REASONS
from learners.drift import policy as drift_policy
from models import artifacts
from projections import catalogue
from projections.labelling import feedback_sources

ROOT = Path(__file__).resolve().parents[2]


def test_features_document_is_generated_from_the_spec() -> None:
    """docs/features.md is exactly what `python -m core.features.spec` prints."""
    assert (ROOT / "docs" / "features.md").read_text(encoding="utf-8") == spec.markdown()


def test_rules_document_is_generated_from_the_table() -> None:
    """docs/rules.md is exactly what `python -m core.rules` prints."""
    assert (ROOT / "docs" / "rules.md").read_text(encoding="utf-8") == rules.markdown()


def test_drift_document_has_the_table_of_effect_sizes() -> None:
    """docs/drift.md holds what `python -m learners.drift.policy` prints."""
    assert drift_policy.markdown() in (ROOT / "docs" / "drift.md").read_text(encoding="utf-8")


def test_feedback_document_has_the_table_of_sources() -> None:
    """docs/feedback.md holds what `python -m projections.labelling.feedback_sources` prints, and names every source."""
    page = (ROOT / "docs" / "feedback.md").read_text(encoding="utf-8")
    assert feedback_sources.markdown() in page
    assert f"| {', '.join(f'`{name}`' for name in get_args(FeedbackSource))} |" in page


def test_queries_document_has_the_read_models_and_the_questions() -> None:
    """docs/queries.md holds what `python -m projections.catalogue` prints, and an example of every subcommand."""
    page = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    assert catalogue.markdown() in page
    commands = vars(get_command(query.app))["commands"]
    assert set(re.findall(r"^sentinel query ([a-z]+)", page, re.M)) == set(commands)


def test_training_document_has_the_table_of_artifacts() -> None:
    """docs/training.md holds what `python -m models.artifacts` prints."""
    assert artifacts.markdown() in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_every_reason_code_is_documented() -> None:
    """docs/bad-input.md lists each reason code with the code's own words, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", (ROOT / "docs" / "bad-input.md").read_text(encoding="utf-8"), re.M)
    assert dict(rows) == REASONS


def test_readme_names_only_commands_that_exist() -> None:
    """Every `sentinel COMMAND` in the README is a command of the program."""
    known = set(COMMANDS)
    named = set(re.findall(r"sentinel ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert named <= known
    assert known - {"bench"} <= named


def test_relative_links_lead_somewhere() -> None:
    """Links between the project's documents point at files that exist."""
    for page in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
