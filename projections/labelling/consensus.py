"""The consensus of the verdicts on one payment: fraud, legitimate, or a conflict for review by a person. Pure.

It is computed from the last verdict of each rater (a source, or an individual analyst), so that correcting oneself does
not give a second vote. With fixed reliabilities:

    weight = reliability of the source × confidence × 1 / (1 + age / RECENCY_MS)      age: relative to the newest
    share  = weight of fraud / weight of fraud and legitimate

With learned reliabilities:

    share  = posterior probability of fraud with prior odds 1: the sum of each rater's log likelihood ratio (from its
             sensitivity and specificity) × confidence × 1 / (1 + age / RECENCY_MS)

Learned reliabilities are used only if every rater of the payment has been measured on at least EVIDENCE_MIN payments
that others judged as well. Otherwise the fixed ones are used, so that a new source keeps its default reliability.

All raters of one source together count as two of them at most: their weights are reduced in proportion to twice the
largest. Learned, they count as the most informative one, because raters of one source are the least independent. Names
are cheap: four invented analysts make a chargeback a conflict, never legitimate.

    label  = fraud if share ≥ 0.75, legitimate if share ≤ 0.25, else review (conflict, or all uncertain)

A representment that is won (verdict legitimate) answers a chargeback and is equally reliable. It is later and so weighs
more, but the two remain a conflict for review until it has been measured which of them is right.

**The absence of a verdict does not mean "legitimate".** Such a payment is `pending` until it is mature, then
`presumed_legitimate`, an assumption that is named as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Literal

import msgspec

from core.events import FeedbackSource
from core.feedback_sources import SOURCES
from core.times import DAY_MS
from core.verdicts import VerdictRecord
from projections.labelling.verdicts import standing

RECENCY_MS = 90 * DAY_MS
"""A verdict that is older than the newest one by this much has half the weight."""
FRAUD_SHARE = 0.75
LEGITIMATE_SHARE = 0.25
MATURITY_DAYS = 30
"""The label maturity: the age at which a payment without a verdict is presumed legitimate."""
EVIDENCE_MIN = 20.0
"""Minimum of payments judged by others as well, for a rater's learned reliability to be used."""
VOICES_MAX = 2.0
LEARNED_VOICES_MAX = 1.0
"""As how many raters all of one source count at most, with fixed and with learned reliabilities."""
TRUST_MAX = 0.995
"""Caps sensitivity and specificity, so that a single verdict contributes odds of at most 199 to 1."""

Label = Literal["fraud", "legitimate", "review"]
Status = Literal["fraud", "legitimate", "review", "pending", "presumed_legitimate"]


class Consensus(msgspec.Struct, frozen=True):
    """The label; fraud's share of the weight or its posterior probability, by `method` (None: all are uncertain); and
    the total weight of all raters with fixed reliabilities.
    """

    label: Label
    share: float | None
    weight: float
    method: Literal["fixed", "learned"] = "fixed"


class Reliability(msgspec.Struct, frozen=True):
    """A rater's measured reliability. sensitivity: P(says fraud | fraud), specificity: P(says legitimate | legitimate).
    evidence: number of payments judged by the rater and by others, weighted by its confidence.
    """

    sensitivity: float
    specificity: float
    evidence: float


def consensus(verdicts: Sequence[VerdictRecord], learned: Mapping[str, Reliability] | None = None) -> Consensus:
    """The consensus of the verdicts (see the module's head). Raises ValueError if there are none.

    learned: reliabilities by rater. Fixed ones are used if it is None or has too little evidence for one of the raters.
    """
    newest = max(word.occurred_at for word in verdicts)
    weights: dict[FeedbackSource, list[float]] = {}
    ratios: dict[FeedbackSource, list[float]] = {}
    is_measured = learned is not None
    for name, word in standing(verdicts).items():
        certainty = word.confidence / (1.0 + (newest - word.occurred_at) / RECENCY_MS)
        if word.verdict == "unsure" or certainty <= 0.0:
            continue
        says_fraud = word.verdict == "fraud"
        weight = SOURCES[word.source].reliability * certainty
        weights.setdefault(word.source, []).append(weight if says_fraud else -weight)
        known = learned.get(name) if learned is not None else None
        if known is None or known.evidence < EVIDENCE_MIN:
            is_measured = False
        else:
            ratios.setdefault(word.source, []).append(certainty * _log_ratio(known, says_fraud))
    total = sum(abs(weight) for of in weights.values() for weight in of)
    if total <= 0.0:
        return Consensus("review", None, 0.0)
    if is_measured:
        share = 1.0 / (1.0 + exp(-sum(each for of in ratios.values() for each in _capped(of, LEARNED_VOICES_MAX))))
        return Consensus(_label(share), share, total, "learned")
    capped = [weight for of in weights.values() for weight in _capped(of, VOICES_MAX)]
    share = sum(max(weight, 0.0) for weight in capped) / sum(map(abs, capped))
    return Consensus(_label(share), share, total)


def _capped(of: list[float], voices: float) -> list[float]:
    """One source's weights, or log likelihood ratios, as those of so many raters at most."""
    if len(of) <= voices:
        return of
    absolute = [abs(each) for each in of]
    total = sum(absolute)
    factor = min(voices * max(absolute) / total, 1.0) if total else 1.0
    return [each * factor for each in of]


def _log_ratio(of: Reliability, says_fraud: bool) -> float:
    """The verdict's log likelihood ratio, fraud to legitimate."""
    sensitivity = min(max(of.sensitivity, 1.0 - TRUST_MAX), TRUST_MAX)
    specificity = min(max(of.specificity, 1.0 - TRUST_MAX), TRUST_MAX)
    if says_fraud:
        return log(sensitivity) - log(1.0 - specificity)
    return log(1.0 - sensitivity) - log(specificity)


def _label(share: float) -> Label:
    if share >= FRAUD_SHARE:
        return "fraud"
    return "legitimate" if share <= LEGITIMATE_SHARE else "review"


def unjudged(paid_at: int, now_ms: int, maturity_days: int = MATURITY_DAYS) -> Status:
    """The status as of `now_ms` of a payment without an accepted verdict; both times in epoch ms."""
    return "pending" if now_ms < paid_at + maturity_days * DAY_MS else "presumed_legitimate"
