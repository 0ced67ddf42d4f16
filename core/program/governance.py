"""Which acts on programs may come next. A part of `core.governance`, which every reader of the control stream folds.

    a program is registered    a name and version stand for one document: a second SHA-256 is refused
    it is proposed             if it is registered
    it is approved             by somebody other than the proposer (`core.governance`), while the proposal is open
    it is withdrawn            the proposal, by anybody, while it is open and no experiment tries the program
    an experiment tries it     as it could be deployed; also if it was deployed before. At most ARM_PROGRAMS_MAX at once
    it is deployed             if it is registered; under four eyes only on an open, approved proposal of it
    it is rolled back          to a program that was deployed before, or the log's default; needs no second person

The fold sees events, not documents: a document is checked before it is registered (`learners.governance.programs`) and
again by every worker that loads it (`core.program.loading`).
"""

from __future__ import annotations

import re

import msgspec

from core.errors import BadInput
from core.events import (
    Control,
    ExperimentStarted,
    ProgramApproved,
    ProgramDeployed,
    ProgramPrepared,
    ProgramProposed,
    ProgramRegistered,
    ProgramRolledBack,
    ProgramWithdrawn,
)

PROPOSALS_OPEN_MAX = 100
PREPARED_MAX = 3
"""Workers hold the aggregates of this many proposed programs."""
ARM_PROGRAMS_MAX = 3
"""An experiment tries at most this many programs beside the deployed one: the aggregates of each are held for all
accounts as long as it runs.
"""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ProgramProposal(msgspec.Struct, frozen=True):
    """An open proposal: who proposes which program (by SHA-256), and who has approved it, "" for nobody yet."""

    actor: str
    digest: str
    approver: str = ""


class Programs(msgspec.Struct):
    """The fold. in_force: SHA-256 of the deployed program, "" for the log's default; before: that of the one that it
    replaced. labels: `name@version` by SHA-256 of what is registered. proposals: open ones, by ID. deployed: SHA-256 of
    all that ever were; tried: of all that ever decided in an experiment's arm; trying: in the running one's. prepared:
    the partitions whose states hold what a program needs, by its SHA-256, while it is `proposed`.
    offers: what models can read of a registered program beyond every other (`ProgramRegistered`).
    """

    in_force: str = ""
    before: str = ""
    labels: dict[str, str] = {}
    proposals: dict[str, ProgramProposal] = {}
    deployed: dict[str, None] = {}
    tried: dict[str, None] = {}
    trying: tuple[str, ...] = ()
    prepared: dict[str, dict[int, None]] = {}
    offers: dict[str, dict[str, str]] = {}

    @property
    def proposed(self) -> list[str]:
        """The programs (SHA-256) of the newest open proposals: those that workers prepare, which takes their memory."""
        return list(dict.fromkeys(proposal.digest for proposal in self.proposals.values()))[-PREPARED_MAX:]

    @property
    def decided(self) -> list[str]:
        """The programs (SHA-256) that ever decided, deployed or in an arm; "", the log's default, first."""
        return list(dict.fromkeys(("", *self.deployed, *self.tried)))

    def copy(self) -> Programs:
        """A copy on which events can be tried."""
        return Programs(
            self.in_force,
            self.before,
            dict(self.labels),
            dict(self.proposals),
            dict(self.deployed),
            dict(self.tried),
            self.trying,
            _copied(self.prepared),
            dict(self.offers),
        )

    def check(self, event: Control, four_eyes: bool) -> None:
        """Raise BadInput if the event may not follow the events before it."""
        match event:
            case ProgramRegistered():
                self._check_registration(event)
            case ProgramProposed():
                if not event.proposal_id or event.proposal_id in self.proposals:
                    raise BadInput(f"proposal ID {event.proposal_id!r} is already open, or empty")
                if len(self.proposals) >= PROPOSALS_OPEN_MAX:
                    raise BadInput(f"{PROPOSALS_OPEN_MAX} proposals of programs are open already")
                self._check_known(event.digest)
            case ProgramApproved() if event.proposal_id not in self.proposals:
                raise BadInput(f"no proposal {event.proposal_id!r} of a program is open")
            case ProgramWithdrawn():
                proposal = self.proposals.get(event.proposal_id)
                if proposal is None:
                    raise BadInput(f"no proposal {event.proposal_id!r} of a program is open")
                if proposal.digest in self.trying:
                    raise BadInput("the running experiment tries this program: stop or conclude it first")
            case ProgramPrepared():
                self._check_known(event.digest)
            case ProgramDeployed():
                self._check_deployment(event, four_eyes)
            case ExperimentStarted():
                self._check_arms(event, four_eyes)
            case ProgramRolledBack() if event.digest and event.digest not in self.deployed:
                raise BadInput(f"program {event.digest[:16]} was never deployed, so it can't be rolled back to")
            case _:
                pass

    def _check_registration(self, event: ProgramRegistered) -> None:
        if not _DIGEST.fullmatch(event.digest):
            raise BadInput(f"a program is registered by its SHA-256 (64 hex digits), not {event.digest[:80]!r}")
        label = f"{event.name}@{event.version}"
        for digest, known in self.labels.items():
            if known == label and digest != event.digest:
                raise BadInput(f"{label} is already another program ({digest[:16]}): increase the version")
        if self.labels.get(event.digest, label) != label:
            raise BadInput(f"program {event.digest[:16]} is already registered as {self.labels[event.digest]}")
        if event.parent:
            self._check_known(event.parent)

    def _check_known(self, digest: str) -> None:
        if digest not in self.labels:
            raise BadInput(f"program {digest[:16]} is not registered")

    def _check_deployment(self, event: ProgramDeployed, four_eyes: bool) -> None:
        self._check_known(event.digest)
        proposal = self.proposals.get(event.causation_id)
        if proposal is not None and proposal.digest != event.digest:
            raise BadInput(f"proposal {event.causation_id} is about program {proposal.digest[:16]}")
        if not four_eyes:
            return
        if proposal is None:
            raise BadInput("four eyes: a program is deployed only on an open proposal of it")
        if not proposal.approver:
            raise BadInput(f"four eyes: somebody other than {proposal.actor} must approve {event.causation_id} first")

    def _check_arms(self, event: ExperimentStarted, four_eyes: bool) -> None:
        if event.arms[0].program not in ("", self.in_force):
            raise BadInput(
                f"the first arm, {event.arms[0].name}, is the control and must be decided by the deployed program"
            )
        tried = self._of_arms(event)
        if len(tried) > ARM_PROGRAMS_MAX:
            raise BadInput(f"an experiment tries at most {ARM_PROGRAMS_MAX} programs beside the deployed one")
        for digest in tried:
            self._check_known(digest)
            if not four_eyes or digest in self.deployed:
                continue
            if not any(each.digest == digest and each.approver for each in self.proposals.values()):
                raise BadInput(
                    f"four eyes: a second person must approve a proposal of program {digest[:16]} before an experiment"
                    " may try it"
                )

    def _of_arms(self, event: ExperimentStarted) -> list[str]:
        """The programs that an experiment tries beside the deployed one."""
        found = dict.fromkeys(arm.program for arm in event.arms)
        return [digest for digest in found if digest and digest != self.in_force]

    def apply(self, event: Control) -> None:
        """Fold an event that passed `check`."""
        match event:
            case ProgramRegistered():
                self.labels[event.digest] = f"{event.name}@{event.version}"
                if event.offers:
                    self.offers[event.digest] = event.offers
            case ProgramProposed():
                self.proposals[event.proposal_id] = ProgramProposal(event.actor, event.digest)
            case ProgramApproved():
                proposal = self.proposals[event.proposal_id]
                self.proposals[event.proposal_id] = msgspec.structs.replace(proposal, approver=event.actor)
            case ProgramWithdrawn():
                del self.proposals[event.proposal_id]
            case ProgramPrepared() if event.digest in self.proposed:
                self.prepared.setdefault(event.digest, {}).update(dict.fromkeys(event.partitions))
            case ProgramDeployed():
                self._replace(event.digest)
                self.deployed[event.digest] = None
                for key in [key for key, each in self.proposals.items() if each.digest == event.digest]:
                    del self.proposals[key]
            case ProgramRolledBack():
                self._replace(event.digest)
            case ExperimentStarted():
                self.trying = tuple(self._of_arms(event))
                self.tried |= dict.fromkeys(self.trying)
            case _:
                return
        if self.prepared and not self.prepared.keys() <= (wanted := set(self.proposed)):
            self.prepared = {digest: each for digest, each in self.prepared.items() if digest in wanted}

    def close_proposals(self) -> None:
        """Close all open proposals."""
        self.proposals, self.prepared = {}, {}

    def _replace(self, digest: str) -> None:
        if digest != self.in_force:
            self.before, self.in_force = self.in_force, digest


def _copied(prepared: dict[str, dict[int, None]]) -> dict[str, dict[int, None]]:
    return {digest: dict(partitions) for digest, partitions in prepared.items()}
