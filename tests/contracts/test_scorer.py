"""What the pipeline and audits rely on in every kind of model. A kind's name in ARTIFACTS tests it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import lightgbm
import numpy as np
import pytest

from core.scoring import Scorer
from models import artifacts
from models.linear import LinearModel, render

FEATURES = 12
NAMES = tuple(f"f{j}" for j in range(FEATURES))


def forest() -> bytes:
    random = np.random.default_rng(4)
    x = rows(2000, seed=4)
    y = (np.nan_to_num(x[:, 0]) + np.isnan(x[:, 1]) + random.normal(size=len(x)) > 0.5).astype(float)
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
    data = lightgbm.Dataset(x, y, feature_name=list(NAMES))
    return lightgbm.train(parameters, data, 37).model_to_string().encode()


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


ARTIFACTS: dict[str, Callable[[], bytes]] = {"lightgbm": forest, "linear": linear}


@pytest.fixture(scope="module", params=sorted(ARTIFACTS))
def artifact(request: pytest.FixtureRequest) -> bytes:
    return ARTIFACTS[request.param]()


@pytest.fixture(scope="module")
def scorer(artifact: bytes) -> Scorer:
    digest = hashlib.sha256(artifact).hexdigest()
    return artifacts.load_scorer(artifact, version="m-1.0.0", expected_digest=digest, spec=3, columns=NAMES)


def rows(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, FEATURES)).astype(np.float32)
    x[random.random(x.shape) < 0.15] = np.nan
    x[random.random(x.shape) < 0.05] = 0.0
    return x


def test_it_names_itself(scorer: Scorer) -> None:
    """Version, digest and spec are what a score event records."""
    assert scorer.version == "m-1.0.0" and scorer.spec == 3
    assert len(scorer.digest) == 64 and int(scorer.digest, 16) >= 0


def test_every_kind_is_tested_and_recognised() -> None:
    """The artifacts here are of all kinds, and each is told by its first bytes."""
    assert set(ARTIFACTS) == {kind.name for kind in artifacts.KINDS}
    assert [artifacts.format_of(make()) for make in ARTIFACTS.values()] == list(ARTIFACTS)


def test_a_score_can_be_explained(scorer: Scorer) -> None:
    """The contributions and their bias make the margin, and the method is named."""
    for row in rows(20):
        bias, shares = scorer.contributions(row)
        assert bias + shares.sum() == pytest.approx(scorer.margins(row[None, :])[0], abs=1e-9)
        assert shares.shape == (FEATURES,) and scorer.method


def test_margins_do_not_depend_on_the_batch(scorer: Scorer) -> None:
    """A row's bits are the same alone, in any batch, in any order and at the second call."""
    x = rows(500)
    whole = scorer.margins(x)
    assert whole.dtype == np.float64 and whole.shape == (500,) and len(set(whole.tolist())) > 50
    assert b"".join(scorer.margins(x[i : i + 1]).tobytes() for i in range(500)) == whole.tobytes()
    for size in (3, 7, 8, 64):
        parts = [scorer.margins(x[i : i + size]) for i in range(0, 500, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    order = np.random.default_rng(1).permutation(500)
    assert scorer.margins(x[order]).tobytes() == whole[order].tobytes()
    assert scorer.margins(x).tobytes() == whole.tobytes()


def test_margins_do_not_depend_on_where_the_rows_lie(scorer: Scorer) -> None:
    """Rows within a log entry's bytes (read-only, unaligned) or in a bigger table score alike and stay as they are."""
    x = rows(40)
    whole = scorer.margins(x)
    raw = np.frombuffer(b"." + x.tobytes(), dtype=np.uint8)[1:].view(np.float32).reshape(x.shape)
    assert not raw.flags.writeable and not raw.flags.aligned
    assert scorer.margins(raw).tobytes() == whole.tobytes()
    wide = np.hstack([x, x])[:, :FEATURES]
    assert not wide.flags.c_contiguous and scorer.margins(wide).tobytes() == whole.tobytes()
    assert scorer.margins(np.asfortranarray(x)).tobytes() == whole.tobytes()
    assert scorer.contributions(raw[3])[1].tobytes() == scorer.contributions(x[3])[1].tobytes()
    assert x.tobytes() == rows(40).tobytes()


def test_results_are_not_overwritten_by_the_next_call(scorer: Scorer) -> None:
    """What a call returned belongs to the caller."""
    x = rows(20)
    first = scorer.margins(x)
    kept = first.tobytes()
    _, shares = scorer.contributions(x[0])
    kept_shares = shares.tobytes()
    scorer.margins(x[::-1].copy())
    scorer.contributions(x[1])
    assert first.tobytes() == kept and shares.tobytes() == kept_shares


def test_no_rows_give_no_margins(scorer: Scorer) -> None:
    """An empty batch is not an error."""
    assert scorer.margins(rows(0)).shape == (0,)


def test_missing_and_infinite_values_give_finite_margins(scorer: Scorer) -> None:
    """NaN is 'missing', and nothing in a row makes the margin NaN."""
    x = rows(60)
    x[:20] = np.nan
    x[20:40, ::2] = np.inf
    x[40:, 1::2] = -np.inf
    assert np.isfinite(scorer.margins(x)).all()
    assert len(set(scorer.margins(x[:20]).tolist())) == 1


def test_contributions_add_up_to_the_margin(scorer: Scorer) -> None:
    """The shares and the bias make the margin to 1e-9, the bias is the same for all rows, the shares are repeatable."""
    x = rows(300)
    margins = scorer.margins(x)
    biases = set()
    for row, margin in zip(x, margins, strict=True):
        bias, shares = scorer.contributions(row)
        biases.add(bias)
        assert shares.shape == (FEATURES,) and shares.dtype == np.float64
        assert abs(bias + shares.sum() - margin) < 1e-9
        assert scorer.contributions(row)[1].tobytes() == shares.tobytes()
    assert len(biases) == 1
