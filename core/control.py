"""The control stream folded: what was deployed, set, listed and published at control position c. Pure.

`ControlState` is the fold; `Context` is its resolved form, with the model and reference tables loaded, which the
pipeline decides under. Every score records c, so a replay resolves the same context again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import events, policy, rules
from core.errors import BadInput, SentinelError
from core.events import ListEffect, ListKind
from core.features import spec
from core.features.reference import Kind, ReferenceTable
from core.scoring import Scorer

DEFAULT_REVIEW = 0.4
DEFAULT_DECLINE = 0.8

NO_MODEL = "no_model"
MODEL_UNAVAILABLE = "model_unavailable"
MODEL_ERROR = "model_error"
REFERENCE_UNAVAILABLE = "reference_unavailable"
"""Why a decision was degraded (I9); a score's `degraded` joins them with "+"."""

ListKey = tuple[ListKind, ListEffect]


class Generation(NamedTuple):
    """The newest generation of a source topic."""

    number: int
    topic_id: str
    topic_name: str
    partitions: int


class Champion(NamedTuple):
    name: str
    version: str
    digest: str

    @property
    def label(self) -> str:
        return f"{self.name}-{self.version}"


@dataclass(slots=True)
class ControlState:
    """The fold. `position` is the sequence of the last event applied."""

    position: int = 0
    generations: dict[str, Generation] = field(default_factory=dict)
    champion: Champion | None = None
    review: float = DEFAULT_REVIEW
    decline: float = DEFAULT_DECLINE
    parameters: dict[str, float] = field(default_factory=dict)
    disabled: tuple[str, ...] = ()
    lists: dict[ListKey, dict[str, None]] = field(default_factory=dict)
    references: dict[Kind, tuple[str, int]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)

    def apply(self, sequence: int, event: events.Control) -> None:
        """Apply the event at `sequence`; one that was applied before is left out silently (I5).

        An event whose content makes no sense (an unknown rule, thresholds the wrong way round) changes nothing and is
        named in `refused`: what somebody once appended must not stop every worker, and must fold the same for ever.
        """
        if sequence <= self.position:
            return
        self.position = sequence
        try:
            check(event)
        except BadInput as error:
            self.refused[sequence] = str(error)
            return
        match event:
            case events.SourceGenerationStarted():
                self.generations[event.topic] = Generation(
                    event.generation, event.topic_id, event.topic_name, event.partitions
                )
            case events.ModelDeployed() | events.ModelRolledBack():
                if event.alias == "champion":
                    self.champion = Champion(event.name, event.version, event.digest)
            case events.ThresholdsChanged():
                self.review, self.decline = event.review, event.decline
            case events.RulesChanged():
                self.parameters = dict(event.parameters)
                self.disabled = event.disabled
            case events.ListChanged():
                members = self.lists.setdefault((event.kind, event.effect), {})
                members.update(dict.fromkeys(event.add))
                for value in event.remove:
                    members.pop(value, None)
            case events.ReferencePublished():
                self.references[event.kind] = (event.digest, event.as_of)
            case _:
                pass  # registrations, drift, archive: not an input of a decision


def check(event: events.Control) -> None:
    """Raise BadInput if the event can't take effect. Whoever appends control events calls this first."""
    match event:
        case events.ThresholdsChanged():
            policy.check_thresholds(event.review, event.decline)
        case events.RulesChanged():
            rules.parameter_vector(event.parameters)
            rules.enabled_mask(event.disabled)
        case _:
            pass


@dataclass(frozen=True, slots=True)
class Context:
    """All that a decision needs besides its partition's state. Immutable; one per control position."""

    position: int
    scorer: Scorer | None
    model: str
    digest: str
    merchants: ReferenceTable | None
    devices: ReferenceTable | None
    parameters: NDArray[np.float64]
    enabled: int
    amount_high: float
    review: float
    decline: float
    lists: dict[ListKey, dict[str, None]]
    degraded: str | None


LoadBlob = Callable[[str], bytes]
LoadScorer = Callable[[bytes, str, str], Scorer]
"""(artifact bytes, version label, expected SHA-256) → scorer; raises SentinelError if it can't be trusted."""


class Resolver:
    """Turns a ControlState into a Context, loading each artifact once. Holds the newest few of each kind."""

    def __init__(self, load_blob: LoadBlob, load_scorer: LoadScorer) -> None:
        self._load_blob = load_blob
        self._load_scorer = load_scorer
        self._scorers: dict[str, Scorer] = {}
        self._tables: dict[str, ReferenceTable] = {}

    def context(self, state: ControlState, *, degraded: str | None = None) -> Context:
        """The context at `state.position`. An artifact that can't be loaded degrades it (I9) instead of raising.

        `degraded` forces a degradation that the log recorded, so that a replay decides under the same handicap.
        """
        forced = degraded.split("+") if degraded else []
        reasons = [reason for reason in (REFERENCE_UNAVAILABLE, MODEL_UNAVAILABLE, MODEL_ERROR) if reason in forced]
        scorer: Scorer | None = None
        tables: dict[Kind, ReferenceTable | None] = {"merchant": None, "device": None}
        if REFERENCE_UNAVAILABLE not in reasons:
            try:
                for kind, (digest, _) in state.references.items():
                    tables[kind] = self._table(digest)
            except SentinelError:
                tables = {"merchant": None, "device": None}
                reasons.insert(0, REFERENCE_UNAVAILABLE)
        if state.champion is None:
            reasons.append(NO_MODEL)
        elif MODEL_UNAVAILABLE not in reasons and MODEL_ERROR not in reasons:
            try:
                scorer = self._scorer(state.champion)
            except SentinelError:
                reasons.append(MODEL_UNAVAILABLE)
        parameters = rules.parameter_vector(state.parameters)
        return Context(
            position=state.position,
            scorer=scorer,
            model=state.champion.label if state.champion else "none",
            digest=state.champion.digest[:16] if state.champion else "",
            merchants=tables["merchant"],
            devices=tables["device"],
            parameters=parameters,
            enabled=rules.enabled_mask(state.disabled),
            amount_high=float(parameters[list(rules.PARAMETERS).index("amount_high")]),
            review=state.review,
            decline=state.decline,
            lists={key: dict(members) for key, members in state.lists.items() if members},
            degraded="+".join(reasons) or None,
        )

    def _scorer(self, champion: Champion) -> Scorer:
        if champion.digest not in self._scorers:
            scorer = self._load_scorer(self._load_blob(champion.digest), champion.label, champion.digest)
            if scorer.spec != spec.SPEC_VERSION:
                raise SentinelError(f"{champion.label} reads feature spec {scorer.spec}, not {spec.SPEC_VERSION}")
            _bound(self._scorers, 8)
            self._scorers[champion.digest] = scorer
        return self._scorers[champion.digest]

    def _table(self, digest: str) -> ReferenceTable:
        if digest not in self._tables:
            table = ReferenceTable.from_bytes(self._load_blob(digest))
            _bound(self._tables, 8)
            self._tables[digest] = table
        return self._tables[digest]


def _bound(cache: dict[str, object] | dict[str, Scorer] | dict[str, ReferenceTable], size: int) -> None:
    while len(cache) >= size:
        del cache[next(iter(cache))]


def fold(entries: Sequence[tuple[int, events.Control]], state: ControlState | None = None) -> ControlState:
    """Fold control events into `state` (or a new one), which is returned."""
    state = state or ControlState()
    for sequence, event in entries:
        state.apply(sequence, event)
    return state
