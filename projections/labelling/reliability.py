"""The reliability of each rater, estimated from agreement and disagreement with the others. Pure and deterministic.

The model is Dawid and Skene (1979), "Maximum likelihood estimation of observer error-rates using the EM algorithm",
with two classes. The items are transactions on which at least two raters have a conclusive last verdict (fraud or
legitimate); the true class of each item is latent.

    P(items) = Π over items of  π Π P(verdict | fraud) + (1 − π) Π P(verdict | legitimate)
    rater j:  sensitivity a_j = P(says fraud | fraud),  specificity b_j = P(says legitimate | legitimate)
    a verdict with confidence c enters as P(verdict)^c
    a_j, b_j ~ Beta(m r + 1, m (1 − r) + 1), r = its source's in `feedback_sources`, m = PRIOR_STRENGTH;  π ~ Beta(2, 2)

EM converges to a mode of the posterior density. E step: the probability that each item is fraud; M step: the mode of
each parameter given these, (m r + agreeing) / (m + all). The number of steps is fixed, starting at the mode of the
prior, sums are taken in sorted order, and logarithms are the core's. So the same verdicts give the same bits on every
processor, in whatever order partitions are read. The prior prevents label switching, and is the estimate where there is
no evidence.

**A one-sided rater has one parameter.** A chargeback never says "legitimate", so a free specificity would converge to 0
and its verdicts would carry no information: the textbook model assumes raters that could have said either. A rater with
less than `two_sided_from` of its rarer verdict is therefore tied, a_j = b_j: the probability that its verdict is true.

π is the prevalence among transactions judged by two raters, which are not representative (a chargeback is the reason
for the second verdict). It is therefore not used in `projections.labelling.consensus`, which starts from prior odds 1.

Limits: raters are assumed to be independent given the truth, so an analyst who copies a chargeback looks more reliable
than they are. With two raters only, the prior alone determines which of the two is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.events import FeedbackSource
from core.feedback_sources import SOURCES, Source
from core.numeric import exp, log
from core.verdicts import VerdictRecord
from projections.labelling.consensus import EVIDENCE_MIN, Reliability
from projections.labelling.verdicts import standing

PRIOR_STRENGTH = 20.0
"""The weight of the prior, in transactions judged together with others."""
ITERATIONS = 100

Pattern = tuple[tuple[str, bool, int], ...]
"""The verdicts on one item: (rater, says fraud, confidence in hundredths), in order of the raters' names."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Learning:
    """The result of `learn`. raters: measured reliabilities by name. prevalence: share of fraud among items. items:
    their number. objective: the log posterior density (up to a constant) after each step, never decreasing. posterior:
    probability of fraud by pattern.
    """

    raters: dict[str, Reliability]
    prevalence: float
    items: int
    objective: tuple[float, ...]
    posterior: dict[Pattern, float]


def prior_of(rater: str) -> float:
    """The mode of the prior: the fixed reliability of the rater's source."""
    known: Mapping[str, Source] = {str(name): source for name, source in SOURCES.items()}
    return known[rater.partition(":")[0]].reliability


def pattern(verdicts: Iterable[VerdictRecord]) -> Pattern:
    """The conclusive last verdicts among the accepted verdicts on a transaction."""
    return tuple(
        (name, said.verdict == "fraud", hundredths)
        for name, said in standing(verdicts).items()
        if said.verdict != "unsure" and (hundredths := round(said.confidence * 100)) > 0
    )


def count_patterns(transactions: Iterable[Sequence[VerdictRecord]]) -> dict[Pattern, int]:
    """The number of transactions with each pattern of at least two raters."""
    counts: dict[Pattern, int] = {}
    for verdicts in transactions:
        if len(verdicts) < 2:
            continue
        said = pattern(verdicts)
        if len(said) > 1:
            counts[said] = counts.get(said, 0) + 1
    return counts


class _Words:
    """The patterns as arrays, one row per verdict. Sizes: P patterns, W verdicts, V raters.

    A verdict's `kind` is 2 × its rater, + 1 if it says fraud: sums by kind are (V, 2).
    """

    def __init__(self, counts: Mapping[Pattern, int], two_sided_from: float) -> None:
        self.patterns = sorted(counts)
        self.raters = sorted({word[0] for said in self.patterns for word in said})
        index = {name: i for i, name in enumerate(self.raters)}
        rows = [(p, 2 * index[v] + says, c / 100.0) for p, said in enumerate(self.patterns) for v, says, c in said]
        self.count: Floats = np.array([counts[said] for said in self.patterns], dtype=np.float64)
        self.pattern: NDArray[Any] = np.array([row[0] for row in rows], dtype=np.int64)
        self.kind: NDArray[Any] = np.array([row[1] for row in rows], dtype=np.int64)
        self.confidence: Floats = np.array([row[2] for row in rows], dtype=np.float64)
        self.weight: Floats = self.confidence * self.count[self.pattern]
        self.prior: Floats = np.array([prior_of(name) for name in self.raters])
        self.total = self.of_kind(self.weight)
        self.evidence: Floats = self.total.sum(axis=1)
        self.is_tied = self.total.min(axis=1) < two_sided_from

    def of_kind(self, values: Floats) -> Floats:
        """Sums of a value per verdict, by rater and verdict: (V, 2), legitimate first."""
        return np.bincount(self.kind, values, 2 * len(self.raters)).astype(np.float64).reshape(-1, 2)

    def of_pattern(self, by_kind: Floats) -> Floats:
        """Sums over each pattern's verdicts of confidence × a value by rater and verdict, (V, 2)."""
        values = by_kind.reshape(-1)[self.kind] * self.confidence
        return np.bincount(self.pattern, values, len(self.patterns)).astype(np.float64)


def learn(
    counts: Mapping[Pattern, int],
    *,
    iterations: int = ITERATIONS,
    strength: float = PRIOR_STRENGTH,
    two_sided_from: float = EVIDENCE_MIN,
) -> Learning:
    """Estimate reliabilities from `count_patterns`. strength: above 0. Cost: 2 ms per step and 10,000 patterns."""
    if not counts:
        return Learning({}, 0.5, 0, (), {})
    words = _Words(counts, two_sided_from)
    sensitivity, specificity, prevalence = words.prior.copy(), words.prior.copy(), 0.5
    objective: list[float] = []
    posterior = np.zeros(len(words.patterns))
    for _ in range(iterations):
        posterior, value = _expect(words, sensitivity, specificity, prevalence, strength)
        objective.append(value)
        sensitivity, specificity, prevalence = _maximise(words, posterior, strength)
    posterior, value = _expect(words, sensitivity, specificity, prevalence, strength)
    objective.append(value)
    raters = {
        name: Reliability(float(sensitivity[i]), float(specificity[i]), float(words.evidence[i]))
        for i, name in enumerate(words.raters)
    }
    said = {p: float(probability) for p, probability in zip(words.patterns, posterior, strict=True)}
    return Learning(raters, prevalence, int(words.count.sum()), tuple(objective), said)


def _expect(
    words: _Words, sensitivity: Floats, specificity: Floats, prevalence: float, strength: float
) -> tuple[Floats, float]:
    """Each pattern's probability of fraud, and the log posterior density of the parameters (up to a constant)."""
    log_a, log_b = log(sensitivity), log(specificity)
    log_not_a, log_not_b = log(1.0 - sensitivity), log(1.0 - specificity)
    log_prevalence, log_rest = log(np.array([prevalence, 1.0 - prevalence])).tolist()
    if_fraud = log_prevalence + words.of_pattern(np.stack([log_not_a, log_a], axis=1))
    if_not = log_rest + words.of_pattern(np.stack([log_b, log_not_b], axis=1))
    either = np.maximum(if_fraud, if_not) + log(1.0 + exp(-np.abs(if_fraud - if_not)))
    value = float(np.sum(words.count * either)) + log_prevalence + log_rest
    prior = words.prior
    value += strength * float(np.sum(prior * log_a + (1.0 - prior) * log_not_a))
    value += strength * float(np.sum(~words.is_tied * (prior * log_b + (1.0 - prior) * log_not_b)))
    return exp(if_fraud - either), value


def _maximise(words: _Words, posterior: Floats, strength: float) -> tuple[Floats, Floats, float]:
    """The modes of the parameters given the items' probabilities of fraud."""
    fraud = words.of_kind(posterior[words.pattern] * words.weight)
    legitimate = words.total - fraud
    believed = strength * words.prior
    sensitivity = (believed + fraud[:, 1]) / (strength + fraud.sum(axis=1))
    specificity = (believed + legitimate[:, 0]) / (strength + legitimate.sum(axis=1))
    tied = (believed + fraud[:, 1] + legitimate[:, 0]) / (strength + words.evidence)
    prevalence = (1.0 + float(np.sum(words.count * posterior))) / (2.0 + float(words.count.sum()))
    return np.where(words.is_tied, tied, sensitivity), np.where(words.is_tied, tied, specificity), prevalence


def pooled(raters: Mapping[str, Reliability], source: FeedbackSource) -> Reliability | None:
    """A source's raters pooled, weighted by their evidence; None if none has been measured."""
    of = [each for name, each in sorted(raters.items()) if name.partition(":")[0] == source]
    evidence = sum(each.evidence for each in of)
    if evidence <= 0.0:
        return None
    return Reliability(
        sum(each.sensitivity * each.evidence for each in of) / evidence,
        sum(each.specificity * each.evidence for each in of) / evidence,
        evidence,
    )
