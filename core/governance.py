"""Which control events may come next: the rules that depend on earlier events. A small fold inside the live fold
(`core.control`); every reader of the stream honours its refusals (`core.control_stream`).

    a log is created            once: its identity never changes
    a model is named            a name and version stand for one artifact, from the first event that names both on,
                                whatever it does: registration, deployment, rollback, an experiment's arm
    a champion is deployed      under four eyes: only on another person's open proposal of that very model
    a champion is rolled back   only to a former champion; needs no second person
    something is proposed       under an ID that no earlier proposal had: whoever approves it by its ID approves what
                                they looked at, not what was put in its place
    a proposal is withdrawn     by anybody, while it is open
    what decides is changed     under four eyes: only on another person's open proposal of the same (`core.changes`);
                                `core.authority` says which kinds
    somebody acts               see `core.roster`
    an experiment starts        if none is running, its ID is unused, its control arm is the champion under the deployed
                                program, and the programs of its other arms may be tried (`core.program.governance`)
    it is ramped or ended       by its ID, while it is running
    a history begins or ends    if none is open, or one is
    the champion or the deployed program changes    by deployment or rollback; this ends a running experiment, whose
                                control is gone
    a program decides           see `core.program.governance`
    a model serves, a program   if each program offers what champion, shadow and arms read under it (`ModelRegistered`,
      decides                   `ProgramRegistered`); what they say is only what the fold can know: a worker binds the
                                artifact itself, and reports one that it can't (`core.context`)

`core.control_stream.append` first checks events against the state at the expected position. The append is conditional
on that position, so what was allowed is still allowed when it is written. The fold refuses everything else.
"""

from __future__ import annotations

from typing import get_args

import msgspec

from core import assignment, changes, identity, receipt
from core.authority import kind_of
from core.changes import Change
from core.errors import BadInput
from core.events import (
    ChangeProposed,
    ChangeWithdrawn,
    Control,
    DeploymentProposed,
    DeploymentWithdrawn,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    FeedbackRule,
    GovernanceChanged,
    HistoryEnded,
    HistoryStarted,
    IdentityAdded,
    IdentityChanged,
    IdentityKeyAdded,
    IdentityRequired,
    ListChanged,
    LogCreated,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ModelWithdrawn,
    ProgramApproved,
    ProgramDeployed,
    ProgramProposed,
    ProgramRolledBack,
)
from core.program.governance import Programs
from core.roster import Roster
from core.text import listed

CHAMPION = "champion"
SHADOW = "shadow"
PROPOSALS_OPEN_MAX = 100
REMEMBERED_MAX = 1_000
"""How many ended experiments, and how many champions, are remembered: the newest. An experiment lasts for weeks, so a
forgotten ID is hardly ever used again; if it is, both experiments share one place in the read model.
"""


class Proposal(msgspec.Struct, frozen=True):
    """An open proposal: who proposes which model (by SHA-256) for which alias."""

    actor: str
    digest: str
    alias: str


class Governance(msgspec.Struct):
    """The fold. champion: its SHA-256; experiment: the running one's ID; "" for none. proposals: open ones, by ID.
    ended: IDs of ended experiments; champions: SHA-256 of the present and former ones (newest last; bounded).
    registered: SHA-256 by name-version, of what was registered or has served. history: whether one is open. created:
    whether the log has its identity. shadow: SHA-256 of the model that scores beside the champion. traffic: of the
    running experiment, in 1/10,000. changes: open proposals of other changes, by ID. reads: what a registered model
    reads that not every program offers, by its SHA-256. closed: IDs of closed proposals of any kind (bounded).
    """

    champion: str = ""
    experiment: str = ""
    four_eyes: bool = False
    proposals: dict[str, Proposal] = {}
    ended: dict[str, None] = {}
    champions: dict[str, None] = {}
    registered: dict[str, str] = {}
    history: bool = False
    created: bool = False
    programs: Programs = msgspec.field(default_factory=Programs)
    shadow: str = ""
    reads: dict[str, dict[str, str]] = {}
    traffic: int = 0
    changes: dict[str, Change] = {}
    closed: dict[str, None] = {}
    roster: Roster = msgspec.field(default_factory=Roster)

    def copy(self) -> Governance:
        """A copy on which events can be tried."""
        return Governance(
            self.champion,
            self.experiment,
            self.four_eyes,
            dict(self.proposals),
            dict(self.ended),
            dict(self.champions),
            dict(self.registered),
            self.history,
            self.created,
            self.programs.copy(),
            self.shadow,
            dict(self.reads),
            self.traffic,
            dict(self.changes),
            dict(self.closed),
            self.roster.copy(),
        )

    def check(self, event: Control) -> None:
        """Raise BadInput if the event may not follow the events before it."""
        self.roster.check(event, self.four_eyes)
        self._check_second(event)
        self.check_content(event)

    def check_content(self, event: Control) -> None:
        """`check` whoever stands behind the event: whether it could take effect now if the right people did."""
        self.programs.check(event, self.four_eyes)
        for label, digest in _named(event):
            if (known := self.registered.get(label, digest)) != digest:
                raise BadInput(f"{label} is already another artifact ({known[:16]}): raise the version")
        match event:
            case DeploymentProposed() | ProgramProposed() | ChangeProposed() if event.proposal_id in self.closed:
                raise BadInput(f"a proposal had the ID {event.proposal_id!r} before: choose another")
            case LogCreated() if self.created:
                raise BadInput("this log was created before, and its identity never changes")
            case ModelDeployed():
                self._check_deployment(event)
                for program in (self.programs.in_force, *(self.programs.trying if event.alias == SHADOW else ())):
                    self._check_served(event.digest, program)
            case ModelRolledBack():
                if event.alias == CHAMPION and event.digest not in self.champions:
                    raise BadInput(f"{event.name}-{event.version} was never champion, so it can't be rolled back to")
                self._check_served(event.digest, self.programs.in_force)
            case ProgramDeployed() | ProgramRolledBack():
                for digest in (self.champion, self.shadow):
                    self._check_served(digest, event.digest)
            case ModelWithdrawn() if event.alias == CHAMPION:
                raise BadInput("a champion can't be withdrawn: deploy another model or roll back")
            case DeploymentProposed():
                if not event.proposal_id or event.proposal_id in self.proposals:
                    raise BadInput(f"proposal ID {event.proposal_id!r} is already open, or empty")
                if len(self.proposals) >= PROPOSALS_OPEN_MAX:
                    raise BadInput(f"{PROPOSALS_OPEN_MAX} proposals are open already")
            case ChangeProposed() | ChangeWithdrawn():
                changes.check(event, self.changes)
            case DeploymentWithdrawn() if event.proposal_id not in self.proposals:
                raise BadInput(f"no proposal {event.proposal_id!r} of a model is open")
            case ExperimentStarted():
                if self.experiment:
                    raise BadInput(f"experiment {self.experiment} is running; stop or conclude it first")
                if event.experiment_id in self.ended:
                    raise BadInput(f"experiment ID {event.experiment_id} was used before: choose another name")
                if not self.champion or event.arms[0].digest != self.champion:
                    raise BadInput(f"the first arm, {event.arms[0].name}, is the control and must be the champion")
                becomes_arm = self.shadow in [arm.digest for arm in event.arms]  # then it is withdrawn as shadow
                for arm in event.arms:
                    for digest in (arm.digest, "" if becomes_arm else self.shadow):
                        self._check_served(digest, arm.program or self.programs.in_force)
            case HistoryStarted() if self.history:
                raise BadInput("a history is already open: end it first (sentinel history stop)")
            case HistoryEnded() if not self.history:
                raise BadInput("no history is open")
            case ExperimentRamped() | ExperimentStopped() | ExperimentConcluded():
                if event.experiment_id != self.experiment:
                    running = f"experiment {self.experiment} is" if self.experiment else "no experiment is"
                    raise BadInput(f"experiment {event.experiment_id} is not running ({running})")
            case _:
                pass

    def _check_served(self, model: str, program: str) -> None:
        """Raise BadInput unless a program (SHA-256) offers what a model (SHA-256) reads."""
        offered = self.programs.offers.get(program, {})
        if missing := [name for key, name in self.reads.get(model, {}).items() if key not in offered]:
            label = next((label for label, digest in self.registered.items() if digest == model), model[:16])
            named = self.programs.labels.get(program, "the log's default program")
            raise BadInput(
                f"model {label} reads {listed(missing)}, which {named} does not define: deploy a program with the same"
                " definitions (names don't matter), or first deploy or withdraw so that another model serves"
            )

    def _check_deployment(self, event: ModelDeployed) -> None:
        if not self.four_eyes or event.alias != CHAMPION:
            return
        proposal = self.proposals.get(event.causation_id)
        if proposal is None or (proposal.digest, proposal.alias) != (event.digest, event.alias):
            raise BadInput("four eyes: a champion is deployed only on an open proposal of that model")
        self.roster.check_second(event.actor, proposal.actor, "deployment")

    def needs_second(self, event: Control) -> bool:
        """Whether four eyes let the event take effect only on another person's proposal of the same."""
        if not self.four_eyes:
            return False
        second = kind_of(event).second
        return second == "always" or (second == "loosening" and self._loosens(event))

    def _loosens(self, event: Control) -> bool:
        """Whether the event lets more through, or gives more power."""
        match event:
            case ListChanged():
                return bool(event.add if event.effect == "allow" else event.remove)
            case ExperimentRamped():
                return event.traffic > self.traffic
            case GovernanceChanged():
                return not event.four_eyes
            case IdentityRequired():
                rules = get_args(FeedbackRule)
                return not event.required or rules.index(event.feedback) < rules.index(self.roster.feedback)
            case IdentityAdded() | IdentityChanged():
                return self.roster.shared
            case IdentityKeyAdded():
                return self.roster.shared and self.roster.who(event.actor) != self.roster.who(event.name)
            case _:
                return True

    def _check_second(self, event: Control) -> None:
        """Raise BadInput if a second person must stand behind the event, and none does."""
        if isinstance(event, ProgramApproved) and event.proposal_id in self.programs.proposals:
            self.roster.check_second(event.actor, self.programs.proposals[event.proposal_id].actor, "program")
        if not self.needs_second(event):
            return
        proposal = self.changes.get(event.causation_id)
        if proposal is None or proposal.digest != changes.digest(event):
            raise BadInput(
                f"four eyes: {changes.kind_of(event)} takes effect only on another person's open proposal of the same"
                " (sentinel proposal)"
            )
        self.roster.check_second(event.actor, proposal.actor, "change")

    def apply(self, event: Control) -> None:
        """Fold an event that passed `check`."""
        proposals = [*self.proposals, *self.programs.proposals, *self.changes]
        self._apply(event)
        for name in proposals:
            if not (name in self.proposals or name in self.programs.proposals or name in self.changes):
                _remember(self.closed, name)

    def _apply(self, event: Control) -> None:
        """`apply`, but for remembering which proposals it closes."""
        before = self.programs.in_force
        if not isinstance(event, DeploymentProposed) and (named := _named(event)):
            self.registered.update(named)
        if self.changes or isinstance(event, ChangeProposed):
            changes.apply(event, self.changes)
        self.roster.apply(event)
        self.programs.apply(event)
        if self.programs.in_force != before:
            self._end()
        match event:
            case LogCreated():
                self.created = True
            case ModelRegistered():
                if event.reads:
                    self.reads[event.digest] = event.reads
            case ModelDeployed() | ModelRolledBack():
                self.proposals.pop(event.causation_id, None)
                if event.alias == SHADOW:
                    self.shadow = event.digest
                if event.alias == CHAMPION:
                    if event.digest != self.champion:
                        self._end()
                    self.champion = event.digest
                    _remember(self.champions, event.digest)
            case ModelWithdrawn() if event.alias == SHADOW:
                self.shadow = ""
            case GovernanceChanged():
                self.four_eyes = event.four_eyes
            case IdentityRequired(required=True):
                self.proposals.clear()
                self.programs.close_proposals()
            case HistoryStarted() | HistoryEnded():
                self.history = isinstance(event, HistoryStarted)
            case DeploymentProposed():
                self.proposals[event.proposal_id] = Proposal(event.actor, event.digest, event.alias)
            case DeploymentWithdrawn():
                del self.proposals[event.proposal_id]
            case ExperimentStarted():
                self.experiment, self.traffic = event.experiment_id, event.traffic
            case ExperimentRamped():
                self.traffic = event.traffic
            case ExperimentStopped() | ExperimentConcluded():
                self._end()
            case _:
                pass

    def _end(self) -> None:
        if self.experiment:
            _remember(self.ended, self.experiment)
        self.experiment, self.traffic = "", 0
        self.programs.trying = ()


def _named(event: Control) -> list[tuple[str, str]]:
    """Models that the event names, each with the SHA-256 that it says it has."""
    match event:
        case ModelRegistered() | ModelDeployed() | ModelRolledBack() | DeploymentProposed():
            return [(f"{event.name}-{event.version}", event.digest)]
        case ExperimentStarted():
            return [(f"{arm.model}-{arm.version}", arm.digest) for arm in event.arms]
        case _:
            return []


def _remember(names: dict[str, None], name: str) -> None:
    """Move or add the name to the end; drop the oldest beyond `REMEMBERED_MAX`."""
    names.pop(name, None)
    names[name] = None
    if len(names) > REMEMBERED_MAX:
        del names[next(iter(names))]


def check_alone(event: Control) -> None:
    """Raise BadInput if the event is invalid whatever came before it."""
    match event:
        case LogCreated():
            identity.check(event)
        case ExperimentStarted():
            assignment.check(event)
        case ExperimentRamped():
            assignment.check_traffic(event.traffic)
        case HistoryStarted():
            receipt.check_started(event)
        case HistoryEnded():
            receipt.check_ended(event)
        case _:
            pass
