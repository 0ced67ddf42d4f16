"""Training a champion candidate: split by time, early stopping, calibration, evaluation. Deterministic: the same rows
and seed give the same bytes.

    train [start, train_end)   gap of one maturity   test [test_start, end)
    |---- fit ----|-- late --|

1. Training rows are labelled as known at test_start, the day on which the model could have been deployed; test rows as
   known now. Rows in review or pending are left out. Accounts already known to be compromised on the test day are
   excluded from the test, as in the Fraud Detection Handbook.
2. A probe model is fitted on the rows before the late part (the last fifth). The late part, held out from it, selects
   the number of trees, and the calibration (a, b) is fitted to the probe's margins on the late part.
3. The final model is fitted on the whole training period, and (a, b) is folded into it
   (learners.training.calibration).
4. The test period is used for evaluation only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import lightgbm as lgb
import msgspec
import numpy as np

from core.errors import BadInput
from core.features import spec
from core.program.inputs import kernel_identities
from core.scoring import Input
from core.times import DAY_MS
from learners.platt import IDENTITY, Platt, probabilities
from learners.training import boosting, calibration, levels
from learners.training.boosting import MISSING_TABLES_SHARE, ReportProgress, without_tables
from learners.training.dataset import TrainingSet, as_known, labelled
from learners.training.evaluation import HeldOut, evaluate
from learners.training.reading import read
from learners.training.search import Search, search
from learners.training.splits import Split, known_compromised, split_by_time
from models.inputs import joined

__all__ = [
    "Naming",
    "Recipe",
    "Split",
    "Trained",
    "TrainingSet",
    "read",
    "split_by_time",
    "train",
    "without_tables",
]

MODEL_NAME = "baseline"
FRAUDS_TO_TRAIN = 50
FRAUDS_TO_TEST = 20
LATE_PARTS = 5
ROUNDS_MIN = 20
IMPORTANT = 15

ClassWeight = float | Literal["balanced"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A model as LightGBM text, its SHA-256, the data of its card, and the test period with its probabilities."""

    content: bytes
    digest: str
    card: dict[str, object]
    held: HeldOut | None = None


@dataclass(frozen=True, slots=True)
class Naming:
    """What the card states but does not measure. parent: the model it succeeds; data: a description of the rows."""

    name: str = MODEL_NAME
    version: str = "1.0.0"
    parent: str = ""
    data: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is fitted.

    trials: of the hyperparameter search (0: no search). class_weight: the weight of a fraud relative to a legitimate
    payment (LightGBM's scale_pos_weight), or "balanced" for the inverse class ratio; calibration corrects the
    probabilities for it. overrides: LightGBM parameters that replace the defaults. missing_tables_share: see
    `without_tables`; 0 disables it. exclude_known: exclude accounts already known to be compromised from the test.
    """

    trials: int = 0
    class_weight: ClassWeight = 1.0
    overrides: Mapping[str, object] = field(default_factory=dict)
    calibrate: bool = True
    missing_tables_share: float = MISSING_TABLES_SHARE
    exclude_known: bool = True


AS_USUAL = Recipe()
UNNAMED = Naming()


def train(
    data: TrainingSet,
    split: Split,
    *,
    seed: int,
    naming: Naming = UNNAMED,
    recipe: Recipe = AS_USUAL,
    report: ReportProgress | None = None,
) -> Trained:
    """Train a model on the split's training period and make its card; see the module's head. report: progress callback.

    Raises BadInput if there are too few frauds, or if fraud does not score higher in the late part.
    """
    report = report or (lambda stage, done, total: None)
    training, test = parts(data, split, exclude_known=recipe.exclude_known)
    _enough(training, test)
    inputs = levels.chosen(training)
    training, test = levels.under(training, inputs), levels.under(test, inputs)
    params, searched = _parameters(training, split, seed, recipe, report)
    model = _fit(training, split, params, recipe, report)
    report("measuring", 0, 1)
    final = lgb.Booster(model_str=model.content.decode())
    held = HeldOut(
        test,
        probabilities(boosting.margins(final, test.features)),
        probabilities(boosting.margins(model.plain, test.features)),
    )
    measured = evaluate(held, seed)
    measured["calibration"] = {
        "fitted": recipe.calibrate,
        "a": model.platt.a,
        "b": model.platt.b,
        "rows": model.calibration_rows,
        **measured["calibration"],
    }
    content = model.content if inputs is None else joined(inputs, model.content)
    card: dict[str, object] = {
        "name": naming.name,
        "version": naming.version,
        "parent": naming.parent,
        "spec": spec.SPEC_VERSION,
        "digest": hashlib.sha256(content).hexdigest(),
        **({} if training.inputs is None else {"columns": _columns(training.inputs, training.folded)}),
        "trees": model.rounds,
        "seed": seed,
        "parameters": params,
        "missing_tables_share": recipe.missing_tables_share,
        "data": naming.data,
        **_rows(data, training, test, split),
        **measured,
        "importance": _importance(model.plain),
        "search": None if searched is None else msgspec.to_builtins(searched),
    }
    report("measuring", 1, 1)
    return Trained(content, str(card["digest"]), card, held)


def _columns(inputs: Sequence[Input], folded: Mapping[str, int]) -> dict[str, Any]:
    """What the model reads: how many columns, and those beside the kernel's."""
    known = kernel_identities()
    own = [each for each in inputs if each.identity not in known]
    return {
        "read": len(inputs),
        "own": [each.name for each in own if each.kind == "number"],
        "categories": {each.name: len(each.levels) for each in own if each.kind == "category"},
        "folded": dict(folded),
    }


def _parameters(
    training: TrainingSet, split: Split, seed: int, recipe: Recipe, report: ReportProgress
) -> tuple[dict[str, Any], Search | None]:
    """LightGBM's parameters, and the search that found them, if any."""
    fixed = dict(recipe.overrides)
    weight = _weight(training, recipe.class_weight)
    if weight != 1.0:
        fixed["scale_pos_weight"] = weight
    if recipe.trials == 0:
        return boosting.parameters(seed, fixed), None
    searched = search(
        training,
        split,
        seed=seed,
        trials=recipe.trials,
        missing_tables_share=recipe.missing_tables_share,
        fixed=fixed,
        report=report,
    )
    return boosting.parameters(seed, {**searched.overrides, **fixed}), searched


@dataclass(frozen=True, slots=True)
class _Model:
    """The artifact, the uncalibrated forest, the calibration, and the number of rows it was fitted on."""

    content: bytes
    plain: lgb.Booster
    rounds: int
    platt: Platt
    calibration_rows: int


def _fit(training: TrainingSet, split: Split, params: dict[str, Any], recipe: Recipe, report: ReportProgress) -> _Model:
    """Steps 2 and 3 of the module's head."""
    share = recipe.missing_tables_share
    cut = split.train_end - (split.train_end - split.start) // LATE_PARTS
    early, late = training.between(split.start, cut), training.between(cut, split.train_end)
    if not early.labels.any() or not late.labels.any():
        raise BadInput("too few frauds: the first four fifths or the last fifth of the training period has none")
    callbacks = [_progress("choosing the number of trees", boosting.ROUNDS_MAX, report)]
    probe = boosting.fit(
        early, params, boosting.ROUNDS_MAX, missing_tables_share=share, later=late, callbacks=callbacks
    )
    rounds = min(max(ROUNDS_MIN, int(probe.best_iteration * 1.1)), probe.num_trees())
    platt = IDENTITY
    if recipe.calibrate:  # with the final number of trees, because margins grow with it
        platt = calibration.fit(boosting.margins(probe, late.features, rounds), late.labels)
    callbacks = [_progress("training", rounds, report)]
    plain = boosting.fit(training, params, rounds, missing_tables_share=share, callbacks=callbacks)
    content = plain.model_to_string().encode()
    if recipe.calibrate:
        content = calibration.fold(content, platt)
    return _Model(content, plain, rounds, platt, len(late) if recipe.calibrate else 0)


def parts(data: TrainingSet, split: Split, *, exclude_known: bool = True) -> tuple[TrainingSet, TrainingSet]:
    """(training, test) rows of a split, labelled: training rows as known at the start of the test, test rows as in
    `data`. A set without verdicts keeps its labels.
    """
    training = data.between(split.start, split.train_end)
    if training.known is not None and training.known.until > split.test_start:
        training = as_known(training, split.test_start)
    test = data.between(split.test_start, split.end)
    if exclude_known:
        window = data.between(split.start, split.end)  # shares the features; only the test's rows are copied
        test = test.rows(~known_compromised(window, split)[len(window) - len(test) :])
    return labelled(training), labelled(test)


def _enough(training: TrainingSet, test: TrainingSet) -> None:
    frauds, tested = int(training.labels.sum()), int(test.labels.sum())
    if frauds >= FRAUDS_TO_TRAIN and tested >= FRAUDS_TO_TEST:
        return
    hint = ""
    if training.known is not None and training.known.clock == "log":
        hint = "; if this log was loaded in bulk, use labels by event time"
    raise BadInput(
        f"too few frauds: {frauds} in the training period (at least {FRAUDS_TO_TRAIN} needed),"
        f" {tested} in the test period (at least {FRAUDS_TO_TEST} needed){hint}"
    )


def _weight(training: TrainingSet, class_weight: ClassWeight) -> float:
    if class_weight == "balanced":
        frauds = int(training.labels.sum())
        return (len(training) - frauds) / frauds
    if not 0.0 < float(class_weight) < float("inf"):
        raise BadInput(f"the class weight must be a number above 0, or balanced, not {class_weight}")
    return float(class_weight)


def _progress(stage: str, rounds: int, report: ReportProgress) -> Callable[[Any], None]:
    def callback(env: Any) -> None:
        report(stage, env.iteration + 1, rounds)

    return callback


def _rows(data: TrainingSet, training: TrainingSet, test: TrainingSet, split: Split) -> dict[str, Any]:
    """The card's data range, label times, split, and the models that made the decisions."""
    found: dict[str, Any] = {"range_ms": [int(data.times[0]), int(data.times[-1])], "rows": len(data)}
    found["left_out"] = data.left_out
    if data.known is not None:
        found["known"] = {
            "until_ms": data.known.until,
            "training_until_ms": min(split.test_start, data.known.until),
            "maturity_days": data.known.maturity_ms / DAY_MS,
            "clock": data.known.clock,
            "statuses": data.counts(),
        }
    if data.origin is not None:
        decided = np.bincount(data.origin.models, minlength=len(data.origin.model_names)).tolist()
        found["decided_by"] = dict(zip(data.origin.model_names, decided, strict=True))
    found["split"] = {
        "train_ms": [split.start, split.train_end],
        "test_ms": [split.test_start, split.end],
        "gap_days": split.gap_ms / DAY_MS,
        "train_rows": len(training),
        "train_frauds": int(training.labels.sum()),
        "test_rows": len(test),
        "test_frauds": int(test.labels.sum()),
        "test_excluded": len(labelled(data.between(split.test_start, split.end))) - len(test),
    }
    return found


def _importance(booster: lgb.Booster) -> dict[str, float]:
    gains = booster.feature_importance("gain")
    names = booster.feature_name()
    return {names[i]: round(float(gains[i]), 1) for i in np.argsort(-gains, kind="stable")[:IMPORTANT]}
