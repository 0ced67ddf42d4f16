"""Alerts in words: risk factors, reasons and the alert event. Runs for alerts only, about one transaction in fifty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core import policy, rules
from core.control import Context
from core.events import AlertRaised, Position
from core.features import spec
from core.features.columns import TransactionLike
from core.scoring import Scorer

REASONS_MAX = 5
_MODEL_REASONS_MAX = 3

_i = spec.index


@dataclass(frozen=True, slots=True)
class Judged:
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
    if _model_asks(context, judged.features, judged.probability):
        codes = (rules.MODEL_CODE, *codes)
    return AlertRaised(
        alert_id=f"{partition:02d}:{judged.position}",
        timestamp=transaction.occurred_at,
        account_id=transaction.account_id,
        fraud_score=judged.probability,
        decision=policy.DECISIONS[judged.decision],
        severity=severity,
        reason_codes=codes,
        reasons=reasons(context, judged.features, judged.hits, judged.probability),
        risk_factors=risk_factors(judged.features, context),
        recommended_actions=policy.ACTIONS[severity],
        transaction=_details(transaction),
        degraded=context.degraded,
    )


def reasons(context: Context, row: NDArray[np.float32], hits: int, probability: float) -> tuple[str, ...]:
    """Up to REASONS_MAX sentences: what the rules saw, then what moved the model most towards fraud."""
    names: dict[str, None] = {}
    words: list[str] = []
    for k, rule in enumerate(rules.RULES):
        if hits >> k & 1:
            if not rule.features:
                words.append(rule.meaning)
            names.update(dict.fromkeys(rule.features))
    if context.scorer is not None and _model_asks(context, row, probability):
        names.update(dict.fromkeys(_model_reasons(context.scorer, row)))
    for name in names:
        words.append(phrase(name, float(row[_i(name)])))
    return tuple(dict.fromkeys(word for word in words if word))[:REASONS_MAX]


def _model_asks(context: Context, row: NDArray[np.float32], probability: float) -> bool:
    """Whether the model alone would have the transaction reviewed."""
    review, _, loss, _ = context.thresholds
    return context.scorer is not None and bool(policy.asks(probability, float(row[_i("amount")]), review, loss))


def _model_reasons(scorer: Scorer, row: NDArray[np.float32]) -> list[str]:
    """The features with the largest shares towards fraud and words to say so; [] if the model can't tell."""
    try:
        _, shares = scorer.contributions(row)
    except Exception:  # noqa: BLE001 - I9: whatever a model does, the stream goes on; the alert is raised without its reasons
        return []
    order = np.argsort(-shares, kind="stable")
    return [spec.NAMES[c] for c in order if shares[c] > 0.0 and spec.FEATURES[c].phrase][:_MODEL_REASONS_MAX]


def phrase(name: str, value: float) -> str:
    """A feature's value in words; "" if there are none for it. 0/1 features that are 0 say so."""
    feature = spec.FEATURES[_i(name)]
    if not feature.phrase:
        return ""
    if value != value:
        return f"{feature.meaning}: unknown"
    if feature.unit == "0/1" and value == 0.0:
        return f"not: {feature.phrase}"
    return feature.phrase.format(value=value)


def risk_factors(row: NDArray[np.float32], context: Context) -> dict[str, float | bool | None]:
    """The handful of numbers an analyst looks at first. None = not known. Ratios and speeds to four decimals."""
    count_30d = float(row[_i("count_30d")])
    daily = count_30d / 30.0
    share, total = float(row[_i("hour_share")]), float(row[_i("transactions_total")])
    parameters = dict(zip(rules.PARAMETERS, context.parameters.tolist(), strict=True))
    return {
        "is_high_amount": bool(row[_i("amount")] >= context.amount_high),
        "is_unusual_hour": bool(share <= parameters["hour_share"] and total >= parameters["hour_history"]),
        "amount_vs_avg_ratio": _number(row[_i("amount_to_mean_30d")]),
        "velocity_score": round(float(row[_i("count_24h")]) / max(daily, 1.0), 4),
        "amount_zscore": _number(row[_i("amount_zscore")]),
        "is_new_merchant": _flag(row[_i("merchant_is_new")]),
        "is_new_device": _flag(row[_i("device_is_new")]),
        "is_new_country": _flag(row[_i("country_is_new")]),
        "speed_kmh": _number(row[_i("speed_kmh")]),
        "merchant_risk_7d": _number(row[_i("merchant_risk_7d")]),
    }


def _number(value: np.float32) -> float | None:
    number = float(value)
    return round(number, 4) if abs(number) < np.inf else None


def _flag(value: np.float32) -> bool | None:
    return None if value != value else bool(value)


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
