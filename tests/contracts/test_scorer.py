"""What the pipeline and audits rely on in every kind of model; tests/builders/artifacts.py has one of each."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from core.errors import BadInput
from core.scoring import Scorer
from models import artifacts
from tests.builders.artifacts import ARTIFACTS, FEATURES, NAMES, SINGLE, rows


@pytest.fixture(scope="module")
def tolerance(artifact: bytes) -> float:
    return 1e-5 if artifacts.format_of(artifact) in SINGLE else 1e-9


@pytest.fixture(scope="module", params=sorted(ARTIFACTS))
def artifact(request: pytest.FixtureRequest) -> bytes:
    return ARTIFACTS[request.param]()


@pytest.fixture(scope="module")
def scorer(artifact: bytes) -> Scorer:
    digest = hashlib.sha256(artifact).hexdigest()
    return artifacts.load_scorer(artifact, version="m-1.0.0", expected_digest=digest, spec=3, columns=NAMES)


def test_it_names_itself(scorer: Scorer) -> None:
    """Version, digest and spec are what a score event records."""
    assert scorer.version == "m-1.0.0" and scorer.spec == 3
    assert len(scorer.digest) == 64 and int(scorer.digest, 16) >= 0


def test_every_kind_is_tested_and_recognised() -> None:
    """The artifacts here are of all kinds, and each is told by its content."""
    assert set(ARTIFACTS) == {kind.name for kind in artifacts.KINDS}
    assert [artifacts.format_of(make()) for make in ARTIFACTS.values()] == list(ARTIFACTS)


def test_other_columns_are_refused(artifact: bytes) -> None:
    """A model that has another number of columns, or names others, is not loaded for a feature spec."""
    kind, digest = artifacts.format_of(artifact), hashlib.sha256(artifact).hexdigest()
    if kind == "rules_only":
        pytest.skip("it reads no columns")
    is_named = kind != "onnx"
    for columns in (NAMES[:-1], *([("other", *NAMES[1:])] if is_named else [])):
        with pytest.raises(BadInput, match="does not read feature spec"):
            artifacts.load_scorer(artifact, version="m-1.0.0", expected_digest=digest, spec=3, columns=columns)


@pytest.mark.parametrize("content", [b"\x80\x04.", b"{L\0", b"binf", b"CBM1"])
def test_formats_that_are_not_read_are_named(content: bytes) -> None:
    """A pickle, and the binary formats of libraries whose JSON is read: the message says what to do."""
    with pytest.raises(BadInput, match=r"the model is .*; save "):
        artifacts.format_of(content)


def test_a_score_can_be_explained(scorer: Scorer, tolerance: float) -> None:
    """The contributions and their bias make the margin, and the method is named."""
    for row in rows(20):
        bias, shares = scorer.contributions(row)
        assert bias + shares.sum() == pytest.approx(scorer.margins(row[None, :])[0], abs=tolerance)
        assert shares.shape == (FEATURES,) and scorer.method


def test_margins_do_not_depend_on_the_batch(scorer: Scorer, artifact: bytes) -> None:
    """A row's bits are the same alone, in any batch, in any order and at the second call."""
    x = rows(500)
    whole = scorer.margins(x)
    assert whole.dtype == np.float64 and whole.shape == (500,)
    assert len(set(whole.tolist())) > (0 if artifacts.format_of(artifact) == "rules_only" else 50)
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


def test_contributions_add_up_to_the_margin(scorer: Scorer, tolerance: float) -> None:
    """The shares and the bias make the margin, the bias is the same for all rows, the shares are repeatable."""
    x = rows(300)
    margins = scorer.margins(x)
    biases = set()
    for row, margin in zip(x, margins, strict=True):
        bias, shares = scorer.contributions(row)
        biases.add(bias)
        assert shares.shape == (FEATURES,) and shares.dtype == np.float64
        assert abs(bias + shares.sum() - margin) < tolerance
        assert scorer.contributions(row)[1].tobytes() == shares.tobytes()
    assert len(biases) == 1
