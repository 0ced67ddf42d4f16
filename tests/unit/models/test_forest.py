"""The forest kernel against LightGBM itself: every comparison is of bits, never approximate."""

from __future__ import annotations

import hashlib
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput, Corrupt
from models import layout, trees
from models.forest import ForestScorer
from models.layout import threshold_key
from models.lightgbm_text import parse
from tests.builders.forests import COMMON, FEATURES, data, load, render, train

ZERO = np.float32(1e-35)  # LightGBM's kZeroThreshold
ABOVE_ZERO, BELOW_ZERO = np.nextafter(ZERO, np.float32(1)), np.nextafter(ZERO, np.float32(0))
TINY = (0.0, -0.0, 1e-45, -1e-45, 1e-39, ZERO, -ZERO, ABOVE_ZERO, -ABOVE_ZERO, BELOW_ZERO, -BELOW_ZERO)
LARGE = (np.nan, np.inf, -np.inf, 3.4028235e38, -3.4028235e38, 2**24, 2**31, -(2**31), 4e9, 1e20)
SPECIAL = np.array([*TINY, *LARGE, 1, -1, -0.5, 0.99, 2.5, 31, 32, 33, 63.7, 64], dtype=np.float32)


def neighbours(thresholds: np.ndarray) -> np.ndarray:
    """The float32 nearest to each threshold, and those on both sides of it."""
    with np.errstate(over="ignore", under="ignore"):
        near = thresholds.astype(np.float32)
        sides = (np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf)))
        return np.concatenate([near, *sides])


def nasty_rows(text: str, rows: int = 3000, seed: int = 5) -> np.ndarray:
    """Ordinary values, special values, and the float32 neighbours of the model's own thresholds."""
    random = np.random.default_rng(seed)
    x = data(seed + 1, rows)[0]
    for feature in range(FEATURES):
        pool = [SPECIAL]
        for tree in parse(text.encode()).trees:
            pool.append(neighbours(tree.threshold[(tree.feature == feature) & ~tree.categorical]))
        chosen = random.random(rows) < 0.6
        x[chosen, feature] = random.choice(np.concatenate(pool), chosen.sum())
    return x


def assert_same_bits(text: str, x: np.ndarray) -> None:
    expected = lightgbm.Booster(model_str=text).predict(x.astype(np.float64), raw_score=True, num_threads=1)
    margins = load(text).margins(x)
    different = np.flatnonzero(margins.view(np.int64) != np.asarray(expected).view(np.int64))
    assert len(different) == 0, f"row {x[different[0]]}: {margins[different[0]]!r}, not {expected[different[0]]!r}"


VARIANTS: dict[str, dict[str, Any]] = {
    "missing values": {},
    "zero as missing": {"zero_as_missing": True},
    "no missing": {"use_missing": False},
    "categorical": {"categorical": True, "min_data_per_group": 5, "cat_smooth": 1.0},
    "categorical one-hot": {"categorical": True, "max_cat_to_onehot": 100},
    "monotone": {"monotone_constraints": [1, -1, 0, 0, 1, 0]},
    "dart": {"boosting": "dart", "rounds": 25, "drop_rate": 0.5, "skip_drop": 0.1},
    "goss": {"data_sample_strategy": "goss"},
    "extra trees": {"extra_trees": True},
    "deep": {"num_leaves": 200, "min_data_in_leaf": 1},
    "stumps": {"num_leaves": 2},
    "eight trees": {"rounds": 8},
    "one tree": {"rounds": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_margins_have_the_bits_of_lightgbm(variant: str) -> None:
    """Each way of training gives a model that we score exactly as LightGBM does, odd rows included."""
    text = train(**VARIANTS[variant]).model_to_string()
    assert_same_bits(text, nasty_rows(text))


def test_every_kind_of_split_occurs_in_the_variants() -> None:
    """The comparison above covers the three missing types, both defaults, categories and infinite thresholds."""
    seen = set()
    for parameters in VARIANTS.values():
        for tree in parse(train(**parameters).model_to_string().encode()).trees:
            seen |= {("missing", int(m)) for m in tree.missing} | {("left", bool(d)) for d in tree.default_left}
            seen |= {("categorical", bool(c)) for c in tree.categorical}
            seen |= {("infinite", bool(t)) for t in np.isinf(tree.threshold)}
    assert seen >= {("missing", 0), ("missing", 1), ("missing", 2), ("left", True), ("left", False)}
    assert seen >= {("categorical", True), ("categorical", False), ("infinite", True)}


def test_a_model_saved_at_its_best_iteration_is_scored_alike() -> None:
    """Early stopping saves fewer trees than were trained; continued training mixes missing types in one forest."""
    x, y = data(0)
    xv, yv = data(1)
    train_set = lightgbm.Dataset(x, y, free_raw_data=False)
    booster = lightgbm.train(
        COMMON | {"learning_rate": 0.5},
        train_set,
        200,
        valid_sets=[lightgbm.Dataset(xv, yv, reference=train_set)],
        callbacks=[lightgbm.early_stopping(5, verbose=False)],
        keep_training_booster=True,
    )
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    assert len(parse(text.encode()).trees) == booster.best_iteration < booster.current_iteration()
    assert_same_bits(text, nasty_rows(text))
    more = lightgbm.train(COMMON | {"zero_as_missing": True}, lightgbm.Dataset(x, y), 9, init_model=booster)
    mixed = more.model_to_string()
    assert {int(m) for tree in parse(mixed.encode()).trees for m in tree.missing} >= {1, 2}
    assert_same_bits(mixed, nasty_rows(mixed))


def test_refitted_models_are_scored_alike() -> None:
    """`refit` changes leaf values only; the text that it saves is read and scored with the same bits."""
    x, y = data(3)
    text = train().refit(x.astype(np.float64), y).model_to_string()
    assert_same_bits(text, nasty_rows(text))


def test_a_model_without_splits_is_a_constant() -> None:
    """Trees of a single leaf give the same margin for every row, and all of it is bias."""
    text = train(min_data_in_leaf=5000).model_to_string()
    assert_same_bits(text, nasty_rows(text, 50))
    bias, shares = load(text).contributions(np.zeros(FEATURES, dtype=np.float32))
    assert bias == load(text).margins(np.zeros((1, FEATURES), dtype=np.float32))[0] and not shares.any()


THRESHOLDS = [0.0, -0.0, 1e-300, -1e-300, 1e300, -1e300, 1e-45, -1e-45, 1.0000000180025095e-35, -1.0000000180025095e-35]
THRESHOLDS += [3.4028234663852886e38, 3.4028235677973366e38, -3.5e38, 0.1, 1.0, 1.0 + 2.0**-30, -0.5, 2.5, float("inf")]


def random_tree(random: np.random.Generator) -> dict[str, str]:
    """A random tree with any threshold, missing type, default and category set: more than training would produce."""
    leaves = int(random.integers(2, 20))
    left, right, parent = [-1], [-2], {0: (0, "l"), 1: (0, "r")}
    for node in range(1, leaves - 1):  # split a random leaf, number as LightGBM does
        leaf = int(random.integers(0, node + 1))
        above, side = parent[leaf]
        (left if side == "l" else right)[above] = node
        left.append(-1 - leaf)
        right.append(-2 - node)
        parent[leaf], parent[node + 1] = (node, "l"), (node, "r")
    sets: list[np.ndarray] = []
    thresholds, decisions = [], []
    for _ in range(leaves - 1):
        decision = int(random.integers(0, 2) * 2 + random.integers(0, 3) * 4)
        if random.random() < 0.25:
            thresholds.append(str(len(sets)))
            sets.append(random.integers(0, 2**32, random.integers(1, 4)))
            decision |= 1
        else:
            thresholds.append(f"{random.choice(THRESHOLDS):.17g}")
        decisions.append(str(decision))

    def join(values: Any) -> str:
        return " ".join(str(value) for value in values)

    tree = {"num_leaves": str(leaves), "num_cat": str(len(sets))}
    tree["split_feature"] = join(random.integers(0, FEATURES, leaves - 1))
    tree |= {"split_gain": join([1] * (leaves - 1)), "threshold": join(thresholds), "decision_type": join(decisions)}
    tree |= {"left_child": join(left), "right_child": join(right)}
    tree["leaf_value"] = join(f"{value:.17g}" for value in random.normal(size=leaves))
    tree |= {"leaf_weight": join([1] * leaves), "leaf_count": join([1] * leaves)}
    tree["internal_value"] = join(f"{value:.6g}" for value in random.normal(size=leaves - 1))
    tree |= {"internal_weight": join([1] * (leaves - 1)), "internal_count": join([1] * (leaves - 1))}
    if sets:
        tree["cat_boundaries"] = join(np.cumsum([0, *map(len, sets)]))
        tree["cat_threshold"] = join(np.concatenate(sets))
    return tree | {"is_linear": "0", "shrinkage": "1"}


@pytest.mark.parametrize("seed", range(20))
def test_random_forests_have_the_bits_of_lightgbm(seed: int) -> None:
    """Forests that no training would make (any threshold with any missing type) are still walked as LightGBM does."""
    random = np.random.default_rng(seed)
    text = render([random_tree(random) for _ in range(int(random.integers(1, 40)))])
    assert_same_bits(text, nasty_rows(text, 1500, seed))


@pytest.fixture(scope="module")
def pair() -> tuple[lightgbm.Booster, ForestScorer]:
    random = np.random.default_rng(99)
    text = render([random_tree(random) for _ in range(30)])
    return lightgbm.Booster(model_str=text), load(text)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(row=st.lists(st.floats(width=32), min_size=FEATURES, max_size=FEATURES))
def test_any_float32_row_has_the_bits_of_lightgbm(
    pair: tuple[lightgbm.Booster, ForestScorer], row: list[float]
) -> None:
    """NaN of any payload, infinities, denormals and ordinary values: any row at all is scored alike."""
    booster, scorer = pair
    x = np.array([row], dtype=np.float32)
    expected = booster.predict(x.astype(np.float64), raw_score=True, num_threads=1)
    assert scorer.margins(x).tobytes() == np.asarray(expected).tobytes()


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(x=st.floats(width=32, allow_nan=False), t=st.floats(allow_nan=False))
def test_threshold_keys_order_exactly_as_the_numbers(x: float, t: float) -> None:
    """A float64 threshold rounded to a float32 key decides x ≤ t exactly, at the neighbours of t too."""
    for value in (np.float32(x), *neighbours(np.array([t]))):
        bits = int((value + np.float32(0.0)).view(np.int32))
        key = bits if bits >= 0 else bits ^ 0x7FFFFFFF
        assert (key <= threshold_key(t)) == (float(value) <= t)


def test_contributions_of_a_stump() -> None:
    """A stump credits its one feature with the leaf's distance from the mean of the training rows, the bias."""
    random = np.random.default_rng(1)
    tree = random_tree(random) | {"num_leaves": "2", "num_cat": "0", "split_feature": "3", "split_gain": "1"}
    tree |= {"threshold": "0.5", "decision_type": "2", "left_child": "-1", "right_child": "-2", "leaf_value": "-0.25 2"}
    tree |= {"leaf_weight": "1 1", "leaf_count": "2 1", "internal_value": "0", "internal_weight": "1"}
    tree |= {"internal_count": "3"}
    tree.pop("cat_boundaries", None), tree.pop("cat_threshold", None)
    scorer = load(render([tree]))
    bias, shares = scorer.contributions(np.array([9, 9, 9, 1, 9, 9], dtype=np.float32))
    assert bias == 0.5 and shares == pytest.approx([0, 0, 0, 1.5, 0, 0])
    bias, shares = scorer.contributions(np.array([9, 9, 9, 0, 9, 9], dtype=np.float32))
    assert bias == 0.5 and shares == pytest.approx([0, 0, 0, -0.75, 0, 0])


def test_contributions_give_a_feature_only_what_its_splits_did() -> None:
    """A feature that no tree splits on gets exactly nothing, a categorical one gets its share."""
    scorer = load(train(categorical=True, min_data_per_group=5, cat_smooth=1.0).model_to_string())
    shares = np.array([scorer.contributions(row)[1] for row in data(8, 200)[0]])
    assert np.abs(shares[:, 5]).max() > 0.01
    x, y = data(0)
    x[:, 3] = 1.0
    without = load(lightgbm.train(COMMON, lightgbm.Dataset(x, y), 5).model_to_string())
    assert all(without.contributions(row)[1][3] == 0.0 for row in data(8, 50)[0])


def test_load_checks_the_digest() -> None:
    """Bytes with another SHA-256 than expected are Corrupt; the right ones load and name themselves."""
    content = train(rounds=2).model_to_string().encode()
    digest = hashlib.sha256(content).hexdigest()
    scorer = ForestScorer.load(content, version="a-1.2.3", spec=4, expected_digest=digest)
    assert (scorer.version, scorer.spec, scorer.digest) == ("a-1.2.3", 4, digest)
    assert scorer.names == tuple(f"Column_{i}" for i in range(FEATURES))
    with pytest.raises(Corrupt, match="SHA-256"):
        ForestScorer.load(content + b"\n", version="a-1.2.3", spec=4, expected_digest=digest)


def test_arrays_of_another_kind_are_refused() -> None:
    """Another width, dtype or dimension is BadInput, never an out-of-bounds read."""
    scorer = load(train(rounds=2).model_to_string())
    for wrong in (np.zeros((2, FEATURES - 1), np.float32), np.zeros((2, FEATURES)), np.zeros(FEATURES, np.float32)):
        with pytest.raises(BadInput):
            scorer.margins(wrong)
        with pytest.raises(BadInput):
            scorer.contributions(wrong[:1])


def chain(leaves: int) -> dict[str, str]:
    """A tree in which every split separates one leaf from the rest."""
    inner = leaves - 1

    def times(value: object, count: int) -> str:
        return " ".join([str(value)] * count)

    tree = {"num_leaves": str(leaves), "num_cat": "0", "split_feature": times(0, inner), "split_gain": times(1, inner)}
    tree |= {"threshold": times(1, inner), "decision_type": times(2, inner)}
    tree["left_child"] = " ".join(str(-1 - node) for node in range(inner))
    tree["right_child"] = " ".join(str(node + 1) for node in range(inner - 1)) + f" {-leaves}"
    tree |= {"leaf_value": times(1, leaves), "leaf_weight": times(1, leaves), "leaf_count": times(1, leaves)}
    tree |= {"internal_value": times(0, inner), "internal_weight": times(1, inner), "internal_count": times(1, inner)}
    return tree | {"is_linear": "0", "shrinkage": "1"}


@pytest.mark.parametrize(
    ("count", "leaves", "message"),
    [
        (trees.TREES_MAX + 1, 2, "trees are above the limit"),
        (trees.LEAVES_TOTAL_MAX // 3_000 + 1, 3_000, "leaves in all"),
        (1, trees.DEPTH_MAX + 2, "splits deep"),
        (layout.LANES * (layout.STEPS_MAX // 500 + 1), 501, "too deep together"),
    ],
)
def test_models_that_load_or_score_too_slowly_are_refused(count: int, leaves: int, message: str) -> None:
    """Trees, leaves, depth, and steps of a row are limited: a small file must not hold a worker for long."""
    text = render([chain(leaves)] * count)
    assert len(text) < trees.BYTES_MAX
    with pytest.raises(BadInput, match=message):
        load(text)


def test_models_at_the_limit_of_depth_are_scored() -> None:
    """The deepest tree that is allowed still has LightGBM's bits."""
    text = render([chain(trees.DEPTH_MAX + 1)])
    assert_same_bits(text, nasty_rows(text, 20))
