"""Every event of the log: frozen, explicitly tagged structs. This module owns the names and the wire form.

Rules (docs/decisions/0001-events.md):
- A tag (`"score.v1"`) is the event's identity for ever; class names and import paths are not part of it.
- A new field needs a default; a field never changes its type; a changed meaning is a new tag and an upcaster.
- Unknown fields are refused at the edge (`Transaction`, `core.validation`) and tolerated in the log.
- Times are epoch milliseconds UTC. `occurred_at` comes from the source; `recorded_at` is when the log took it.
- Nothing here reads a clock or does I/O.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

Decision = Literal["approve", "review", "decline"]
Severity = Literal["low", "medium", "high", "critical"]
FeedbackSource = Literal["analyst", "customer", "chargeback", "early_fraud_warning", "representment"]
Verdict = Literal["fraud", "legitimate", "unsure"]
ListKind = Literal["account", "card", "merchant", "device", "ip", "country"]
ListEffect = Literal["block", "watch", "allow"]


class Position(NamedTuple):
    """A stream entry's ID: the source topic's generation and its Kafka offset + 1. `0-0` is before everything.

    Transaction, score and alert of one payment carry the same ID in their streams.
    """

    generation: int
    offset: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.offset}"

    @classmethod
    def parse(cls, text: str | bytes) -> Position:
        """`"1-533"` → Position(1, 533). Raises ValueError on anything else."""
        generation, _, offset = (text.decode() if isinstance(text, bytes) else text).partition("-")
        return cls(int(generation), int(offset))


START = Position(0, 0)

CHAMPION_ARM = "champion"
"""The arm of a decision outside any experiment. The encoder leaves out this very object."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of all log events."""


# --- what enters through Kafka `transactions` -----------------------------------------------------------------


class Transaction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A payment as the source sends it (the value of a `transactions` message, JSON). Strict: see core.validation.

    amount is in major units of `currency` (ISO 4217), occurred_at in epoch ms UTC, country ISO 3166-1 alpha-2,
    "" means unknown. `attributes` carries whatever else the source has.
    """

    transaction_id: str
    account_id: str
    amount: float
    occurred_at: int
    currency: str = ""
    merchant_id: str = ""
    merchant_category: str = ""
    country: str = ""
    channel: str = ""
    device_id: str = ""
    ip: str = ""
    card_id: str = ""
    attributes: dict[str, float | str] = {}


class TransactionReceived(Event, tag="transaction.v1", tag_field="type", frozen=True, kw_only=True):
    """A transaction as the log holds it: `Transaction`'s fields, and when the log took it."""

    recorded_at: int
    transaction_id: str
    account_id: str
    amount: float
    occurred_at: int
    currency: str = ""
    merchant_id: str = ""
    merchant_category: str = ""
    country: str = ""
    channel: str = ""
    device_id: str = ""
    ip: str = ""
    card_id: str = ""
    attributes: dict[str, float | str] = {}


class TransactionScored(Event, tag="score.v1", tag_field="type", frozen=True, kw_only=True):
    """One decision, and all that determines it (I2): the entry's ID is t; `f` and `c` are recorded here.

    features: float32 vector in the order of feature spec `spec`, packed (core.features.packing; base64 in JSON).
    margin: the model's raw score (log-odds); probability: its logistic, in [0, 1]. Both float64, exact in JSON.
    model and digest name what decided; arm is `"champion"`, or `"<experiment>/<arm>"` for an account in an experiment.
    shadow: the margin that the shadow model gives beside the decision, without a say in it; None where none ran.
    """

    feedback_position: str = msgspec.field(name="f")
    control_position: int = msgspec.field(name="c")
    model: str
    digest: str
    spec: int
    margin: float
    probability: float
    decision: Decision
    features: bytes
    rules: tuple[str, ...] = ()
    severity: Severity | None = None
    arm: str = CHAMPION_ARM
    degraded: str | None = None
    shadow_model: str = ""
    shadow: float | None = None


class AlertRaised(Event, tag="alert.v1", tag_field="type", frozen=True, kw_only=True):
    """What an analyst sees. Everything in it is decided purely in the pipeline."""

    alert_id: str
    timestamp: int
    account_id: str
    fraud_score: float
    decision: Decision
    severity: Severity
    reason_codes: tuple[str, ...]
    reasons: tuple[str, ...]
    risk_factors: dict[str, float | bool | None]
    recommended_actions: tuple[str, ...]
    transaction: dict[str, float | int | str | dict[str, float | str]]
    degraded: str | None = None


class TransactionRejected(Event, tag="reject.v1", tag_field="type", frozen=True, kw_only=True):
    """A message that could not be accepted, kept whole (I9). ID: `<seal sequence>-<index in batch + 1>`."""

    recorded_at: int
    topic: Literal["transactions", "feedback"]
    position: str
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None


# --- what enters through Kafka `feedback` ---------------------------------------------------------------------


class FeedbackReceived(Event, tag="feedback.v1", tag_field="type", frozen=True, kw_only=True):
    """A verdict on one transaction. `amount` is the amount in dispute, 0 where the source has none."""

    account_id: str
    transaction_id: str
    occurred_at: int
    source: FeedbackSource
    verdict: Verdict
    confidence: float = 1.0
    actor: str = ""
    amount: float = 0.0
    merchant_id: str = ""
    device_id: str = ""
    transaction_occurred_at: int = 0
    reason: str = ""
    recorded_at: int = 0


class AccountBlocked(Event, tag="account_blocked.v1", tag_field="type", frozen=True, kw_only=True):
    account_id: str
    occurred_at: int
    actor: str
    reason: str = ""
    causation_id: str = ""
    recorded_at: int = 0


class AccountUnblocked(Event, tag="account_unblocked.v1", tag_field="type", frozen=True, kw_only=True):
    account_id: str
    occurred_at: int
    actor: str
    reason: str = ""
    causation_id: str = ""
    recorded_at: int = 0


class CaseOpened(Event, tag="case_opened.v1", tag_field="type", frozen=True, kw_only=True):
    account_id: str
    case_id: str
    occurred_at: int
    actor: str
    alert_id: str = ""
    recorded_at: int = 0


class CaseAssigned(Event, tag="case_assigned.v1", tag_field="type", frozen=True, kw_only=True):
    account_id: str
    case_id: str
    occurred_at: int
    actor: str
    assignee: str
    recorded_at: int = 0


class CaseResolved(Event, tag="case_resolved.v1", tag_field="type", frozen=True, kw_only=True):
    account_id: str
    case_id: str
    occurred_at: int
    actor: str
    verdict: Verdict
    note: str = ""
    recorded_at: int = 0


class ActionSucceeded(Event, tag="action_succeeded.v1", tag_field="type", frozen=True, kw_only=True):
    account_id: str
    action: str
    occurred_at: int
    actor: str
    causation_id: str
    recorded_at: int = 0


class ActionFailed(Event, tag="action_failed.v1", tag_field="type", frozen=True, kw_only=True):
    account_id: str
    action: str
    occurred_at: int
    actor: str
    causation_id: str
    error: str
    recorded_at: int = 0


AccountEvent = (
    FeedbackReceived
    | AccountBlocked
    | AccountUnblocked
    | CaseOpened
    | CaseAssigned
    | CaseResolved
    | ActionSucceeded
    | ActionFailed
)


class Seal(Event, tag="seal.v1", tag_field="type", frozen=True, kw_only=True):
    """One per appended batch (I8): where the partition stands, and the digest that chains it. ID: `<sequence>-1`.

    transactions, feedback: the last source position consumed, accepted or rejected. control: the position that
    the batch's decisions saw. counts: entries appended to (transactions, alerts, feedback, rejects); a score
    goes with every transaction. published: the last transaction position whose decision is known delivered.
    """

    transactions: str
    feedback: str
    control: int
    counts: tuple[int, int, int, int]
    recorded_at: int
    published: str
    digest: str


# --- the control stream: everything about the system ------------------------------------------------------------


class ControlEvent(Event, frozen=True, kw_only=True):
    """Base of control events. `occurred_at` is when the actor acted."""

    occurred_at: int
    actor: str
    reason: str = ""
    causation_id: str = ""


class SourceGenerationStarted(
    ControlEvent, tag="source_generation_started.v1", tag_field="type", frozen=True, kw_only=True
):
    """A source topic was first seen, or was recreated: offsets start again. `topic_id` is Kafka's UUID."""

    topic: Literal["transactions", "feedback"]
    topic_name: str
    generation: int
    topic_id: str
    partitions: int


class ModelRegistered(ControlEvent, tag="model_registered.v1", tag_field="type", frozen=True, kw_only=True):
    """An artifact entered the store. `digest` is its SHA-256 (hex); `spec` the feature spec it reads."""

    name: str
    version: str
    digest: str
    spec: int
    metrics: dict[str, float] = {}
    parent: str = ""


class ModelDeployed(ControlEvent, tag="model_deployed.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on `alias` (champion, challenger, shadow) is this model."""

    name: str
    version: str
    digest: str
    alias: str = "champion"


class ModelRolledBack(ControlEvent, tag="model_rolled_back.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on `alias` is this earlier model again. Never waits for a second pair of eyes."""

    name: str
    version: str
    digest: str
    alias: str = "champion"


class ModelWithdrawn(ControlEvent, tag="model_withdrawn.v1", tag_field="type", frozen=True, kw_only=True):
    """Nothing is `alias` any more. Only `shadow` and `challenger` can be empty; a champion is replaced."""

    alias: str


class GovernanceChanged(ControlEvent, tag="governance_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """four_eyes: from here on a champion is deployed only by somebody else than who proposed it."""

    four_eyes: bool


class DeploymentProposed(ControlEvent, tag="deployment_proposed.v1", tag_field="type", frozen=True, kw_only=True):
    """`actor` wants `alias` to be this model. A ModelDeployed that names `proposal_id` as its cause carries it out."""

    proposal_id: str
    name: str
    version: str
    digest: str
    alias: str = "champion"


class ThresholdsChanged(ControlEvent, tag="thresholds_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """Probabilities from which a transaction is reviewed and declined; 0 < review ≤ decline ≤ 1."""

    review: float
    decline: float


class RulesChanged(ControlEvent, tag="rules_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """Parameters of the rules by name (`core.rules.PARAMETERS`) and the codes that are switched off."""

    parameters: dict[str, float] = {}
    disabled: tuple[str, ...] = ()


class ListChanged(ControlEvent, tag="list_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """Adds to and removes from the list of one kind and effect."""

    kind: ListKind
    effect: ListEffect
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class ReferencePublished(ControlEvent, tag="reference_published.v1", tag_field="type", frozen=True, kw_only=True):
    """An immutable reference table (core.features.reference). `as_of` is event time, epoch ms; digest SHA-256."""

    kind: Literal["merchant", "device"]
    digest: str
    as_of: int
    rows: int


class DriftDetected(ControlEvent, tag="drift_detected.v1", tag_field="type", frozen=True, kw_only=True):
    """A feature, the score or a measure of performance ("performance:auc_roc") is not what it was in the reference.

    statistic: the effect size that decided, magnitude: its value; effects: all of them by name. p_value_adjusted: of
    `test`, over all that were tested in the look. Windows are event time, epoch ms, [start, end). kind: numeric,
    categorical or performance. design_effect: how many of the rows count as one, since an account's hang together.
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
    """The feature is like the reference again, or can't be compared with it any more (`reason`). statistic and
    magnitude: what the window had.
    """

    feature: str
    window_start: int = 0
    window_end: int = 0
    statistic: str = ""
    magnitude: float | None = None


class Arm(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One side of an experiment: the model that decides for `share` of the experiment's accounts (of 10,000)."""

    name: str
    model: str
    version: str
    digest: str
    share: int


class ExperimentStarted(ControlEvent, tag="experiment_started.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on the accounts in the experiment are decided by their arm's model. See core.assignment.

    arms: the first is the control and must be the champion; shares add up to 10,000. traffic: accounts of 10,000 that
    are in the experiment. An account counts once, with the transactions of its first `window_ms` in the experiment,
    when labels of `maturity_ms` age are known. alpha: the error level of all statements together. primary: the metric
    that decides, worthwhile: the gain on it below which an arm is of no use; guardrails: metrics that must not get
    worse by more than guardrail_margin (of accounts, 0.002 is two in a thousand). From `duration_max_ms` on it ends
    without a winner.
    """

    experiment_id: str
    arms: tuple[Arm, ...]
    salt: str
    traffic: int = 10_000
    window_ms: int = 604_800_000
    maturity_ms: int = 604_800_000
    alpha: float = 0.05
    primary: str = "value_lost"
    guardrails: tuple[str, ...] = ("missed_fraud", "false_positive")
    accounts_min: int = 1000
    duration_max_ms: int = 7_776_000_000
    guardrail_margin: float = 0.0
    worthwhile: float = 0.0


class ExperimentRamped(ControlEvent, tag="experiment_ramped.v1", tag_field="type", frozen=True, kw_only=True):
    """Another share of accounts is in the experiment. Raising it keeps every account's arm."""

    experiment_id: str
    traffic: int


class ExperimentStopped(ControlEvent, tag="experiment_stopped.v1", tag_field="type", frozen=True, kw_only=True):
    """The experiment ended without a conclusion; the champion decides again for everybody."""

    experiment_id: str


class ExperimentConcluded(ControlEvent, tag="experiment_concluded.v1", tag_field="type", frozen=True, kw_only=True):
    """The experiment ended with a verdict; a winner becomes champion by a ModelDeployed of its own.

    winner: an arm's name, "" for none. evidence: what the verdict rests on, by name.
    """

    experiment_id: str
    verdict: Literal["promote", "keep", "rollback"]
    winner: str = ""
    evidence: dict[str, float] = {}


class RetrainingStarted(ControlEvent, tag="retraining_started.v1", tag_field="type", frozen=True, kw_only=True):
    """Work on a new model began. trigger: what caused it; known_until: the moment (epoch ms) up to which it may look;
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
    """No model came of it: `reason` says why (the gate's words, or what failed)."""

    run_id: str
    metrics: dict[str, float] = {}


class DegradationDetected(ControlEvent, tag="degradation_detected.v1", tag_field="type", frozen=True, kw_only=True):
    """A deployed model does worse than it must. model: name-version; value against limit, in the metric's unit."""

    model: str
    digest: str
    metric: str
    value: float
    limit: float
    window_start: int
    window_end: int


class SegmentArchived(ControlEvent, tag="segment_archived.v1", tag_field="type", frozen=True, kw_only=True):
    partition: int
    first_sequence: int
    last_sequence: int
    digest: str


class LogTrimmed(ControlEvent, tag="log_trimmed.v1", tag_field="type", frozen=True, kw_only=True):
    partition: int
    up_to_sequence: int


Control = (
    SourceGenerationStarted
    | ModelRegistered
    | ModelDeployed
    | ModelRolledBack
    | ModelWithdrawn
    | GovernanceChanged
    | DeploymentProposed
    | ThresholdsChanged
    | RulesChanged
    | ListChanged
    | ReferencePublished
    | DriftDetected
    | DriftCleared
    | ExperimentStarted
    | ExperimentRamped
    | ExperimentStopped
    | ExperimentConcluded
    | RetrainingStarted
    | RetrainingFinished
    | RetrainingRejected
    | DegradationDetected
    | SegmentArchived
    | LogTrimmed
)
