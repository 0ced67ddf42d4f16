"""A logistic regression as a scorer, and its artifact: JSON with means, variances, weights and an intercept (I10).

Owns the format and the sum; never imports river and never guesses a missing field. A row's margin is

    bias + Σ_j slope_j · min(max(x_j − mean_j, −bound_j), bound_j),   bias = intercept + offset,

with slope = weight / deviation and bound = clip · deviation, added in the order of the columns by one numba loop: the
bits depend only on the row and the artifact. A missing value (NaN) counts as the running mean and contributes 0; an
infinite one as `clip` deviations; a column that never varied contributes 0. Only IEEE +, −, ×, ÷ and sqrt are used.

`parse` checks what the loop relies on: equal lengths, finite numbers, and a sum that can't overflow, whatever the row.
Cost: about 0.1 µs per row for 60 columns, plus about 1 µs per call.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt
from core.jit import njit
from models.rows import check_row, check_rows, checked_digest, contiguous

COUNT_MAX = 2**53
BYTES_MAX = 16 * 2**20
FEATURES_MAX = 65_536


class LinearModel(
    msgspec.Struct, tag_field="format", tag="sentinel_linear.v1", frozen=True, forbid_unknown_fields=True
):
    """The artifact. All tuples have one entry per column, in the order of `features`; all numbers are finite.

    counts: values seen that were not missing; means and variances (population) of those; weights in log-odds per
    deviation; intercept in log-odds; offset: added to the intercept for scoring, for example to correct for frauds
    that were learned with more weight (King, Zeng 2001); clip: deviations, above 0; steps: labels learned.
    """

    features: tuple[str, ...]
    counts: tuple[int, ...]
    means: tuple[float, ...]
    variances: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    offset: float
    clip: float
    steps: int
    link: Literal["logit"] = "logit"


METHOD = "the linear model's terms, which are its Shapley values against the learned means (Sundararajan, Najmi 2020)"

MAGIC = b'{"format":"sentinel_linear.v1",'
_DECODER = msgspec.json.Decoder(LinearModel)


def render(model: LinearModel) -> bytes:
    """The artifact's bytes; floats survive the round trip bit for bit. Raises Corrupt as `parse` does."""
    _check(model)
    return msgspec.json.encode(model)


def parse(content: bytes) -> LinearModel:
    """An artifact's bytes → model. Raises BadInput if it is too large, Corrupt if it is not what `render` writes."""
    if len(content) > BYTES_MAX:
        raise BadInput(f"linear model of {len(content)} bytes is above the limit of {BYTES_MAX}")
    if not content.startswith(MAGIC):  # msgspec also accepts a struct without its tag
        raise Corrupt("linear model: does not begin with its format tag")
    try:
        model = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # ValidationError is a DecodeError
        raise Corrupt(f"linear model: {error}") from None
    _check(model)
    return model


def _check(model: LinearModel) -> None:
    width = len(model.features)
    if not 1 <= width <= FEATURES_MAX:
        raise Corrupt(f"linear model: {width} columns; 1 to {FEATURES_MAX} are allowed")
    if not all(model.features) or len(set(model.features)) != width:
        raise Corrupt("linear model: a column name is empty or repeated")
    for name in ("counts", "means", "variances", "weights"):
        values = getattr(model, name)
        if len(values) != width:
            raise Corrupt(f"linear model: {len(values)} {name} for {width} columns")
        if not all(abs(value) < math.inf for value in values):  # also an integer that no float can hold
            raise Corrupt(f"linear model: {name} are not all finite")
    if min(model.counts) < 0 or min(model.variances) < 0 or model.steps < 0:
        raise Corrupt("linear model: a count or variance is below 0")
    if max(*model.counts, model.steps) > COUNT_MAX:
        raise Corrupt("linear model: a count is above 2^53")
    if not (0.0 < model.clip < math.inf and math.isfinite(model.intercept) and math.isfinite(model.offset)):
        raise Corrupt("linear model: clip, intercept or offset is not a finite number, or clip is not above 0")
    with np.errstate(all="ignore"):
        _, slopes, bounds, bias = coefficients(model)
        largest = abs(bias) + float(np.sum(np.abs(slopes * bounds)))
    if not (np.isfinite(slopes).all() and np.isfinite(bounds).all() and math.isfinite(largest)):
        raise Corrupt("linear model: weights or variances are so large or small that a margin could overflow")


Coefficients = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]


def coefficients(model: LinearModel) -> Coefficients:
    """(means, slopes, bounds, bias): float64 (F,) three times and a float, as the loop reads them."""
    deviations = np.sqrt(np.array(model.variances, dtype=np.float64))
    weights = np.array(model.weights, dtype=np.float64)
    varies = deviations > 0.0
    slopes = np.divide(weights, deviations, out=np.zeros_like(weights), where=varies)
    return np.array(model.means, dtype=np.float64), slopes, model.clip * deviations, model.intercept + model.offset


@njit
def linear_shares(
    row: NDArray[np.float32],
    means: NDArray[np.float64],
    slopes: NDArray[np.float64],
    bounds: NDArray[np.float64],
    shares: NDArray[np.float64],
) -> None:
    """Each column's part of one row's margin (F,)."""
    for j in range(row.shape[0]):
        distance = np.float64(row[j]) - means[j]
        if distance != distance:
            distance = 0.0
        distance = min(max(distance, -bounds[j]), bounds[j])
        shares[j] = slopes[j] * distance


@njit
def linear_margins(
    rows: NDArray[np.float32],
    means: NDArray[np.float64],
    slopes: NDArray[np.float64],
    bounds: NDArray[np.float64],
    bias: float,
) -> NDArray[np.float64]:
    """float32 rows (n, F), C-contiguous → margins (n,)."""
    out = np.empty(rows.shape[0], dtype=np.float64)
    shares = np.empty(rows.shape[1], dtype=np.float64)
    for i in range(rows.shape[0]):
        linear_shares(rows[i], means, slopes, bounds, shares)
        total = bias
        for j in range(shares.shape[0]):
            total += shares[j]
        out[i] = total
    return out


class LinearScorer:
    """A logistic regression as a `core.scoring.Scorer`. Immutable; may be shared between threads."""

    def __init__(self, model: LinearModel, *, version: str, digest: str, spec: int) -> None:
        self._version, self._digest, self._spec = version, digest, spec
        self._names = model.features
        self._width = len(model.features)
        self._coefficients = coefficients(model)
        empty = np.zeros((1, self._width), dtype=np.float32)
        self.margins(empty)  # compile, or load from the cache, now rather than during a payment
        self.contributions(empty[0])

    @classmethod
    def load(cls, content: bytes, *, version: str, spec: int, expected_digest: str | None = None) -> LinearScorer:
        """An artifact's bytes → scorer.

        version: the label, `online-1.0.0`. spec: the feature spec it reads; the caller compares `names`.
        expected_digest: SHA-256 (hex) that the bytes must have. Raises Corrupt if they have another or are not intact,
        BadInput if they are too many.
        """
        digest = checked_digest(content, version, expected_digest)
        return cls(parse(content), version=version, digest=digest, spec=spec)

    @property
    def version(self) -> str:
        """Name and semantic version, `online-1.0.0`."""
        return self._version

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of the artifact's bytes."""
        return self._digest

    @property
    def spec(self) -> int:
        """The feature spec version whose columns the model reads."""
        return self._spec

    @property
    def inputs(self) -> None:
        """The file itself says nothing of definitions (`models.inputs`)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that the model reads, in order."""
        return self._names

    @property
    def width(self) -> int:
        """The number of columns."""
        return self._width

    def margins(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Raw scores (log-odds): float32 (n, F) → float64 (n,), finite. NaN is 'missing'.

        A read-only or strided array is copied first. Raises BadInput on another dtype or width.
        """
        check_rows(features, self._width, self._version)
        out: NDArray[np.float64] = linear_margins(contiguous(features), *self._coefficients)
        return out

    @property
    def method(self) -> str:
        """How `contributions` are computed, in words."""
        return METHOD

    def contributions(self, row: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
        """(bias, shares (F,)) of one row (F,), in log-odds: the bias and the shares, added in order, are the margin.

        A sum of functions of one column each has the same shares in every order, so they are the Shapley values against
        the learned means. Raises BadInput as `margins`.
        """
        check_row(row, self._width, self._version)
        means, slopes, bounds, bias = self._coefficients
        shares = np.empty(self._width, dtype=np.float64)
        linear_shares(contiguous(row), means, slopes, bounds, shares)
        return bias, shares
