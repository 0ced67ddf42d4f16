"""A small artifact of every kind of model in `models.artifacts`, trained on the spot with its own library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import catboost
import lightgbm
import numpy as np
import onnxmltools
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from models import rules_only
from models.linear import LinearModel, render

FEATURES = 12
NAMES = tuple(f"f{j}" for j in range(FEATURES))


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Float32 (count, FEATURES) with missing values and zeros."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, FEATURES)).astype(np.float32)
    x[random.random(x.shape) < 0.15] = np.nan
    x[random.random(x.shape) < 0.05] = 0.0
    return x


def _labels(x: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(len(x)).normal(size=len(x))
    return (np.nan_to_num(x[:, 0]) + np.isnan(x[:, 1]) + noise > 0.5) * 1.0


def lightgbm_text() -> bytes:
    x = rows(2000, seed=4)
    data = lightgbm.Dataset(x, _labels(x), feature_name=list(NAMES))
    return lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 37).model_to_string().encode()


def xgboost_json() -> bytes:
    x = rows(2000, seed=4)
    data = xgboost.DMatrix(x, _labels(x), feature_names=list(NAMES))
    return bytes(xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 37).save_raw("json"))


def catboost_json() -> bytes:
    x = rows(2000, seed=4)
    model = catboost.CatBoostClassifier(iterations=37, thread_count=1, verbose=0, allow_writing_files=False, depth=4)
    model.fit(catboost.Pool(x, _labels(x), feature_names=list(NAMES)))
    with TemporaryDirectory() as folder:
        model.save_model(f"{folder}/model.json", format="json")
        return Path(folder, "model.json").read_bytes()


def onnx_trees() -> bytes:
    x = rows(2000, seed=4)
    model = xgboost.XGBClassifier(n_estimators=37, n_jobs=1).fit(x, _labels(x))
    converted = onnxmltools.convert_xgboost(model, initial_types=[("X", FloatTensorType([None, FEATURES]))])
    content: bytes = converted.SerializeToString()
    return content


def linear() -> bytes:
    random = np.random.default_rng(5)
    model = LinearModel(
        features=NAMES,
        counts=(1000,) * FEATURES,
        means=tuple(random.normal(size=FEATURES).tolist()),
        variances=(0.0, *random.lognormal(size=FEATURES - 1).tolist()),
        weights=tuple(random.normal(size=FEATURES).tolist()),
        intercept=-2.5,
        offset=-0.7,
        clip=4.0,
        steps=1000,
    )
    return render(model)


ARTIFACTS: dict[str, Callable[[], bytes]] = {
    "lightgbm": lightgbm_text,
    "linear": linear,
    "xgboost": xgboost_json,
    "catboost": catboost_json,
    "onnx": onnx_trees,
    "rules_only": lambda: rules_only.CONTENT,
}
SINGLE = ("onnx", "xgboost")
"""The kinds whose library adds in float32: the contributions, in float64, make the margin to that precision only."""
