"""The linear model's artifact and sum, against plain Python and against damage."""

from __future__ import annotations

import hashlib
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput, Corrupt
from models import artifacts
from models.linear import LinearModel, LinearScorer, parse, render

WIDTH = 7
NAMES = tuple("abcdefg")


def model(**changes: object) -> LinearModel:
    random = np.random.default_rng(2)
    base = LinearModel(
        features=NAMES,
        counts=(50,) * WIDTH,
        means=tuple(random.normal(size=WIDTH).tolist()),
        variances=(0.0, *random.lognormal(size=WIDTH - 1).tolist()),
        weights=tuple(random.normal(size=WIDTH).tolist()),
        intercept=-1.25,
        offset=-0.5,
        clip=3.0,
        steps=50,
    )
    return msgspec.structs.replace(base, **changes)


def scorer(m: LinearModel) -> LinearScorer:
    return LinearScorer.load(render(m), version="linear-1.0.0", spec=1)


def by_hand(m: LinearModel, row: list[float]) -> float:
    """The formula of the module's head in plain Python floats, in the order of the columns."""
    total = m.intercept + m.offset
    for x, mean, variance, weight in zip(row, m.means, m.variances, m.weights, strict=True):
        deviation = math.sqrt(variance)
        if math.isnan(x) or deviation == 0.0:
            continue
        total += (weight / deviation) * min(max(x - mean, -m.clip * deviation), m.clip * deviation)
    return total


@given(st.lists(st.floats(width=32), min_size=WIDTH, max_size=WIDTH))
@settings(max_examples=300, deadline=None)
def test_a_margin_is_the_formula_bit_for_bit(row: list[float]) -> None:
    """Any row, NaN and infinite values included, gives plain Python's bits, and its shares add up to it in order."""
    m = model()
    s = scorer(m)
    margin = float(s.margins(np.array([row], dtype=np.float32))[0])
    assert margin.hex() == by_hand(m, row).hex()
    total, shares = s.contributions(np.array(row, dtype=np.float32))
    for share in shares.tolist():
        total += share
    assert total.hex() == margin.hex()


def test_a_missing_value_counts_as_the_mean_and_contributes_nothing() -> None:
    """NaN gives a share of exactly 0, as a column that never varied does."""
    row = np.full(WIDTH, np.nan, dtype=np.float32)
    assert scorer(model()).contributions(row)[1].tolist() == [0.0] * WIDTH
    row[0] = 1e6
    assert scorer(model()).margins(row[None, :])[0] == -1.75


def test_what_is_rendered_is_read_back_bit_for_bit() -> None:
    """The same model, and the same bytes again."""
    m = model(intercept=0.1 + 0.2, means=(5e-324, 1e300, -0.0, 1 / 3, 2.0, 3.0, 4.0))
    assert parse(render(m)) == m and render(parse(render(m))) == render(m)


@pytest.mark.parametrize(
    "changes",
    [
        {"features": ()},
        {"features": ("a", *NAMES[:-1])},
        {"features": ("", *NAMES[1:])},
        {"means": (0.0,)},
        {"means": (math.nan,) * WIDTH},
        {"weights": (math.inf,) * WIDTH},
        {"weights": (1e308,) * WIDTH},
        {"variances": (-1.0,) * WIDTH},
        {"variances": (5e-324,) * WIDTH, "weights": (1e300,) * WIDTH},
        {"counts": (-1,) * WIDTH},
        {"steps": -1},
        {"clip": 0.0},
        {"clip": math.inf},
        {"intercept": math.nan},
        {"offset": math.inf},
    ],
)
def test_a_model_that_could_not_score_every_row_is_corrupt(changes: dict[str, object]) -> None:
    """Wrong lengths, numbers that are not finite, sums that may overflow: refused when written and when read."""
    with pytest.raises(Corrupt):
        render(model(**changes))
    with pytest.raises(Corrupt):
        parse(msgspec.json.encode(model(**changes)))


def test_damaged_bytes_are_corrupt_and_nothing_else() -> None:
    """Cut short anywhere, an unknown field, a pickle, no UTF-8, nothing: Corrupt, never another exception."""
    content = render(model())
    fields = msgspec.json.decode(content)
    damaged = [content[:n] for n in range(0, len(content), 7)]
    damaged += [b"\x80\x04N.", b"\xff" * 40, b"[]", b"null", b"[" * 100_000, msgspec.json.encode({**fields, "more": 1})]
    damaged += [
        msgspec.json.encode({k: v for k, v in fields.items() if k != name}) for name in fields if name != "link"
    ]
    damaged += [content.replace(b"sentinel_linear.v1", b"sentinel_linear.v2"), content.replace(b"logit", b"probit")]
    for raw in damaged:
        with pytest.raises(Corrupt):
            parse(raw)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_never_makes_a_margin_that_is_not_finite(seed: int) -> None:
    """Whatever byte is changed, the artifact is refused or scores every row with a finite number."""
    random = np.random.default_rng(seed)
    raw = bytearray(render(model()))
    raw[random.integers(len(raw))] = random.integers(256)
    rows = np.array([[np.inf] * WIDTH, [-np.inf] * WIDTH, [np.nan] * WIDTH, [3e38] * WIDTH], dtype=np.float32)
    try:
        found = LinearScorer.load(bytes(raw), version="fuzz-1.0.0", spec=1)
    except Corrupt:
        return
    assert np.isfinite(found.margins(rows)).all()


def test_rows_of_another_shape_or_type_are_bad_input() -> None:
    """Width, dimension and dtype are checked on both calls."""
    s = scorer(model())
    for wrong in (np.zeros((2, WIDTH + 1), np.float32), np.zeros((2, WIDTH)), np.zeros(WIDTH, np.float32)):
        with pytest.raises(BadInput):
            s.margins(wrong)
    for wrong in (np.zeros((1, WIDTH), np.float32), np.zeros(WIDTH), np.zeros(WIDTH - 1, np.float32)):
        with pytest.raises(BadInput):
            s.contributions(wrong)


def test_the_digest_is_checked_before_anything_is_read() -> None:
    """Another SHA-256 is Corrupt, even over bytes that would not parse; the right one loads."""
    content = render(model())
    digest = hashlib.sha256(content).hexdigest()
    assert LinearScorer.load(content, version="a-1.0.0", spec=2, expected_digest=digest).digest == digest
    for raw in (content + b" ", b"no model at all"):
        with pytest.raises(Corrupt, match="SHA-256"):
            artifacts.load_scorer(raw, version="a-1.0.0", expected_digest=digest, spec=1, columns=NAMES)


def test_an_artifact_is_recognised_and_its_columns_compared() -> None:
    """Linear JSON and LightGBM text load alike; other columns are BadInput; anything else is Corrupt."""
    lightgbm = pytest.importorskip("lightgbm")
    random = np.random.default_rng(0)
    x = random.normal(size=(300, WIDTH)).astype(np.float32)
    data = lightgbm.Dataset(x, (x[:, 0] > 0).astype(float), feature_name=list(NAMES))
    text = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 3).model_to_string().encode()
    for content, kind in ((text, "ForestScorer"), (render(model()), "LinearScorer")):
        digest = hashlib.sha256(content).hexdigest()
        found = artifacts.load_scorer(content, version="m-1.0.0", expected_digest=digest, spec=5, columns=NAMES)
        assert type(found).__name__ == kind and (found.version, found.digest, found.spec) == ("m-1.0.0", digest, 5)
        with pytest.raises(BadInput, match="its column 0 is"):
            artifacts.load_scorer(content, version="m", expected_digest=digest, spec=5, columns=NAMES[::-1])
    for content in (b"", b"{}", b"tree", b'{"format":"other"}'):
        digest = hashlib.sha256(content).hexdigest()
        with pytest.raises(Corrupt):
            artifacts.load_scorer(content, version="m", expected_digest=digest, spec=5, columns=NAMES)
