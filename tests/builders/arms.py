"""An experiment of two models and a shadow model, for tests: their events, and how they are loaded."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from core.events import (
    Arm,
    ExperimentStarted,
    ModelDeployed,
)
from core.scoring import Float32, Float64
from tests.builders.events import T0
from tests.builders.logs import SECOND
from tests.builders.models import ARTIFACT, TinyScorer, load_tiny

ANN: dict[str, Any] = {"occurred_at": T0, "actor": "ann"}


ONE, TWO = hashlib.sha256(ARTIFACT).hexdigest(), hashlib.sha256(SECOND).hexdigest()
STARTED = ExperimentStarted(
    **ANN,
    experiment_id="e1",
    arms=(Arm("control", "tiny", "1.0.0", ONE, 4000), Arm("new", "tiny", "1.1.0", TWO, 6000)),
    salt="s",
    traffic=6000,
)


SHADOW = ModelDeployed(**ANN, name="tiny", version="1.1.0", digest=TWO, alias="shadow")


class Doubled(TinyScorer):
    """Another model: the first one's margins times two."""

    def margins(self, features: Float32) -> Float64:
        return TinyScorer(ARTIFACT).margins(features) * 2.0


def load(content: bytes, label: str, digest: str) -> TinyScorer:
    tiny = load_tiny(content, label, digest)
    return Doubled(content) if content == SECOND else tiny


class Fails(Doubled):
    """A model that yields NaN for every third amount, and raises on a batch that holds an amount of a fifth."""

    def margins(self, features: Float32) -> Float64:
        if (features[:, 0].astype(np.int64) % 5 == 0).any():
            raise RuntimeError("no")
        margins = super().margins(features)
        return np.where(features[:, 0].astype(np.int64) % 3 == 0, np.nan, margins)


def load_failing(content: bytes, label: str, digest: str) -> TinyScorer:
    tiny = load_tiny(content, label, digest)
    return Fails(content) if content == SECOND else tiny
