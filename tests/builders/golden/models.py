"""Small models of every kind for the golden log, trained on the decisions that it already holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import catboost
import lightgbm
import numpy as np
import onnxmltools
import xgboost
from numpy.typing import NDArray
from onnxmltools.convert.common.data_types import FloatTensorType

from core.features import spec
from core.program.inputs import offers
from core.program.library import kernel
from core.program.loading import Loaded
from core.program.plan import plan
from core.scoring import Input
from models import rules_only
from models.inputs import joined
from models.linear import LinearModel, render

ROUNDS = 8
READS = ("amount", "count_24h", "distance", "brand", "email", "country", "count_big", "spread", "kept_out", "night")
LEVELS = {"brand": ("visa", "none", "mastercard"), "email": ("a.com", "b.org"), "country": ("DE", "US", "FR", "GB")}
Rows = NDArray[np.float32]


def labels(x: Rows) -> NDArray[np.float64]:
    """What the models learn: (n, WIDTH) → 0 or 1, with noise."""
    noise = np.random.default_rng(3).normal(size=len(x))
    ratio = np.nan_to_num(x[:, spec.index("amount_to_mean_30d")])
    fresh = np.nan_to_num(x[:, spec.index("merchant_is_new")])
    return (np.log1p(x[:, 0]) / 2 + ratio + fresh + np.isnan(x[:, spec.index("speed_kmh")]) + noise > 4.5) * 1.0


def every_kind(x: Rows) -> dict[str, bytes]:
    """An artifact of each kind that reads the spec's columns, by name. x: (n, WIDTH)."""
    y = labels(x)
    names = list(spec.NAMES)
    common = {"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1, "seed": 7, "min_data_in_leaf": 5}
    booster = lightgbm.train(common, lightgbm.Dataset(x, y, feature_name=names), ROUNDS)
    data = xgboost.DMatrix(x, y, feature_names=names)
    boosted = xgboost.train({"objective": "binary:logistic", "nthread": 1, "max_depth": 3}, data, ROUNDS)
    classes = xgboost.XGBClassifier(n_estimators=ROUNDS, n_jobs=1, max_depth=3).fit(x, y)
    cat = catboost.CatBoostClassifier(
        iterations=ROUNDS, thread_count=1, verbose=0, allow_writing_files=False, depth=3, random_seed=7
    )
    cat.fit(catboost.Pool(x, y, feature_names=names))
    with TemporaryDirectory() as folder:
        cat.save_model(f"{folder}/model.json", format="json")
        oblivious = Path(folder, "model.json").read_bytes()
    shape = [("X", FloatTensorType([None, spec.WIDTH]))]
    return {
        "forest": booster.model_to_string().encode(),
        "boosted": bytes(boosted.save_raw("json")),
        "oblivious": oblivious,
        "exchanged": onnxmltools.convert_xgboost(classes, initial_types=shape).SerializeToString(),
        "line": linear(x),
        "fragile": fragile(booster),
        rules_only.NAME: rules_only.CONTENT,
    }


def linear(x: Rows) -> bytes:
    """A linear model of the columns' scales."""
    random = np.random.default_rng(5)
    known = np.where(np.isnan(x), 0.0, x).astype(np.float64)
    return render(
        LinearModel(
            features=spec.NAMES,
            counts=(len(x),) * spec.WIDTH,
            means=tuple(known.mean(axis=0).tolist()),
            variances=tuple(known.var(axis=0).tolist()),
            weights=tuple(random.normal(size=spec.WIDTH, scale=0.4).tolist()),
            intercept=-2.0,
            offset=-0.5,
            clip=4.0,
            steps=len(x),
        )
    )


def fragile(booster: lightgbm.Booster) -> bytes:
    """A forest whose sum overflows for some rows: two of its trees have a leaf of nearly the largest float64."""
    lines, changed = booster.model_to_string().splitlines(), 0
    for place, line in enumerate(lines):
        if line.startswith("leaf_value=") and changed < 2:
            first, *others = line.removeprefix("leaf_value=").split()
            huge = "1.7" + "0" * (len(first) - 7) + "e308"  # as long, because tree_sizes says where trees end
            lines[place] = "leaf_value=" + " ".join([huge, *others])
            changed += 1
    return ("\n".join(lines) + "\n").encode()


def named(program: Loaded, seed: int = 3) -> tuple[bytes, tuple[Input, ...]]:
    """A forest that reads a program's features and fields by definition, with categories; and what it reads."""
    known = {each.name: each for each in offers(plan(program.checked, kernel())).values()}
    reads = tuple(
        Input(known[name].identity, name, known[name].kind, LEVELS[name] if known[name].kind == "category" else ())
        for name in READS
    )
    random = np.random.default_rng(seed)
    x = random.normal(20.0, 40.0, size=(1500, len(reads)))
    for k, each in enumerate(reads):
        if each.kind == "category":
            x[:, k] = random.integers(0, len(each.levels) + 1, len(x))
    y = (x[:, 0] > 40) * 2.0 + (x[:, 2] > 30) + (x[:, 3] % 2 == 0) + (x[:, 5] == 1) + random.normal(size=len(x)) > 2.2
    x[random.random(x.shape) < 0.15] = np.nan
    parameters = {
        "objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1, "seed": seed, "cat_smooth": 1.0,
        "min_data_per_group": 5,
    }  # fmt: skip
    return joined(reads, _forest(parameters, x, y * 1.0, reads)), reads


def _forest(
    parameters: dict[str, object], x: NDArray[np.float64], y: NDArray[np.float64], reads: Sequence[Input]
) -> bytes:
    categories = [k for k, each in enumerate(reads) if each.kind == "category"]
    data = lightgbm.Dataset(x, y, feature_name=[each.name for each in reads], categorical_feature=categories)
    return lightgbm.train(parameters, data, ROUNDS).model_to_string().encode()  # type: ignore[arg-type]
