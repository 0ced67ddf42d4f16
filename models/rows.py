"""Checks that every scorer makes: of the artifact's bytes, and of the rows to score."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt

Rows = NDArray[np.float32]


def checked_digest(content: bytes, version: str, expected: str | None) -> str:
    """The SHA-256 (hex) of a model's bytes. Raises Corrupt if it is not `expected` (None: any)."""
    digest = hashlib.sha256(content).hexdigest()
    if expected is not None and digest != expected:
        raise Corrupt(f"model {version}: SHA-256 is {digest}, not {expected}")
    return digest


def check_rows(features: Rows, width: int, version: str) -> None:
    """Raise BadInput unless `features` is float32 (n, width)."""
    if features.dtype != np.float32 or features.ndim != 2 or features.shape[1] != width:
        raise BadInput(f"model {version} reads float32 rows of {width} features, not {features.dtype} {features.shape}")


def check_row(row: Rows, width: int, version: str) -> None:
    """Raise BadInput unless `row` is float32 (width,)."""
    if row.dtype != np.float32 or row.shape != (width,):
        raise BadInput(f"model {version} reads a float32 row of {width} features, not {row.dtype} {row.shape}")


def contiguous(features: Rows) -> Rows:
    """The same rows C-contiguous, aligned and writable, so that a kernel is compiled for one type only."""
    return features if features.flags.carray else np.array(features, dtype=np.float32, order="C")
