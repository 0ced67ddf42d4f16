"""All read models in every version that this code can fold, and the questions that take no argument but a moment. A new
version is added here beside the old one, built by the runner, swapped in (`Runner.swap`), and the old one is deleted.

This list is all that `sentinel project` and `sentinel query` need to know about a read model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from projections.engine.base import Projection
from projections.engine.states import States
from projections.views.cases import CASES, cases_answer
from projections.views.drift import DRIFT, drift_answer
from projections.views.experiments import EXPERIMENTS
from projections.views.labels import LABELS
from projections.views.labels_answers import labels_answer, sources_answer
from projections.views.lists import LISTS, lists_answer
from projections.views.profiles.projection import PROFILES
from projections.views.programs import PROGRAMS
from projections.views.registry import REGISTRY
from projections.views.registry_answers import registry_answer
from projections.views.responses import RESPONSES, responses_answer
from projections.views.shadow import SHADOW
from projections.views.throughput import THROUGHPUT, stats_answer

ALL: tuple[Projection[Any], ...] = (
    PROFILES,
    CASES,
    LABELS,
    REGISTRY,
    PROGRAMS,
    LISTS,
    DRIFT,
    EXPERIMENTS,
    SHADOW,
    THROUGHPUT,
    RESPONSES,
)


class Answer(Protocol):
    """The common part of all answers: they name their cut."""

    @property
    def as_of(self) -> str: ...


QUESTIONS: dict[str, Callable[[States], Answer]] = {
    "cases": cases_answer,
    "labels": labels_answer,
    "sources": sources_answer,
    "registry": registry_answer,
    "lists": lists_answer,
    "drift": drift_answer,
    "stats": stats_answer,
    "responses": responses_answer,
}
"""Questions by name; the first line of each docstring describes it to users."""


def markdown() -> str:
    """The table of docs/queries.md."""
    rows = ["| model | source | holds |", "|---|---|---|"]
    for each in ALL:
        source = (
            "both"
            if each.reads_partitions and each.reads_control
            else "control"
            if each.reads_control
            else "partitions"
        )
        rows.append(f"| `{each.name}` | {source} | {each.holds} |")
    return "\n".join(rows) + "\n"
