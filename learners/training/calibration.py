"""Calibration that is part of the model: probabilities that mean what they say, with no second artifact to keep.

Platt's method (1999) fits a probability 1 / (1 + e^−(a·m + b)) to a model's margins m on later data that it was not
trained on. A forest's margin is a sum of leaf values, so a·m + b is a forest again: every leaf times a, and b added to
the first tree. `fold` writes that forest. The scorer then needs nothing new, and replay stays bit for bit.

Whoever goes on learning from a calibrated model:
- continued boosting (`init_model`) works as it is: the folded margin is the log-odds that the new trees start from.
- `Booster.refit` mixes old leaves with new ones of the training objective's own scale: refit the uncalibrated model.
- then fit anew, on later data: (a, b) belongs to the model it was fitted to.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt
from learners.metrics import Labels

ITERATIONS_MAX = 100
PRECISION = 1e-10

_VALUES = re.compile(r"^(leaf_value|internal_value|shrinkage)=(.*)$", re.M)
_TREE = re.compile(r"^Tree=(\d+)$", re.M)
_SIZES = re.compile(r"^tree_sizes=.*\n", re.M)


class Platt(NamedTuple):
    """Calibrated log-odds = a × margin + b; a > 0, so the order of the scores stays."""

    a: float
    b: float

    def margins(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margins (n,) → calibrated log-odds (n,)."""
        return self.a * margins + self.b


IDENTITY = Platt(1.0, 0.0)


def probabilities(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds (n,) → probabilities (n,). For measures; what is logged comes from core.numeric.sigmoid."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * margins)), dtype=np.float64)


def fit(margins: NDArray[np.float64], labels: Labels) -> Platt:
    """(a, b) of greatest likelihood, by Newton's method with halved steps (Lin, Lin, Weng 2007).

    margins float64 (n,), labels bool (n,): later data that the model was not trained on. Platt's targets
    (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2) stand in for 1 and 0, so a perfect ranking gives finite numbers. Raises
    BadInput if a class is missing, or if fraud does not score higher: such a model is of no use.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        raise BadInput("calibration needs frauds and legitimate payments in the held-out part")
    targets = np.where(labels, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))
    # On standardised margins, so that the starting point and the precision suit any scale.
    centre, scale = float(margins.mean()), float(margins.std()) or 1.0
    x = (margins - centre) / scale
    a, b = 0.0, float(np.log((positives + 1.0) / (negatives + 1.0)))
    loss = _loss(x, targets, a, b)
    for _ in range(ITERATIONS_MAX):
        p = probabilities(a * x + b)
        gradient = np.array([np.dot(x, p - targets), np.sum(p - targets)])
        weight = p * (1.0 - p)
        cross = float(np.dot(x, weight))
        hessian = np.array([[np.dot(x * x, weight), cross], [cross, weight.sum()]]) + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-10:
            trial = (a - size * float(step[0]), b - size * float(step[1]))
            trial_loss = _loss(x, targets, *trial)
            if trial_loss < loss - 1e-4 * size * float(gradient @ step):
                break
            size /= 2.0
        else:
            break
        (a, b), loss = trial, trial_loss
        if float(np.abs(gradient).max()) < PRECISION * len(x):
            break
    if not a > 0.0:
        raise BadInput("the model's scores do not rise with fraud on the held-out part: there is nothing to calibrate")
    return Platt(a / scale, b - a * centre / scale)


def _loss(x: NDArray[np.float64], targets: NDArray[np.float64], a: float, b: float) -> float:
    """Cross-entropy of targets and sigmoid(a·x + b), without overflow."""
    z = a * x + b
    return float(np.sum(np.logaddexp(0.0, z) - targets * z))


def fold(content: bytes, platt: Platt) -> bytes:
    """LightGBM's text (UTF-8) of the model whose margin is a·m + b, within rounding (some 1e-15 a tree).

    Inner nodes' values are scaled with the leaves, so that a reason's share of the margin still adds up; so is each
    tree's shrinkage, as in LightGBM's own Tree::Shrinkage. Raises BadInput unless 0 < a < ∞ and b is finite, Corrupt if
    LightGBM does not read the text.
    """
    if not (0.0 < platt.a < float("inf")) or not np.isfinite(platt.b):
        raise BadInput(f"can't fold a = {platt.a}, b = {platt.b} into a model")
    text = content.decode()
    starts = [match.start() for match in _TREE.finditer(text)]
    end = text.find("\nend of trees")
    if not starts or end < 0:
        raise Corrupt("not a model as LightGBM writes it: it has no trees")
    parts = [_SIZES.sub("", text[: starts[0]])]  # the trees' sizes change; LightGBM reads on without
    for number, (begin, stop) in enumerate(zip(starts, [*starts[1:], end], strict=True)):
        bias = platt.b if number == 0 else 0.0
        parts.append(_VALUES.sub(lambda match, bias=bias: _scaled(match, platt.a, bias), text[begin:stop]))  # type: ignore[misc]
    parts.append(text[end:])
    try:
        return str(lgb.Booster(model_str="".join(parts)).model_to_string()).encode()
    except lgb.basic.LightGBMError as error:
        raise Corrupt(f"LightGBM does not read the calibrated model: {error}") from error


def _scaled(match: re.Match[str], a: float, bias: float) -> str:
    name, values = match[1], match[2].split()
    bias = 0.0 if name == "shrinkage" else bias
    return f"{name}=" + " ".join(repr(float(value) * a + bias) for value in values)
