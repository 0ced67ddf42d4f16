"""What people do to the log while it is written: each act is one conditional append to the control stream."""

from __future__ import annotations

import hashlib

from core import control_stream
from core.control_stream import Known
from core.errors import BadInput
from core.events import (
    Control,
    DeploymentProposed,
    GovernanceChanged,
    ListChanged,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ResponsesChanged,
    ThresholdsChanged,
)
from core.log.base import EventLog
from responders.settings import ACTIONS
from tests.builders.models import ARTIFACT

SECOND = ARTIFACT + b" "
DIGEST = hashlib.sha256(SECOND).hexdigest()
FIRST_DIGEST = hashlib.sha256(ARTIFACT).hexdigest()


def carry_out(name: str, log: EventLog, now: int) -> None:
    """Append the act's events. Raises BadInput if it is not possible now, or what the log raises."""
    blobs = control_stream.Blobs(log)
    if name in ("deploy", "shadow", "propose"):
        blobs.put(SECOND)
    control_stream.append(log, lambda known: _events(name, known, now), blobs=blobs)


def _events(name: str, known: Known, now: int) -> list[Control]:
    if not known.state.generations:
        raise BadInput("the log has not begun")
    model = {"occurred_at": now, "actor": "ann", "reason": name, "name": "tiny", "version": "2.0.0", "digest": DIGEST}
    registered = [] if _is_registered(known) else [ModelRegistered(**model, spec=1)]
    match name:
        case "thresholds":
            decline = 0.5 + (now % 40) / 100
            return [ThresholdsChanged(occurred_at=now, actor="ann", reason=name, review=decline / 3, decline=decline)]
        case "block merchant":
            about = {"occurred_at": now, "actor": "ann", "reason": name}
            return [ListChanged(**about, kind="merchant", effect="block", add=(f"m{now % 9}",))]
        case "deploy":
            return [*registered, ModelDeployed(**model)]
        case "shadow":
            return [*registered, ModelDeployed(**model, alias="shadow")]
        case "roll back":
            return [ModelRolledBack(**{**model, "version": "1.0.0", "digest": FIRST_DIGEST})]
        case "four eyes":
            return [GovernanceChanged(occurred_at=now, actor="ann", reason=name, four_eyes=True)]
        case "propose":
            return [*registered, DeploymentProposed(**model, proposal_id="p1")]
        case "respond":
            begins = (0,) * known.state.generations["transactions"].partitions
            about = {"occurred_at": now, "actor": "ann", "reason": name}
            return [ResponsesChanged(**about, enabled=True, actions=ACTIONS, begins=begins)]
        case "approve":
            return [ModelDeployed(**{**model, "actor": "bob"}, causation_id="p1")]
        case _:
            raise AssertionError(f"no such act: {name}")


def _is_registered(known: Known) -> bool:
    return any(isinstance(entry.event, ModelRegistered) and entry.event.digest == DIGEST for entry in known.entries)
