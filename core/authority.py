"""Who may do what to the log: the roles of identities, and one table of every kind of control event and of feedback.

`KINDS` names every kind; a kind that is missing fails the tests (tests/unit/core/test_authority.py), and is refused
where identity is required or four eyes are on. An identity is a person or a service, never both.

second: whether four eyes need another person's proposal of the same content (`core.changes`):
    never       it decides nothing, or takes something back that may never wait
    always
    loosening   only where it lets more through or gives more power (`core.governance`): a block is put on a list by
                one, and taken off by two
    own         it has a proposal of its own kind (models, programs)
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from core import events

PersonRole = Literal["viewer", "submitter", "analyst", "rule_author", "publisher", "auditor", "admin"]
SourceRole = Literal["customer", "chargeback", "early_fraud_warning", "representment"]
"""Services that give the verdicts of one source: its name is the role."""
ServiceRole = Literal["worker", "archiver", "reference", "learner", "responder", "api", "notary", SourceRole]
PERSONS: tuple[PersonRole, ...] = get_args(PersonRole)
SERVICES: tuple[ServiceRole, ...] = get_args(ServiceRole)
ADMIN, API, WORKER, RESPONDER = "admin", "api", "worker", "responder"

Second = Literal["never", "always", "loosening", "own"]


class Kind(NamedTuple):
    """Roles that may append the kind of event, and whether it needs a second person."""

    roles: frozenset[str]
    second: Second = "never"


def _by(*roles: PersonRole | ServiceRole) -> frozenset[str]:
    return frozenset(roles)


_WORKER, _ARCHIVER, _REFERENCE, _LEARNER = _by("worker"), _by("archiver"), _by("reference"), _by("learner")
_ADMIN, _PUBLISHER, _AUTHOR = _by("admin"), _by("publisher"), _by("rule_author", "publisher")
_MODELS = _by("publisher", "learner")
_ANYBODY = frozenset((*PERSONS, *SERVICES))
_PROPOSERS = _by("analyst", "rule_author", "publisher", "admin", "learner")

KINDS: dict[type[events.ControlEvent], Kind] = {
    # the log
    events.LogCreated: Kind(_WORKER),
    events.SourceGenerationStarted: Kind(_WORKER),
    events.PartitionParked: Kind(_WORKER),
    events.PartitionResumed: Kind(_WORKER),
    events.MessagesSkipped: Kind(_WORKER | _ADMIN),
    events.HistoryStarted: Kind(_ADMIN | _PUBLISHER),
    events.HistoryEnded: Kind(_ADMIN | _PUBLISHER),
    events.DegradationStarted: Kind(_WORKER),
    events.DegradationEnded: Kind(_WORKER),
    events.SealsRecorded: Kind(_WORKER),
    events.CheckpointSigned: Kind(_by("notary")),
    events.SegmentArchived: Kind(_ARCHIVER),
    events.LogTrimmed: Kind(_ARCHIVER),
    events.AccountsErased: Kind(_ADMIN),
    events.SealedValuesOpened: Kind(_by("analyst", "admin")),
    events.ValuesUnmasked: Kind(_AUTHOR),
    events.ReferencePublished: Kind(_REFERENCE),
    events.SourceQuarantined: Kind(_REFERENCE),
    # models and experiments
    events.ModelRegistered: Kind(_MODELS),
    events.ModelDeployed: Kind(_MODELS, "own"),
    events.ModelRolledBack: Kind(_MODELS),
    events.ModelWithdrawn: Kind(_MODELS),
    events.DeploymentProposed: Kind(_MODELS),
    events.DeploymentWithdrawn: Kind(_MODELS | _ADMIN),
    events.DriftDetected: Kind(_LEARNER),
    events.DriftCleared: Kind(_LEARNER),
    events.RetrainingStarted: Kind(_LEARNER),
    events.RetrainingFinished: Kind(_LEARNER),
    events.RetrainingRejected: Kind(_LEARNER),
    events.DegradationDetected: Kind(_LEARNER),
    events.ExperimentStarted: Kind(_MODELS, "always"),
    events.ExperimentRamped: Kind(_MODELS, "loosening"),
    events.ExperimentStopped: Kind(_MODELS),
    events.ExperimentConcluded: Kind(_MODELS),
    # programs
    events.ProgramRegistered: Kind(_AUTHOR),
    events.ProgramProposed: Kind(_AUTHOR),
    events.ProgramApproved: Kind(_PUBLISHER),
    events.ProgramWithdrawn: Kind(_AUTHOR | _ADMIN),
    events.ProgramPrepared: Kind(_WORKER),
    events.ProgramDeployed: Kind(_MODELS, "own"),
    events.ProgramRolledBack: Kind(_MODELS),
    # what the business sets
    events.ThresholdsChanged: Kind(_PUBLISHER, "always"),
    events.RulesChanged: Kind(_PUBLISHER, "always"),
    events.RatesChanged: Kind(_PUBLISHER, "always"),
    events.ListChanged: Kind(_by("analyst", "publisher"), "loosening"),
    events.ResponsesChanged: Kind(_PUBLISHER | _ADMIN),
    # who may act
    events.GovernanceChanged: Kind(_ADMIN, "loosening"),
    events.IdentityRequired: Kind(_ADMIN, "loosening"),
    events.IdentityAdded: Kind(_ADMIN, "loosening"),
    events.IdentityChanged: Kind(_ADMIN, "loosening"),
    events.IdentityRevoked: Kind(_ADMIN),
    events.IdentityKeyAdded: Kind(_ANYBODY, "loosening"),
    events.IdentityKeyRevoked: Kind(_ANYBODY),
    events.ChangeProposed: Kind(_PROPOSERS),
    events.ChangeWithdrawn: Kind(_PROPOSERS),
}

_ANALYST, _RESPONDER = _by("analyst"), _by("responder")
FEEDBACK: dict[type[events.AccountFact], frozenset[str]] = {
    events.FeedbackReceived: _ANALYST,  # of the source analyst; of another, see `feedback_roles`
    events.AccountBlocked: _ANALYST | _RESPONDER,
    events.AccountUnblocked: _ANALYST | _RESPONDER,
    events.CaseOpened: _ANALYST,
    events.CaseAssigned: _ANALYST,
    events.CaseRouted: _ANALYST | _RESPONDER,
    events.CaseResolved: _ANALYST,
    events.CaseReopened: _ANALYST,
    events.CaseSnoozed: _ANALYST,
    events.CaseNoted: _ANALYST,
    events.CaseLinked: _ANALYST,
    events.CaseChecked: _ANALYST,
    events.ActionSucceeded: _RESPONDER,
    events.ActionFailed: _RESPONDER,
    events.ActionRequested: _by("analyst", "publisher", "admin"),
}
"""Who may tell what about an account."""


def feedback_roles(event: events.AccountEvent) -> frozenset[str]:
    """The roles that may tell this about an account. Verdicts of a source that is no person are its own service's, or
    those of a submitter, whom the API lets send them.
    """
    if isinstance(event, events.FeedbackReceived) and event.source != "analyst":
        return frozenset((event.source, "submitter"))
    return FEEDBACK.get(type(event), frozenset())


def kind_of(event: events.ControlEvent) -> Kind:
    """The event's entry; for a kind that has none, one that nobody may append and no second person can approve."""
    return KINDS.get(type(event), Kind(frozenset(), "always"))


def check_roles(roles: tuple[str, ...]) -> str:
    """Why an identity can't have these roles; "" if it can."""
    if not roles:
        return "give at least one role"
    if unknown := [role for role in roles if role not in (*PERSONS, *SERVICES)]:
        return f"unknown role {unknown[0][:40]!r}; known: {', '.join((*PERSONS, *SERVICES))}"
    if len(roles) != len(set(roles)):
        return "a role is given twice"
    if any(role in SERVICES for role in roles) and any(role in PERSONS for role in roles):
        return "an identity is a person or a service: give either's roles"
    return ""


def is_service(roles: tuple[str, ...]) -> bool:
    """Whether roles are those of a service."""
    return any(role in SERVICES for role in roles)


def feedback_matrix() -> str:
    """Who may tell what about an account, as Markdown, for docs/identity.md."""
    rows = ["| account event | roles |", "|---|---|"]
    for source in get_args(events.FeedbackSource):
        roles = "analyst" if source == "analyst" else f"{source}, submitter"
        rows.append(f"| `FeedbackReceived` of source `{source}` | {roles} |")
    for kind, allowed in FEEDBACK.items():
        if kind is not events.FeedbackReceived:
            rows.append(f"| `{kind.__name__}` | {', '.join(r for r in (*PERSONS, *SERVICES) if r in allowed)} |")
    return "\n".join(rows) + "\n"


def matrix() -> str:
    """The table as Markdown, for docs/identity.md."""
    rows = ["| control event | roles | second person |", "|---|---|---|"]
    for kind, (roles, second) in KINDS.items():
        named = "anybody" if roles == _ANYBODY else ", ".join(r for r in (*PERSONS, *SERVICES) if r in roles)
        rows.append(f"| `{kind.__name__}` | {named} | {second} |")
    return "\n".join(rows) + "\n"
