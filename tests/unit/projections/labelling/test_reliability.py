"""Learned reliabilities: EM against brute force, recovery of what is known, order, and what the prior must prevent."""

from __future__ import annotations

import itertools
import random
from math import exp, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from core.feedback_sources import SOURCES
from core.times import DAY_MS
from core.verdicts import VerdictRecord
from projections.labelling.consensus import EVIDENCE_MIN, Reliability, consensus
from projections.labelling.reliability import Pattern, count_patterns, learn, prior_of
from tests.builders.events import T0, fuzz


def said(source: Any, fraud: bool, actor: str = "", confidence: float = 1.0, at: int = T0) -> VerdictRecord:
    return VerdictRecord(source, "fraud" if fraud else "legitimate", confidence, actor, at, at)


def density(counts: dict[Pattern, int], rates: dict[str, tuple[float, float]], prevalence: float, m: float) -> float:
    """The log posterior density by summing over every assignment of classes, item by item; tied raters count once."""
    total = log(prevalence) + log(1 - prevalence)
    for words, count in counts.items():
        either = 0.0
        for fraud in (True, False):
            p = prevalence if fraud else 1 - prevalence
            for name, says, c in words:
                a, b = rates[name]
                right = a if fraud else b
                p *= (right if says == fraud else 1 - right) ** (c / 100)
            either += p
        total += count * log(either)
    for name, (a, b) in rates.items():
        r = prior_of(name)
        total += m * (r * log(a) + (1 - r) * log(1 - a)) + m * (r * log(b) + (1 - r) * log(1 - b))
    return total


SMALL = st.dictionaries(
    st.sampled_from(
        [
            tuple(zip(names, words, confidences, strict=True))
            for names in (("analyst:ann", "chargeback"), ("analyst:ann", "chargeback", "customer"))
            for words in itertools.product((True, False), repeat=len(names))
            for confidences in ((100,) * len(names), (100, 60, 80)[: len(names)])
        ]
    ),
    st.integers(1, 60),
    min_size=1,
    max_size=8,
)


@given(SMALL)
@fuzz(max_examples=40)
def test_the_objective_is_the_brute_force_density_and_never_falls(counts: dict[Pattern, int]) -> None:
    """Each step's value is the sum over all class assignments, and EM climbs."""
    found = learn(counts, iterations=60, two_sided_from=0.0)
    rates = {name: (v.sensitivity, v.specificity) for name, v in found.raters.items()}
    assert found.objective[-1] == pytest.approx(density(counts, rates, found.prevalence, 20.0), rel=1e-9)
    steps = np.diff(found.objective)
    assert (steps >= -1e-8 * abs(found.objective[-1])).all()


@pytest.mark.parametrize("seed", range(4))
def test_em_ends_where_a_general_optimiser_ends(seed: int) -> None:
    """From the same start, L-BFGS on the brute-force density finds no higher place near, and the same parameters."""
    rng = random.Random(seed)
    names = ("analyst:ann", "chargeback", "customer")
    truth = {"analyst:ann": (0.8, 0.9), "chargeback": (0.7, 0.97), "customer": (0.75, 0.6)}
    counts: dict[Pattern, int] = {}
    for _ in range(400):
        fraud = rng.random() < 0.4
        words = tuple((n, (rng.random() < truth[n][0 if fraud else 1]) == fraud, 100) for n in names)
        counts[words] = counts.get(words, 0) + 1
    found = learn(counts, iterations=2000, two_sided_from=0.0)

    def negative(x: Any) -> float:
        p = 1 / (1 + np.exp(-x))
        rates = {n: (p[2 * i], p[2 * i + 1]) for i, n in enumerate(names)}
        return -density(counts, rates, p[6], 20.0) / 400

    start = np.array([*(prior_of(n) for n in names for _ in (0, 1)), 0.5])
    best = minimize(negative, np.log(start / (1 - start)), method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-15})
    assert found.objective[-1] == pytest.approx(-best.fun * 400, abs=1e-4)
    p = 1 / (1 + np.exp(-best.x))
    for i, name in enumerate(names):
        assert found.raters[name].sensitivity == pytest.approx(p[2 * i], abs=2e-3)
        assert found.raters[name].specificity == pytest.approx(p[2 * i + 1], abs=2e-3)


def test_known_reliabilities_are_recovered() -> None:
    """With 6,000 items and four raters, every rate is found within 0.03, and posteriors are calibrated."""
    truth = {
        "analyst:ann": (0.95, 0.9),
        "analyst:bob": (0.6, 0.7),
        "customer": (0.8, 0.75),
        "chargeback": (0.85, 0.97),
    }
    rng = random.Random(5)
    items: list[tuple[bool, Pattern]] = []
    for _ in range(6_000):
        fraud = rng.random() < 0.3
        spoke = [n for n in sorted(truth) if rng.random() < 0.8]
        items.append(
            (fraud, tuple((n, (rng.random() < truth[n][0 if fraud else 1]) == fraud, 100) for n in spoke)),
        )
    counts: dict[Pattern, int] = {}
    for _, words in items:
        if len(words) > 1:
            counts[words] = counts.get(words, 0) + 1
    found = learn(counts)
    for name, (sensitivity, specificity) in truth.items():
        assert found.raters[name].sensitivity == pytest.approx(sensitivity, abs=0.03)
        assert found.raters[name].specificity == pytest.approx(specificity, abs=0.03)
    assert found.prevalence == pytest.approx(0.3, abs=0.03)
    believed = np.array([found.posterior[words] for _, words in items if words in found.posterior])
    actual = np.array([fraud for fraud, words in items if words in found.posterior])
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.01)):
        inside = (believed >= low) & (believed < high)
        assert believed[inside].mean() == pytest.approx(actual[inside].mean(), abs=0.08)


def test_what_is_learned_does_not_depend_on_order() -> None:
    """Counting the same transactions in any order gives the same bits."""
    rng = random.Random(3)
    items = [
        [said("analyst", rng.random() < 0.5, actor, rng.choice((0.5, 0.77, 1.0))), said("customer", rng.random() < 0.5)]
        for actor in ("ann", "bob", "cyd")
        for _ in range(70)
    ]
    first = learn(count_patterns(items))
    rng.shuffle(items)
    assert learn(count_patterns(items)) == first


def test_a_source_that_only_accuses_keeps_its_meaning() -> None:
    """Chargebacks that analysts mostly confirm are believed when alone, although they never say legitimate."""
    items = [[said("chargeback", True), said("analyst", i % 20 > 0, "ann")] for i in range(2_000)]
    learned = learn(count_patterns(items)).raters
    assert learned["chargeback"].sensitivity == learned["chargeback"].specificity > 0.9
    alone = consensus([said("chargeback", True)], learned)
    assert (alone.label, alone.method) == ("fraud", "learned")


def test_analysts_who_earned_trust_together_do_not_outvote_a_chargeback() -> None:
    """Ten names that were always right weigh as the best of them: against a chargeback, it is a conflict."""
    names = [f"x{n}" for n in range(10)]
    items = [
        [said("chargeback", is_fraud), *(said("analyst", is_fraud, name) for name in names)]
        for is_fraud in [True, True, True, False] * 100
    ]
    learned = learn(count_patterns(items)).raters
    against = [said("chargeback", True), *(said("analyst", False, name) for name in names)]
    for crowd in (1, 2, 10):
        found = consensus(against[: 1 + crowd], learned)
        assert (found.method, found.label) == ("learned", "review")


def test_a_source_that_is_mostly_wrong_is_no_longer_a_label() -> None:
    """Early warnings that two others contradict lose their weight: alone, they go to review."""
    items = [
        [said("early_fraud_warning", True), said("analyst", i % 2 == 0, "ann"), said("chargeback", i % 2 == 0)]
        for i in range(300)
    ]
    learned = learn(count_patterns(items)).raters
    assert consensus([said("early_fraud_warning", True)]).label == "fraud"
    assert consensus([said("early_fraud_warning", True)], learned).label == "review"


def test_little_evidence_falls_back_on_fixed_weights() -> None:
    """A rater with less than EVIDENCE_MIN transactions in common with others is weighed as before; from there on as
    measured.
    """
    words = [said("chargeback", True), said("analyst", False, "ann")]
    few = learn(count_patterns([words] * int(EVIDENCE_MIN - 1))).raters
    assert consensus(words, few) == consensus(words) == consensus(words, {})
    assert consensus(words, learn(count_patterns([words] * int(EVIDENCE_MIN))).raters).method == "learned"
    assert learn({}).raters == {}


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(SOURCES)), st.booleans(), st.floats(0.05, 1), st.integers(0, 300)),
        min_size=1,
        max_size=5,
        unique_by=lambda word: word[0],
    ),
    st.lists(st.tuples(st.floats(0.02, 0.98), st.floats(0.02, 0.98)), min_size=len(SOURCES), max_size=len(SOURCES)),
)
@fuzz(max_examples=100)
def test_the_posterior_is_bayes_rule_with_recency(words: list[Any], rates: list[tuple[float, float]]) -> None:
    """Even odds times each likelihood ratio to the power of confidence and recency."""
    names = [f"{name}:" if SOURCES[name].is_person else name for name in sorted(SOURCES)]
    learned = {name: Reliability(*rate, 1e6) for name, rate in zip(names, rates, strict=True)}
    verdicts = [said(source, fraud, "", c, T0 + day * DAY_MS) for source, fraud, c, day in words]
    newest = max(v.occurred_at for v in verdicts)
    odds = 1.0
    for v, (source, fraud, c, _) in zip(verdicts, words, strict=True):
        a, b = rates[sorted(SOURCES).index(source)]
        ratio = a / (1 - b) if fraud else (1 - a) / b
        odds *= exp(log(ratio) * c / (1 + (newest - v.occurred_at) / (90 * DAY_MS)))
    got = consensus(verdicts, learned)
    assert got.share == pytest.approx(odds / (1 + odds), rel=1e-9) and got.method == "learned"
