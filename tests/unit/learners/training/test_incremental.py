"""Continued boosting, refitting and replay, against LightGBM's own and by hand."""

from __future__ import annotations

from dataclasses import replace

import lightgbm as lgb
import numpy as np
import pytest

from core.errors import BadInput
from core.features import spec
from learners.metrics import average_precision
from learners.platt import Platt
from learners.training.calibration import fold
from learners.training.incremental import ForestLearner, IncrementalSettings, base_margin, boost, refit, replay
from models.forest import ForestScorer
from models.lightgbm_text import parse, shrinkages, with_leaf_values

SMALL = IncrementalSettings(trees=5, first_trees=10, trees_max=20, leaves=7, leaf_rows_min=5)
TRAINING = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7, "min_data_in_leaf": 5}


def problem(count: int, seed: int, *, moved: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """About 10 % frauds, which one column tells; another column once it has `moved`."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, spec.WIDTH)).astype(np.float32)
    x[random.random(x.shape) < 0.05] = np.nan
    return x, np.nan_to_num(x[:, 1 if moved else 0]) + 0.3 * random.normal(size=count) > 1.3


def champion(**parameters: object) -> bytes:
    x, y = problem(1500, 0)
    data = lgb.Dataset(x, y.astype(float), feature_name=list(spec.NAMES))
    return lgb.train({**TRAINING, **parameters}, data, 12).model_to_string().encode()


def margins(content: bytes, x: np.ndarray) -> np.ndarray:
    return ForestScorer.load(content, version="t-1.0.0", spec=1).margins(x)


def test_boosting_goes_on_from_the_champion() -> None:
    """The champion's trees come first, value by value; the new ones have the small learning rate."""
    content = champion()
    x, y = problem(800, 1, moved=True)
    after = boost(content, x, y, np.ones(len(y)), SMALL, seed=1)
    old, new = parse(content).trees, parse(after).trees
    assert len(new) == len(old) + SMALL.trees
    for before, kept in zip(old, new[: len(old)], strict=True):
        assert kept.leaf_value.tobytes() == before.leaf_value.tobytes()
        assert kept.threshold.tobytes() == before.threshold.tobytes()
    assert shrinkages(after)[len(old) :] == (SMALL.learning_rate,) * SMALL.trees
    assert 0.0 < np.abs(margins(after, x) - margins(content, x)).max() < 2.0


def test_boosting_follows_a_pattern_that_moved() -> None:
    """After the fraud moved to another column, boosting beats the frozen champion by far on later rows."""
    learner = ForestLearner(spec.NAMES, IncrementalSettings(trees=20, leaf_rows_min=10, learning_rate=0.1))
    learner.restore(champion())
    x, y = problem(2000, 2, moved=True)
    later, truth = problem(2000, 3, moved=True)
    frozen = average_precision(truth, learner.predict(later))
    learner.learn(x, y)
    boosted = average_precision(truth, learner.predict(later))
    assert boosted > 0.6 > 0.3 > frozen


def test_refit_follows_a_base_rate_that_moved() -> None:
    """With three times the frauds along the same column, refitting lowers the log loss on later rows a lot."""
    (x, _), (later, _) = problem(3000, 2), problem(3000, 3)
    y, truth = (np.nan_to_num(rows[:, 0]) > 0.5 for rows in (x, later))
    content = champion()
    after = refit(content, x, y, np.ones(len(y)), IncrementalSettings(decay=0.5, leaf_rows_min=5))
    loss = [
        float(np.logaddexp(0.0, np.where(truth, -m, m)).mean()) for m in (margins(c, later) for c in (content, after))
    ]
    assert loss[1] < 0.8 * loss[0]


def test_trees_stay_bounded_and_the_base_stays() -> None:
    """At the bound the youngest trees make room: never more than trees_max, and the first trees are the champion's."""
    learner = ForestLearner(spec.NAMES, SMALL)
    content = champion()
    learner.restore(content)
    found = []
    for seed in range(1, 5):
        learner.learn(*problem(400, seed, moved=True))
        found.append(learner.trees)
    assert found == [17, 20, 20, 20]
    for before, kept in zip(parse(content).trees, parse(learner.export()).trees, strict=False):
        assert kept.leaf_value.tobytes() == before.leaf_value.tobytes()


def test_a_champion_that_leaves_no_room_is_never_cut() -> None:
    """With as many trees as the bound, boosting is refused and every tree stays; a larger bound lets it go on."""
    content = champion()
    x, y = problem(400, 1, moved=True)
    for trees_max in (12, 16):
        learner = ForestLearner(spec.NAMES, replace(SMALL, trees_max=trees_max))
        learner.restore(content)
        with pytest.raises(BadInput, match=r"12 trees.*Train a new model"):
            learner.learn(x, y)
        assert learner.export() == content
    learner = ForestLearner(spec.NAMES, replace(SMALL, trees_max=17))
    learner.restore(content)
    learner.learn(x, y)
    assert learner.trees == 17


@pytest.mark.parametrize(
    ("parameters", "share"),
    [
        ({}, 1.0),
        ({"learning_rate": 1.0}, 1.0),
        ({"boosting": "dart", "drop_rate": 0.9, "skip_drop": 0.0}, None),
        ({"boosting": "dart", "drop_rate": 0.9, "skip_drop": 0.0, "learning_rate": 1.0}, None),
        ({"boost_from_average": False}, 0.0),
        ({"boost_from_average": False, "learning_rate": 1.0}, 0.0),
        ({"boosting": "dart", "drop_rate": 0.9, "skip_drop": 0.0, "boost_from_average": False}, 0.0),
    ],
)
def test_the_base_margin_is_what_the_first_tree_holds_of_the_base_rate(
    parameters: dict[str, object], share: float | None
) -> None:
    """The base rate's log-odds, for DART times the first tree's shrinkage; 0 if training started from even odds."""
    content = champion(**parameters)
    _, y = problem(1500, 0)
    share = shrinkages(content)[0] if share is None else share
    assert base_margin(content) == pytest.approx(share * np.log(y.mean() / (1 - y.mean())), abs=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_refit_is_lightgbm_s_where_that_needs_no_mending(decay: float) -> None:
    """Without a base rate in the first tree and with rows in every leaf, the margins are LightGBM's `refit`."""
    content = champion(boost_from_average=False, lambda_l2=2.0)
    # LightGBM shrinks a first tree without a base rate, too; its text says so, and the formula takes the same rate.
    assert set(shrinkages(content)) == {0.1}
    x, y = problem(4000, 5)
    s = IncrementalSettings(decay=decay, l2=2.0, leaf_rows_min=1)
    booster = lgb.Booster(model_str=content.decode())
    oracle = booster.refit(x.astype(np.float64), y.astype(float), decay_rate=decay, verbosity=-1, lambda_l2=2.0)
    values = []
    for t, tree in enumerate(parse(content).trees):
        values.append(np.array([oracle.get_leaf_output(t, leaf) for leaf in range(len(tree.leaf_value))]))
    ours = [tree.leaf_value for tree in parse(refit(content, x, y, np.ones(len(y)), s)).trees]
    assert base_margin(content) == 0.0
    for mine, theirs in zip(ours, values, strict=True):
        assert np.abs(mine - theirs).max() < 1e-5 * max(1.0, np.abs(theirs).max())  # LightGBM's gradients are float32


def test_refit_on_the_same_world_hardly_moves_the_base_rate() -> None:
    """On more rows of the training's own kind the mean probability stays; LightGBM's drifts towards one half."""
    content = champion()
    x, y = problem(6000, 7)
    p = 1 / (1 + np.exp(-margins(content, x)))
    q = 1 / (1 + np.exp(-margins(refit(content, x, y, np.ones(len(y)), SMALL), x)))
    booster = lgb.Booster(model_str=content.decode())
    theirs = booster.refit(x.astype(np.float64), y.astype(float), decay_rate=SMALL.decay, verbosity=-1, lambda_l2=5.0)
    r = np.asarray(theirs.predict(x, num_threads=1))
    assert abs(q.mean() - y.mean()) < 0.02
    assert abs(q.mean() - p.mean()) < abs(r.mean() - p.mean())


def test_a_calibrated_champion_is_updated_in_its_own_log_odds() -> None:
    """Of a folded model both updates stay near it on more rows of the same kind, and the fold's base rate is found."""
    platt = Platt(0.8, -0.4)
    content = fold(champion(), platt)
    assert abs(base_margin(content) - (platt.a * base_margin(champion()) + platt.b)) < 1e-9
    x, _ = problem(6000, 7)
    before = margins(content, x)
    y = np.random.default_rng(0).random(len(x)) < 1 / (1 + np.exp(-before))  # the folded model's own world
    for after in (refit(content, x, y, np.ones(len(y)), SMALL), boost(content, x, y, np.ones(len(y)), SMALL, seed=1)):
        found = margins(after, x)
        assert np.abs(found - before).mean() < 0.1
        assert abs((1 / (1 + np.exp(-found))).mean() - y.mean()) < 0.01


def test_a_leaf_that_no_row_reached_keeps_its_value() -> None:
    """With rows that all go one way only the leaves on it change, and a decay of 1 changes no byte at all."""
    content = champion()
    x, y = problem(600, 8)
    x[:, 0] = 3.0
    y[:300], y[300:] = True, False
    changed = parse(refit(content, x, y, np.ones(len(y)), SMALL)).trees
    moved = [np.count_nonzero(a.leaf_value != b.leaf_value) for a, b in zip(parse(content).trees, changed, strict=True)]
    assert 0 < sum(moved) < sum(len(tree.leaf_value) for tree in changed)
    still = IncrementalSettings(decay=1.0, leaf_rows_min=5)
    old = [tree.leaf_value for tree in parse(content).trees]
    new = [tree.leaf_value for tree in parse(refit(content, x, y, np.ones(len(y)), still)).trees]
    for before, after in zip(old[1:], new[1:], strict=True):
        assert before.tobytes() == after.tobytes()
    assert np.abs(old[0] - new[0]).max() < 1e-12


def test_new_leaf_values_are_what_lightgbm_reads() -> None:
    """The text with other values loads in LightGBM with the same bits, attributions still add up, and the same values
    give the same bytes.
    """
    content = champion()
    trees = parse(content).trees
    assert with_leaf_values(content, [tree.leaf_value for tree in trees]) == content
    random = np.random.default_rng(0)
    changed = with_leaf_values(content, [tree.leaf_value + random.normal(size=len(tree.leaf_value)) for tree in trees])
    x, _ = problem(200, 9)
    booster = lgb.Booster(model_str=changed.decode())
    raw = booster.predict(x.astype(np.float64), raw_score=True, num_threads=1)
    assert margins(changed, x).tobytes() == np.asarray(raw).tobytes() != margins(content, x).tobytes()
    contributions = np.asarray(booster.predict(x[:5], pred_contrib=True))
    scorer = ForestScorer.load(changed, version="c-1.0.0", spec=1)
    for row, wanted in zip(x[:5], contributions, strict=True):
        bias, shares = scorer.contributions(row)
        assert [*shares, bias] == pytest.approx(wanted, abs=1e-9)
    with pytest.raises(BadInput):
        with_leaf_values(content, [tree.leaf_value for tree in trees[:-1]])
    with pytest.raises(BadInput):
        with_leaf_values(content, [np.full_like(tree.leaf_value, np.nan) for tree in trees])


def test_a_batch_of_one_class_changes_nothing() -> None:
    """Only frauds, or only frauds with a weight, teach trees nothing; the champion stays as it is."""
    learner = ForestLearner(spec.NAMES, SMALL)
    learner.restore(champion())
    before = learner.digest
    x, y = problem(100, 3)
    learner.learn(x, np.ones(100, dtype=np.bool_))
    learner.learn(x, y, y.astype(np.float64))
    assert learner.digest == before


def test_updates_of_different_states_draw_differently() -> None:
    """The same seed on two states gives two random seeds, the same on one state the same bytes."""
    x, y = problem(500, 4)
    content, weights = champion(), np.ones(len(y))
    first, again, other = (boost(content, x, y, weights, SMALL, seed) for seed in (1, 1, 2))
    assert first == again != other
    seed_of = lambda text: text.partition(b"[seed: ")[2].partition(b"]")[0]  # noqa: E731
    assert seed_of(first) != seed_of(boost(first, x, y, weights, SMALL, 1))


@pytest.mark.parametrize(
    ("frauds", "others", "count"), [(30, 3000, 400), (900, 3000, 400), (5, 10, 400), (0, 50, 20), (50, 3, 20)]
)
def test_replay_is_a_weighted_sample(frauds: int, others: int, count: int) -> None:
    """At most `count` rows, ascending, none twice, frauds first; the weights give each class its share back."""
    labels = np.random.default_rng(1).permutation(np.repeat([True, False], [frauds, others]))
    rows, weights = replay(labels, count, seed=6)
    assert len(rows) == len(weights) == min(count, frauds + others)
    assert (np.diff(rows) > 0).all()
    assert np.isclose(weights.sum(), len(rows))
    if frauds and others:
        assert np.isclose(weights[labels[rows]].sum() / weights.sum(), frauds / (frauds + others))
        assert labels[rows].sum() >= min(frauds, count // 2)
    assert np.array_equal(replay(labels, count, seed=6)[0], rows)
    if frauds + others > count:
        assert not np.array_equal(replay(labels, count, seed=7)[0], rows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "forget"},
        {"trees": 0},
        {"trees": 400},
        {"first_trees": 401},
        {"learning_rate": 0.0},
        {"decay": 1.5},
        {"leaves": 1},
        {"l2": -1.0},
    ],
)
def test_settings_that_can_not_work_are_bad_input(wrong: dict[str, object]) -> None:
    """Each bound is checked when the settings are made."""
    with pytest.raises(BadInput):
        IncrementalSettings(**wrong)  # type: ignore[arg-type]
