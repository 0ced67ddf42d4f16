"""Performance drift and its label-free estimate, against DeLong by definition, the bootstrap, and drawn labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import t as student

from core.hashing import hash_strings
from core.identity import FIXED
from core.times import DAY_MS
from core.verdicts import VerdictRecord
from learners import metrics
from learners.drift import performance
from learners.drift.compare import FeatureDrift
from learners.drift.estimate import estimate
from learners.drift.performance import AUC, AVERAGE_PRECISION, CALIBRATION, LabelledRows, compare_performance, measure
from learners.drift.policy import DriftConfig
from learners.platt import IDENTITY, fit
from projections.labelling.verdicts import Claims
from projections.labelling.view import view_of
from tests.builders.drift import MONDAY, rows

CONFIG = DriftConfig()


def data(size: int, seed: int, *, signal: float = 1.0, accounts: int = 0, ties: bool = False) -> LabelledRows:
    """Decisions whose fraud has the margin's probability (signal 1) or is partly (1 … 0) independent of it."""
    rng = np.random.Generator(np.random.PCG64(seed))
    margins = rng.normal(-2.0, 1.5, size)
    margins = np.round(margins) if ties else margins
    labels = rng.random(size) < expit(np.where(rng.random(size) < signal, margins, rng.permutation(margins)))
    owners = rng.integers(0, accounts, size) if accounts else np.arange(size)
    return LabelledRows(labels, margins, owners.astype(np.uint64))


def judged(before: LabelledRows, now: LabelledRows) -> dict[str, FeatureDrift]:
    measured = [measure(now), {}]
    found = compare_performance(before, [now, None], measure(before), measured, CONFIG)
    return {each.feature.removeprefix("performance:"): each for each in found}


@pytest.mark.parametrize("ties", [False, True])
def test_auc_and_its_variance_are_delongs(ties: bool) -> None:
    """Without accounts, value and variance equal DeLong's from all pairs (one correction for
    both classes), and the AUC is `metrics.roc_auc`."""
    for seed in range(10):
        one = data(80, seed, ties=ties)
        positive, negative = one.margins[one.labels], one.margins[~one.labels]
        pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        delong = pairs.mean(axis=1).var() / len(positive) + pairs.mean(axis=0).var() / len(negative)
        found = performance.auc_roc(one)
        assert found.value == pytest.approx(metrics.roc_auc(one.labels, one.margins))
        assert found.value == pytest.approx(pairs.mean())
        assert found.variance == pytest.approx(delong * 80 / 79)


def test_variances_agree_with_a_bootstrap_over_accounts() -> None:
    """With accounts whose frauds come together, each figure's variance is the bootstrap's, and above independent
    rows'.
    """
    rng = np.random.Generator(np.random.PCG64(3))
    one = data(3000, 3, accounts=150)
    bad = rng.random(150) < 0.2
    labels = one.labels & (bad[one.accounts.astype(np.int64)] | (rng.random(3000) < 0.3))
    one = LabelledRows(labels, one.margins + 0.7 * bad[one.accounts.astype(np.int64)], one.accounts)
    members = [np.flatnonzero(one.accounts == a) for a in range(150)]
    samples: dict[str, list[float]] = {AUC: [], AVERAGE_PRECISION: [], CALIBRATION: []}
    for _ in range(400):
        index = np.concatenate([members[i] for i in rng.integers(0, 150, 150)])
        chosen, p = one.labels[index], expit(one.margins[index])
        samples[AUC].append(metrics.roc_auc(chosen, one.margins[index]))
        samples[AVERAGE_PRECISION].append(metrics.average_precision(chosen, one.margins[index]))
        samples[CALIBRATION].append(float(np.log(chosen.sum() / p.sum())))
    alone = measure(LabelledRows(one.labels, one.margins, np.arange(3000, dtype=np.uint64)))
    for name, found in measure(one).items():
        assert found.variance == pytest.approx(np.var(samples[name]), rel=0.35)
    assert measure(one)[CALIBRATION].variance > 1.3 * alone[CALIBRATION].variance


def test_the_derivative_of_average_precision_is_exact() -> None:
    """With ties and without, the influence of each account's row equals a small change of that row's weight."""
    for ties in (False, True):
        one = data(60, 5, ties=ties)
        value = metrics.average_precision(one.labels, one.margins)

        def weighted(weights: np.ndarray, one: LabelledRows = one) -> float:
            at_or_above = one.margins[None, :] >= one.margins[:, None]
            precision = (at_or_above @ (weights * one.labels)) / (at_or_above @ weights)
            return float((weights * one.labels * precision).sum() / (weights * one.labels).sum())

        assert weighted(np.ones(60)) == pytest.approx(value)
        step = 1e-6
        slopes = np.array([(weighted(np.ones(60) + step * np.eye(60)[j]) - value) / step for j in range(60)])
        found = performance.average_precision(one)
        assert found.variance == pytest.approx((slopes**2).sum() * 60 / 59, rel=1e-3)


def test_a_worse_model_is_seen_and_an_equal_or_better_one_is_not() -> None:
    """Frauds that half ignore the score lower AUC and AP; 50 pairs of equal windows alarm never or once."""
    before, worse = data(8_000, 1, signal=1.0), data(4_000, 2, signal=0.4)
    found = judged(before, worse)
    assert found[AUC].drifted and found[AUC].severity in ("high", "critical") and found[AUC].test == "delong"
    assert found[AVERAGE_PRECISION].drifted
    assert not judged(worse, before)[AUC].drifted
    alarms = [judged(data(1000, 2 * s), data(800, 2 * s + 1)) for s in range(50)]
    assert sum(any(each.drifted for each in one.values()) for one in alarms) <= 1


def test_a_few_accounts_with_most_frauds_are_few_observations() -> None:
    """The degrees of freedom are those of the accounts that carry the variance: two of 42 have three frauds in four,
    and the p-value is Student's with Welch's degrees of freedom, not with 41.
    """

    def window(seed: int, size: int) -> LabelledRows:
        one = data(size, seed, accounts=400)
        frauds = np.repeat(np.array([7, 8, *range(40)], dtype=np.uint64), [60, 60, *(40 * [1])])
        labels = np.append(np.zeros(size, dtype=np.bool_), np.ones(len(frauds), dtype=np.bool_))
        return LabelledRows(labels, np.append(one.margins, frauds % 3 - 1.0), np.append(one.accounts, frauds))

    before, now = window(1, 4000), window(2, 1500)
    freedoms = []
    for one in (before, now):
        p = expit(one.margins)
        influence = one.labels / one.labels.sum() - p / p.sum()
        sums = [influence[one.accounts == account].sum() for account in np.unique(one.accounts)]
        freedom = np.sum(np.square(sums)) ** 2 / np.sum(np.power(sums, 4)) - 1
        assert measure(one)[CALIBRATION].freedom == pytest.approx(freedom)
        assert 0.5 < freedom < 5
        freedoms.append(freedom)
    old, new = measure(before)[CALIBRATION], measure(now)[CALIBRATION]
    spread = old.variance + new.variance
    welch = spread**2 / (old.variance**2 / freedoms[0] + new.variance**2 / freedoms[1])
    expected = 2 * student.sf(abs(old.value - new.value) / np.sqrt(spread), welch)
    found = judged(before, now)[CALIBRATION].p_value
    assert found == pytest.approx(min(1.0, 2 * expected))  # half of the budget is the longer window's


def test_scores_that_promise_too_little_are_a_calibration_shift() -> None:
    """Margins one lower than they should be: the ranking is as good, calibration drifts by ln of the frauds missed."""
    before = data(20_000, 3)
    other = data(10_000, 4)
    shifted = other._replace(margins=other.margins - 1.0)
    found = judged(before, shifted)
    assert found[CALIBRATION].drifted
    assert not found[AUC].drifted
    missed = np.log(expit(other.margins).sum() / expit(other.margins - 1).sum())
    assert found[CALIBRATION].magnitude == pytest.approx(missed, abs=0.08)


def test_too_few_frauds_are_not_judged() -> None:
    """Below the floor of frauds, or without any, nothing is tested and nothing fails."""
    one = data(3000, 1)
    none = LabelledRows(np.zeros(500, dtype=np.bool_), one.margins[:500], one.accounts[:500])
    empty = LabelledRows(none.labels[:0], none.margins[:0], none.accounts[:0])
    for other in (none, empty, data(60, 2)):
        assert {each.state for each in judged(one, other).values()} == {"too_few_rows"}
    assert np.isnan(performance.calibration_error(empty))
    assert performance.summary(empty, measure(empty)).frauds == 0


def test_calibration_error_by_hand() -> None:
    """Mean gap between fraud share and mean probability over score bins; near 0 for calibrated scores."""
    two = LabelledRows(np.array([True, False]), np.array([0.0, 0.0]), np.array([0, 1], dtype=np.uint64))
    assert performance.calibration_error(two, bins=1) == 0
    assert performance.calibration_error(two, bins=2) == 0.5
    assert performance.calibration_error(data(50_000, 1)) < 0.01
    assert performance.calibration_error(data(50_000, 1)._replace(margins=data(50_000, 1).margins + 1)) > 0.05


def test_labels_are_those_that_came_within_the_delay() -> None:
    """A verdict within the delay counts, a later one or another account's does not; a conflict leaves the row out."""
    ids = [f"t{n}" for n in range(6)]
    owners = [f"a{n}" for n in range(6)]
    one = replace(
        rows(6, 1, days=1), accounts=hash_strings(owners, FIXED.key), transactions=hash_strings(ids, FIXED.key)
    )
    times = one.times.tolist()

    def said(verdict: str, place: int, days: float, source: str = "chargeback") -> VerdictRecord:
        at = int(times[place] + days * DAY_MS)
        return VerdictRecord(source, verdict, 1.0, "", at, at)  # type: ignore[arg-type]

    words = {
        0: [said("fraud", 0, 6.9)],
        1: [said("fraud", 1, 7.1)],
        2: [said("fraud", 2, 1), said("legitimate", 2, 1, "representment")],
        3: [said("legitimate", 3, 1), said("fraud", 3, 20)],
    }
    claims = [Claims(0, owners[n], ids[n], times[n], 0, of) for n, of in words.items()]
    claims.append(Claims(0, "another", ids[4], times[4], 0, [said("fraud", 4, 1)]))
    labels = view_of(claims, key=FIXED.key)
    found = performance.labelled(one, "m1", labels, 7 * DAY_MS)
    assert found.labels.tolist() == [True, False, False, False, False]
    assert found.margins.tolist() == one.margins[[0, 1, 3, 4, 5]].tolist()
    assert len(performance.labelled(one, "other", labels, 0).labels) == 0
    assert one.times[0] >= MONDAY


# --- without labels -------------------------------------------------------------------------------------------------


def test_expected_figures_are_the_means_over_drawn_labels() -> None:
    """AUC, AP, precision, recall and fraud rate equal their means over 400 draws of labels from the probabilities."""
    rng = np.random.Generator(np.random.PCG64(2))
    margins = np.round(rng.normal(-1.5, 1.5, 1500), 1)
    p = expit(margins)
    alerted = margins > 0
    found = estimate(margins, IDENTITY, alerted)
    drawn = [rng.random(1500) < p for _ in range(400)]
    assert found.auc_roc == pytest.approx(np.mean([metrics.roc_auc(y, margins) for y in drawn]), abs=0.003)
    assert found.average_precision == pytest.approx(
        np.mean([metrics.average_precision(y, margins) for y in drawn]), abs=0.01
    )
    assert found.precision == pytest.approx(np.mean([y[alerted].mean() for y in drawn]), abs=0.005)
    assert found.recall == pytest.approx(np.mean([y[alerted].sum() / y.sum() for y in drawn]), abs=0.005)
    assert found.fraud_rate == pytest.approx(np.mean(drawn), abs=0.002)
    assert found.alert_rate == alerted.mean()


def test_calibration_finds_the_line_that_made_the_labels() -> None:
    """Platt's slope and intercept come back from labels drawn with them; one class or no rows stay finite."""
    rng = np.random.Generator(np.random.PCG64(4))
    margins = rng.normal(-3, 2, 60_000)
    found = fit(margins, rng.random(60_000) < expit(0.6 * margins - 0.5))
    assert found == pytest.approx((0.6, -0.5), abs=0.06)
    only = fit(margins[:50], np.zeros(50, dtype=np.bool_))
    assert np.isfinite(only).all()
    assert only.probabilities(margins[:50]).max() < 0.2
    assert fit(margins[:0], np.zeros(0, dtype=np.bool_)) == (1.0, 0.0)
    assert np.isnan(estimate(margins[:0], only, np.zeros(0, dtype=np.bool_)).auc_roc)


def test_the_estimate_falls_when_payments_move_to_the_grey_zone() -> None:
    """With the same calibration, scores with less spread give a lower expected AUC."""
    margins = np.random.Generator(np.random.PCG64(1)).normal(-3, 2, 5000)
    wide, narrow = (estimate(m, IDENTITY, m > 0) for m in (margins, 0.5 * margins - 1.5))
    assert narrow.auc_roc < wide.auc_roc - 0.05
