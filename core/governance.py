"""What the control stream allows next: rules that need to know what came before. A small fold inside the live fold
(`core.control`), whose refusals every reader of the stream honours (`core.control_stream`).

    a model is registered       a name and version mean one artifact: never another one's SHA-256
    a champion is deployed      with four eyes on: only in answer to somebody else's open proposal of that very model
    a champion is rolled back   only to a model that was champion before; that never waits for anybody
    an experiment starts        if none runs, its ID was never used, and its control arm is the champion
    it is ramped or ended       by its name, while it runs
    the champion changes        by deployment or rollback: a running experiment is over, its arms compare nothing now

`core.control_stream.append` checks events against the state at the expected position first; since the append is
conditional on that position, what was allowed is still allowed when it lands. The fold refuses the rest.
"""

from __future__ import annotations

import msgspec

from core import assignment
from core.errors import BadInput
from core.events import (
    Control,
    DeploymentProposed,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    GovernanceChanged,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ModelWithdrawn,
)

CHAMPION = "champion"
SHADOW = "shadow"
PROPOSALS_OPEN_MAX = 100
REMEMBERED_MAX = 1_000
"""So many experiments that ended, and earlier champions, are remembered: the newest. An experiment lasts for weeks, so
nobody lives to use the ID of a forgotten one again; were it so, both would share one place in the read model.
"""


class Proposal(msgspec.Struct, frozen=True):
    """An open proposal: who wants which model (by SHA-256) to be what."""

    actor: str
    digest: str
    alias: str


class Governance(msgspec.Struct):
    """The fold. champion: its SHA-256; experiment: the running one's ID; "" is none. proposals: open ones, by ID.
    ended: IDs of experiments; champions: SHA-256 of all that were champion (newest last; bounded). registered: SHA-256
    by name-version.
    """

    champion: str = ""
    experiment: str = ""
    four_eyes: bool = False
    proposals: dict[str, Proposal] = {}
    ended: dict[str, None] = {}
    champions: dict[str, None] = {}
    registered: dict[str, str] = {}

    def copy(self) -> Governance:
        """Another one of the same content, to try events on."""
        return Governance(
            self.champion,
            self.experiment,
            self.four_eyes,
            dict(self.proposals),
            dict(self.ended),
            dict(self.champions),
            dict(self.registered),
        )

    def check(self, event: Control) -> None:
        """Raise BadInput if the event may not follow what came before."""
        match event:
            case ModelRegistered():
                label = f"{event.name}-{event.version}"
                known = self.registered.get(label, event.digest)
                if known != event.digest:
                    raise BadInput(f"{label} is another artifact already ({known[:16]}): raise the version")
            case ModelDeployed():
                self._check_deployment(event)
            case ModelRolledBack() if event.alias == CHAMPION and event.digest not in self.champions:
                raise BadInput(f"{event.name}-{event.version} was never champion: nothing is rolled back to it")
            case ModelWithdrawn() if event.alias == CHAMPION:
                raise BadInput("a champion is replaced or rolled back, never withdrawn")
            case DeploymentProposed():
                if not event.proposal_id or event.proposal_id in self.proposals:
                    raise BadInput(f"proposal {event.proposal_id!r} is already open, or has no name")
                if len(self.proposals) >= PROPOSALS_OPEN_MAX:
                    raise BadInput(f"{PROPOSALS_OPEN_MAX} proposals are open already")
            case ExperimentStarted():
                if self.experiment:
                    raise BadInput(f"experiment {self.experiment} is running; stop or conclude it first")
                if event.experiment_id in self.ended:
                    raise BadInput(f"there was an experiment {event.experiment_id} already: give this one another name")
                if not self.champion or event.arms[0].digest != self.champion:
                    raise BadInput(f"the first arm, {event.arms[0].name}, is the control and must be the champion")
            case ExperimentRamped() | ExperimentStopped() | ExperimentConcluded():
                if event.experiment_id != self.experiment:
                    running = f"experiment {self.experiment} is" if self.experiment else "no experiment is"
                    raise BadInput(f"experiment {event.experiment_id} is not running ({running})")
            case _:
                pass

    def _check_deployment(self, event: ModelDeployed) -> None:
        if not self.four_eyes or event.alias != CHAMPION:
            return
        proposal = self.proposals.get(event.causation_id)
        if proposal is None or (proposal.digest, proposal.alias) != (event.digest, event.alias):
            raise BadInput("four eyes: a champion is deployed in answer to an open proposal of that model")
        if proposal.actor == event.actor:
            raise BadInput(f"four eyes: {event.actor} proposed this deployment, so somebody else has to approve it")

    def apply(self, event: Control) -> None:
        """Fold an event that `check` let pass."""
        match event:
            case ModelRegistered():
                self.registered[f"{event.name}-{event.version}"] = event.digest
            case ModelDeployed() | ModelRolledBack():
                self.proposals.pop(event.causation_id, None)
                if event.alias == CHAMPION:
                    if event.digest != self.champion:
                        self._end()
                    self.champion = event.digest
                    _remember(self.champions, event.digest)
            case GovernanceChanged():
                self.four_eyes = event.four_eyes
            case DeploymentProposed():
                self.proposals[event.proposal_id] = Proposal(event.actor, event.digest, event.alias)
            case ExperimentStarted():
                self.experiment = event.experiment_id
            case ExperimentStopped() | ExperimentConcluded():
                self._end()
            case _:
                pass

    def _end(self) -> None:
        if self.experiment:
            _remember(self.ended, self.experiment)
        self.experiment = ""


def _remember(names: dict[str, None], name: str) -> None:
    """Put it last; forget the first beyond `REMEMBERED_MAX`."""
    names.pop(name, None)
    names[name] = None
    if len(names) > REMEMBERED_MAX:
        del names[next(iter(names))]


def check_alone(event: Control) -> None:
    """Raise BadInput if the event makes no sense whatever came before."""
    match event:
        case ExperimentStarted():
            assignment.check(event)
        case ExperimentRamped():
            assignment.check_traffic(event.traffic)
        case _:
            pass
