"""What the pipeline requires of a model. Implementations live in `models/`; the core knows only this protocol."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

InputKind = Literal["number", "category"]


class Input(NamedTuple):
    """A column that a model reads. identity: of its definition (`core.program.inputs`), 64 hex digits; its name is for
    people. levels: of a category, canonical strings: level k is the number k, any other string the number of levels.
    """

    identity: str
    name: str
    kind: InputKind = "number"
    levels: tuple[str, ...] = ()


class Scorer(Protocol):
    """A loaded, checked model. Pure: a row's result has the same bits in any batch."""

    @property
    def version(self) -> str:
        """Name and semantic version, `baseline-1.0.0`."""

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of the artifact's bytes."""

    @property
    def spec(self) -> int:
        """The feature spec version whose columns the model reads."""

    @property
    def inputs(self) -> tuple[Input, ...] | None:
        """The columns that it reads, in order; None: the F columns of the feature spec."""

    def margins(self, features: Float32) -> Float64:
        """Raw scores (log-odds) of rows: float32 (n, F), C-contiguous → float64 (n,). NaN is 'missing'."""

    def contributions(self, row: Float32) -> tuple[float, Float64]:
        """(bias, per-feature share of the margin) of one row (F,): bias + sum(shares) = margin within rounding."""

    @property
    def method(self) -> str:
        """How `contributions` are computed, in words."""
