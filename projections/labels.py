"""Labels: every verdict on every transaction, and the consensus of those that disagree. Folded by account.

The state keeps the verdicts; `consensus` is a pure function of them, so how labels are weighed can change without a new
version of the projection.

Consensus, over the last verdict of each voice (a source, and for analysts the person: somebody who corrects himself has
one vote):

    weight = RELIABILITY[source] × confidence × 1 / (1 + age / RECENCY_MS)      age: to the newest verdict
    share  = weight of fraud / weight of fraud and legitimate
    label  = fraud if share ≥ 0.75, legitimate if share ≤ 0.25, else review (conflict, or nobody is sure)

A representment that is won (verdict legitimate) answers the chargeback and is as reliable: later, it weighs more, but
the two are a conflict that a person reviews.

**No verdict is not "legitimate".** Before the maturity delay a transaction without a verdict is `pending`; after it,
`presumed_legitimate`, which is an assumption and named as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from core.events import FeedbackReceived, FeedbackSource, Verdict
from core.features.spec import DAY_MS
from projections.base import Decided, Fact, Projection

RELIABILITY: dict[FeedbackSource, float] = {
    "chargeback": 0.95,
    "representment": 0.95,
    "analyst": 0.9,
    "early_fraud_warning": 0.7,
    "customer": 0.6,
}
"""How much a source's word weighs at full confidence."""
RECENCY_MS = 90 * DAY_MS
"""A verdict this much older than the newest one weighs half."""
FRAUD_SHARE = 0.75
LEGITIMATE_SHARE = 0.25
MATURITY_DAYS = 30
"""Without a verdict for so long after the payment, a transaction is presumed legitimate."""

Label = Literal["fraud", "legitimate", "review"]
Status = Literal["fraud", "legitimate", "review", "pending", "presumed_legitimate"]


class Said(msgspec.Struct, frozen=True):
    """One verdict. Times in epoch ms; recorded_at is log time."""

    source: FeedbackSource
    verdict: Verdict
    confidence: float
    actor: str
    occurred_at: int
    recorded_at: int
    amount: float = 0.0
    reason: str = ""


class Consensus(msgspec.Struct, frozen=True):
    """The label, fraud's share of the weight (None: nobody is sure), and the weight of all voices."""

    label: Label
    share: float | None
    weight: float


class AccountLabels(msgspec.Struct):
    """Verdicts by transaction ID, in log order."""

    verdicts: dict[str, list[Said]] = {}


class Labels(msgspec.Struct):
    """Verdicts by account, and the transactions of each day of event time (epoch day → count)."""

    accounts: dict[str, AccountLabels] = {}
    days: dict[int, int] = {}


def consensus(verdicts: Sequence[Said]) -> Consensus:
    """What the verdicts on one transaction amount to (see the module's head). Raises ValueError if there are none."""
    newest = max(said.occurred_at for said in verdicts)
    voices = {(said.source, said.actor if said.source == "analyst" else ""): said for said in verdicts}
    fraud = legitimate = 0.0
    for _, said in sorted(voices.items()):
        weight = RELIABILITY[said.source] * said.confidence / (1.0 + (newest - said.occurred_at) / RECENCY_MS)
        if said.verdict == "fraud":
            fraud += weight
        elif said.verdict == "legitimate":
            legitimate += weight
    total = fraud + legitimate
    if total <= 0.0:
        return Consensus("review", None, 0.0)
    share = fraud / total
    if share >= FRAUD_SHARE:
        return Consensus("fraud", share, total)
    return Consensus("legitimate" if share <= LEGITIMATE_SHARE else "review", share, total)


def status(verdicts: Sequence[Said], occurred_at: int, now_ms: int, maturity_days: int = MATURITY_DAYS) -> Status:
    """A transaction's label as of `now_ms` (epoch ms); `occurred_at` is the payment's event time."""
    if verdicts:
        return consensus(verdicts).label
    return "pending" if now_ms < occurred_at + maturity_days * DAY_MS else "presumed_legitimate"


def _decided(state: Labels, fact: Fact) -> None:
    decided: Decided = fact.event
    day = decided.transaction.occurred_at // DAY_MS
    state.days[day] = state.days.get(day, 0) + 1


def _verdict(state: Labels, fact: Fact) -> None:
    event: FeedbackReceived = fact.event
    said = Said(
        event.source,
        event.verdict,
        event.confidence,
        event.actor,
        event.occurred_at,
        fact.recorded_at,
        event.amount,
        event.reason,
    )
    account = state.accounts.setdefault(event.account_id, AccountLabels())
    account.verdicts.setdefault(event.transaction_id, []).append(said)


LABELS = Projection(
    name="labels",
    version=1,
    state_type=Labels,
    handlers={Decided: _decided, FeedbackReceived: _verdict},
)
