"""A retraining: data as known at T, candidates of each kind, all judged by the gate on the same later rows.

    start …………… train_end   gap   held_from …………… held_to   gap   known_until
    trained on, labels as              judged on, labels as known
    known at held_from                 at known_until, all of them due

Gaps are the label maturity, so no row is trained on or judged by before its label was due, and no candidate has seen
anything of what it is judged by. The champion is measured on the same rows by its own scorer. Everything follows from
the log up to `known_until`, the settings and the seed: a process that died trains again to the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import BadInput
from core.features import spec
from core.log.base import EventLog
from core.scoring import Scorer
from core.times import DAY_MS
from learners.loop.settings import CandidateKind, LearnSettings
from learners.training import incremental, reading, training
from learners.training.base import Learner
from learners.training.dataset import TrainingSet, as_known, labelled
from learners.training.gate import GateResult, PairedScores, judge, unseen
from learners.training.incremental import ForestLearner, IncrementalSettings
from learners.training.splits import Split
from learners.training.training import Naming, Recipe
from learners.training.versions import Change, next_version
from models.artifacts import format_of

LoadScorer = Callable[[bytes, str, str], Scorer]
Timer = Callable[[Callable[[], object]], float]
"""Runs something and says how many seconds it took."""

_CHANGES: dict[CandidateKind, Change] = {
    "retrained": "retrained",
    "boosted": "boosted",
    "refitted": "refitted",
    "online": "online",
}
ONLINE_ROWS_MAX = 200_000
TIME_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Incumbent:
    """What a candidate is measured against, and may be made from."""

    name: str
    version: str
    content: bytes
    scorer: Scorer
    review: float
    decline: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate and the gate's verdict; content is b"" if it could not be made, and `result` says why."""

    kind: CandidateKind
    version: str
    content: bytes
    result: GateResult


def window(settings: LearnSettings, known_until: int) -> Split:
    """The split of a retraining as of `known_until` (see the module's head). Raises BadInput if that is no time."""
    if not 0 < known_until < TIME_MAX:
        raise BadInput(f"a retraining can't know what was known at {known_until} (epoch ms)")
    maturity = int(settings.maturity_days * DAY_MS)
    held_to = known_until - maturity
    held_from = held_to - int(settings.holdout_days * DAY_MS)
    train_end = held_from - maturity
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
    """Every kind's candidate, judged, best average precision first among the accepted; then the rejected.

    Raises BadInput if the log has nothing to learn from in the window.
    """
    split = window(settings, known_until)
    maturity = int(settings.maturity_days * DAY_MS)
    data = reading.read(
        log, partitions, known_until, maturity_ms=maturity, start=split.start, end=max(split.end, split.start + 1)
    )
    held = labelled(data.rows(unseen(data.times, split.test_start - 1, known_until, maturity)))
    logged_champion = incumbent.scorer.margins(held.features)
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
        scorer.margins(held.features[:16])  # its machine code is loaded before it is timed
        margins = scorer.margins(held.features)
        seconds = timer(lambda scorer=scorer: scorer.margins(held.features))  # type: ignore[misc]
        paired = PairedScores(
            logged_champion,
            margins,
            held.labels,
            held.accounts,
            incumbent.review,
            incumbent.decline,
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
    learner = _learner(kind, incumbent, settings)
    features, labels, weights = _batch(kind, rows, split, settings)
    if not labels.any():
        raise BadInput("no fraud among the rows to learn from")
    learner.learn(features, labels, weights)
    return learner.export()


def _learner(kind: CandidateKind, incumbent: Incumbent, settings: LearnSettings) -> Learner:
    wanted = "linear" if kind == "online" else "lightgbm"
    learner: Learner
    if kind == "online":
        from learners.training.online import OnlineLearner  # River takes seconds to load, and few loops use it

        learner = OnlineLearner(spec.NAMES)
        if format_of(incumbent.content) != wanted:
            return learner
    elif format_of(incumbent.content) != wanted:
        raise BadInput(f"the champion is not of the kind that can be {kind}")
    else:
        mode = IncrementalSettings(mode="boost" if kind == "boosted" else "refit")
        learner = ForestLearner(spec.NAMES, mode, settings.seed)
    learner.restore(incumbent.content)
    return learner


def _batch(
    kind: CandidateKind, rows: TrainingSet, split: Split, settings: LearnSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(features, labels, weights) to learn: the newest days whole and a sample of what came before; online, all rows
    (the newest `ONLINE_ROWS_MAX`) one after the other.
    """
    if kind == "online":
        return rows.features[-ONLINE_ROWS_MAX:], rows.labels[-ONLINE_ROWS_MAX:], None
    new = int(np.searchsorted(rows.times, split.train_end - int(settings.update_days * DAY_MS)))
    older, weights = np.empty(0, np.int64), np.empty(0)
    if new:
        older, weights = incremental.replay(rows.labels[:new], min(settings.replay_rows, new), settings.seed)
    chosen = np.concatenate([older, np.arange(new, len(rows))])
    return rows.features[chosen], rows.labels[chosen], np.concatenate([weights, np.ones(len(rows) - new)])
