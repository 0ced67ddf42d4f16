"""Retraining: data as known at T, candidates of each kind, all evaluated by the gate on the same held-out rows.

    start …………… train_end   gap   held_from …………… held_to   gap   known_until
    training, labels as                evaluation, labels as known
    known at held_from                 at known_until, all mature

Each gap is one label maturity. No row is used for training or evaluation before its label is mature, and no candidate
has seen any of the evaluation rows. The champion is evaluated on the same rows by its own scorer. Everything is
determined by the log up to `known_until`, the settings and the seed: a process that died trains again to the same
bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.context import LoadScorer, Resolver
from core.control_stream import history
from core.errors import BadInput
from core.features import spec
from core.log.base import EventLog
from core.policy import Thresholds
from core.replay import Timeline
from core.scoring import Scorer
from core.times import DAY_MS
from learners.loop.settings import CandidateKind, LearnSettings
from learners.training import incremental, reading, training
from learners.training.base import Learner
from learners.training.columns import deployed_plan, selection_of
from learners.training.dataset import TrainingSet, as_known, labelled
from learners.training.gate import GateResult, judge, unseen
from learners.training.incremental import ForestLearner, IncrementalSettings
from learners.training.levels import columns_for
from learners.training.paired import PairedScores
from learners.training.splits import Split
from learners.training.training import Naming, Recipe
from learners.training.versions import ModelChange, next_version
from models.artifacts import format_of

Timer = Callable[[Callable[[], object]], float]
"""Calls a function and returns the seconds it took."""

_CHANGES: dict[CandidateKind, ModelChange] = {
    "retrained": "retrained",
    "boosted": "boosted",
    "refitted": "refitted",
    "online": "online",
}
ONLINE_ROWS_MAX = 200_000
TIME_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The champion that candidates are compared with, and may be built from."""

    name: str
    version: str
    content: bytes
    scorer: Scorer
    thresholds: Thresholds


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate and the gate's verdict; `content` is b"" if it could not be made, and `result` says why."""

    kind: CandidateKind
    version: str
    content: bytes
    result: GateResult


def window(settings: LearnSettings, known_until: int) -> Split:
    """The split of a retraining as of `known_until` (see the module's head). Raises BadInput if that is not a valid
    time.
    """
    if not 0 < known_until < TIME_MAX:
        raise BadInput(f"retraining: known_until {known_until} is not a valid time (epoch ms)")
    held_from, held_to = settings.holdout(known_until)
    train_end = settings.train_end(known_until)
    return Split(train_end - int(settings.train_days * DAY_MS), train_end, held_from, held_to)


def make(
    log: EventLog,
    partitions: Sequence[int],
    incumbent: Incumbent,
    known_until: int,
    settings: LearnSettings,
    load_scorer: LoadScorer,
    timer: Timer,
) -> list[Candidate]:
    """A candidate of each kind with the gate's verdict: accepted ones first, by descending average precision.

    Raises BadInput if the log has nothing to train on in the window.
    """
    split = window(settings, known_until)
    maturity = int(settings.maturity_days * DAY_MS)
    data = reading.read(
        log,
        partitions,
        known_until,
        maturity_ms=maturity,
        start=split.start,
        end=max(split.end, split.start + 1),
        selection=selection_of(deployed_plan(log)[1], incumbent.scorer.inputs),
        timeline=lambda: Timeline(history(log), Resolver(log.get_blob, load_scorer)),
    )
    held = labelled(data.rows(unseen(data.times, split.test_start - 1, known_until, maturity)))
    logged_champion = incumbent.scorer.margins(columns_for(held, incumbent.scorer.inputs))
    known = as_known(data.between(split.start, split.train_end), split.test_start)
    rows = labelled(known)
    made: list[Candidate] = []
    for kind in settings.candidates:
        version = next_version(incumbent.version, _CHANGES[kind])
        try:
            content = _content(kind, incumbent, data, rows, split, settings, version)
            scorer = load_scorer(content, f"{incumbent.name}-{version}", _digest(content))
        except BadInput as error:
            made.append(Candidate(kind, version, b"", GateResult(False, (str(error),), {})))
            continue
        columns = columns_for(held, scorer.inputs)
        scorer.margins(columns[:16])  # warm up: compiled code is loaded before timing
        margins = scorer.margins(columns)
        seconds = timer(lambda scorer=scorer, columns=columns: scorer.margins(columns))  # type: ignore[misc]
        paired = PairedScores(
            logged_champion,
            margins,
            held.labels,
            held.accounts,
            held.amounts,
            incumbent.thresholds,
            1e6 * seconds / max(len(held), 1),
        )
        made.append(Candidate(kind, version, content, judge(paired, settings.gate_settings(), settings.seed)))
    return sorted(made, key=lambda c: (not c.result.accepted, -c.result.metrics.get("average_precision", 0.0)))


def _digest(content: bytes) -> str:
    """SHA-256 (hex) of an artifact."""
    return hashlib.sha256(content).hexdigest()


def _content(
    kind: CandidateKind,
    incumbent: Incumbent,
    data: TrainingSet,
    rows: TrainingSet,
    split: Split,
    settings: LearnSettings,
    version: str,
) -> bytes:
    """A candidate's artifact. Raises BadInput if it can't be made from this data or this incumbent."""
    if kind == "retrained":
        naming = Naming(incumbent.name, version, incumbent.version, "the log")
        return training.train(
            data, split, seed=settings.seed, naming=naming, recipe=Recipe(trials=settings.trials)
        ).content
    if incumbent.scorer.inputs is not None:
        raise BadInput(f"the champion reads columns of its own, so it cannot be {kind}: retrain it")
    learner = _learner(kind, incumbent, settings)
    features, labels, weights = _batch(kind, rows, split, settings)
    if not labels.any():
        raise BadInput("the training rows contain no fraud")
    learner.learn(features, labels, weights)
    return learner.export()


def _learner(kind: CandidateKind, incumbent: Incumbent, settings: LearnSettings) -> Learner:
    wanted = "linear" if kind == "online" else "lightgbm"
    learner: Learner
    if kind == "online":
        from learners.training.online import OnlineLearner  # River takes seconds to import, and few loops use it

        learner = OnlineLearner(spec.NAMES)
        if format_of(incumbent.content) != wanted:
            return learner
    elif format_of(incumbent.content) != wanted:
        raise BadInput(f"the champion is not a {wanted} model, so it cannot be {kind}")
    else:
        mode = IncrementalSettings(mode="boost" if kind == "boosted" else "refit")
        learner = ForestLearner(spec.NAMES, mode, settings.seed)
    learner.restore(incumbent.content)
    return learner


def _batch(
    kind: CandidateKind, rows: TrainingSet, split: Split, settings: LearnSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(features, labels, weights) to learn: all rows of the newest days and a sample of the older ones; online, the
    newest `ONLINE_ROWS_MAX` rows in order.
    """
    if kind == "online":
        return rows.features[-ONLINE_ROWS_MAX:], rows.labels[-ONLINE_ROWS_MAX:], None
    new = int(np.searchsorted(rows.times, split.train_end - int(settings.update_days * DAY_MS)))
    older, weights = np.empty(0, np.int64), np.empty(0)
    if new:
        older, weights = incremental.replay(rows.labels[:new], min(settings.replay_rows, new), settings.seed)
    chosen = np.concatenate([older, np.arange(new, len(rows))])
    return rows.features[chosen], rows.labels[chosen], np.concatenate([weights, np.ones(len(rows) - new)])
