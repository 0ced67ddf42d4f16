"""What the orchestrator relies on in every `Learner` (learners.training.base). Add yours to IMPLEMENTATIONS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from core.errors import BadInput, Corrupt
from core.features import spec
from learners.metrics import roc_auc
from learners.training.base import Learner
from learners.training.incremental import ForestLearner, IncrementalSettings
from learners.training.online import OnlineLearner, OnlineSettings
from models import artifacts

SMALL = IncrementalSettings(trees=5, first_trees=10, trees_max=30, leaves=7, leaf_rows_min=10)
REFIT = IncrementalSettings(mode="refit", first_trees=10, trees_max=30, leaves=7, leaf_rows_min=10, decay=0.5)

IMPLEMENTATIONS: dict[str, Callable[[], Learner]] = {
    "boosting": lambda: ForestLearner(spec.NAMES, SMALL, seed=3),
    "refit": lambda: ForestLearner(spec.NAMES, REFIT, seed=3),
    "online": lambda: OnlineLearner(spec.NAMES, OnlineSettings(rate=0.02)),
    "online, some columns": lambda: OnlineLearner(spec.NAMES, OnlineSettings(rate=0.02), use=spec.NAMES[:9]),
}

Batch = tuple[np.ndarray, np.ndarray]


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
def make(request: pytest.FixtureRequest) -> Callable[[], Learner]:
    return IMPLEMENTATIONS[request.param]


def batch(count: int, seed: int) -> Batch:
    """Rows like ours (missing, zero and large values) with about 15 % frauds that two columns tell apart."""
    random = np.random.default_rng(seed)
    x = random.lognormal(size=(count, spec.WIDTH)).astype(np.float32)
    x[random.random(x.shape) < 0.1] = np.nan
    x[random.random(x.shape) < 0.05] = 0.0
    known = np.minimum(np.nan_to_num(x[:, :2], nan=1.0), 6.0)
    return x, known[:, 0] - known[:, 1] + 0.3 * random.normal(size=count) > 1.5


def taught(make: Callable[[], Learner], *batches: Batch) -> Learner:
    learner = make()
    for x, y in batches:
        learner.learn(x, y)
    return learner


def test_a_learner_that_learned_nothing_gives_zero(make: Callable[[], Learner]) -> None:
    """Every margin is 0.0, with missing and infinite values too, and the artifact says the same."""
    learner = make()
    x, _ = batch(20, 0)
    x[3], x[4], x[5] = np.nan, np.inf, -np.inf
    assert learner.predict(x).tolist() == [0.0] * 20
    assert scorer(learner).margins(x).tolist() == [0.0] * 20
    assert learner.predict(x[:0]).shape == (0,)


def test_learning_is_deterministic(make: Callable[[], Learner]) -> None:
    """Two learners with the same settings and batches have the same digest, and none of the two is the empty one's."""
    first, second = (taught(make, batch(400, 1), batch(300, 2)) for _ in range(2))
    assert first.digest == second.digest != make().digest
    assert first.export() == second.export()
    x, _ = batch(50, 9)
    assert first.predict(x).tobytes() == second.predict(x).tobytes()


def test_the_digest_is_of_the_artifact(make: Callable[[], Learner]) -> None:
    """`digest` is the SHA-256 of `export()`, and `kind` is what the bytes say."""
    learner = taught(make, batch(400, 1))
    assert learner.digest == hashlib.sha256(learner.export()).hexdigest()
    assert artifacts.format_of(learner.export()) == learner.kind
    assert learner.name.isalpha()


def test_a_round_trip_gives_the_same_bytes_and_the_same_future(make: Callable[[], Learner]) -> None:
    """Export → restore → export is the identity; predictions agree bit for bit, now and after more learning."""
    for learner in (make(), taught(make, batch(400, 1), batch(50, 2))):
        again = make()
        again.restore(learner.export())
        x, y = batch(300, 5)
        assert again.export() == learner.export() and again.digest == learner.digest
        assert again.predict(x).tobytes() == learner.predict(x).tobytes()
        for one in (learner, again):
            one.learn(x, y)
        assert again.export() == learner.export()


def test_restore_replaces_all_of_the_state(make: Callable[[], Learner]) -> None:
    """What was learned before a restore leaves no trace."""
    learner = taught(make, batch(400, 1))
    content = learner.export()
    learner.learn(*batch(300, 2))
    assert learner.export() != content
    learner.restore(content)
    learner.learn(*batch(200, 3))
    assert learner.export() == taught(make, batch(400, 1), batch(200, 3)).export()


def scorer(learner: Learner) -> artifacts.Scorer:
    return artifacts.load_scorer(
        learner.export(),
        version=f"{learner.name}-1.0.0",
        expected_digest=learner.digest,
        spec=spec.SPEC_VERSION,
        columns=spec.NAMES,
    )


def test_the_artifact_scores_as_the_learner_predicts(make: Callable[[], Learner]) -> None:
    """The core Scorer that serves the artifact gives the bits of `predict`, for any row, alone and in a batch."""
    learner = taught(make, batch(400, 1), batch(300, 2))
    x, _ = batch(200, 4)
    x[0], x[1], x[2] = np.nan, np.inf, -np.inf
    margins = learner.predict(x)
    assert scorer(learner).margins(x).tobytes() == margins.tobytes()
    assert b"".join(learner.predict(x[i : i + 1]).tobytes() for i in range(200)) == margins.tobytes()
    assert np.isfinite(margins).all() and len(set(margins.tolist())) > 10


def test_it_learns_what_can_be_told_apart(make: Callable[[], Learner]) -> None:
    """On later rows of the same problem the AUC passes 0.9, and predicting does not teach."""
    learner = taught(make, *(batch(1000, seed) for seed in range(1, 5)))
    x, y = batch(2000, 77)
    before = learner.digest
    assert roc_auc(y, learner.predict(x)) > 0.9
    assert learner.digest == before


def test_missing_values_teach_nothing_that_breaks(make: Callable[[], Learner]) -> None:
    """A column that is always missing, a row that is, and infinite values leave a finite, exportable state."""
    x, y = batch(500, 1)
    x[:, 3] = np.nan
    x[10] = np.nan
    x[20:30, 4] = np.inf
    x[30:40, 5] = -np.inf
    learner = taught(make, (x, y), (x[::-1].copy(), y[::-1].copy()))
    assert np.isfinite(learner.predict(x)).all()
    assert np.isfinite(scorer(learner).margins(x)).all()


def test_the_order_of_batches_is_the_order_of_learning(make: Callable[[], Learner]) -> None:
    """The same batches in another order are another model: the caller passes labels in the order of arrival."""
    one, two = batch(400, 1), batch(400, 2)
    assert taught(make, one, two).digest != taught(make, two, one).digest


def test_no_rows_change_nothing(make: Callable[[], Learner]) -> None:
    """An empty batch is not an error and leaves the digest."""
    learner = taught(make, batch(400, 1))
    before = learner.digest
    learner.learn(*batch(0, 1))
    assert learner.digest == before


def test_a_row_that_weighs_more_counts_more(make: Callable[[], Learner]) -> None:
    """Frauds with ten times the weight lift the margins; weights of 1 are the same as none."""
    start, (x, y) = batch(400, 1), batch(400, 2)
    plain, ones, heavy = (taught(make, start) for _ in range(3))
    plain.learn(x, y)
    ones.learn(x, y, np.ones(len(y)))
    heavy.learn(x, y, np.where(y, 10.0, 1.0))
    assert plain.digest == ones.digest
    assert heavy.predict(x).mean() > plain.predict(x).mean()


def test_what_does_not_fit_is_bad_input_and_teaches_nothing(make: Callable[[], Learner]) -> None:
    """Another width, dtype, length or weight is refused before the first row is learned."""
    learner = taught(make, batch(400, 1))
    before = learner.digest
    x, y = batch(10, 2)
    for rows, labels, weights in (
        (x[:, :-1], y, None),
        (x.astype(np.float64), y, None),
        (x, y[:-1], None),
        (x, y.astype(np.float64), None),
        (x, y, np.ones(9)),
        (x, y, np.full(10, -1.0)),
        (x, y, np.full(10, np.nan)),
        (x, y, np.ones(10, dtype=np.float32)),
    ):
        with pytest.raises(BadInput):
            learner.learn(rows, labels, weights)
    for rows in (x[:, :-1], x[0], x.astype(np.float64)):
        with pytest.raises(BadInput):
            learner.predict(rows)
    assert learner.digest == before


def test_bad_bytes_are_corrupt_and_change_nothing(make: Callable[[], Learner]) -> None:
    """Nothing, a pickle, a cut artifact, another kind's artifact: Corrupt. Other columns: BadInput. The state stays."""
    learner = taught(make, batch(400, 1))
    content, before = learner.export(), learner.digest
    other = OnlineLearner(spec.NAMES) if learner.kind == "lightgbm" else ForestLearner(spec.NAMES, SMALL)
    for raw in (b"", b"\x80\x04N.", content[: len(content) // 2], content[:-30], b" " + content, other.export()):
        with pytest.raises(Corrupt):
            learner.restore(raw)
    renamed = content.replace(spec.NAMES[0].encode(), b"never_heard_of", 1)
    with pytest.raises(BadInput):
        learner.restore(renamed)
    assert learner.digest == before and learner.export() == content


def test_inputs_stay_as_they_are(make: Callable[[], Learner]) -> None:
    """Read-only rows are learned and scored; nothing writes into the caller's arrays."""
    learner = make()
    x, y = batch(400, 1)
    kept = x.tobytes(), y.tobytes()
    x.flags.writeable = y.flags.writeable = False
    learner.learn(x, y)
    learner.predict(x)
    assert (x.tobytes(), y.tobytes()) == kept
