"""The protocol of learners that are brought up to date instead of trained anew, and the checks they share.

A learner is a fold like everything else: its state is its artifact. `export` gives the artifact, `restore` takes it
back, and a restored learner goes on with the same bits. So it has no file or buffer of its own to lose: features and
labels are in the log, and the orchestrator reads them again. What all learners keep is in
tests/contracts/test_learner.py.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from learners.metrics import Labels

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class Learner(Protocol):
    """Learns labelled rows in the order given. Deterministic: settings, seed and that order determine every bit."""

    @property
    def name(self) -> str:
        """What models of it are registered as, `online`; no digits and no dots needed."""

    @property
    def kind(self) -> str:
        """The artifact's format, which decides the core Scorer that serves it."""

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of `export()`: two learners with the same digest are in the same state."""

    def predict(self, features: Float32) -> Float64:
        """Margins (log-odds): float32 (n, F) → float64 (n,), finite, the bits of the exported artifact's Scorer.

        A learner that has learned nothing gives 0.0. NaN is 'missing'. Raises BadInput on another dtype or width.
        """

    def learn(self, features: Float32, labels: Labels, weights: Float64 | None = None) -> None:
        """Rows (n, F), their labels (n,), and weights (n,) ≥ 0 (None = 1 each), in the order of the labels' arrival.

        No rows change nothing. Raises BadInput if shapes, dtypes or weights do not fit, and then has learned nothing.
        """

    def export(self) -> bytes:
        """The declarative artifact (never pickle): all of the state."""

    def restore(self, content: bytes) -> None:
        """Takes the state of an artifact. Raises Corrupt if the bytes are damaged, BadInput if they were made for other
        columns or settings; then nothing has changed.
        """


def check_rows(features: Float32, width: int) -> None:
    """Raise BadInput unless rows are float32 (n, width)."""
    if features.dtype != np.float32 or features.ndim != 2 or features.shape[1] != width:
        raise BadInput(f"rows must be float32 (n, {width}), not {features.dtype} {features.shape}")


def check_batch(features: Float32, labels: Labels, weights: Float64 | None, width: int) -> Float64:
    """The weights, ones where None was given. Raises BadInput if something does not fit together."""
    check_rows(features, width)
    if labels.dtype != np.bool_ or labels.shape != (len(features),):
        raise BadInput(f"labels must be bool ({len(features)},), not {labels.dtype} {labels.shape}")
    if weights is None:
        return np.ones(len(features), dtype=np.float64)
    if weights.dtype != np.float64 or weights.shape != labels.shape:
        raise BadInput(f"weights must be float64 {labels.shape}, not {weights.dtype} {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0.0).all()):
        raise BadInput("weights must be finite and not below 0")
    return weights
