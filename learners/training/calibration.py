"""Calibration folded into the model, so that there is no second artifact to keep.

Platt's method (`learners.platt`) fits a·m + b to a model's margins m on later, held-out data. A forest's margin is a
sum of leaf values, so a·m + b is again a forest: every leaf value times a, and b added to the first tree. `fold`
writes that forest. The scorer needs no change, and replay stays bit for bit.

To continue learning from a calibrated model:
- Continued boosting (`init_model`) works as it is: the new trees start from the folded margin, which is a log-odds.
- `Booster.refit` mixes old leaf values with new ones on the objective's own scale: refit the uncalibrated model.
- Then calibrate again on later data: (a, b) belongs to the model it was fitted to.
"""

from __future__ import annotations

import re

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt
from learners import platt
from learners.metrics import Labels
from learners.platt import Platt

_VALUES = re.compile(r"^(leaf_value|internal_value|shrinkage)=(.*)$", re.M)
_TREE = re.compile(r"^Tree=(\d+)$", re.M)
_SIZES = re.compile(r"^tree_sizes=.*\n", re.M)


def fit(margins: NDArray[np.float64], labels: Labels) -> Platt:
    """`learners.platt.fit` on held-out data: margins float64 (n,), labels bool (n,). a > 0 keeps the ranking.
    Raises BadInput if a class is missing, or if fraud does not score higher: such a model is useless.
    """
    if labels.all() or not labels.any():
        raise BadInput("calibration needs both frauds and legitimate payments in the held-out part")
    found = platt.fit(margins, labels)
    if not found.a > 0.0:
        raise BadInput("the model does not score fraud higher on the held-out part, so it cannot be calibrated")
    return found


def fold(content: bytes, line: Platt) -> bytes:
    """LightGBM text (UTF-8) of the model whose margin is a·m + b, up to rounding (about 1e-15 a tree).

    Internal node values are scaled with the leaves, so that feature contributions still add up to the margin; so is
    each tree's shrinkage, as in LightGBM's own Tree::Shrinkage. Raises BadInput unless 0 < a < ∞ and b is finite,
    Corrupt if LightGBM can't read the text.
    """
    if not (0.0 < line.a < float("inf")) or not np.isfinite(line.b):
        raise BadInput(f"cannot fold a = {line.a}, b = {line.b} into a model: a must be positive, both finite")
    text = content.decode()
    starts = [match.start() for match in _TREE.finditer(text)]
    end = text.find("\nend of trees")
    if not starts or end < 0:
        raise Corrupt("not a LightGBM model: it has no trees")
    parts = [_SIZES.sub("", text[: starts[0]])]  # tree sizes change; LightGBM does not need them to read the model
    for number, (begin, stop) in enumerate(zip(starts, [*starts[1:], end], strict=True)):
        bias = line.b if number == 0 else 0.0
        parts.append(_VALUES.sub(lambda match, bias=bias: _scaled(match, line.a, bias), text[begin:stop]))  # type: ignore[misc]
    parts.append(text[end:])
    try:
        return str(lgb.Booster(model_str="".join(parts)).model_to_string()).encode()
    except lgb.basic.LightGBMError as error:
        raise Corrupt(f"LightGBM cannot read the calibrated model: {error}") from error


def _scaled(match: re.Match[str], a: float, bias: float) -> str:
    name, values = match[1], match[2].split()
    bias = 0.0 if name == "shrinkage" else bias
    return f"{name}=" + " ".join(repr(float(value) * a + bias) for value in values)
