"""A tiny model that needs no library, one that fails, and how both are loaded and deployed."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import numpy as np

from core.errors import BadInput, Corrupt
from core.events import (
    ModelDeployed,
)
from core.features import spec
from core.scoring import Float32, Float64
from tests.builders.events import T0

ARTIFACT = b'{"tiny": 1}'
"""The bytes that `load_tiny` takes for a model; any suffix of spaces is another version of it."""


class TinyScorer:
    """A scorer that needs no library: a linear function of a few columns, added up in a fixed order; NaN counts as
    0.
    """

    version, spec, inputs = "tiny-1.0.0", spec.SPEC_VERSION, None
    WEIGHTS: ClassVar[dict[str, float]] = {
        "amount": 0.004,
        "amount_to_mean_30d": 0.6,
        "count_10m": 0.5,
        "merchant_is_new": 0.75,
        "hour_share": -2.0,
        "fraud_verdicts": 1.5,
        "merchant_risk_7d": 3.0,
        "device_accounts_30d": 0.125,
    }
    BIAS = -4.0

    def __init__(self, content: bytes = ARTIFACT) -> None:
        self.digest = hashlib.sha256(content).hexdigest()
        self.bias = self.BIAS + content.count(b" ")

    def _shares(self, features: Float32) -> Float64:
        shares = np.zeros(features.shape, dtype=np.float64)
        for name, weight in self.WEIGHTS.items():
            column = features[:, spec.index(name)].astype(np.float64)
            shares[:, spec.index(name)] = np.clip(np.where(np.isnan(column), 0.0, column), -1e6, 1e6) * weight
        return shares

    def margins(self, features: Float32) -> Float64:
        shares = self._shares(features)
        total = np.full(len(features), self.bias)
        for name in self.WEIGHTS:
            total = total + shares[:, spec.index(name)]
        return np.clip(total, -60.0, 60.0)

    @property
    def method(self) -> str:
        return "weights"

    def contributions(self, row: Float32) -> tuple[float, Float64]:
        return self.bias, self._shares(row[None, :])[0]


class FailingScorer(TinyScorer):
    """Raises on every batch of more than `limit` rows, and yields NaN where the amount is a multiple of 55.5."""

    limit = 10**9

    def margins(self, features: Float32) -> Float64:
        if len(features) > self.limit:
            raise RuntimeError("model broke")
        out = super().margins(features)
        out[features[:, spec.index("amount")] == np.float32(55.5)] = np.nan
        return out


def load_tiny(content: bytes, label: str, digest: str) -> TinyScorer:
    """A `control.LoadScorer` for ARTIFACT and its versions."""
    if hashlib.sha256(content).hexdigest() != digest or not content.startswith(ARTIFACT):
        raise Corrupt(f"{label} is not its digest's")
    return TinyScorer(content)


def deployed(content: bytes = ARTIFACT, version: str = "1.0.0") -> ModelDeployed:
    """The control event that makes `content` the champion."""
    return ModelDeployed(
        occurred_at=T0, actor="ann", name="tiny", version=version, digest=hashlib.sha256(content).hexdigest()
    )


def no_blob(digest: str) -> bytes:
    """A `control.LoadBlob` of an empty store."""
    raise BadInput(f"no blob {digest}")
