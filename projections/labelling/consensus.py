"""What the verdicts on one payment amount to: fraud, legitimate, or a conflict that a person reviews. Pure.

Over the last word of each voice (a source, and for analysts the person: somebody who corrects himself has one vote).
With fixed reliabilities:

    weight = reliability of the source × confidence × 1 / (1 + age / RECENCY_MS)      age: to the newest verdict
    share  = weight of fraud / weight of fraud and legitimate

With learned ones, if every voice on the payment has been measured on at least EVIDENCE_MIN payments that others judged
too; otherwise the fixed ones, so a new source is trusted as it was before there was anything to learn from:

    share  = posterior probability of fraud from even odds: each voice's log likelihood ratio (from its sensitivity and
             specificity) × confidence × 1 / (1 + age / RECENCY_MS), added up

    label  = fraud if share ≥ 0.75, legitimate if share ≤ 0.25, else review (conflict, or nobody is sure)

A representment that is won (verdict legitimate) answers the chargeback and is as reliable: later, it weighs more, but
the two are a conflict that a person reviews, until it has been measured which of them is right.

**No verdict is not "legitimate".** Before a payment is mature it is then `pending`; after that `presumed_legitimate`,
which is an assumption and named as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Literal

import msgspec

from core.feedback_sources import SOURCES
from core.times import DAY_MS
from core.verdicts import Said
from projections.labelling.verdicts import standing

RECENCY_MS = 90 * DAY_MS
"""A verdict this much older than the newest one weighs half."""
FRAUD_SHARE = 0.75
LEGITIMATE_SHARE = 0.25
MATURITY_DAYS = 30
"""Without a verdict for so long after the payment, it is presumed legitimate."""
EVIDENCE_MIN = 20.0
"""Payments that others judged too, from which on a voice's learned reliability is used."""
TRUST_MAX = 0.995
"""No voice's word counts for more than odds of 199 to 1."""

Label = Literal["fraud", "legitimate", "review"]
Status = Literal["fraud", "legitimate", "review", "pending", "presumed_legitimate"]


class Consensus(msgspec.Struct, frozen=True):
    """The label, fraud's share of the weight or its posterior probability (`method`; None: nobody is sure), and the
    fixed weight of all voices.
    """

    label: Label
    share: float | None
    weight: float
    method: Literal["fixed", "learned"] = "fixed"


class Reliability(msgspec.Struct, frozen=True):
    """A voice as measured. sensitivity: P(says fraud | fraud), specificity: P(says legitimate | legitimate).
    evidence: payments that it judged and others too, weighted by its confidence.
    """

    sensitivity: float
    specificity: float
    evidence: float


def consensus(verdicts: Sequence[Said], learned: Mapping[str, Reliability] | None = None) -> Consensus:
    """What the verdicts amount to (see the module's head). Raises ValueError if there are none.

    learned: by voice; without it, or for voices that it has measured too little, reliabilities are the fixed ones.
    """
    newest = max(word.occurred_at for word in verdicts)
    fraud = legitimate = odds = 0.0
    is_measured = learned is not None
    for name, word in standing(verdicts).items():
        certainty = word.confidence / (1.0 + (newest - word.occurred_at) / RECENCY_MS)
        if word.verdict == "unsure" or certainty <= 0.0:
            continue
        weight = SOURCES[word.source].reliability * certainty
        if word.verdict == "fraud":
            fraud += weight
        else:
            legitimate += weight
        known = learned.get(name) if learned is not None else None
        if known is None or known.evidence < EVIDENCE_MIN:
            is_measured = False
        else:
            odds += certainty * _log_ratio(known, word.verdict == "fraud")
    total = fraud + legitimate
    if total <= 0.0:
        return Consensus("review", None, 0.0)
    if is_measured:
        share = 1.0 / (1.0 + exp(-odds))
        return Consensus(_label(share), share, total, "learned")
    share = fraud / total
    return Consensus(_label(share), share, total)


def _log_ratio(of: Reliability, says_fraud: bool) -> float:
    """The word's log likelihood ratio, fraud to legitimate."""
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
    """The status as of `now_ms` of a payment of which nobody said anything that counts; both epoch ms."""
    return "pending" if now_ms < paid_at + maturity_days * DAY_MS else "presumed_legitimate"
