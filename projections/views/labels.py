"""Labels: every verdict on every transaction, and the consensus of those that disagree. Folded by account.

The state keeps verdicts, not labels: which of them count (`projections.labelling.quality`), how far each voice is to be
believed (`projections.labelling.reliability`) and what they amount to (`consensus`) are pure functions of it. So how
labels are weighed can change without a new version, and a verdict that looked wrong heals when what it refers to
arrives.

Consensus, over the last verdict of each voice (a source, and for analysts the person: somebody who corrects himself has
one vote). With fixed reliabilities:

    weight = RELIABILITY[source] × confidence × 1 / (1 + age / RECENCY_MS)      age: to the newest verdict
    share  = weight of fraud / weight of fraud and legitimate

With learned ones, if every voice on the transaction has been measured on at least EVIDENCE_MIN transactions that others
judged too; otherwise the fixed ones, so a new source is trusted as it was before there was anything to learn from:

    share  = posterior probability of fraud from even odds: each voice's log likelihood ratio (from its sensitivity and
             specificity) × confidence × 1 / (1 + age / RECENCY_MS), added up

    label  = fraud if share ≥ 0.75, legitimate if share ≤ 0.25, else review (conflict, or nobody is sure)

A representment that is won (verdict legitimate) answers the chargeback and is as reliable: later, it weighs more, but
the two are a conflict that a person reviews, until it has been measured which of them is right.

**No verdict is not "legitimate".** Before the maturity delay a transaction without a verdict is `pending`; after it,
`presumed_legitimate`, which is an assumption and named as one.

Which transactions an account had is kept as 8 bytes of BLAKE2b and 4 bytes of event time (epoch s) each, for the
account's last SEEN_DAYS of event time and at most SEEN_MAX: 12 bytes a transaction and about 160 an account, so 1.2 GB
for 100 million transactions in 180 days. An unknown ID passes for a known one with probability below
SEEN_MAX × 2^-64 ≈ 1e-15.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Literal

import msgspec

from core.events import FeedbackReceived, FeedbackSource, Verdict
from core.features.spec import DAY_MS, HOUR_MS
from projections.engine.base import Decided, Fact, Projection

RELIABILITY: dict[FeedbackSource, float] = {
    "chargeback": 0.95,
    "representment": 0.95,
    "analyst": 0.9,
    "early_fraud_warning": 0.7,
    "customer": 0.6,
}
"""How much a source's word weighs at full confidence, before anything is learned."""
RECENCY_MS = 90 * DAY_MS
"""A verdict this much older than the newest one weighs half."""
FRAUD_SHARE = 0.75
LEGITIMATE_SHARE = 0.25
MATURITY_DAYS = 30
"""Without a verdict for so long after the payment, a transaction is presumed legitimate."""
EVIDENCE_MIN = 20.0
"""Transactions that others judged too, from which on a voice's learned reliability is used."""
TRUST_MAX = 0.995
"""No voice's word counts for more than odds of 199 to 1."""
SEEN_DAYS = 180
SEEN_MAX = 20_000

Label = Literal["fraud", "legitimate", "review"]
Status = Literal["fraud", "legitimate", "review", "pending", "presumed_legitimate"]


class Said(msgspec.Struct, frozen=True):
    """One verdict. Times in epoch ms; recorded_at is log time; claimed_at is when the payment was, says the verdict."""

    source: FeedbackSource
    verdict: Verdict
    confidence: float
    actor: str
    occurred_at: int
    recorded_at: int
    amount: float = 0.0
    reason: str = ""
    claimed_at: int = 0


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
    evidence: transactions that it judged and others too, weighted by its confidence.
    """

    sensitivity: float
    specificity: float
    evidence: float


class AccountLabels(msgspec.Struct):
    """Verdicts by transaction ID, in log order. payments: of those transactions that the log holds, the event time
    (epoch ms, whole seconds).
    """

    verdicts: dict[str, list[Said]] = {}
    payments: dict[str, int] = {}


class Labels(msgspec.Struct):
    """Verdicts by account, and the transactions of each day of event time (epoch day → count).

    seen: by account, what transactions it had (see the module's head). forgotten: by account, the event time (epoch
    ms) before which `seen` may not be whole. rates: by rate key (`rate_key`), verdicts in each hour of log time.
    """

    accounts: dict[str, AccountLabels] = {}
    days: dict[int, int] = {}
    seen: dict[str, bytearray] = {}
    forgotten: dict[str, int] = {}
    rates: dict[str, dict[int, int]] = {}


def voice(said: Said) -> str:
    """Whose word it is: `"analyst:ann"`, or the source."""
    return f"analyst:{said.actor}" if said.source == "analyst" else said.source


def rate_key(source: str, actor: str) -> str:
    """By what verdicts are counted for their rate: `"chargeback:acquirer-1"`."""
    return f"{source}:{actor}"


def standing(verdicts: Sequence[Said]) -> dict[str, Said]:
    """The last verdict of each voice, voices in order of their names."""
    return dict(sorted({voice(said): said for said in verdicts}.items()))


def consensus(verdicts: Sequence[Said], learned: Mapping[str, Reliability] | None = None) -> Consensus:
    """What the verdicts on one transaction amount to (see the module's head). Raises ValueError if there are none.

    learned: by voice; without it, or for voices that it has measured too little, reliabilities are the fixed ones.
    """
    newest = max(said.occurred_at for said in verdicts)
    voices = standing(verdicts)
    fraud = legitimate = odds = 0.0
    is_measured = learned is not None
    for name, said in voices.items():
        certainty = said.confidence / (1.0 + (newest - said.occurred_at) / RECENCY_MS)
        if said.verdict == "unsure" or certainty <= 0.0:
            continue
        weight = RELIABILITY[said.source] * certainty
        if said.verdict == "fraud":
            fraud += weight
        else:
            legitimate += weight
        known = learned.get(name) if learned is not None else None
        if known is None or known.evidence < EVIDENCE_MIN:
            is_measured = False
        else:
            odds += certainty * _log_ratio(known, said.verdict == "fraud")
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


def status(
    verdicts: Sequence[Said],
    occurred_at: int,
    now_ms: int,
    maturity_days: int = MATURITY_DAYS,
    learned: Mapping[str, Reliability] | None = None,
) -> Status:
    """A transaction's label as of `now_ms` (epoch ms); `occurred_at` is the payment's event time."""
    if verdicts:
        return consensus(verdicts, learned).label
    return "pending" if now_ms < occurred_at + maturity_days * DAY_MS else "presumed_legitimate"


_SEEN = struct.Struct("<8sI")


def _hash(transaction_id: str) -> bytes:
    return hashlib.blake2b(transaction_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _decided(state: Labels, fact: Fact) -> None:
    decided: Decided = fact.event
    transaction = decided.transaction
    day = transaction.occurred_at // DAY_MS
    state.days[day] = state.days.get(day, 0) + 1
    account, second = transaction.account_id, max(transaction.occurred_at // 1000, 0)
    seen = state.seen.setdefault(account, bytearray())
    seen += _SEEN.pack(_hash(transaction.transaction_id), second)
    _forget(state, account, seen, second)
    of = state.accounts.get(account)
    if of is not None and transaction.transaction_id in of.verdicts:
        of.payments.setdefault(transaction.transaction_id, second * 1000)


def _forget(state: Labels, account: str, seen: bytearray, second: int) -> None:
    """Drop what is past the horizon or the bound, in the order in which it came."""
    while True:
        oldest = _SEEN.unpack_from(seen)[1]
        if oldest >= second - SEEN_DAYS * DAY_MS // 1000 and len(seen) <= SEEN_MAX * _SEEN.size:
            return
        del seen[: _SEEN.size]
        state.forgotten[account] = max(state.forgotten.get(account, 0), (oldest + 1) * 1000)


def _payment(state: Labels, account: str, transaction_id: str) -> int | None:
    """When the account's transaction was (epoch ms), if it is among those kept."""
    seen = state.seen.get(account)
    if not seen:
        return None
    digest = _hash(transaction_id)
    at = seen.find(digest)
    while at >= 0 and at % _SEEN.size:
        at = seen.find(digest, at + 1)
    return None if at < 0 else int(_SEEN.unpack_from(seen, at)[1]) * 1000


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
        event.transaction_occurred_at,
    )
    account = state.accounts.setdefault(event.account_id, AccountLabels())
    held = account.verdicts.setdefault(event.transaction_id, [])
    if not held:
        payment = _payment(state, event.account_id, event.transaction_id)
        if payment is not None:
            account.payments[event.transaction_id] = payment
    held.append(said)
    hours = state.rates.setdefault(rate_key(event.source, event.actor), {})
    hour = fact.recorded_at // HOUR_MS
    hours[hour] = hours.get(hour, 0) + 1


LABELS = Projection(
    name="labels",
    version=2,
    state_type=Labels,
    handlers={Decided: _decided, FeedbackReceived: _verdict},
)
