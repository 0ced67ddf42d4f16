"""The fold of the control stream: what is deployed, set, listed, published or unavailable at control position c. Pure.

`ControlState` is the fold. `Context` is its resolved form, with the model and reference tables loaded; the pipeline
decides under it. It is a pure function of c and the partition (I12): a worker that can't load an artifact says so in
the control stream before it decides without it (`ingest.contexts`), and a replay believes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from core import events, governance, policy
from core.assignment import Allocation
from core.canonical import Members, canonical
from core.currency import Rates, check_rates, rates_of
from core.errors import BadInput, Corrupt, NotDecidable, SentinelError, Unavailable
from core.events import CHAMPION_ARM, ListEffect, ListKind
from core.features import spec
from core.features.reference import Kind, ReferenceTable
from core.governance import Governance
from core.identity import LogIdentity, required
from core.policy import Thresholds
from core.program.deciding import Program
from core.program.library import kernel
from core.program.loading import load
from core.program.names import code_fault, name_fault
from core.program.plan import Plan, plan
from core.program.rings import RingStep
from core.receipt import ENDED_MAX, History
from core.scoring import Scorer
from core.times import HOUR_MS
from core.verdicts import RatedHour

CHANGED_MAX = 2_000
"""How many parameters, and how many codes, a change of rules names at most."""
DEFAULT_REVIEW = 0.4
DEFAULT_DECLINE = 0.8

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

NO_RATES = Rates()

NO_MODEL = "no_model"
MODEL_UNAVAILABLE = "model_unavailable"
MODEL_ERROR = "model_error"
REFERENCE_UNAVAILABLE = "reference_unavailable"
PROGRAM_UNAVAILABLE = "program_unavailable"
EXPERIMENT_UNAVAILABLE = "experiment_unavailable"
SHADOW_UNAVAILABLE = "shadow_unavailable"
SHADOW_FAILED = "shadow_failed"
"""Why a decision was degraded (I9); a score's `degraded` joins them with "+". `_unavailable`: the control stream
reports the artifact as such for the partition (I12). `_error`, `_failed`: the model has no number for this row. If the
deployed program is unavailable, the log's default program decides. If one of an experiment's models is, the experiment
does not apply: the champion decides for every account. A shadow model that is unavailable or fails gives no margin; the
decision itself is complete.
"""

_REASONS = (
    PROGRAM_UNAVAILABLE,
    REFERENCE_UNAVAILABLE,
    NO_MODEL,
    MODEL_UNAVAILABLE,
    MODEL_ERROR,
    EXPERIMENT_UNAVAILABLE,
    SHADOW_UNAVAILABLE,
    SHADOW_FAILED,
)
_COMPLETE = (NO_MODEL, SHADOW_UNAVAILABLE, SHADOW_FAILED)


def join_reasons(reasons: Iterable[str]) -> str | None:
    """A score's `degraded`: the distinct reasons in a fixed order; None if there are none."""
    known = list(reasons)
    return "+".join(reason for reason in _REASONS if reason in known) or None


def lacks_something(degraded: str | None) -> bool:
    """Whether a decision with this `degraded` lacked anything that was deployed or published to decide. A shadow model
    decides nothing; and where no model was deployed yet, none is lacking.
    """
    return degraded is not None and any(reason not in _COMPLETE for reason in degraded.split("+"))


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
    """The fold. `position` is the sequence of the last event applied; lists hold canonical forms (`core.canonical`).
    parked: the code by partition. skipped: by topic and partition, the generation and the offset after the last
    messages that were skipped.
    """

    position: int = 0
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
    histories: tuple[History, ...] = ()
    refused: dict[int, str] = field(default_factory=dict)

    def apply(self, sequence: int, event: events.Control) -> None:
        """Apply the event at `sequence`; an event already applied is ignored silently (I5).

        An event that is invalid (thresholds in the wrong order) or may not follow the events before
        it (`core.governance`) changes nothing and is recorded in `refused`. It must not stop every worker, and the
        log must always fold to the same state.
        """
        if sequence <= self.position:
            return
        self.position = sequence
        try:
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
            case events.DegradationStarted():
                self.missing |= dict.fromkeys(event.partitions, event.artifacts)
            case events.DegradationEnded():
                for partition in event.partitions:
                    self.missing.pop(partition, None)
            case events.SealsRecorded():
                self.recorded |= {seal.partition: seal.sequence for seal in event.seals}
            case _:
                pass  # registrations, drift, archive: not an input to decisions

    def _deploy(self, alias: str, model: ModelVersion) -> None:
        if alias == governance.CHAMPION:
            self.champion = model
            if not self.governance.experiment:
                self.experiment = None
        elif alias == governance.SHADOW:
            self.shadow = model


def in_force(state: ControlState) -> list[str]:
    """The artifacts (SHA-256) that decisions at the state's position need: program, tables, champion, arms, shadow."""
    found = [state.program] if state.program else []
    found += [digest for digest, _ in state.references.values()]
    found += [model.digest for model in (state.champion, state.shadow) if model is not None]
    if state.experiment is not None:
        found += [arm.digest for arm in state.experiment.arms]
    return list(dict.fromkeys(found))


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


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a decision needs besides its partition's state. Immutable. One per control position, and another for
    partitions with artifacts that are reported as unavailable.

    arms: one context for each arm of the running experiment; it differs from this one in its model and `arm`.
    """

    position: int
    program: Program
    scorer: Scorer | None
    model: str
    digest: str
    merchants: ReferenceTable | None
    devices: ReferenceTable | None
    thresholds: Thresholds
    lists: dict[ListKey, Members]
    degraded: str | None
    quarantined: frozenset[RatedHour] = frozenset()
    rates: Rates = NO_RATES
    histories: tuple[History, ...] = ()
    shadow: Scorer | None = None
    shadow_model: str = ""
    arm: str = CHAMPION_ARM
    allocation: Allocation | None = None
    arms: tuple[Context, ...] = ()


def deciding(context: Context, arm: str) -> Context:
    """The context that decided for a score's `arm`: that of the experiment's arm, or this one."""
    return next((under for under in context.arms if under.arm == arm), context)


def with_changes(context: Context, **changes: Any) -> Context:
    """The context with fields replaced, also in its arms."""
    arms = tuple(replace(arm, **changes) for arm in context.arms)
    return replace(context, **changes, arms=arms)


LoadBlob = Callable[[str], bytes]
LoadScorer = Callable[[bytes, str, str], Scorer]
"""(artifact bytes, version label, expected SHA-256) → scorer; raises SentinelError if it can't be trusted."""


SCORERS_HELD = 16
"""At least this many; more if the running experiment, the champion and the shadow need them."""


PROGRAMS_HELD = 32


class Resolver:
    """Turns a ControlState into a Context, loading each artifact once. Keeps the most recent few of each kind."""

    def __init__(self, load_blob: LoadBlob, load_scorer: LoadScorer) -> None:
        self._load_blob = load_blob
        self._load_scorer = load_scorer
        self._scorers: dict[str, Scorer] = {}
        self._tables: dict[str, ReferenceTable] = {}
        self._plans: dict[str, Plan] = {}
        self._programs: dict[tuple[object, ...], Program] = {}
        self._held = SCORERS_HELD

    def unavailable(self, state: ControlState) -> dict[str, str]:
        """The artifacts in force at the state's position that can't be loaded now: why, by SHA-256. Those that can are
        held.
        """
        self._hold(state)
        found: dict[str, str] = {}
        models = [state.champion, state.shadow, *_arm_models(state)]
        for digest in in_force(state):
            try:
                model = next((each for each in models if each is not None and each.digest == digest), None)
                if model is not None:
                    self._scorer(model)
                elif digest == state.program:
                    self._usual(digest, required(state.identity))
                else:
                    self._table(digest)
            except SentinelError as error:
                found[digest] = str(error)
        return found

    def context(self, state: ControlState, missing: Collection[str] = ()) -> Context:
        """The context at `state.position` of a partition for which the artifacts `missing` are reported as unavailable:
        `state.missing`, or those that aren't in force any more.

        Raises NotDecidable if the program in force can't be loaded, Corrupt if another artifact can't, Unavailable if
        the server does not answer.
        """
        self._hold(state)
        try:
            return self._resolved(state, frozenset(missing))
        except (Unavailable, NotDecidable):
            raise
        except SentinelError as error:
            raise Corrupt(
                f"an artifact in force at control position {state.position} can't be loaded, but the control stream"
                f" does not report it as unavailable: {error}"
            ) from error

    def _resolved(self, state: ControlState, missing: frozenset[str]) -> Context:
        reasons: list[str] = []
        identity = required(state.identity)
        deployed = state.program
        if deployed in missing:
            reasons.append(PROGRAM_UNAVAILABLE)
            deployed = ""
        thresholds = Thresholds(state.review, state.decline, state.review_loss, state.decline_loss)
        scorer: Scorer | None = None
        tables: dict[Kind, ReferenceTable | None] = {"merchant": None, "device": None}
        for kind, (digest, _) in state.references.items():
            if digest in missing:
                reasons.append(REFERENCE_UNAVAILABLE)
            else:
                tables[kind] = self._table(digest)
        if state.champion is None:
            reasons.append(NO_MODEL)
        elif state.champion.digest in missing:
            reasons.append(MODEL_UNAVAILABLE)
        else:
            scorer = self._scorer(state.champion)
        arms: list[tuple[str, ModelVersion, Scorer]] = []
        if state.experiment is not None and scorer is not None:
            if any(model.digest in missing for model in _arm_models(state)):
                reasons.append(EXPERIMENT_UNAVAILABLE)
            else:
                names = [f"{state.experiment.experiment_id}/{arm.name}" for arm in state.experiment.arms]
                models = _arm_models(state)
                arms = [(name, model, self._scorer(model)) for name, model in zip(names, models, strict=True)]
        shadow: Scorer | None = None
        if state.shadow is not None and state.shadow.digest in missing:
            reasons.append(SHADOW_UNAVAILABLE)
        elif state.shadow is not None:
            shadow = self._scorer(state.shadow)
        context = Context(
            position=state.position,
            program=self._program(deployed, identity, thresholds, state.parameters, state.disabled),
            scorer=scorer,
            model=state.champion.label if state.champion else "none",
            digest=state.champion.digest[:16] if state.champion else "",
            merchants=tables["merchant"],
            devices=tables["device"],
            thresholds=thresholds,
            lists={key: Members.of(key[0], members) for key, members in state.lists.items() if members},
            degraded=join_reasons(reasons),
            quarantined=frozenset(state.quarantined),
            rates=state.rates,
            histories=state.histories,
            shadow=shadow,
            shadow_model=state.shadow.label if state.shadow and shadow else "",
        )
        if state.experiment is None or not arms:
            return context
        return replace(
            context,
            allocation=Allocation.of(state.experiment, identity.key),
            arms=tuple(
                replace(context, scorer=arm_scorer, model=model.label, digest=model.digest[:16], arm=name)
                for name, model, arm_scorer in arms
            ),
        )

    def _hold(self, state: ControlState) -> None:
        self._held = max(SCORERS_HELD, len(_arm_models(state)) + 2)  # else a large experiment would be loaded each time

    def _scorer(self, model: ModelVersion) -> Scorer:
        if model.digest not in self._scorers:
            scorer = self._load_scorer(self._load_blob(model.digest), model.label, model.digest)
            if scorer.spec != spec.SPEC_VERSION:
                raise SentinelError(f"{model.label} reads feature spec {scorer.spec}, not {spec.SPEC_VERSION}")
            _bound(self._scorers, self._held)
            self._scorers[model.digest] = scorer
        return self._scorers[model.digest]

    def steps(self, state: ControlState, when: Literal["now", "soon", "kept", "ever"]) -> list[RingStep]:
        """What account states hold for programs: for the one that decides now; soon: those that are proposed too; kept:
        also the one that decided before; ever: all that ever decided. A program that can't be loaded is left out:
        nothing is decided by it.
        """
        identity = required(state.identity)
        known = state.governance.programs
        digests = [state.program]
        if when in ("soon", "kept"):
            digests += known.proposed
        if when == "kept":
            digests.append(known.before)
        elif when == "ever":
            digests += ["", *known.deployed]
        found: dict[str, RingStep] = {}
        for digest in dict.fromkeys(digests):
            try:
                step = self._usual(digest, identity).rings
            except SentinelError:
                continue
            if step is not None:
                found[step.digest] = step
        return list(found.values())

    def step_of(self, digest: str, identity: LogIdentity) -> RingStep | None:
        """What account states must hold for a program; None if it has no aggregates of its own. Raises SentinelError if
        it can't be loaded.
        """
        return self._usual(digest, identity).rings

    def _usual(self, digest: str, identity: LogIdentity) -> Program:
        return self._program(digest, identity, Thresholds(DEFAULT_REVIEW, DEFAULT_DECLINE), {}, ())

    def _program(
        self,
        digest: str,
        identity: LogIdentity,
        thresholds: Thresholds,
        parameters: Mapping[str, float],
        disabled: tuple[str, ...],
    ) -> Program:
        """The program, "" for the log's default, with these parameters in force."""
        digest = digest or identity.program
        parameters = {name: value + 0.0 for name, value in parameters.items()}  # −0.0 has the key of 0.0
        key = (digest, identity.key, thresholds, tuple(sorted(parameters.items())), disabled)
        if key not in self._programs:
            if digest not in self._plans:
                try:
                    made = plan(load(digest, self._load_blob).checked, kernel())
                except (BadInput, Corrupt) as error:
                    raise NotDecidable(f"program {digest[:16]} is not to be had: {error}") from error
                _bound(self._plans, PROGRAMS_HELD)
                self._plans[digest] = made
            _bound(self._programs, PROGRAMS_HELD)
            values = {**parameters, **policy.threshold_parameters(thresholds)}
            self._programs[key] = Program(self._plans[digest], identity.key, values, disabled)
        return self._programs[key]

    def _table(self, digest: str) -> ReferenceTable:
        if digest not in self._tables:
            table = ReferenceTable.from_bytes(self._load_blob(digest))
            _bound(self._tables, 8)
            self._tables[digest] = table
        return self._tables[digest]


def _arm_models(state: ControlState) -> list[ModelVersion]:
    """The models of the running experiment's arms."""
    arms = state.experiment.arms if state.experiment is not None else ()
    return [ModelVersion(arm.model, arm.version, arm.digest) for arm in arms]


def _bound(cache: dict[K, V], size: int) -> None:
    while len(cache) >= size:
        del cache[next(iter(cache))]
