"""The fold of the control stream: what is deployed, set, listed, published or unavailable at control position c. Pure.

`core.context` loads what it names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import msgspec

from core import events, governance, policy, responses, signing
from core.canonical import canonical
from core.codec import encode
from core.currency import Rates, check_rates, rates_of
from core.errors import BadInput
from core.events import ListEffect, ListKind
from core.features.reference import Kind
from core.governance import Governance
from core.identity import LogIdentity, required
from core.log.base import GENESIS_DIGEST
from core.log.seals import control_digest
from core.policy import Thresholds
from core.program.names import code_fault, name_fault
from core.receipt import ENDED_MAX, History
from core.responses import Switch
from core.times import HOUR_MS
from core.verdicts import RatedHour

CHANGED_MAX = 2_000
"""How many parameters, and how many codes, a change of rules names at most."""
DEFAULT_REVIEW = 0.4
DEFAULT_DECLINE = 0.8


ListKey = tuple[ListKind, ListEffect]


class Generation(NamedTuple):
    """The newest generation of a source topic."""

    number: int
    topic_id: str
    topic_name: str
    partitions: int
    starts: tuple[int, ...] = ()


class ModelVersion(NamedTuple):
    """A deployed model: the champion, the shadow, or an arm's."""

    name: str
    version: str
    digest: str

    @property
    def label(self) -> str:
        return f"{self.name}-{self.version}"


@dataclass(slots=True)
class ControlState:
    """The fold. `position` is the sequence of the last event applied, digest that of the stream up to there
    (`core.log.seals.control_digest`); lists hold canonical forms (`core.canonical`).
    parked: the code by partition. skipped: by topic and partition, the generation and the offset after the last
    messages that were skipped.
    """

    position: int = 0
    digest: str = GENESIS_DIGEST
    parked: dict[int, str] = field(default_factory=dict)
    skipped: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    identity: LogIdentity | None = None
    program: str = ""
    """SHA-256 of the deployed program; "" for the log's default."""
    generations: dict[str, Generation] = field(default_factory=dict)
    champion: ModelVersion | None = None
    shadow: ModelVersion | None = None
    experiment: events.ExperimentStarted | None = None
    governance: Governance = field(default_factory=Governance)
    review: float = DEFAULT_REVIEW
    decline: float = DEFAULT_DECLINE
    review_loss: float = 0.0
    decline_loss: float = 0.0
    parameters: dict[str, float] = field(default_factory=dict)
    disabled: tuple[str, ...] = ()
    lists: dict[ListKey, dict[str, None]] = field(default_factory=dict)
    rates: Rates = field(default_factory=Rates)
    references: dict[Kind, tuple[str, int]] = field(default_factory=dict)
    quarantined: dict[RatedHour, None] = field(default_factory=dict)
    missing: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """By partition, the artifacts (SHA-256) that its worker reported as unavailable; only partitions with any."""
    recorded: dict[int, int] = field(default_factory=dict)
    """By partition, the newest seal that the stream records."""
    checkpoint: int = 0
    """The number of the newest checkpoint that the stream names; 0 for none."""
    checkpoint_at: int = 0
    """When it was signed, epoch ms."""
    histories: tuple[History, ...] = ()
    responses: dict[str, Switch] = field(default_factory=dict)
    """By action, whether responders carry it out (`core.responses`); not an input to decisions."""
    refused: dict[int, str] = field(default_factory=dict)

    @property
    def thresholds(self) -> Thresholds:
        """Those in force."""
        return Thresholds(self.review, self.decline, self.review_loss, self.decline_loss)

    @property
    def program_parameters(self) -> dict[str, float]:
        """The parameters that are set, over the defaults of whatever program decides; the thresholds always are."""
        return {**self.parameters, **policy.threshold_parameters(self.thresholds)}

    @property
    def program_in_force(self) -> str:
        """SHA-256 of the program that decides: the deployed one, or the log's default. Raises BadInput if the log has
        no identity.
        """
        return self.program or required(self.identity).program

    @property
    def programs_decided(self) -> list[str]:
        """SHA-256 of all programs that ever decided, deployed or in an experiment's arm; the log's default first.
        Raises BadInput if the log has no identity.
        """
        default = required(self.identity).program
        return list(dict.fromkeys(digest or default for digest in self.governance.programs.decided))

    @property
    def next_place(self) -> signing.Place:
        """Where the next event stands, for its signature."""
        return self._place(self.position + 1, self.digest)

    def _place(self, position: int, digest: str) -> signing.Place:
        return signing.Place("" if self.identity is None else self.identity.log_id, position, digest)

    def apply(self, sequence: int, event: events.Control, payload: bytes | None = None) -> None:
        """Apply the event at `sequence`; an event already applied is ignored silently (I5). payload: its bytes in the
        log; None: as they are encoded.

        An event that is invalid (thresholds in the wrong order) or may not follow the events before
        it (`core.governance`) changes nothing and is recorded in `refused`. It must not stop every worker, and the
        log must always fold to the same state.
        """
        if sequence <= self.position:
            return
        payload = encode(event) if payload is None else payload
        before, self.digest = self.digest, control_digest(self.digest, sequence, payload)
        self.position = sequence
        try:
            if event.key:
                self._check_signature(event, payload, before)
            check(event, self.governance)
        except BadInput as error:
            self.refused[sequence] = str(error)
            return
        self.governance.apply(event)
        match event:
            case events.LogCreated():
                self.identity = LogIdentity.of(event)
            case events.SourceGenerationStarted():
                self.generations[event.topic] = Generation(
                    event.generation, event.topic_id, event.topic_name, event.partitions, event.starts
                )
            case events.PartitionParked():
                self.parked[event.partition] = event.code
            case events.PartitionResumed():
                self.parked.pop(event.partition, None)
            case events.MessagesSkipped():
                self.skipped[event.topic, event.partition] = (event.generation, event.next_offset)
            case events.HistoryStarted():
                generations = {role: each.number for role, each in self.generations.items()}
                opened = History(event.earliest, event.latest, generations, event.begins)
                self.histories = (*self.histories[-ENDED_MAX:], opened)
            case events.HistoryEnded():
                self.histories = (*self.histories[:-1], self.histories[-1]._replace(ends=event.ends))
            case events.ModelDeployed() | events.ModelRolledBack():
                self._deploy(event.alias, ModelVersion(event.name, event.version, event.digest))
            case events.ModelWithdrawn() if event.alias == governance.SHADOW:
                self.shadow = None
            case events.ProgramDeployed() | events.ProgramRolledBack():
                self.program = event.digest
                if not self.governance.experiment:
                    self.experiment = None
            case events.ExperimentStarted():
                self.experiment = event
            case events.ExperimentRamped() if self.experiment is not None:
                self.experiment = msgspec.structs.replace(self.experiment, traffic=event.traffic)
            case events.ExperimentStopped() | events.ExperimentConcluded():
                self.experiment = None
            case events.ThresholdsChanged():
                self.review, self.decline = event.review, event.decline
                self.review_loss, self.decline_loss = event.review_loss, event.decline_loss
            case events.RulesChanged():
                self.parameters = dict(event.parameters)
                self.disabled = event.disabled
            case events.ListChanged():
                members = self.lists.setdefault((event.kind, event.effect), {})
                members.update(dict.fromkeys(filter(None, (canonical(event.kind, value) for value in event.add))))
                for value in event.remove:
                    members.pop(canonical(event.kind, value), None)
            case events.RatesChanged():
                self.rates = rates_of(event)
            case events.ReferencePublished():
                self.references[event.kind] = (event.digest, event.as_of)
            case events.SourceQuarantined():
                self.quarantined[f"{event.source}:{event.name}", event.hour_start // HOUR_MS] = None
            case events.ResponsesChanged():
                self.responses = responses.changed(self.responses, event)
            case events.DegradationStarted():
                self.missing |= dict.fromkeys(event.partitions, event.artifacts)
            case events.DegradationEnded():
                for partition in event.partitions:
                    self.missing.pop(partition, None)
            case events.SealsRecorded():
                self.recorded |= {seal.partition: seal.sequence for seal in event.seals}
            case events.CheckpointSigned() if event.number > self.checkpoint:
                self.checkpoint, self.checkpoint_at = event.number, event.occurred_at
            case _:
                pass  # registrations, drift, archive: not an input to decisions

    def _check_signature(self, event: events.Control, payload: bytes, before: str) -> None:
        """Raise BadInput if the event names a key of the roster that did not sign it here. The first administrator's
        key comes with the event. before: the stream's digest before it.
        """
        roster = self.governance.roster
        public_key = roster.keys.get(event.key, "")
        if isinstance(event, events.IdentityAdded) and not roster.identities:
            public_key = event.public_key
        if public_key:
            signing.check(event, payload, public_key, self._place(self.position, before))

    def _deploy(self, alias: str, model: ModelVersion) -> None:
        if alias == governance.CHAMPION:
            self.champion = model
            if not self.governance.experiment:
                self.experiment = None
        elif alias == governance.SHADOW:
            self.shadow = model


def check(event: events.Control, known: Governance | None = None) -> None:
    """Raise BadInput if the event is invalid in itself or may not follow what is `known`. Called for every event that
    is appended (`core.control_stream`) and, by the fold, for every event that is read.
    """
    governance.check_alone(event)
    if known is not None:
        known.check(event)
    match event:
        case events.ThresholdsChanged():
            policy.check_thresholds(event.review, event.decline, event.review_loss, event.decline_loss)
        case events.RulesChanged():
            _check_rules(event)
        case events.RatesChanged():
            check_rates(event)
        case events.SourceQuarantined() if event.hour_start < 0 or event.hour_start % HOUR_MS:
            raise BadInput(f"a quarantine must begin on the hour (epoch ms), got {event.hour_start}")
        case events.DegradationStarted() | events.DegradationEnded():
            _check_report(event)
        case events.ResponsesChanged():
            responses.check(event)
        case _:
            pass


def _check_rules(event: events.RulesChanged) -> None:
    """Names that the program in force does not know have no effect, so only their form is checked here."""
    if len(event.parameters) > CHANGED_MAX or len(event.disabled) > CHANGED_MAX:
        raise BadInput(f"a change of rules names at most {CHANGED_MAX:,} parameters and codes")
    for name, value in event.parameters.items():
        if fault := name_fault(name):
            raise BadInput(f"rule parameter {name[:80]!r}: {fault}")
        if value != value:
            raise BadInput(f"rule parameter {name} is not a number")
    for code in event.disabled:
        if fault := code_fault(code):
            raise BadInput(f"rule {code[:80]!r}: {fault}")


def _check_report(event: events.DegradationStarted | events.DegradationEnded) -> None:
    named: list[tuple[int, ...] | tuple[str, ...]] = [event.partitions]
    if isinstance(event, events.DegradationStarted):
        named.append(event.artifacts)
    if not all(named) or any(not a < b for each in named for a, b in pairwise(each)):  # type: ignore[operator]
        raise BadInput("a report of degradation names partitions and artifacts, each ascending and once")
    if event.partitions[0] < 0:
        raise BadInput(f"a report of degradation names partition {event.partitions[0]}")
