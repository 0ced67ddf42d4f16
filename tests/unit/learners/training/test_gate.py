"""The validation gate: what passes, what is rejected and in which words, and its statistics against oracles."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from core.features import spec
from core.numeric import sigmoid
from core.policy import Thresholds
from learners import metrics
from learners.training.gate import (
    GateResult,
    GateSettings,
    average_precision_gain,
    judge,
    stability_index,
    unseen,
)
from learners.training.incremental import ForestLearner, IncrementalSettings
from learners.training.online import OnlineLearner
from learners.training.paired import PairedScores, compare
from learners.training.resampling import level_shift, log_losses

AT = Thresholds(0.4, 0.8)
SETTINGS = GateSettings(rounds=100, psi_max=0.5)


def evidence(rows: int = 6000, seed: int = 0, noise: float = 1.0, champion_noise: float = 1.0) -> PairedScores:
    """Two calibrated-enough models that see the true log-odds through noise of their own; 300 accounts, 5 % fraud."""
    random = np.random.default_rng(seed)
    truth = random.normal(-4.0, 2.0, rows)
    labels = random.random(rows) < 1 / (1 + np.exp(-truth))
    shared = random.normal(size=rows)
    return PairedScores(
        champion=truth + 0.5 * champion_noise * shared,
        candidate=truth + 0.5 * noise * shared,
        labels=labels,
        accounts=random.integers(0, 300, rows),
        amounts=random.lognormal(3.0, 1.0, rows),
        thresholds=AT,
        latency_us=2.0,
    )


def verdict(e: PairedScores, **changes: float) -> GateResult:
    return judge(e, replace(SETTINGS, **changes), seed=1)  # type: ignore[arg-type]


def test_an_equal_and_a_better_candidate_pass() -> None:
    """The champion itself passes with a gain of exactly 0, a model with less noise with a positive interval."""
    e = evidence()
    same = verdict(replace(e, candidate=e.champion.copy()))
    assert same.accepted and same.reasons == () and same.reason == ""
    assert same.metrics["average_precision_gain_low"] == same.metrics["average_precision_gain_high"] == 0.0
    assert same.metrics["score_psi"] == same.metrics["changed"] == 0.0
    better = verdict(evidence(noise=0.2, champion_noise=2.0))
    assert better.accepted, better.reason
    assert better.metrics["average_precision_gain_low"] > 0.0
    assert all(np.isfinite(value) for value in better.metrics.values())


def test_a_worse_candidate_is_rejected() -> None:
    """A noisier ranking is rejected for its average precision, with the figures."""
    found = verdict(evidence(noise=5.0))
    assert not found.accepted and "average precision changes by -" in found.reason
    assert found.metrics["average_precision"] < found.metrics["champion_average_precision"]


def test_a_candidate_that_orders_the_many_worse_is_rejected_for_its_auc() -> None:
    """The top of the list is the champion's, so average precision stays; the rest is shuffled, so the AUC falls."""
    e = evidence()
    low = e.champion < np.quantile(e.champion, 0.9)
    candidate = e.champion.copy()
    candidate[low] = np.random.default_rng(0).permutation(candidate[low])
    found = verdict(replace(e, candidate=candidate), gain_min=-1.0, loss_max=1.0, log_loss_rise_max=9.0)
    assert [reason.split(" ")[0] for reason in found.reasons] == ["AUC"]


def test_a_candidate_that_only_seems_better_is_rejected_if_it_may_lose() -> None:
    """A gain on a few rows whose interval reaches below the allowed loss is not enough."""
    e = evidence(rows=400)
    random = np.random.default_rng(2)
    e = replace(e, candidate=e.champion + random.normal(size=400))
    e = replace(e, champion=e.candidate - 0.8 * (e.candidate - e.champion) + 0.5 * random.normal(size=400))
    found = verdict(e, rows_min=100, frauds_min=5, gain_min=-1.0, loss_max=0.0)
    assert "average precision may fall too far" in found.reason
    assert found.metrics["average_precision_gain_low"] < 0.0


@pytest.mark.parametrize("kind", ["trees", "linear"])
def test_a_poisoned_candidate_is_rejected(kind: str) -> None:
    """The champion goes on learning from flipped labels: the gate says no; from true ones, yes."""
    random = np.random.default_rng(5)
    x = random.normal(size=(12_000, spec.WIDTH)).astype(np.float32)
    y = x[:, 0] + 0.5 * x[:, 1] + 0.5 * random.normal(size=len(x)) > 1.8

    def learner() -> ForestLearner | OnlineLearner:
        if kind == "linear":
            return OnlineLearner(spec.NAMES)
        return ForestLearner(spec.NAMES, IncrementalSettings(first_trees=40))

    champion, honest, poisoned = learner(), learner(), learner()
    champion.learn(x[:2000], y[:2000])
    for candidate, labels in ((honest, y), (poisoned, ~y)):
        candidate.restore(champion.export())
        candidate.learn(x[2000:8000], labels[2000:8000])
    later, truth, accounts = x[8000:], y[8000:], random.integers(0, 200, 4000)
    found = {}
    for name, candidate in (("honest", honest), ("poisoned", poisoned)):
        margins = champion.predict(later), candidate.predict(later)
        # How far a model of a made-up problem moves in one update is not the point here.
        found[name] = verdict(
            PairedScores(*margins, truth, accounts, np.ones(4000), AT, 1.0),
            psi_max=9.0,
            decisions_changed_max=1.0,
        )
    assert found["honest"].accepted, found["honest"].reason
    assert not found["poisoned"].accepted
    assert "average precision" in found["poisoned"].reason and "Brier score" in found["poisoned"].reason


def test_a_shifted_candidate_is_rejected_for_its_level_alone() -> None:
    """Margins + 2 rank the same, but promise too much and change decisions; every figure that knows says so."""
    e = evidence()
    found = verdict(replace(e, candidate=e.champion + 2.0))
    assert found.metrics["average_precision_gain"] == found.metrics["auc_gain"] == 0.0
    assert found.metrics["level_shift"] == pytest.approx(2.0, abs=1e-9)
    words = (
        "log loss rises",
        "Brier score",
        "frauds observed",
        "calibration error",
        "the level shifts",
        "alerts change",
    )
    assert all(any(reason.startswith(word) for reason in found.reasons) for word in words), found.reason


def rare(accounts: int, seed: int, level: float = 0.0, rows: int = 70) -> PairedScores:
    """Two equal models, each with noise of its own, on rows of `accounts`: about 1 % fraud, in attacks of a few rows of
    one account. level: added to the true log-odds, which neither model knows.
    """
    random = np.random.default_rng(seed)
    count = accounts * rows
    members = np.repeat(np.arange(accounts), rows)
    attack = random.random(accounts) < 0.6
    under = attack[members] & (random.random(count) < 1.5 / rows)
    truth = np.where(under, random.normal(2.0, 2.0, count), random.normal(-8.0, 1.5, count))
    labels = random.random(count) < 1.0 / (1.0 + np.exp(-(truth + level)))
    noise = [0.3 * random.normal(size=count) + 0.3 * random.normal(size=accounts)[members] for _ in range(2)]
    amounts = random.lognormal(3.0, 1.0, count)
    return PairedScores(truth + noise[0], truth + noise[1], labels, members, amounts, AT, 2.0)


@pytest.mark.parametrize("accounts", [100, 600, 2000])
def test_the_gate_binds_on_rare_events(accounts: int) -> None:
    """On 20 seeds: an equal model is accepted, the champion shifted by 0.7 log-odds up or down is not; nor by chance
    where frauds are few.
    """
    settings = GateSettings(rounds=40)
    for seed in range(20):
        e = rare(accounts, seed, rows=70 if accounts < 2000 else 25)
        equal = judge(e, settings, seed)
        assert equal.accepted, (seed, equal.reason)
        for shift in (0.7, -0.7):
            found = judge(replace(e, candidate=e.champion + shift), settings, seed)
            assert not found.accepted, (seed, shift, found.metrics)
            assert found.metrics["level_shift"] == pytest.approx(shift, abs=1e-9)


def test_a_level_that_the_labels_show_to_be_right_is_accepted() -> None:
    """Fraud has become 2.6 times as frequent: a recalibrated candidate is accepted, one that goes too far is not."""
    e = rare(600, seed=1, level=3.0)
    recalibrated = judge(replace(e, candidate=e.champion + 3.0), GateSettings(rounds=60), 1)
    assert recalibrated.metrics["champion_observed_expected"] > 1.3 and recalibrated.metrics["alert_ratio"] > 1.2
    assert recalibrated.accepted, recalibrated.reason
    too_few = GateSettings(rounds=60, level_accounts_min=10_000)
    assert "the level shifts by +3.00" in judge(replace(e, candidate=e.champion + 3.0), too_few, 1).reason
    beyond = judge(replace(e, candidate=e.champion + 6.5), GateSettings(rounds=60), 1)
    assert "the level shifts by +6.50" in beyond.reason


def test_a_candidate_that_detects_less_value_is_rejected() -> None:
    """The champion's scores, but large frauds are scored low: average precision hardly moves, the money does."""
    e = rare(2000, seed=3)
    large = e.labels & (e.amounts > np.quantile(e.amounts[e.labels], 0.85))
    candidate = np.where(large, e.champion - 4.0, e.champion)
    found = judge(replace(e, candidate=candidate), GateSettings(rounds=60, gain_min=-1.0, loss_max=1.0), 1)
    assert "fraudulent value detected falls from" in found.reason
    lost = e.amounts[e.labels & (e.champion > -0.405) & (candidate < -0.406)].sum() / e.amounts[e.labels].sum()
    assert found.metrics["value_gain"] == pytest.approx(-lost, abs=0.01)


def test_intervals_know_that_rows_of_an_account_hang_together() -> None:
    """Every row repeated nine times within its account adds nothing: the same intervals, not a third of the width."""
    e = rare(300, seed=5, rows=20)
    again = np.repeat(np.arange(len(e.labels)), 9)
    nine = replace(
        e, **{name: getattr(e, name)[again] for name in ("champion", "candidate", "labels", "accounts", "amounts")}
    )
    one, two = (compare(each, 200, 0.95, seed=2) for each in (e, nine))
    for name in ("log_loss_gain", "observed_expected", "expected_ratio", "average_precision_gain", "value_gain"):
        assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-9, abs=1e-12), name
    assert two.calibration_error == pytest.approx(one.calibration_error, rel=1e-6)


def test_the_calibration_error_is_debiased() -> None:
    """Of a calibrated model on few rows: the plug-in error is far from 0, the debiased squared one 0 on average; a true
    error is found.
    """
    squares, plug_in, wrong = [], [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        margins = random.normal(-3.0, 1.0, 2000)
        labels = random.random(2000) < 1.0 / (1.0 + np.exp(-margins))
        e = PairedScores(margins, margins + 1.0, labels, np.arange(2000) // 4, np.ones(2000), AT, 1.0)
        found = compare(e, 1, 0.95, seed)
        bins = metrics.reliability(labels, sigmoid(margins, 1.0))
        plug_in.append(float(np.average((bins.observed - bins.predicted) ** 2, weights=bins.rows)))
        wrong.append((found.calibration_error * labels.mean()) ** 2)
        squares.append(wrong[-1] - found.calibration_rise.value)  # may be negative, unlike the error itself
    error = np.std(squares) / np.sqrt(len(squares))
    assert abs(np.mean(squares)) < 3.0 * error < 0.3 * np.mean(plug_in)
    assert np.mean(wrong) > 5.0 * np.mean(plug_in)


@given(st.lists(st.tuples(st.booleans(), st.integers(-2, 2), st.integers(0, 3)), min_size=2, max_size=30), st.randoms())
@settings(max_examples=60, deadline=None)
def test_figures_do_not_depend_on_the_order_of_rows(rows: list[tuple[bool, int, int]], random: Random) -> None:
    """Neither the error of calibration nor any other figure changes if rows, tied or not, are shuffled."""
    order = list(range(len(rows)))
    random.shuffle(order)
    found = []
    for each in (rows, [rows[i] for i in order]):
        labels, margins, accounts = (np.array(column) for column in zip(*each, strict=True))
        margins = margins.astype(np.float64)
        e = PairedScores(margins, margins * 2.0, labels, accounts, np.ones(len(labels)), AT, 1.0)
        found.append((metrics.ece(labels, sigmoid(margins, 1.0), 5), np.hstack(list(compare(e, 5, 0.9, 1)))))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-9, atol=1e-12)


def test_log_losses_and_level_shifts_are_those_of_their_definitions() -> None:
    """Against numpy's own functions over 1e-300 … 1e300 odds; a shift is found again."""
    margins = np.concatenate([np.linspace(-700.0, 700.0, 4001), np.linspace(-2.0, 2.0, 1001)])
    labels = np.arange(len(margins)) % 2 == 0
    wanted = np.logaddexp(0.0, np.where(labels, -margins, margins))
    np.testing.assert_allclose(log_losses(margins, labels), wanted, rtol=1e-13)
    sample = np.random.default_rng(0).normal(-4.0, 2.0, 500)
    assert level_shift(sample, float(sigmoid(sample + 1.25, 1.0).sum())) == pytest.approx(1.25, abs=1e-12)
    assert level_shift(sample, 0.0) == pytest.approx(-64.0) and level_shift(sample, 1e9) == pytest.approx(64.0)


def test_a_slow_candidate_is_rejected() -> None:
    """Latency is judged as measured; NaN is not fast."""
    e = evidence()
    e = replace(e, candidate=e.champion)
    assert verdict(replace(e, latency_us=21.0)).reasons == ("scoring takes 21.0 µs per row, at most 20.0 allowed",)
    assert not verdict(replace(e, latency_us=float("nan"))).accepted


def test_a_broken_or_constant_candidate_is_rejected_by_name() -> None:
    """One NaN, one infinity or a handful of scores: said plainly, and nothing else is computed."""
    e = evidence()
    for wrong in (np.nan, np.inf, -np.inf):
        candidate = e.champion.copy()
        candidate[17] = wrong
        found = verdict(replace(e, candidate=candidate))
        assert found.reasons == ("the candidate is broken: 1 of 6000 margins are not finite",)
        assert "average_precision" not in found.metrics
    for constant in (np.zeros(6000), np.round(e.champion / 4)):
        assert verdict(replace(e, candidate=constant)).reason.startswith("the candidate is degenerate: ")


def test_too_little_evidence_is_a_rejection_with_all_that_lacks() -> None:
    """Rows, frauds and accounts are counted; none of a kind is no crash."""
    e = evidence(rows=50)
    assert verdict(e).reasons[0].split(":")[0] == "too few held-out rows"
    none = replace(evidence(), labels=np.zeros(6000, dtype=np.bool_))
    assert verdict(none).reasons == ("too few held-out frauds: 0, at least 30 needed",)
    alone = replace(evidence(), accounts=np.zeros(6000, dtype=np.int64))
    assert verdict(alone).reasons == ("too few held-out accounts: 1, at least 50 needed",)
    everything = replace(evidence(), labels=np.ones(6000, dtype=np.bool_))
    assert verdict(everything).reasons == ("all held-out rows are fraud",)
    empty = PairedScores(np.empty(0), np.empty(0), np.empty(0, np.bool_), np.empty(0, np.int64), np.empty(0), AT, 1.0)
    assert len(verdict(empty).reasons) == 3


def test_the_verdict_is_the_same_every_time() -> None:
    """Same evidence, settings and seed: the same record; another seed moves the interval only."""
    e = evidence(noise=1.5)
    assert judge(e, SETTINGS, seed=4) == judge(e, SETTINGS, seed=4)
    one, two = judge(e, SETTINGS, seed=4).metrics, judge(e, SETTINGS, seed=5).metrics
    changed = {name for name in one if one[name] != two[name]}
    assert {"average_precision_gain_low", "observed_expected_high"} <= changed
    assert all(name.endswith(("_low", "_high")) for name in changed)


def test_what_does_not_fit_is_bad_input() -> None:
    """Lengths, dtypes, thresholds and a broken champion are the caller's fault, not a rejection."""
    e = evidence()
    for wrong in (
        replace(e, champion=e.champion[1:]),
        replace(e, labels=e.labels.astype(np.float64)),
        replace(e, candidate=e.candidate.astype(np.float32)),
        replace(e, champion=np.full(6000, np.nan)),
        replace(e, thresholds=Thresholds(0.9, 0.8)),
    ):
        with pytest.raises(BadInput):
            judge(wrong, SETTINGS, seed=1)
    for changes in (
        {"rounds": 0},
        {"confidence": 1.0},
        {"psi_max": -1.0},
        {"loss_max": float("nan")},
        {"gain_min": 2.0},
    ):
        with pytest.raises(BadInput):
            GateSettings(**changes)  # type: ignore[arg-type]


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=30
    ),
    st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_the_paired_bootstrap_is_the_plain_one(rows: list[tuple[bool, int, int, int]], seed: int) -> None:
    """With ties and few accounts, the interval is that of average_precision on the rows really repeated."""
    labels = np.array([row[0] for row in rows])
    champion, candidate = (np.array([row[k] for row in rows], dtype=np.float64) for k in (1, 2))
    accounts = np.array([row[3] for row in rows], dtype=np.int64)
    found = average_precision_gain(labels, champion, candidate, accounts, 12, 0.8, seed)

    rng = np.random.Generator(np.random.PCG64(seed))
    names = np.unique(accounts)
    gains = []
    for _ in range(12):
        drawn = [np.flatnonzero(accounts == names[i]) for i in rng.integers(0, len(names), len(names))]
        again = np.concatenate(drawn)
        gain = [metrics.average_precision(labels[again], scores[again]) for scores in (candidate, champion)]
        if labels[again].any():
            gains.append(gain[0] - gain[1])
    if gains:
        assert np.allclose([found.low, found.high], np.quantile(gains, [0.1, 0.9]), atol=1e-12)
    else:
        assert np.isnan(found.low)
    if labels.any():
        gain = [metrics.average_precision(labels, scores) for scores in (candidate, champion)]
        assert np.isclose(found.value, gain[0] - gain[1], atol=1e-12)


def test_the_interval_covers_no_difference_where_there_is_none() -> None:
    """Of two models with noise of the same size, over 60 data sets: the 90 % interval holds 0 in 80 % at least."""
    covered = 0
    for seed in range(60):
        e = evidence(rows=1500, seed=seed)
        random = np.random.default_rng(1000 + seed)
        truth = e.champion
        one, two = (truth + 0.7 * random.normal(size=1500) for _ in range(2))
        found = average_precision_gain(e.labels, one, two, e.accounts, 100, 0.9, seed)
        covered += found.low <= 0.0 <= found.high
    assert covered >= 48


def test_the_stability_index_is_the_textbook_sum_and_survives_ties_and_gaps() -> None:
    """Against a plain loop over the reference's deciles; 0 for the same sample; finite for constants and empty bins."""
    random = np.random.default_rng(3)
    reference, current = random.normal(size=5000).astype(np.float32), random.normal(0.3, 1.2, 3000).astype(np.float32)
    edges = sorted(reference)[499:4999:500]
    total = 0.0
    for low, high in zip([-np.inf, *edges], [*edges, np.inf], strict=True):
        p = (np.sum((reference > low) & (reference <= high)) + 0.5) / 5005.0
        q = (np.sum((current > low) & (current <= high)) + 0.5) / 3005.0
        total += (q - p) * np.log(q / p)
    reference, current = reference.astype(np.float64), current.astype(np.float64)
    assert np.isclose(stability_index(reference, current), total)
    assert stability_index(reference, reference) == 0.0
    assert stability_index(np.zeros(100), np.zeros(70)) == 0.0
    assert 1.0 < stability_index(np.zeros(100), np.ones(100)) < 20.0


def test_only_rows_after_what_was_seen_and_with_mature_labels_judge() -> None:
    """Strictly after the last thing seen; at the latest one maturity before the last verdict read."""
    times = np.arange(10, dtype=np.int64)
    assert np.flatnonzero(unseen(times, seen_until=3, known_until=9, maturity_ms=2)).tolist() == [4, 5, 6, 7]
    assert not unseen(times, seen_until=8, known_until=9, maturity_ms=2).any()
