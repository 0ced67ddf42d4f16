"""The control events of models: registered, proposed, deployed, watched and trained again (`core.governance`)."""

from __future__ import annotations

from typing import Literal

from core.events.base import ControlEvent, Severity


class ModelRegistered(ControlEvent, tag="model_registered.v1", tag_field="type", frozen=True, kw_only=True):
    """An artifact was stored. `digest` is its SHA-256 (hex), `spec` the feature spec it reads. `parent` is the model
    it was derived from, name-version, "" for none. `reads`: what it reads that not every program has (features and
    own fields): their names by the first 16 digits of their identities (core.program.inputs).
    """

    name: str
    version: str
    digest: str
    spec: int
    metrics: dict[str, float] = {}
    parent: str = ""
    reads: dict[str, str] = {}


class ModelDeployed(ControlEvent, tag="model_deployed.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on `alias` (champion or shadow) is this model. Any other alias has no effect."""

    name: str
    version: str
    digest: str
    alias: str = "champion"


class ModelRolledBack(ControlEvent, tag="model_rolled_back.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on `alias` is this earlier model again. Needs no second person, even under four eyes."""

    name: str
    version: str
    digest: str
    alias: str = "champion"


class ModelWithdrawn(ControlEvent, tag="model_withdrawn.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on no model is `alias`. A champion is never withdrawn, only replaced."""

    alias: str


class GovernanceChanged(ControlEvent, tag="governance_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """four_eyes: from here on what decides changes only with a second person (`core.authority` says which acts)."""

    four_eyes: bool


class DeploymentProposed(ControlEvent, tag="deployment_proposed.v1", tag_field="type", frozen=True, kw_only=True):
    """`actor` proposes this model for `alias`. A ModelDeployed that names `proposal_id` as its cause carries it out."""

    proposal_id: str
    name: str
    version: str
    digest: str
    alias: str = "champion"


class DeploymentWithdrawn(ControlEvent, tag="deployment_withdrawn.v1", tag_field="type", frozen=True, kw_only=True):
    """`actor` withdraws the proposal of a model: it can't be carried out any more."""

    proposal_id: str


class DriftDetected(ControlEvent, tag="drift_detected.v1", tag_field="type", frozen=True, kw_only=True):
    """A feature, the score, alerts ("alerts:amount"), reported frauds ("fraud:rate") or a measure of performance
    ("performance:auc_roc") differ from their reference.

    statistic: the effect size that decided, magnitude: its value; effects: all of them by name. p_value_adjusted: of
    `test`, adjusted over all figures and looks. Windows are event time, epoch ms, [start, end). kind: numeric,
    categorical, fraud or performance. design_effect: how many rows count as one, since an account's rows are clustered.
    """

    feature: str
    statistic: str
    magnitude: float
    severity: Severity
    window_start: int
    window_end: int
    kind: str = ""
    test: str = ""
    p_value_adjusted: float | None = None
    effects: dict[str, float] = {}
    reference_start: int = 0
    reference_end: int = 0
    rows: int = 0
    reference_rows: int = 0
    design_effect: float | None = None


class DriftCleared(ControlEvent, tag="drift_cleared.v1", tag_field="type", frozen=True, kw_only=True):
    """The feature matches its reference again, or can no longer be compared with it (`reason`). statistic and
    magnitude: those of the window.
    """

    feature: str
    window_start: int = 0
    window_end: int = 0
    statistic: str = ""
    magnitude: float | None = None


class RetrainingStarted(ControlEvent, tag="retraining_started.v1", tag_field="type", frozen=True, kw_only=True):
    """Work on a new model began. trigger: what caused it; known_until: it may use what was known by then (epoch ms);
    parent: the model it starts from or is measured against, name-version.
    """

    run_id: str
    trigger: Literal["labels", "drift", "degradation", "schedule", "manual"]
    known_until: int
    parent: str = ""


class RetrainingFinished(ControlEvent, tag="retraining_finished.v1", tag_field="type", frozen=True, kw_only=True):
    """The candidate passed the gate and is registered as `name` `version`."""

    run_id: str
    name: str
    version: str
    digest: str
    metrics: dict[str, float] = {}


class RetrainingRejected(ControlEvent, tag="retraining_rejected.v1", tag_field="type", frozen=True, kw_only=True):
    """Retraining produced no model: `reason` says why (the gate's reasons, or what failed)."""

    run_id: str
    metrics: dict[str, float] = {}


class DegradationDetected(ControlEvent, tag="degradation_detected.v1", tag_field="type", frozen=True, kw_only=True):
    """A deployed model performs worse than its limit. model: name-version; value and limit in the metric's unit."""

    model: str
    digest: str
    metric: str
    value: float
    limit: float
    window_start: int
    window_end: int
