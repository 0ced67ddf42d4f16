"""Small LightGBM models and model texts, and the data that they are trained on."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np

from models.forest import ForestScorer

FEATURES = 6  # the last one is categorical where a test says so
COMMON: dict[str, Any] = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, "seed": 7}


def data(seed: int, rows: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Features with missing values, zeros and a category of 70 values; labels that depend on all of that."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, FEATURES)).astype(np.float32)
    x[:, 4] = random.integers(0, 4, rows)
    x[:, 5] = random.integers(0, 70, rows)
    x[random.random(x.shape) < 0.1] = np.nan
    x[random.random(x.shape) < 0.1] = 0.0
    logit = np.nan_to_num(x[:, 0]) + 2 * np.isnan(x[:, 1]) + (np.nan_to_num(x[:, 5]) % 3 == 0) - (x[:, 2] == 0)
    return x, (logit + random.normal(size=rows) > 0.8).astype(np.float64)


def train(seed: int = 0, rounds: int = 12, categorical: bool = False, **parameters: Any) -> lightgbm.Booster:
    x, y = data(seed)
    dataset = lightgbm.Dataset(x, y, categorical_feature=[5] if categorical else [])
    return lightgbm.train(COMMON | parameters, dataset, rounds)


def load(text: str) -> ForestScorer:
    return ForestScorer.load(text.encode(), version="test-1.0.0", spec=1)


def render(trees: list[dict[str, str]]) -> str:
    """A model text of LightGBM's layout out of the trees' lines."""
    blocks = [
        f"Tree={i}\n" + "".join(f"{key}={value}\n" for key, value in tree.items()) + "\n\n"
        for i, tree in enumerate(trees)
    ]
    names = " ".join(f"f{i}" for i in range(FEATURES))
    return (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        f"max_feature_idx={FEATURES - 1}\nobjective=binary sigmoid:1\nfeature_names={names}\n"
        f"feature_infos={' '.join(['none'] * FEATURES)}\ntree_sizes={' '.join(str(len(b)) for b in blocks)}\n\n"
        + "".join(blocks)
        + "end of trees\n"
    )
