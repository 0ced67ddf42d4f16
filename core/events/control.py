"""The control stream: everything that concerns the system rather than an account. One stream, totally ordered."""

from __future__ import annotations

from typing import Literal

import msgspec

from core.events.base import ControlEvent, Severity
from core.events.feedback import FeedbackSource
from core.events.programs import (
    ProgramApproved,
    ProgramDeployed,
    ProgramPrepared,
    ProgramProposed,
    ProgramRegistered,
    ProgramRolledBack,
    ProgramWithdrawn,
)

ListKind = Literal["account", "card", "merchant", "device", "ip", "country"]
ListEffect = Literal["block", "watch", "allow"]
Partitioner = Literal["murmur2", "crc32"]
"""How producers choose a key's partition (core.partitioner): Java's default, or librdkafka's."""


class LogCreated(ControlEvent, tag="log_created.v1", tag_field="type", frozen=True, kw_only=True):
    """A log began: what holds for as long as the log exists (core.identity).

    log_id: random, 32 hexadecimal digits. hash_key: the 128-bit key of all hashes in features, reference tables and
    account state, likewise. partitioner: how the topics' producers choose a key's partition, of `partitions`.
    accounts_max: how many accounts a partition holds before it evicts. program: SHA-256 of the program that decides
    until another is deployed (core.program.library).
    """

    log_id: str
    hash_key: str
    partitioner: Partitioner
    partitions: int
    accounts_max: int
    program: str


class SourceGenerationStarted(
    ControlEvent, tag="source_generation_started.v1", tag_field="type", frozen=True, kw_only=True
):
    """A source topic was first seen, or was recreated: offsets start again. `topic_id` is Kafka's UUID. starts: for
    each partition, the offset of the first message that Kafka held then; () if it is unknown.
    """

    topic: Literal["transactions", "feedback"]
    topic_name: str
    generation: int
    topic_id: str
    partitions: int
    starts: tuple[int, ...] = ()


class PartitionParked(ControlEvent, tag="partition_parked.v1", tag_field="type", frozen=True, kw_only=True):
    """A worker can't go on with this partition, and tries again later; the others go on. code: the kind of trouble
    (docs/failures.md); `reason` describes it.
    """

    partition: int
    code: str


class PartitionResumed(ControlEvent, tag="partition_resumed.v1", tag_field="type", frozen=True, kw_only=True):
    """A partition that was parked is decided again."""

    partition: int


class MessagesSkipped(ControlEvent, tag="messages_skipped.v1", tag_field="type", frozen=True, kw_only=True):
    """The messages with first_offset ≤ offset < next_offset of a source topic's generation are never decided: they
    could not be read (a worker passed them), or Kafka no longer has them (a person accepted the loss). code: as
    PartitionParked's.
    """

    topic: Literal["transactions", "feedback"]
    generation: int
    partition: int
    first_offset: int
    next_offset: int
    code: str


class HistoryStarted(ControlEvent, tag="history_started.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on messages are history: `occurred_at` is also the receive time, and must lie in earliest … latest
    (`core.receipt`). begins: the Kafka offset of the first such message in each partition of `transactions` and
    `feedback`; {} for every message. At most one history is open.
    """

    earliest: int
    latest: int
    begins: dict[str, tuple[int, ...]] = {}


class HistoryEnded(ControlEvent, tag="history_ended.v1", tag_field="type", frozen=True, kw_only=True):
    """The open history ends. ends: the Kafka offset after its last message in each partition of `transactions` and
    `feedback`, so that messages not yet decided still belong to it; {} for the end at once.
    """

    ends: dict[str, tuple[int, ...]] = {}


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
    """four_eyes: from here on a champion must be deployed by somebody other than its proposer."""

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


class ThresholdsChanged(ControlEvent, tag="thresholds_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """Probabilities at or above which a transaction is reviewed or declined; 0 < review ≤ decline ≤ 1.

    review_loss, decline_loss: if above 0, that decision is made from this expected loss on instead: probability ×
    amount, in the log's base currency.
    """

    review: float
    decline: float
    review_loss: float = 0.0
    decline_loss: float = 0.0


class RulesChanged(ControlEvent, tag="rules_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """Parameters of the program in force by name, and the codes of disabled rules."""

    parameters: dict[str, float] = {}
    disabled: tuple[str, ...] = ()


class ListChanged(ControlEvent, tag="list_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """Adds to and removes from the list of one kind and effect."""

    kind: ListKind
    effect: ListEffect
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class RatesChanged(ControlEvent, tag="rates_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on amounts are decided in currency `base`; rates: the worth of one unit of each other currency in it.
    All rates at once: one that is left out is no longer known.
    """

    base: str
    rates: dict[str, float] = {}


class ReferencePublished(ControlEvent, tag="reference_published.v1", tag_field="type", frozen=True, kw_only=True):
    """An immutable reference table (core.features.reference). `as_of` is event time, epoch ms; digest SHA-256."""

    kind: Literal["merchant", "device"]
    digest: str
    as_of: int
    rows: int


class SourceQuarantined(ControlEvent, tag="source_quarantined.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on features ignore one source's verdicts recorded in one hour, when it exceeded its rate limit.

    name: the actor or account that the rate is counted for. hour_start: of log time, epoch ms.
    """

    source: FeedbackSource
    name: str
    hour_start: int


class ResponsesChanged(ControlEvent, tag="responses_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on responders carry out these recommended actions, or hold them back (the kill switch).

    begins: for each partition, the seal after which alerts count: those up to it are never acted on. () keeps the
    actions' former ones, so that what waited meanwhile is carried out.
    """

    enabled: bool
    actions: tuple[str, ...]
    begins: tuple[int, ...] = ()


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


class Arm(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One side of an experiment: the model, and the program by its SHA-256, that decide for `share` of the experiment's
    accounts (of 10,000). program: "" for the one that is deployed.
    """

    name: str
    model: str
    version: str
    digest: str
    share: int
    program: str = ""


class ExperimentStarted(ControlEvent, tag="experiment_started.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on each account in the experiment is decided by its arm's program and model. See core.assignment.

    arms: the first is the control and must be the champion under the deployed program; shares add up to 10,000.
    traffic: how many of 10,000 accounts are in the experiment. An account counts once, with the transactions of its
    first `window_ms` in the experiment, when labels of age `maturity_ms` are known. alpha: the error level of all
    statements together. primary: the metric that decides; worthwhile: the smallest gain on it that makes an arm worth
    promoting; guardrails: metrics that must not get worse by more than guardrail_margin (a share of accounts: 0.002 is
    two in a thousand). After `duration_max_ms` it ends without a winner. is_guardrail: the arm was shown to be better
    before, by `evidence`, and wins if no guardrail is breached (learners.experiments.verdict).
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
    is_guardrail: bool = False
    evidence: dict[str, float] = {}


class ExperimentRamped(ControlEvent, tag="experiment_ramped.v1", tag_field="type", frozen=True, kw_only=True):
    """The share of accounts in the experiment changes. Raising it keeps every account's arm."""

    experiment_id: str
    traffic: int


class ExperimentStopped(ControlEvent, tag="experiment_stopped.v1", tag_field="type", frozen=True, kw_only=True):
    """The experiment ended without a conclusion; the champion decides again for everybody."""

    experiment_id: str


class ExperimentConcluded(ControlEvent, tag="experiment_concluded.v1", tag_field="type", frozen=True, kw_only=True):
    """The experiment ended with a verdict; a winner becomes champion by a ModelDeployed of its own.

    winner: an arm's name, "" for none. evidence: the figures behind the verdict, by name (`docs/experiments.md`).
    """

    experiment_id: str
    verdict: Literal["promote", "keep", "rollback"]
    winner: str = ""
    evidence: dict[str, float] = {}


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


class DegradationStarted(ControlEvent, tag="degradation_started.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on these partitions are decided without these artifacts, which their worker can't load (I12). Replaces
    what was said of these partitions before. A model that performs worse is a DegradationDetected.

    partitions, artifacts: ascending; an artifact is a model or reference table by SHA-256 (hex).
    """

    partitions: tuple[int, ...]
    artifacts: tuple[str, ...]


class DegradationEnded(ControlEvent, tag="degradation_ended.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on these partitions (ascending) are decided with everything that is deployed and published."""

    partitions: tuple[int, ...]


class SealPoint(msgspec.Struct, frozen=True, gc=False):
    """A partition's seal, by its sequence and digest."""

    partition: int
    sequence: int
    digest: str


class SealsRecorded(ControlEvent, tag="seals_recorded.v1", tag_field="type", frozen=True, kw_only=True):
    """These partitions' logs have reached these seals. Later seals of all partitions contain the control stream's
    digest, so a partition can't be cut or computed again before its recorded seal without the others.
    """

    seals: tuple[SealPoint, ...]


class SegmentArchived(ControlEvent, tag="segment_archived.v1", tag_field="type", frozen=True, kw_only=True):
    """The partition's batches from the first to the last sequence are in the archive, fsynced and read back."""

    partition: int
    first_sequence: int
    last_sequence: int
    digest: str


class LogTrimmed(ControlEvent, tag="log_trimmed.v1", tag_field="type", frozen=True, kw_only=True):
    """The partition's entries up to this seal were removed from the hot log."""

    partition: int
    up_to_sequence: int


Control = (
    LogCreated
    | SourceGenerationStarted
    | PartitionParked
    | PartitionResumed
    | MessagesSkipped
    | HistoryStarted
    | HistoryEnded
    | ModelRegistered
    | ModelDeployed
    | ModelRolledBack
    | ModelWithdrawn
    | GovernanceChanged
    | DeploymentProposed
    | DeploymentWithdrawn
    | ProgramRegistered
    | ProgramProposed
    | ProgramApproved
    | ProgramWithdrawn
    | ProgramPrepared
    | ProgramDeployed
    | ProgramRolledBack
    | ThresholdsChanged
    | RulesChanged
    | ListChanged
    | RatesChanged
    | ReferencePublished
    | SourceQuarantined
    | ResponsesChanged
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
    | DegradationStarted
    | DegradationEnded
    | SealsRecorded
    | SegmentArchived
    | LogTrimmed
)
