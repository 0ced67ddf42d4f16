"""What the registry (`projections.views.registry`) keeps: models, deployments, proposals, changes of policy, trainings.

Times are when the actor acted, epoch ms.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Model(msgspec.Struct):
    """A model version, registered at control `position`. parent: the model it was made from, by label or version.
    registered_at: 0 if it was deployed without being registered.
    """

    name: str
    version: str
    digest: str
    spec: int = 0
    metrics: dict[str, float] = {}
    parent: str = ""
    registered_at: int = 0
    registered_by: str = ""
    reason: str = ""
    position: int = 0

    @property
    def label(self) -> str:
        return f"{self.name}-{self.version}"


class Deployment(msgspec.Struct, frozen=True):
    """A model was given an alias at a control position."""

    position: int
    action: Literal["deploy", "rollback"]
    alias: str
    model: str
    digest: str
    occurred_at: int
    actor: str
    reason: str
    causation_id: str


class PolicyChange(msgspec.Struct, frozen=True):
    """A change of thresholds, rules or rates at a control position. refused: why it had no effect, "" if it had."""

    position: int
    occurred_at: int
    actor: str
    reason: str
    change: dict[str, Any]
    refused: str = ""


class Reference(msgspec.Struct, frozen=True):
    """The newest reference table of a kind."""

    position: int
    digest: str
    as_of: int
    rows: int
    tables: int


class OpenProposal(msgspec.Struct, frozen=True):
    """A deployment that awaits approval by a second person."""

    position: int
    proposal_id: str
    model: str
    digest: str
    alias: str
    occurred_at: int
    actor: str
    reason: str


class Training(msgspec.Struct):
    """A retraining: its cause and its outcome. model: "" until finished."""

    run_id: str
    trigger: str
    started_at: int
    known_until: int
    parent: str
    actor: str
    state: Literal["running", "finished", "rejected"] = "running"
    ended_at: int = 0
    model: str = ""
    reason: str = ""
    metrics: dict[str, float] = {}


class Degradation(msgspec.Struct, frozen=True):
    """A deployed model breached a limit of the guard."""

    position: int
    model: str
    metric: str
    value: float
    limit: float
    window_start: int
    window_end: int
    occurred_at: int
    actor: str


class Switch(msgspec.Struct, frozen=True):
    """Four eyes were turned on or off at a control position."""

    position: int
    four_eyes: bool
    occurred_at: int
    actor: str
    reason: str
    causation_id: str
