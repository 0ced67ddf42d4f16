"""A bounded hyperparameter search: a fixed number of trials, validated on later days only, reproducible by its seed.

Each trial is fitted on the beginning of the training period and scored by average precision on the days that follow,
over FOLDS prequential folds; the test period is never seen. The defaults are the first trial, so the result is never
worse on the folds than the defaults. Optuna's TPE sampler (Bergstra et al. 2011) is seeded, everything runs in one
thread, and the median pruner sees folds in a fixed order, so two runs are identical.

Cost: at most trials × FOLDS fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import BadInput
from learners import metrics
from learners.training import boosting
from learners.training.boosting import ReportProgress
from learners.training.dataset import TrainingSet
from learners.training.splits import Split

if TYPE_CHECKING:
    import optuna  # slower to import than everything else that training needs

FOLDS = 3
FOLD_SHARE = 6
"""Each fold validates on 1 / FOLD_SHARE of the training period; the validation parts are contiguous and end with it."""
STARTUP_TRIALS = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial: its hyperparameters, mean average precision over the folds, each fold's, and whether it was pruned."""

    overrides: dict[str, Any]
    average_precision: float
    folds: list[float]
    pruned: bool


@dataclass(frozen=True, slots=True)
class Search:
    """All trials in order, and the index of the best one."""

    trials: list[Trial]
    best: int

    @property
    def overrides(self) -> dict[str, Any]:
        """The hyperparameters of the best trial."""
        return self.trials[self.best].overrides


def folds(start: int, end: int, gap_ms: int) -> list[Split]:
    """FOLDS splits of [start, end), oldest first: expanding training windows, each validated on the part after it.

    The two are separated by the gap if it leaves at least half of the fold's past to train on. A shorter training
    period does without the gap, because all its labels are as known at the same moment, the end of the gap after it.
    """
    length = (end - start) // FOLD_SHARE
    out = []
    for number in range(FOLDS, 0, -1):
        begin = end - number * length
        gap = gap_ms if gap_ms <= (begin - start) // 2 else 0
        out.append(Split(start, begin - gap, begin, begin + length))
    return out


def search(
    training: TrainingSet,
    window: Split,
    *,
    seed: int,
    trials: int,
    missing_tables_share: float,
    fixed: dict[str, Any],
    report: ReportProgress,
) -> Search:
    """The best of `trials` settings for the training period of `window`. fixed: parameters that are not searched.

    training: labelled rows of the period. Raises BadInput if a fold has no fraud to train or validate on.
    """
    import optuna

    parts = []
    for split in folds(window.start, window.train_end, window.gap_ms):
        past, later = training.between(split.start, split.train_end), training.between(split.test_start, split.end)
        if not past.labels.any() or not later.labels.any():
            raise BadInput("too few frauds for a hyperparameter search: a fold of the training period has none")
        parts.append((past, later))
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=False)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=0)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        study.enqueue_trial(_defaults(seed))

        def objective(trial: optuna.Trial) -> float:
            params = boosting.parameters(seed, {**_suggest(trial), **fixed})
            found: list[float] = []
            for number, (past, later) in enumerate(parts):
                share = missing_tables_share
                model = boosting.fit(past, params, boosting.ROUNDS_MAX, missing_tables_share=share, later=later)
                score = metrics.average_precision(later.labels, boosting.margins(model, later.features))
                found.append(score)
                trial.set_user_attr("folds", found)
                trial.report(float(np.mean(found)), number)
                report("search", trial.number * FOLDS + number + 1, trials * FOLDS)
                if number + 1 < FOLDS and trial.should_prune():
                    raise optuna.TrialPruned
            return float(np.mean(found))

        study.optimize(objective, n_trials=trials, n_jobs=1)
    finally:
        optuna.logging.set_verbosity(verbosity)
    held = [_trial(trial) for trial in study.trials]
    return Search(held, study.best_trial.number)


def _defaults(seed: int) -> dict[str, Any]:
    everything = boosting.parameters(seed)
    return {name: everything[name] for name in _NAMES}


_NAMES = ("learning_rate", "num_leaves", "min_data_in_leaf", "feature_fraction", "bagging_fraction", "lambda_l2")


def _suggest(trial: optuna.Trial) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.15, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 7, 127, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 10, 300, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 50.0, log=True),
    }


def _trial(trial: optuna.trial.FrozenTrial) -> Trial:
    found: list[float] = list(trial.user_attrs.get("folds", []))
    mean = float(np.mean(found)) if found else float("nan")
    return Trial(dict(trial.params), mean, found, trial.state.name == "PRUNED")
