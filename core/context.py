"""What the pipeline decides under at control position c: `ControlState`, the fold, with what it names loaded. Pure.

A `Context` is a pure function of c and the partition (I12): a worker that can't load an artifact says so in the control
stream before it decides without it (`ingest.contexts`), and a replay believes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from core import policy
from core.assignment import Allocation
from core.canonical import Members
from core.control import DEFAULT_DECLINE, DEFAULT_REVIEW, ControlState, ListKey, ModelVersion
from core.currency import Rates
from core.errors import BadInput, Corrupt, NotDecidable, SentinelError, Unavailable
from core.events import CHAMPION_ARM
from core.features import spec
from core.features.reference import Kind, ReferenceTable
from core.identity import LogIdentity, required
from core.policy import Thresholds
from core.program.deciding import Program
from core.program.library import kernel
from core.program.loading import load
from core.program.plan import Plan, plan
from core.program.rings import RingStep
from core.receipt import History
from core.scoring import Scorer
from core.verdicts import RatedHour

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
reports the artifact as such for the partition (I12), or it is a model that reads what only the deployed program
defines, and that is reported. `_error`, `_failed`: the model has no number for this row. If the deployed program is
unavailable, the log's default program decides. If that is so, or if a program or model of an experiment's arms is
unavailable, the experiment does not apply: the champion under the deployed program decides for every account. A shadow
model that is unavailable or fails gives no margin; the
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


def in_force(state: ControlState) -> list[str]:
    """The artifacts (SHA-256) that decisions at the state's position need: programs, tables, champion, arms, shadow."""
    found = _programs(state)
    found += [digest for digest, _ in state.references.values()]
    found += [model.digest for model in (state.champion, state.shadow) if model is not None]
    if state.experiment is not None:
        found += [arm.digest for arm in state.experiment.arms]
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a decision needs besides its partition's state. Immutable. One per control position, and another for
    partitions with artifacts that are reported as unavailable.

    arms: one context for each arm of the running experiment; it differs from this one in its program, its model and
    `arm`. programs: those that decide some rows: this context's, then those of arms that differ from it. steps: what
    account states must hold.
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
    programs: tuple[Program, ...] = field(init=False, repr=False, compare=False)
    steps: tuple[RingStep, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        programs = tuple(dict.fromkeys(under.program for under in (self, *self.arms)))
        object.__setattr__(self, "programs", programs)
        object.__setattr__(self, "steps", tuple(each.rings for each in programs if each.rings is not None))


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
        models, programs = [state.champion, state.shadow, *_arm_models(state)], _programs(state)
        for digest in in_force(state):
            try:
                model = next((each for each in models if each is not None and each.digest == digest), None)
                if model is not None:
                    scorer = self._scorer(model)
                    for program in _served_by(state, digest):
                        if program not in found:  # else it goes with the program
                            self._usual(program, required(state.identity)).serve(scorer)
                elif digest in programs:
                    self._usual(digest, required(state.identity))
                else:
                    self._table(digest)
            except SentinelError as error:
                found[digest] = str(error)
        return found

    def context(self, state: ControlState, missing: Collection[str] = ()) -> Context:
        """The context at `state.position` of a partition for which the artifacts `missing` are reported as unavailable:
        `state.missing`, or those that aren't in force any more.

        Raises NotDecidable if what is in force can't be loaded and is not reported as unavailable, Unavailable if the
        server does not answer.
        """
        self._hold(state)
        try:
            return self._resolved(state, frozenset(missing))
        except (Unavailable, NotDecidable):
            raise
        except SentinelError as error:
            raise NotDecidable(
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
        program = self._program(deployed, identity, thresholds, state.parameters, state.disabled)
        tables: dict[Kind, ReferenceTable | None] = {"merchant": None, "device": None}
        for kind, (digest, _) in state.references.items():
            if digest in missing:
                reasons.append(REFERENCE_UNAVAILABLE)
            else:
                tables[kind] = self._table(digest)
        served = {
            model.digest: self._served(model, program, deployed == state.program)
            for model in (state.champion, state.shadow)
            if model is not None and model.digest not in missing
        }
        scorer = served.get(state.champion.digest) if state.champion is not None else None
        if state.champion is None:
            reasons.append(NO_MODEL)
        elif scorer is None:
            reasons.append(MODEL_UNAVAILABLE)
        experiment = state.experiment
        if scorer is None or PROGRAM_UNAVAILABLE in reasons:
            experiment = None
        elif experiment is not None and any({arm.digest, arm.program} & missing for arm in experiment.arms):
            experiment = None
            reasons.append(EXPERIMENT_UNAVAILABLE)
        shadow = served.get(state.shadow.digest) if state.shadow is not None else None
        if state.shadow is not None and shadow is None:
            reasons.append(SHADOW_UNAVAILABLE)
        context = Context(
            position=state.position,
            program=program,
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
        if experiment is None:
            return context
        arms = []
        for arm, model in zip(experiment.arms, _arm_models(state), strict=True):
            of_arm = program
            if arm.program:
                of_arm = self._program(arm.program, identity, thresholds, state.parameters, state.disabled)
            arm_scorer = self._scorer(model)
            for each in (arm_scorer, shadow):
                if each is not None:
                    of_arm.serve(each)
            name = f"{experiment.experiment_id}/{arm.name}"
            under = replace(context, model=model.label, digest=model.digest[:16], arm=name)
            arms.append(replace(under, program=of_arm, scorer=arm_scorer))
        return replace(context, allocation=Allocation.of(experiment, identity.key), arms=tuple(arms))

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

    def _served(self, model: ModelVersion, program: Program, is_deployed: bool) -> Scorer | None:
        """The model, bound to the program that decides; None if that is only the one that stands in for the deployed
        one, and lacks what the model reads. Raises BadInput if the deployed one lacks it.
        """
        scorer = self._scorer(model)
        try:
            program.serve(scorer)
        except BadInput:
            if is_deployed:
                raise
            return None
        return scorer

    def steps(self, state: ControlState, when: Literal["now", "soon", "kept"]) -> list[RingStep]:
        """What account states hold for programs: for those that decide now, of the running experiment's arms too; soon:
        those that are proposed too; kept: also the one that decided before. A program that can't be loaded is left out:
        nothing is decided by it.
        """
        identity = required(state.identity)
        known = state.governance.programs
        digests = [state.program, *_programs(state)]
        if when in ("soon", "kept"):
            digests += known.proposed
        if when == "kept":
            digests.append(known.before)
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


def _programs(state: ControlState) -> list[str]:
    """The programs (SHA-256) that decide at the state's position, without the log's default."""
    arms = state.experiment.arms if state.experiment is not None else ()
    return [digest for digest in dict.fromkeys([state.program, *(arm.program for arm in arms)]) if digest]


def _served_by(state: ControlState, model: str) -> list[str]:
    """The programs (SHA-256, "" for the log's default) under which a model (SHA-256) scores. The shadow scores all."""
    arms = state.experiment.arms if state.experiment is not None else ()
    scores_all = state.shadow is not None and state.shadow.digest == model
    found = [arm.program or state.program for arm in arms if scores_all or arm.digest == model]
    if scores_all or (state.champion is not None and state.champion.digest == model):
        found.append(state.program)
    return list(dict.fromkeys(found))


def _arm_models(state: ControlState) -> list[ModelVersion]:
    """The models of the running experiment's arms."""
    arms = state.experiment.arms if state.experiment is not None else ()
    return [ModelVersion(arm.model, arm.version, arm.digest) for arm in arms]


def _bound(cache: dict[K, V], size: int) -> None:
    while len(cache) >= size:
        del cache[next(iter(cache))]
