"""The alert event: what identifies and orders an alert, and the values that the rules read. Pure.

An alert holds codes and numbers, no words: whoever shows it says what they mean (`projections.audit.reasons`), so words
and attributions may change without changing a decision (ADR 23). Cost: 4 µs per alert.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import policy
from core.context import Context
from core.events import AlertRaised, Position
from core.features.columns import TransactionLike

MODEL_CODE = "MODEL_SCORE"
"""Reason code of an alert that the model's probability would raise by itself."""


class Judged(NamedTuple):
    """One decision as the pipeline made it. features float32 (W,), hits uint8 (R,) by the program's rules and codes of
    those that hit, asked: whether the program's `[decision]` asks for the alert, decision and severity as indices into
    policy's tables.
    """

    position: Position
    transaction: TransactionLike
    features: NDArray[np.float32]
    hits: NDArray[np.uint8]
    codes: tuple[str, ...]
    asked: bool
    probability: float
    decision: int
    severity: int


def alert(context: Context, partition: int, judged: Judged) -> AlertRaised:
    """The alert of one decision."""
    transaction, severity = judged.transaction, policy.SEVERITIES[judged.severity]
    codes = judged.codes
    if judged.asked and context.scorer is not None:
        codes = (MODEL_CODE, *codes)
    return AlertRaised(
        alert_id=f"{partition:02d}:{judged.position}",
        timestamp=transaction.occurred_at,
        account_id=transaction.account_id,
        fraud_score=judged.probability,
        decision=policy.DECISIONS[judged.decision],
        severity=severity,
        reason_codes=codes,
        values=context.program.values(judged.hits, judged.features),
        recommended_actions=context.program.plan.program.actions.get(severity, ()),
        transaction=_details(transaction),
        degraded=context.degraded,
    )


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
