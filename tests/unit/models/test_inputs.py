"""The line that says what an artifact reads: written, read, and refused where it is not intact."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest

from core.errors import BadInput, Corrupt, SentinelError
from core.scoring import Input
from models import artifacts
from models.inputs import MAGIC, joined, parts
from tests.builders.artifacts import ARTIFACTS, FEATURES, NAMES, rows
from tests.builders.own_columns import trained

READS = tuple(Input(f"{k:064x}", name, "number") for k, name in enumerate(NAMES))


def load(content: bytes) -> object:
    digest = hashlib.sha256(content).hexdigest()
    return artifacts.load_scorer(content, version="m-1.0.0", expected_digest=digest, spec=3, columns=("other",))


@pytest.mark.parametrize("kind", sorted(ARTIFACTS))
def test_any_kind_of_model_may_list_its_inputs(kind: str) -> None:
    """The scorer is the inner model's, under the digest of the whole artifact."""
    model = ARTIFACTS[kind]()
    content = joined(READS, model)
    found = load(content)
    plain = artifacts.load_scorer(
        model,
        version="m-1.0.0",
        expected_digest=hashlib.sha256(model).hexdigest(),
        spec=3,
        columns=NAMES,
    )
    x = rows(50)
    assert found.margins(x).tobytes() == plain.margins(x).tobytes()  # type: ignore[attr-defined]
    assert found.contributions(x[0])[1].tobytes() == plain.contributions(x[0])[1].tobytes()  # type: ignore[attr-defined]
    assert found.digest == hashlib.sha256(content).hexdigest() != plain.digest  # type: ignore[attr-defined]
    assert found.inputs == READS and plain.inputs is None  # type: ignore[attr-defined]
    assert artifacts.format_of(content) == kind


def test_columns_must_be_those_listed() -> None:
    """Another number of inputs, or other names than the model's file has, are refused."""
    model = ARTIFACTS["lightgbm"]()
    with pytest.raises(BadInput, match=f"does not read the inputs it lists: it has {FEATURES} columns, not"):
        load(joined(READS[:-1], model))
    with pytest.raises(BadInput, match=r"does not read the inputs it lists: its column 0 is .*, not 'zz'"):
        load(joined((READS[0]._replace(name="zz"), *READS[1:]), model))


def _changed(**changes: object) -> bytes:
    one = {"identity": "0" * 64, "name": "a", "kind": "category", "levels": ["x", "y"]} | changes
    return MAGIC + b'"inputs":[' + msgspec.json.encode(one) + b"]}\nrest"


def test_a_damaged_list_is_corrupt() -> None:
    """Whatever stands in it, loading ends with a message."""
    assert parts(_changed()).inputs == (Input("0" * 64, "a", "category", ("x", "y")),)
    bad = [
        {"identity": "0" * 63}, {"identity": "G" * 64}, {"name": "A"}, {"name": ""}, {"name": "a" * 65},
        {"kind": "text"},
        {"levels": ["x", "x"]}, {"levels": [""]}, {"levels": ["x" * 1025]}, {"kind": "number"}, {"more": 1},
        {"name": 1},
    ]  # fmt: skip
    for changes in bad:
        with pytest.raises(Corrupt):
            parts(_changed(**changes))
    good = _changed()
    for content in (MAGIC, MAGIC + b'"inputs":[]}\nrest', MAGIC + b"\xff}\n", good.replace(b"\n", b" "), good[:60]):
        with pytest.raises(Corrupt):
            parts(content)
    random = np.random.default_rng(7)
    whole = joined(READS, ARTIFACTS["lightgbm"]())
    for _ in range(300):
        content = bytearray(whole)
        content[int(random.integers(0, 400))] ^= int(random.integers(1, 256))
        try:
            load(bytes(content))
        except SentinelError:
            continue


def test_invalid_lists_are_not_written() -> None:
    """What can't be read is refused when it is made."""
    for reads in ((), (READS[0], READS[0]), (READS[0]._replace(levels=("x",)),)):
        with pytest.raises(BadInput):
            joined(reads, b"tree\n")


@pytest.mark.parametrize("seed", range(12))
def test_random_models_with_categories_give_lightgbms_bits(seed: int) -> None:
    """Models of random shape over numbers and categories, some of which know "any other level": the bits of LightGBM's
    own prediction, also for missing values, levels that no model saw, zeros, negatives and fractions.
    """
    random = np.random.default_rng(seed)
    reads = tuple(
        Input(f"{k:064x}", f"x{k}", "category", tuple(map(str, range(random.integers(2, 90)))))
        if random.random() < 0.5
        else Input(f"{k:064x}", f"x{k}")
        for k in range(int(random.integers(2, 12)))
    )
    content, booster = trained(reads, seed)
    scorer = load(content)
    x = random.normal(20.0, 40.0, size=(800, len(reads))).astype(np.float32)
    for k, each in enumerate(reads):
        if each.kind == "category":
            x[:, k] = random.integers(0, len(each.levels) + 40, len(x))
    x[random.random(x.shape) < 0.2] = np.nan
    x[random.random(x.shape) < 0.05] = 0.0
    x[random.random(x.shape) < 0.02] = -1.5
    x[random.random(x.shape) < 0.02] = 0.5
    expected = np.asarray(booster.predict(x.astype(np.float64), raw_score=True, num_threads=1))
    assert scorer.margins(x).tobytes() == expected.tobytes()  # type: ignore[attr-defined]
    assert len(set(expected.tolist())) > 20
    bias, shares = scorer.contributions(x[0])  # type: ignore[attr-defined]
    assert bias + shares.sum() == pytest.approx(expected[0], abs=1e-9)
