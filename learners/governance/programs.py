"""Acts on programs: propose, approve, withdraw, deploy, roll back; each one conditional append to the control stream.

    propose    store the document as a blob, then ProgramRegistered and ProgramProposed    proposed
    approve    another person's proposal                                                   approved
    withdraw   an open proposal, one's own or another's                                    withdrawn
    deploy     a proposed or registered program; four eyes require an approval             deployed
    roll back  to a program that decided before, or the log's default; needs no approval   rolled back

The fold of the control stream sees events, not documents. So a document is checked here, before anything is appended,
and what is deployed is loaded from the log and checked again, as every worker will. An act that already has its result
appends nothing, so each act can be repeated after an unknown outcome. Raises BadInput and ConcurrencyError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core import control_stream
from core.control_stream import Appended, Blobs, ControlStream, Known
from core.errors import BadInput, Corrupt
from core.events import (
    Control,
    ProgramApproved,
    ProgramDeployed,
    ProgramProposed,
    ProgramRegistered,
    ProgramRolledBack,
    ProgramWithdrawn,
)
from core.identity import required
from core.log.base import EventLog
from core.program import document, library, loading
from core.program.document import Program
from core.program.governance import PREPARED_MAX
from core.program.inputs import own_offers
from core.program.plan import plan
from learners.governance.control_events import Act
from projections.views.programs import ProgramRegistry, Proposal, before, find, in_force, label_of, programs_of


@dataclass(frozen=True, slots=True)
class ProgramAct:
    """The result of an act on a program: the control position after it, what happened, and to which program."""

    position: int
    outcome: Literal["proposed", "approved", "withdrawn", "deployed", "rolled back", "unchanged"]
    program: str
    digest: str
    proposal_id: str = ""
    ended: str = ""
    """The experiment that ended, because the program of its control no longer decides."""


def propose(log: EventLog, program: Program, act: Act) -> ProgramAct:
    """Store a checked document (`core.program.checking.check`) and propose that it decide. If the same program is
    proposed already, nothing changes.
    """
    digest = document.digest(program)
    offered = own_offers(plan(loading.of_program(program, log.get_blob).checked, library.kernel()))
    blobs = Blobs(log)
    if [blobs.put(each) for each in library.blobs_of(program)][-1] != digest:
        raise Corrupt("the log stored the program under another SHA-256 than that of its content")

    def events(registry: ProgramRegistry, _: Known) -> list[Control]:
        found: list[Control] = []
        if digest not in registry.programs:
            named: dict[str, Any] = {"name": program.name, "version": program.version, "digest": digest}
            found.append(ProgramRegistered(**act.fields, **named, parent=in_force(registry), offers=offered))
        if not _open(registry, digest):
            proposal_id = _proposal_id(registry, program.label)
            found.append(ProgramProposed(**act.fields, proposal_id=proposal_id, digest=digest))
        return found

    appended, registry = _append(log, events, blobs)
    made = [event.proposal_id for event in appended.events if isinstance(event, ProgramProposed)]
    proposal_id = made[0] if made else _open(registry, digest)
    return ProgramAct(appended.position, "proposed" if made else "unchanged", program.label, digest, proposal_id)


def approve(log: EventLog, proposal_id: str, act: Act) -> ProgramAct:
    """Approve another person's proposal; `deploy` carries it out."""

    def events(registry: ProgramRegistry, _: Known) -> list[Control]:
        proposal = _proposal(registry, proposal_id)
        if proposal.approved is not None and proposal.proposed.actor != act.actor:
            return []
        return [ProgramApproved(**act.fields, proposal_id=proposal_id)]

    appended, registry = _append(log, events)
    proposal = _proposal(registry, proposal_id)
    outcome: Literal["approved", "unchanged"] = "approved" if appended.events else "unchanged"
    return ProgramAct(appended.position, outcome, label_of(registry, proposal.digest), proposal.digest, proposal_id)


def withdraw(log: EventLog, proposal_id: str, act: Act) -> ProgramAct:
    """Take back an open proposal, one's own or another's: it can't be approved or deployed, and workers no longer
    prepare for it. Withdrawn already, nothing changes.
    """

    def events(registry: ProgramRegistry, _: Known) -> list[Control]:
        if proposal_id not in registry.proposals and _was_withdrawn(registry, proposal_id) is not None:
            return []
        _proposal(registry, proposal_id)
        return [ProgramWithdrawn(**act.fields, proposal_id=proposal_id)]

    appended, registry = _append(log, events)
    proposal = registry.proposals.get(proposal_id) or _was_withdrawn(registry, proposal_id)
    assert proposal is not None
    outcome: Literal["withdrawn", "unchanged"] = "withdrawn" if appended.events else "unchanged"
    return ProgramAct(appended.position, outcome, label_of(registry, proposal.digest), proposal.digest, proposal_id)


def _was_withdrawn(registry: ProgramRegistry, proposal_id: str) -> Proposal | None:
    found = (each.proposal for each in reversed(registry.withdrawn) if each.proposal.proposal_id == proposal_id)
    return next(found, None)


def deploy(log: EventLog, name: str, act: Act) -> ProgramAct:
    """Let a program decide: by the ID of a proposal, `name@version`, or its SHA-256's first digits. An open proposal of
    the program is its cause.
    """

    running: list[str] = []

    def events(registry: ProgramRegistry, known: Known) -> list[Control]:
        running.append(known.state.governance.experiment)
        digest = _named(registry, name)
        if digest == in_force(registry):
            return []
        check_stored(log, digest)
        cause = name if name in registry.proposals else _open(registry, digest)
        answer = Act(act.actor, act.reason, act.now_ms, cause or act.causation_id)
        return [ProgramDeployed(**answer.fields, digest=digest)]

    appended, registry = _append(log, events)
    digest = _named(registry, name)
    ended = running[-1] if appended.events else ""
    outcome: Literal["deployed", "unchanged"] = "deployed" if appended.events else "unchanged"
    return ProgramAct(appended.position, outcome, label_of(registry, digest), digest, ended=ended)


def to_deploy(log: EventLog, name: str, act: Act) -> tuple[str, list[int]]:
    """The program (SHA-256) that a name means, and the partitions that are not yet prepared for it; none if it has no
    aggregates of its own, or decides already. It is proposed if it is not: workers prepare for what is proposed.
    """
    entries = control_stream.history(log)
    state, registry = control_stream.fold(entries), programs_of(entries)
    digest = _named(registry, name)
    cause = name if name in registry.proposals else _open(registry, digest)
    if digest == in_force(registry):
        return digest, []
    deployed = ProgramDeployed(**Act(act.actor, act.reason, act.now_ms, cause).fields, digest=digest)
    state.governance.programs.check(deployed, state.governance.four_eyes)  # before anybody waits
    return digest, prepare(log, digest, act)


def prepare(log: EventLog, digest: str, act: Act) -> list[int]:
    """The partitions that are not yet prepared for a program (SHA-256); none if it has no aggregates of its own. It is
    proposed if it is not. Raises BadInput if workers don't prepare it.
    """
    entries = control_stream.history(log)
    known, registry = control_stream.fold(entries).governance.programs, programs_of(entries)
    check_stored(log, digest)
    loaded = loading.load(digest, log.get_blob)
    if not plan(loaded.checked, library.kernel()).layout.aggregates or digest in known.trying:
        return []
    proposal = _open(registry, digest)
    if not proposal:
        propose(log, loaded.program, act)
    elif digest not in known.proposed:
        raise BadInput(
            f"workers prepare only the {PREPARED_MAX} newest proposals, and newer ones than {proposal} are open:"
            " withdraw or deploy those first, or go on with --now, so that partitions pause while they fold its"
            " aggregates"
        )
    return unprepared(log, digest)


def unprepared(log: EventLog, digest: str, stream: ControlStream | None = None) -> list[int]:
    """The partitions with decisions that no worker has prepared for a program (SHA-256). stream: one that is followed,
    so that only what is new is read.
    """
    stream = stream or ControlStream()
    stream.advance(log)
    prepared = stream.state.governance.programs.prepared.get(digest, {})
    partitions = required(stream.state.identity).partitions
    return [p for p in range(partitions) if p not in prepared and log.head(p).sequence > 0]


def roll_back(log: EventLog, act: Act, to: str | None = None) -> ProgramAct:
    """Return to the program that the one in force replaced, or to `to`: `name@version`, first digits, or "default"."""

    def target(registry: ProgramRegistry) -> str:
        return before(registry) if to is None else find(registry, to)

    running: list[str] = []

    def events(registry: ProgramRegistry, known: Known) -> list[Control]:
        running.append(known.state.governance.experiment)
        digest = target(registry)
        if digest == in_force(registry):
            return []
        if digest:
            check_stored(log, digest)
        return [ProgramRolledBack(**act.fields, digest=digest)]

    appended, registry = _append(log, events)
    digest = target(registry)
    outcome: Literal["rolled back", "unchanged"] = "rolled back" if appended.events else "unchanged"
    ended = running[-1] if appended.events else ""
    return ProgramAct(appended.position, outcome, label_of(registry, digest), digest or registry.default, ended=ended)


def stored(log: EventLog, digest: str) -> Program:
    """The document of a registered program. Raises Corrupt if its blob is missing or not what was registered."""
    return loading.read_blob(log.get_blob(digest), digest)


def check_stored(log: EventLog, digest: str) -> None:
    """Raise BadInput unless workers will be able to load the program."""
    try:
        loading.load(digest, log.get_blob)
    except (Corrupt, BadInput) as error:
        raise BadInput(f"program {digest[:16]} can't be loaded, so it can't decide: {error}") from None


def _named(registry: ProgramRegistry, name: str) -> str:
    if name in registry.proposals:
        return registry.proposals[name].digest
    digest = find(registry, name)
    if not digest:
        raise BadInput(
            "the log's default program is not deployed but rolled back to: sentinel program rollback default"
        )
    return digest


def _proposal(registry: ProgramRegistry, proposal_id: str) -> Proposal:
    proposal = registry.proposals.get(proposal_id)
    if proposal is None:
        known = ", ".join(sorted(registry.proposals)) or "none"
        raise BadInput(f"no proposal {proposal_id!r} is open (open: {known})")
    return proposal


def _open(registry: ProgramRegistry, digest: str) -> str:
    """The ID of an open proposal of the program, an approved one first; "" for none."""
    found = [each for each in registry.proposals.values() if each.digest == digest]
    found.sort(key=lambda each: each.approved is None)  # stable
    return found[0].proposal_id if found else ""


def _proposal_id(registry: ProgramRegistry, label: str) -> str:
    proposal_id = f"{label}:{len(registry.services)}"
    used = {*registry.proposals, *(each.proposal.proposal_id for each in registry.withdrawn)}
    while proposal_id in used:
        proposal_id += "+"
    return proposal_id


def _append(
    log: EventLog, decide: Callable[[ProgramRegistry, Known], Sequence[Control]], blobs: Blobs | None = None
) -> tuple[Appended, ProgramRegistry]:
    """Append what `decide` makes from the registry; returns what was appended, and that registry."""
    seen: list[ProgramRegistry] = []

    def of_registry(known: Known) -> Sequence[Control]:
        seen.append(programs_of(known.entries))
        return decide(seen[-1], known)

    return control_stream.append(log, of_registry, blobs=blobs), seen[-1]
