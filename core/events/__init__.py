"""Every event of the log: frozen, explicitly tagged structs, one module per stream. This package owns the names and the
wire format; the rest imports them by `from core.events import X`.

Rules (docs/decisions/0001-events.md):
- A tag (`"score.v1"`) identifies the event permanently; class names and import paths do not.
- A new field needs a default; a field never changes its type; a changed meaning needs a new tag and an upcaster.
- Unknown fields are refused at the edge (`Transaction`, `core.validation`) and tolerated in the log.
- Times are epoch milliseconds UTC. `occurred_at` comes from the source; `recorded_at` is the time of the append.
- Nothing here reads a clock or does I/O.
"""

from __future__ import annotations

from core.events.base import (
    START,
    Decision,
    Event,
    Position,
    Severity,
)
from core.events.control import (
    Arm,
    Control,
    ControlEvent,
    DegradationDetected,
    DeploymentProposed,
    DriftCleared,
    DriftDetected,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    GovernanceChanged,
    ListChanged,
    ListEffect,
    ListKind,
    LogTrimmed,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ModelWithdrawn,
    ReferencePublished,
    RetrainingFinished,
    RetrainingRejected,
    RetrainingStarted,
    RulesChanged,
    SegmentArchived,
    SourceGenerationStarted,
    SourceQuarantined,
    ThresholdsChanged,
)
from core.events.feedback import (
    AccountBlocked,
    AccountEvent,
    AccountUnblocked,
    ActionFailed,
    ActionSucceeded,
    CaseAssigned,
    CaseOpened,
    CaseResolved,
    FeedbackReceived,
    FeedbackSource,
    Verdict,
)
from core.events.seals import Seal
from core.events.transactions import (
    CHAMPION_ARM,
    AlertRaised,
    Transaction,
    TransactionReceived,
    TransactionRejected,
    TransactionScored,
)

__all__ = [
    "CHAMPION_ARM",
    "START",
    "AccountBlocked",
    "AccountEvent",
    "AccountUnblocked",
    "ActionFailed",
    "ActionSucceeded",
    "AlertRaised",
    "Arm",
    "CaseAssigned",
    "CaseOpened",
    "CaseResolved",
    "Control",
    "ControlEvent",
    "Decision",
    "DegradationDetected",
    "DeploymentProposed",
    "DriftCleared",
    "DriftDetected",
    "Event",
    "ExperimentConcluded",
    "ExperimentRamped",
    "ExperimentStarted",
    "ExperimentStopped",
    "FeedbackReceived",
    "FeedbackSource",
    "GovernanceChanged",
    "ListChanged",
    "ListEffect",
    "ListKind",
    "LogTrimmed",
    "ModelDeployed",
    "ModelRegistered",
    "ModelRolledBack",
    "ModelWithdrawn",
    "Position",
    "ReferencePublished",
    "RetrainingFinished",
    "RetrainingRejected",
    "RetrainingStarted",
    "RulesChanged",
    "Seal",
    "SegmentArchived",
    "Severity",
    "SourceGenerationStarted",
    "SourceQuarantined",
    "ThresholdsChanged",
    "Transaction",
    "TransactionReceived",
    "TransactionRejected",
    "TransactionScored",
    "Verdict",
]
