"""The control stream: everything that concerns the system rather than an account. One stream, totally ordered.

Here are its union and what workers and the archive report; `models`, `programs`, `experiments` and `business` hold the
rest.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from core.events.base import ControlEvent
from core.events.business import ListChanged, RatesChanged, ResponsesChanged, RulesChanged, ThresholdsChanged
from core.events.experiments import ExperimentConcluded, ExperimentRamped, ExperimentStarted, ExperimentStopped
from core.events.feedback import FeedbackSource
from core.events.identity import (
    ChangeProposed,
    ChangeWithdrawn,
    IdentityAdded,
    IdentityChanged,
    IdentityKeyAdded,
    IdentityKeyRevoked,
    IdentityRequired,
    IdentityRevoked,
)
from core.events.models import (
    DegradationDetected,
    DeploymentProposed,
    DeploymentWithdrawn,
    DriftCleared,
    DriftDetected,
    GovernanceChanged,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ModelWithdrawn,
    RetrainingFinished,
    RetrainingRejected,
    RetrainingStarted,
)
from core.events.programs import (
    ProgramApproved,
    ProgramDeployed,
    ProgramPrepared,
    ProgramProposed,
    ProgramRegistered,
    ProgramRolledBack,
    ProgramWithdrawn,
)

Partitioner = Literal["murmur2", "crc32"]
"""How producers choose a key's partition (core.partitioner): Java's default, or librdkafka's."""


class LogCreated(ControlEvent, tag="log_created.v1", tag_field="type", frozen=True, kw_only=True):
    """A log began: what holds for as long as the log exists (core.identity).

    log_id: random, 32 hexadecimal digits. hash_key: the 128-bit key of all hashes in features, reference tables and
    account state, likewise. partitioner: how the topics' producers choose a key's partition, of `partitions`.
    accounts_max: how many accounts a partition holds before it evicts. program: SHA-256 of the program that decides
    until another is deployed (core.program.library). tokens: the ID of the vault's key if the log holds tokens instead
    of raw identifiers (docs/privacy.md), else "".
    """

    log_id: str
    hash_key: str
    partitioner: Partitioner
    partitions: int
    accounts_max: int
    program: str
    tokens: str = ""


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


class CheckpointSigned(ControlEvent, tag="checkpoint_signed.v1", tag_field="type", frozen=True, kw_only=True):
    """The notary has signed a checkpoint of the log, and a copy is outside of it. number: 1, 2, 3 …; state: the hash of
    its state in the tree of states; digest: SHA-256 of its text (hex; `core.log.checkpoints`).
    """

    number: int
    state: str
    digest: str


class SegmentArchived(ControlEvent, tag="segment_archived.v1", tag_field="type", frozen=True, kw_only=True):
    """The partition's batches from the first to the last sequence are in the archive, fsynced and read back."""

    partition: int
    first_sequence: int
    last_sequence: int
    digest: str


class AccountsErased(ControlEvent, tag="accounts_erased.v1", tag_field="type", frozen=True, kw_only=True):
    """The keys of these accounts, by their tokens, were destroyed (docs/privacy.md): nothing leads from a person to
    what the log holds of them any more, and their sealed values can't be opened.

    searched: how many bytes were searched for their raw IDs, by place (log, snapshots, …); found: how many places in
    them still held one. seals: how far each partition had come.
    """

    accounts: tuple[str, ...]
    searched: dict[str, int] = {}
    found: dict[str, int] = {}
    seals: tuple[SealPoint, ...] = ()


class SealedValuesOpened(ControlEvent, tag="sealed_values_opened.v1", tag_field="type", frozen=True, kw_only=True):
    """Somebody opened sealed attributes of a payment (docs/privacy.md): of the account with this token, at this place
    of the log.
    """

    account: str
    place: str
    fields: tuple[str, ...]


class ValuesUnmasked(ControlEvent, tag="values_unmasked.v1", tag_field="type", frozen=True, kw_only=True):
    """Somebody for whom personal data is masked was shown these fields of the payment at this place of the log."""

    place: str
    fields: tuple[str, ...]


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
    | IdentityAdded
    | IdentityChanged
    | IdentityRevoked
    | IdentityKeyAdded
    | IdentityKeyRevoked
    | IdentityRequired
    | ChangeProposed
    | ChangeWithdrawn
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
    | CheckpointSigned
    | SegmentArchived
    | LogTrimmed
    | AccountsErased
    | SealedValuesOpened
    | ValuesUnmasked
)
