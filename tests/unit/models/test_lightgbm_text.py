"""The model text's parser: what LightGBM writes is read exactly; damage is refused with a sentence, never walked."""

from __future__ import annotations

import re

import lightgbm
import numpy as np
import pytest

from core.errors import BadInput, Corrupt, SentinelError
from models import shap
from models.forest import ForestScorer
from models.lightgbm_text import parse

FEATURES = 4


def train(rounds: int = 3, objective: str = "binary", **parameters: object) -> str:
    random = np.random.default_rng(0)
    x = random.normal(size=(600, FEATURES))
    x[:, 3] = random.integers(0, 40, 600)
    x[random.random(x.shape) < 0.1] = np.nan
    y = (np.nan_to_num(x[:, 0]) + 2 * (np.nan_to_num(x[:, 3]) % 3 == 0) > 0.5).astype(float)
    common = {"objective": objective, "num_leaves": 6, "verbose": -1, "num_threads": 1}
    common |= {"min_data_per_group": 5, "cat_smooth": 1.0}
    dataset = lightgbm.Dataset(x, y, categorical_feature=[3], feature_name=["amount", "hour", "ratio", "category"])
    return lightgbm.train(common | parameters, dataset, rounds).model_to_string()


@pytest.fixture(scope="module")
def text() -> str:
    return train()


def edit(text: str, pattern: str, replacement: str) -> bytes:
    """The text with the first match replaced and tree_sizes made to fit again, so that only the edit is wrong."""
    changed, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
    assert count == 1, pattern
    return with_sizes(changed.encode())


def with_sizes(content: bytes) -> bytes:
    """The bytes with tree_sizes made to fit the trees again."""
    blocks = re.findall(rb"^Tree=.*?\n\n\n", content, flags=re.MULTILINE | re.DOTALL)
    sizes = b" ".join(b"%d" % len(block) for block in blocks)
    return re.sub(rb"^tree_sizes=.*$", b"tree_sizes=" + sizes, content, count=1, flags=re.MULTILINE)


def test_numbers_are_read_exactly(text: str) -> None:
    """Names, thresholds, leaf values and category sets are those that LightGBM reports of the same model."""
    model = parse(text.encode())
    assert model.feature_names == ("amount", "hour", "ratio", "category") and len(model.trees) == 3
    for tree, info in zip(model.trees, lightgbm.Booster(model_str=text).dump_model()["tree_info"], strict=True):
        seen = [0, 0]
        stack = [info["tree_structure"]]
        while stack:
            node = stack.pop()
            if "leaf_index" in node:
                assert tree.leaf_value[node["leaf_index"]] == node["leaf_value"]
                seen[1] += 1
                continue
            index = node["split_index"]
            assert tree.feature[index] == node["split_feature"] and tree.default_left[index] == node["default_left"]
            assert shap.rows_below(tree)[index] == node["internal_count"]
            if node["decision_type"] == "==":
                words = tree.categories[int(tree.threshold[index])]
                members = [c for c in range(32 * len(words)) if words[c // 32] >> (c % 32) & 1]
                assert members == [int(c) for c in node["threshold"].split("||")]
            else:
                assert tree.threshold[index] == node["threshold"]
            seen[0] += 1
            stack += [node["left_child"], node["right_child"]]
        assert seen == [len(tree.feature), len(tree.leaf_value)]
    assert any(tree.categorical.any() for tree in model.trees)


def test_the_unedited_model_survives_the_editing_helper(text: str) -> None:
    """The refusals below are due to the edits, not to how the tests make them."""
    assert edit(text, r"^tree$", "tree") == text.encode()
    assert len(parse(edit(text, r"^leaf_count=", "leaf_count=")).trees) == 3


CORRUPT = {
    "not a model": (r"\Atree$", "three"),
    "child out of range": (r"^left_child=\S+", "left_child=77"),
    "negative leaf out of range": (r"^left_child=\S+", "left_child=-99"),
    "child points at itself": (r"^left_child=\S+", "left_child=0"),
    "child used twice": (r"^left_child=(\S+) (\S+)", r"left_child=\1 \1"),
    "feature out of range": (r"^split_feature=\S+", f"split_feature={FEATURES}"),
    "negative feature": (r"^split_feature=\S+", "split_feature=-1"),
    "NaN threshold": (r"^threshold=\S+", "threshold=nan"),
    "NaN leaf": (r"^leaf_value=\S+", "leaf_value=nan"),
    "infinite leaf": (r"^leaf_value=\S+", "leaf_value=inf"),
    "overflowing leaf": (r"^leaf_value=\S+", "leaf_value=1e999"),
    "underscored number": (r"^leaf_value=\S+", "leaf_value=1_0"),
    "negative infinite threshold": (r"^threshold=\S+", "threshold=-inf"),
    "one leaf value too few": (r"^leaf_value=\S+ ", "leaf_value="),
    "one count too many": (r"^leaf_count=", "leaf_count=1 "),
    "empty entry": (r"^leaf_value=(\S+) ", r"leaf_value=\1  "),
    "unknown missing type": (r"^decision_type=\S+", "decision_type=14"),
    "unknown decision bit": (r"^decision_type=\S+", "decision_type=18"),
    "category index out of range": (r"^num_cat=\d+$", "num_cat=0"),
    "category bounds": (r"^cat_boundaries=0", "cat_boundaries=1"),
    "category word": (r"^cat_threshold=\S+", "cat_threshold=4294967296"),
    "absurd leaves": (r"^num_leaves=\d+", "num_leaves=30000"),
    "no leaves": (r"^num_leaves=\d+", "num_leaves=0"),
    "huge number": (r"^num_leaves=\d+", "num_leaves=99999999999999999999"),
    "unknown tree key": (r"^shrinkage=", "surprise=1\nshrinkage="),
    "repeated tree key": (r"^shrinkage=", "shrinkage=1\nshrinkage="),
    "missing tree key": (r"^internal_value=.*\n", ""),
    "unknown header key": (r"^label_index=", "surprise=1\nlabel_index="),
    "missing header key": (r"^feature_infos=.*\n", ""),
    "feature names": (r"^feature_names=\S+ ", "feature_names="),
    "max_feature_idx": (r"^max_feature_idx=\d+", "max_feature_idx=99"),
    "tree number": (r"^Tree=1$", "Tree=2"),
    "end of trees": (r"^end of trees$", "end of threes"),
    "end of parameters": (r"^end of parameters$", ""),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_damage_is_corrupt(text: str, case: str) -> None:
    """Each inconsistency is refused with one line that says where it is."""
    with pytest.raises(Corrupt) as refusal:
        parse(edit(text, *CORRUPT[case]))
    assert str(refusal.value).startswith("model text: ") and "\n" not in str(refusal.value)


def test_a_detached_cycle_is_corrupt() -> None:
    """Nodes that only point at each other pass a count of parents; they are refused all the same."""
    text = train(num_leaves=5, rounds=1)
    cyclic = edit(text, r"^left_child=.*$", "left_child=-1 2 1 -5")
    cyclic = edit(cyclic.decode(), r"^right_child=.*$", "right_child=3 -3 -4 -2")
    with pytest.raises(Corrupt, match="not a tree"):
        parse(cyclic)


def test_sizes_that_do_not_fit_are_corrupt(text: str) -> None:
    """tree_sizes are checked against the trees, not believed."""
    for replacement in ("tree_sizes=1", "tree_sizes=0", "tree_sizes=-5", "tree_sizes=999999999", "tree_sizes="):
        with pytest.raises(Corrupt):
            parse(re.sub(r"^tree_sizes=.*$", replacement, text, flags=re.MULTILINE).encode())


UNSUPPORTED = {
    "version": (r"^version=v4$", "version=v3"),
    "sigmoid": (r"^objective=.*$", "objective=binary sigmoid:2"),
    "objective": (r"^objective=.*\n", ""),
    "classes": (r"^num_class=1$", "num_class=3"),
    "averaging": (r"^feature_names=", "average_output\nfeature_names="),
    "linear": (r"^is_linear=0$", "is_linear=1"),
    "leaves": (r"^num_leaves=\d+", "num_leaves=40000"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_we_do_not_score_is_bad_input(text: str, case: str) -> None:
    """A sound model of another kind is the caller's choice, so it is BadInput, not Corrupt."""
    with pytest.raises(BadInput, match="model text: "):
        parse(edit(text, *UNSUPPORTED[case]))


def test_real_models_of_other_kinds_are_bad_input() -> None:
    """LightGBM's own regression, random forest and linear models are recognised and refused."""
    others = (
        train(objective="regression"),
        train(boosting="rf", bagging_freq=1, bagging_fraction=0.5),
        train(linear_tree=True),
    )
    for other in others:
        with pytest.raises(BadInput):
            parse(other.encode())


def test_every_truncation_within_the_trees_is_refused(text: str) -> None:
    """A file cut short anywhere before its last tree's end never loads."""
    content = text.encode()
    end = content.index(b"end of trees\n") + len(b"end of trees\n")
    for length in range(0, end, 7):
        with pytest.raises(Corrupt):
            parse(content[:length])


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_never_crashes(text: str, seed: int) -> None:
    """Flipped, removed and repeated bytes give a refusal, or a model that scores any row without harm."""
    random = np.random.default_rng(seed)
    content = text.encode()
    body = content[: content.index(b"end of trees") + 20]
    rows = np.concatenate([random.normal(size=(20, FEATURES)) * 30, np.full((1, FEATURES), np.nan)]).astype(np.float32)
    digits = np.frombuffer(b"0123456789-. =\n", dtype=np.uint8)
    survivors = 0
    for _ in range(1000):
        damaged = bytearray(body)
        for _ in range(int(random.integers(1, 4))):
            at = int(random.integers(0, len(damaged)))
            kind = random.integers(0, 4)
            if kind == 0:
                damaged[at] ^= 1 << int(random.integers(0, 8))
            elif kind == 1:
                damaged[at] = int(random.choice(digits))
            elif kind == 2:
                del damaged[at : at + int(random.integers(1, 30))]
            else:
                damaged[at:at] = damaged[at : at + int(random.integers(1, 30))]
        try:
            scorer = ForestScorer.load(with_sizes(bytes(damaged)), version="fuzz-1.0.0", spec=1)
        except SentinelError:
            continue
        survivors += 1
        width = len(scorer.names)
        margins = scorer.margins(np.ascontiguousarray(np.resize(rows, (len(rows), width)), dtype=np.float32))
        assert margins.shape == (len(rows),) and not np.isnan(margins).any()
    assert 50 < survivors < 950  # many digits may change without harm; without survivors the test would prove little
