"""The alert event: what identifies and orders an alert, and the values that the rules read. Pure.

An alert holds codes and numbers, no words: whoever shows it says what they mean (`projections.audit.reasons`), so words
and attributions may change without changing a decision (ADR 23). Cost: 4 µs per alert.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import policy, rules
from core.control import Context
from core.events import AlertRaised, Position
from core.features import spec
from core.features.columns import TransactionLike

_AMOUNT = spec.index("amount")


class Judged(NamedTuple):
    """One decision as the pipeline made it. features float32 (WIDTH,) as logged, hits by rules.RULES, decision and
    severity as indices into policy's tables.
    """

    position: Position
    transaction: TransactionLike
    features: NDArray[np.float32]
    hits: int
    probability: float
    decision: int
    severity: int


def alert(context: Context, partition: int, judged: Judged) -> AlertRaised:
    """The alert of one decision."""
    transaction, severity = judged.transaction, policy.SEVERITIES[judged.severity]
    codes = rules.codes_of(judged.hits)
    if _model_asks(context, judged):
        codes = (rules.MODEL_CODE, *codes)
    return AlertRaised(
        alert_id=f"{partition:02d}:{judged.position}",
        timestamp=transaction.occurred_at,
        account_id=transaction.account_id,
        fraud_score=judged.probability,
        decision=policy.DECISIONS[judged.decision],
        severity=severity,
        reason_codes=codes,
        values={name: _number(judged.features.item(column)) for name, column in _read_by(judged.hits)},
        recommended_actions=policy.ACTIONS[severity],
        transaction=_details(transaction),
        degraded=context.degraded,
    )


@lru_cache(maxsize=4096)
def _read_by(hits: int) -> tuple[tuple[str, int], ...]:
    """The features that the rules of a hit word compare or show, and their columns, in the table's order."""
    names: dict[str, None] = {}
    for k, rule in enumerate(rules.RULES):
        if hits >> k & 1:
            names.update(dict.fromkeys(term.feature for term in rule.when))
            names.update(dict.fromkeys(rule.features))
    return tuple((name, spec.index(name)) for name in names)


def _model_asks(context: Context, judged: Judged) -> bool:
    """Whether the model alone would have the transaction reviewed."""
    if context.scorer is None:
        return False
    review, _, loss, _ = context.thresholds
    return policy.asks(judged.probability, judged.features.item(_AMOUNT), review, loss)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _details(t: TransactionLike) -> dict[str, float | int | str | dict[str, float | str]]:
    details: dict[str, float | int | str | dict[str, float | str]] = {
        "transaction_id": t.transaction_id,
        "amount": t.amount,
        "occurred_at": t.occurred_at,
    }
    for name in ("currency", "merchant_id", "merchant_category", "country", "channel", "device_id", "ip", "card_id"):
        value = getattr(t, name)
        if value:
            details[name] = value
    if t.rate != 1.0:
        details["rate"] = t.rate
    return details
