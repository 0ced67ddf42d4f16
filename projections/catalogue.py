"""All read models, every version that this code can fold. A new version is added here beside the old one, built by the
runner, swapped (`Runner.swap`), and the old one is then deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.errors import BadInput
from projections.engine.base import Projection
from projections.engine.checkpoints import CheckpointStore, current_version
from projections.views.cases import CASES
from projections.views.drift import DRIFT
from projections.views.experiments import EXPERIMENTS
from projections.views.labels import LABELS
from projections.views.lists import LISTS
from projections.views.profiles.projection import PROFILES
from projections.views.registry import REGISTRY
from projections.views.shadow import SHADOW
from projections.views.throughput import THROUGHPUT

ALL: tuple[Projection[Any], ...] = (PROFILES, CASES, LABELS, REGISTRY, LISTS, DRIFT, EXPERIMENTS, SHADOW, THROUGHPUT)


def current(store: CheckpointStore | None, name: str, of: Iterable[Projection[Any]] = ALL) -> Projection[Any]:
    """The version of projection `name` that readers use. Raises BadInput for an unknown name."""
    versions = {projection.version: projection for projection in of if projection.name == name}
    if not versions:
        raise BadInput(f"there is no projection {name!r}; there are {', '.join(sorted({p.name for p in of}))}")
    return versions[current_version(store, name, list(versions))]


def successor(store: CheckpointStore | None, name: str, of: Iterable[Projection[Any]] = ALL) -> Projection[Any]:
    """The version that comes after the one that readers use. Raises BadInput if this code has none."""
    projections = list(of)
    now = current(store, name, projections)
    later = [p for p in projections if p.name == name and p.version > now.version]
    if not later:
        raise BadInput(f"{now.label} is current, and this code knows no later version of it")
    return min(later, key=lambda projection: projection.version)
