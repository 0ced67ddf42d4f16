"""What people do to the log while it is written: each act is one conditional append to the control stream."""

from __future__ import annotations

import hashlib
from functools import cache

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
    ProgramDeployed,
    ProgramProposed,
    ProgramRegistered,
    ProgramRolledBack,
    ProgramWithdrawn,
    ResponsesChanged,
    ThresholdsChanged,
)
from core.log.base import EventLog
from core.partitions import partitions_of
from core.program import document, library
from core.program.inputs import own_offers
from core.program.loading import Loaded, check
from core.program.plan import plan
from projections.reference.publisher import ReferencePublisher
from responders.settings import ACTIONS
from tests.builders.models import ARTIFACT
from tests.builders.programs import CARDS

SECOND = ARTIFACT + b" "
DIGEST = hashlib.sha256(SECOND).hexdigest()
PROGRAMS = {
    "cards": CARDS,
    "other cards": CARDS.replace(b'"1.0.0"', b'"2.0.0"').replace(b"'7d', alerted", b"'3d', alerted"),
}
"""Programs with aggregates of their own, one of which differs between them."""
FIRST_DIGEST = hashlib.sha256(ARTIFACT).hexdigest()


def carry_out(name: str, log: EventLog, now: int) -> None:
    """Append the act's events. Raises BadInput if it is not possible now, or what the log raises."""
    if name == "publish tables":
        ReferencePublisher(log, partitions_of(log)).step()
        return
    blobs = control_stream.Blobs(log)
    verb, _, program = name.partition(" ")
    if program in PROGRAMS:
        for each in _stored(program):
            blobs.put(each)
        control_stream.append(log, lambda known: _of_program(verb, program, known, now), blobs=blobs)
        return
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
        case "take program back":
            programs = known.state.governance.programs
            about = {"occurred_at": now, "actor": "ann", "reason": name}
            return [ProgramRolledBack(**about, digest=programs.before)] if programs.in_force else []
        case "approve":
            return [ModelDeployed(**{**model, "actor": "bob"}, causation_id="p1")]
        case _:
            raise AssertionError(f"no such act: {name}")


def _is_registered(known: Known) -> bool:
    return any(isinstance(entry.event, ModelRegistered) and entry.event.digest == DIGEST for entry in known.entries)


@cache
def _loaded(program: str) -> tuple[Loaded, dict[str, str]]:
    """The program, and what models may read of it."""
    loaded = check(PROGRAMS[program])
    return loaded, own_offers(plan(loaded.checked, library.kernel()))


def _stored(program: str) -> list[bytes]:
    """Its libraries' documents and its own."""
    loaded, _ = _loaded(program)
    return [*map(library.content, loaded.program.uses.values()), document.canonical(loaded.program)]


def _of_program(verb: str, program: str, known: Known, now: int) -> list[Control]:
    """`propose` it, so that workers prepare for it; `start` it, prepared or not; `withdraw` the proposal."""
    if not known.state.generations:
        raise BadInput("the log has not begun")
    loaded, offers = _loaded(program)
    about = {"occurred_at": now, "actor": "ann", "reason": verb}
    programs = known.state.governance.programs
    registered: list[Control] = []
    if loaded.digest not in programs.labels:
        label = {"name": loaded.program.name, "version": loaded.program.version}
        registered = [ProgramRegistered(**about, **label, digest=loaded.digest, offers=offers)]
    match verb:
        case "propose":
            return [*registered, ProgramProposed(**about, proposal_id=f"{program} {now}", digest=loaded.digest)]
        case "withdraw":
            open_ones = [key for key, each in programs.proposals.items() if each.digest == loaded.digest]
            return [ProgramWithdrawn(**about, proposal_id=key) for key in open_ones]
        case "start":
            return [*registered, ProgramDeployed(**about, digest=loaded.digest)]
        case _:
            raise AssertionError(f"no such act: {verb} {program}")
