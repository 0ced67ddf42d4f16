"""Rows at which forests of different libraries would differ if anything about their splits were read wrongly."""

from __future__ import annotations

import numpy as np

from models.trees import Model

ZERO = np.float32(1e-35)  # LightGBM's kZeroThreshold
TINY = (0.0, -0.0, 1e-45, -1e-45, 1e-39, ZERO, -ZERO, np.nextafter(ZERO, np.float32(1)), 1.1754944e-38, -1.1754944e-38)
LARGE = (3.4028235e38, -3.4028235e38, 2**24, 2**31, -(2**31), 4e9, 1e20)
USUAL = (1, -1, -0.5, 0.99, 2.5, 31, 32, 33, 63.7, 64)


def neighbours(thresholds: np.ndarray) -> np.ndarray:
    """The float32 nearest to each threshold, and those on both sides of it."""
    with np.errstate(over="ignore", under="ignore"):
        near = thresholds.astype(np.float32)
        sides = (np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf)))
        return np.concatenate([near, *sides])


def odd_rows(
    model: Model, rows: int = 3000, seed: int = 5, *, infinite: bool = True, missing: bool = True
) -> np.ndarray:
    """Ordinary values, NaN, zeros, extremes, and the float32 neighbours of the model's own thresholds."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, model.width)).astype(np.float32)
    extremes = [*TINY, *LARGE, *USUAL, *((np.nan,) * 3 if missing else ()), *((np.inf, -np.inf) if infinite else ())]
    for feature in range(model.width):
        own = [tree.threshold[(tree.feature == feature) & ~tree.categorical] for tree in model.trees]
        near = neighbours(np.concatenate([np.zeros(1), *own]))
        pool = np.concatenate([np.array(extremes, dtype=np.float32), near])
        pool = pool if infinite else np.clip(pool, np.float32(-3.4028235e38), np.float32(3.4028235e38))
        chosen = random.random(rows) < 0.7
        x[chosen, feature] = random.choice(pool, chosen.sum())
    return x


def same_bits(found: np.ndarray, wanted: np.ndarray, x: np.ndarray) -> None:
    """Fail at the first row whose float64 differs."""
    different = np.flatnonzero(found.view(np.int64) != np.asarray(wanted, dtype=np.float64).view(np.int64))
    assert len(different) == 0, f"row {x[different[0]]}: {found[different[0]]!r}, not {wanted[different[0]]!r}"
