"""No model, as a choice: an artifact under which rules alone decide. It is registered, promoted and approved like any
other, so the log says who chose so and why, and a decision under it lacks nothing.

Its margin is −1000 for every row, whose probability is exactly 0: below every threshold and expected loss.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.errors import Corrupt
from models.rows import checked_digest

CONTENT = b'{"format":"sentinel_rules_only.v1"}'
NAME, VERSION = "rules-only", "1.0.0"
METHOD = "no model decides, so nothing contributes"
_MARGIN = -1000.0


class RulesOnlyScorer:
    """Gives no row any probability of fraud. Reads no column, so it fits every feature spec."""

    def __init__(self, *, version: str, digest: str, spec: int) -> None:
        self._version, self._digest, self._spec = version, digest, spec

    @classmethod
    def load(cls, content: bytes, *, version: str, spec: int, expected_digest: str | None = None) -> RulesOnlyScorer:
        """The artifact's bytes → scorer. Raises Corrupt if they are any other, or have another SHA-256."""
        digest = checked_digest(content, version, expected_digest)
        if content != CONTENT:
            raise Corrupt("rules only: there is more in it than its format tag")
        return cls(version=version, digest=digest, spec=spec)

    @property
    def version(self) -> str:
        """Name and semantic version, `rules-only-1.0.0`."""
        return self._version

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of the artifact's bytes."""
        return self._digest

    @property
    def spec(self) -> int:
        """The feature spec version; any, since no column is read."""
        return self._spec

    @property
    def inputs(self) -> None:
        """The file itself says nothing of definitions (`models.inputs`)."""

    @property
    def names(self) -> tuple[str, ...]:
        """No columns."""
        return ()

    @property
    def width(self) -> None:
        """Rows of any width."""

    def margins(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Float32 (n, F) → float64 (n,), −1000."""
        return np.full(len(features), _MARGIN)

    @property
    def method(self) -> str:
        """How `contributions` are computed, in words."""
        return METHOD

    def contributions(self, row: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
        """(−1000, zeros (F,))."""
        return _MARGIN, np.zeros(len(row))
