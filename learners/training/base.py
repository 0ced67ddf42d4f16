"""The protocol of incremental learners, which are updated instead of retrained, and the checks they share.

A learner is a fold like everything else: its state is its artifact. `export` returns the artifact, `restore` loads it,
and a restored learner continues bit for bit. A learner therefore has no file or buffer of its own to lose: features and
labels are in the log, and the orchestrator reads them again. The contract of all learners is tested in
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
        """The name under which its models are registered, such as `online`."""

    @property
    def kind(self) -> str:
        """The artifact's format, which selects the core Scorer that serves it."""

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of `export()`: two learners with the same digest are in the same state."""

    def predict(self, features: Float32) -> Float64:
        """Margins (log-odds): float32 (n, F) → float64 (n,), finite, bit-equal to those of the exported artifact's
        Scorer.

        A learner that has learned nothing returns 0.0. NaN means missing. Raises BadInput on another dtype or width.
        """

    def learn(self, features: Float32, labels: Labels, weights: Float64 | None = None) -> None:
        """Learn rows (n, F) with labels (n,) and weights (n,) ≥ 0 (None: 1 each), in order of the labels' arrival.

        An empty batch changes nothing. Raises BadInput if shapes, dtypes or weights do not fit; the state is then
        unchanged.
        """

    def export(self) -> bytes:
        """The declarative artifact (never a pickle): the whole state."""

    def restore(self, content: bytes) -> None:
        """Load the state of an artifact. Raises Corrupt if the bytes are damaged, BadInput if they were made for other
        columns or settings; the state is then unchanged.
        """


def check_rows(features: Float32, width: int) -> None:
    """Raise BadInput unless rows are float32 (n, width)."""
    if features.dtype != np.float32 or features.ndim != 2 or features.shape[1] != width:
        raise BadInput(f"rows must be float32 (n, {width}), not {features.dtype} {features.shape}")


def check_batch(features: Float32, labels: Labels, weights: Float64 | None, width: int) -> Float64:
    """The weights, all 1 if None was given. Raises BadInput if shapes, dtypes or values do not fit."""
    check_rows(features, width)
    if labels.dtype != np.bool_ or labels.shape != (len(features),):
        raise BadInput(f"labels must be bool ({len(features)},), not {labels.dtype} {labels.shape}")
    if weights is None:
        return np.ones(len(features), dtype=np.float64)
    if weights.dtype != np.float64 or weights.shape != labels.shape:
        raise BadInput(f"weights must be float64 {labels.shape}, not {weights.dtype} {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0.0).all()):
        raise BadInput("weights must be finite and not negative")
    return weights
