"""The control events of decision programs (`core.program.governance` says which may follow which)."""

from __future__ import annotations

from core.events.base import ControlEvent


class ProgramRegistered(ControlEvent, tag="program_registered.v1", tag_field="type", frozen=True, kw_only=True):
    """A decision program was stored. `digest`: SHA-256 (hex) of its canonical form (core.program.document). `parent`:
    that of the program it was made from, "" for none. `offers`: the features and fields of its own that models may
    read: their names by the first 16 digits of their identities (core.program.inputs).
    """

    name: str
    version: str
    digest: str
    parent: str = ""
    offers: dict[str, str] = {}


class ProgramProposed(ControlEvent, tag="program_proposed.v1", tag_field="type", frozen=True, kw_only=True):
    """`actor` proposes that this program decide."""

    proposal_id: str
    digest: str


class ProgramApproved(ControlEvent, tag="program_approved.v1", tag_field="type", frozen=True, kw_only=True):
    """`actor`, who is not the proposer, approves the proposal. It decides nothing until it is deployed."""

    proposal_id: str


class ProgramWithdrawn(ControlEvent, tag="program_withdrawn.v1", tag_field="type", frozen=True, kw_only=True):
    """`actor` withdraws the proposal: it can't be approved or deployed any more, and workers stop preparing for it."""

    proposal_id: str


class ProgramPrepared(ControlEvent, tag="program_prepared.v1", tag_field="type", frozen=True, kw_only=True):
    """A worker's states of these partitions hold what a proposed program needs: once it is deployed, it decides there
    without a pause.
    """

    digest: str
    partitions: tuple[int, ...]


class ProgramDeployed(ControlEvent, tag="program_deployed.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on this program decides. `causation_id` is the proposal, which four eyes require. The state
    of its aggregates holds what a fold of the whole log gives.
    """

    digest: str


class ProgramRolledBack(ControlEvent, tag="program_rolled_back.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on this program, which was deployed before, decides again; "" is the log's default. Needs no second
    person, even under four eyes.
    """

    digest: str
