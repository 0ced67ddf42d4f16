"""The model, reference tables and policy in force when a decision was made, and who had put them in force.

Derived from the control stream up to the decision's c; refused events are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from core import canonical, events
from core.control import ControlState
from core.events import Control, TransactionReceived, TransactionScored
from core.features import spec

Seen = Sequence[tuple[int, Control]]
"""The events up to c that took effect, with their positions."""


class ControlChange(msgspec.Struct, frozen=True):
    """A control event: its position (`sequence`), and who appended it, when (epoch ms) and why."""

    sequence: int
    type: str
    actor: str
    occurred_at: int
    reason: str


class ModelStory(msgspec.Struct, frozen=True):
    """The model that decided at c. digest: the artifact's full SHA-256; deployed: who promoted it."""

    label: str
    digest: str
    spec: int
    deployed: ControlChange | None
    registered: ControlChange | None
    metrics: dict[str, float]
    parent: str


class ReferenceStory(msgspec.Struct, frozen=True):
    """A reference table that was joined. as_of: event time, epoch ms."""

    kind: str
    digest: str
    as_of: int
    rows: int
    published: ControlChange


class Policy(msgspec.Struct, frozen=True):
    """Thresholds, rule parameters other than the defaults, disabled rules, and list hits, all at c."""

    review: float
    decline: float
    review_loss: float
    decline_loss: float
    thresholds_changed: ControlChange | None
    parameters: dict[str, float]
    disabled: tuple[str, ...]
    rules_changed: ControlChange | None
    listed: list[str]


def _change(sequence: int, event: Control) -> ControlChange:
    kind = str(event.__struct_config__.tag)
    return ControlChange(sequence, kind, event.actor, event.occurred_at, event.reason)


def _last(seen: Seen, wanted: Callable[[Control], bool]) -> ControlChange | None:
    return next((_change(n, e) for n, e in reversed(seen) if wanted(e)), None)


def model_in_force(seen: Seen, score: TransactionScored) -> ModelStory | None:
    """The model that decided, found by its digest among the models named in the control stream by then."""
    if not score.digest:
        return None

    def made_it_decide(event: Control) -> bool:
        match event:
            case events.ModelDeployed() | events.ModelRolledBack():
                return event.alias == "champion" and event.digest.startswith(score.digest)
            case events.ExperimentStarted():
                names = [f"{event.experiment_id}/{arm.name}" for arm in event.arms]
                return score.arm in names
            case _:
                return False

    deployed = next(((n, e) for n, e in reversed(seen) if made_it_decide(e)), None)
    registered = next(
        (
            (n, e)
            for n, e in reversed(seen)
            if isinstance(e, events.ModelRegistered) and e.digest.startswith(score.digest)
        ),
        None,
    )
    return ModelStory(
        label=score.model,
        digest=_whole_digest(deployed[1] if deployed else None, score),
        spec=registered[1].spec if registered else spec.SPEC_VERSION,
        deployed=_change(*deployed) if deployed else None,
        registered=_change(*registered) if registered else None,
        metrics=registered[1].metrics if registered else {},
        parent=registered[1].parent if registered else "",
    )


def _whole_digest(deployed: Control | None, score: TransactionScored) -> str:
    """All 64 digits of the model's SHA-256; scores record the first 16."""
    match deployed:
        case events.ModelDeployed() | events.ModelRolledBack():
            return deployed.digest
        case events.ExperimentStarted():
            arms = [arm for arm in deployed.arms if score.arm == f"{deployed.experiment_id}/{arm.name}"]
            return arms[0].digest if arms else score.digest
        case _:
            return score.digest


def references_in_force(seen: Seen) -> list[ReferenceStory]:
    """The newest table of each kind."""
    newest: dict[str, ReferenceStory] = {}
    for n, e in seen:
        if isinstance(e, events.ReferencePublished):
            newest[e.kind] = ReferenceStory(e.kind, e.digest, e.as_of, e.rows, _change(n, e))
    return [newest[kind] for kind in sorted(newest)]


def policy_in_force(seen: Seen, state: ControlState, transaction: TransactionReceived) -> Policy:
    """The policy in force. state: the fold of `seen`."""
    listed = []
    for (kind, effect), members in state.lists.items():
        value = getattr(transaction, canonical.FIELDS[kind])
        if canonical.Members.of(kind, members).has(canonical.canonical(kind, value)):
            listed.append(f"{kind} {value}: {effect}")
    return Policy(
        review=state.review,
        decline=state.decline,
        review_loss=state.review_loss,
        decline_loss=state.decline_loss,
        thresholds_changed=_last(seen, lambda e: isinstance(e, events.ThresholdsChanged)),
        parameters=state.parameters,
        disabled=state.disabled,
        rules_changed=_last(seen, lambda e: isinstance(e, events.RulesChanged)),
        listed=listed,
    )
