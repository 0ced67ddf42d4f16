"""What the API answers with where no read model has a struct for it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from core.events import AlertRaised, Decision, Severity, TransactionReceived, TransactionScored
from core.receipt import receive_time
from projections.audit.reasons import Reasons


class DecisionRow(msgspec.Struct, frozen=True):
    """A decision in a list. at: when the payment was received, epoch ms; amount in `currency`; amount_base in the base
    currency, as decided. place: of the decision in the log, and of the alert, if it raised one.
    """

    place: str
    transaction_id: str
    account_id: str
    at: int
    occurred_at: int
    recorded_at: int
    amount: float
    currency: str
    amount_base: float
    merchant_id: str
    merchant_category: str
    country: str
    channel: str
    device_id: str
    card_id: str
    decision: Decision
    severity: Severity | None
    probability: float
    rules: tuple[str, ...]
    shadow_rules: tuple[str, ...]
    model: str
    program: str
    arm: str
    degraded: str | None


class DecisionPage(msgspec.Struct, frozen=True):
    """Decisions, newest first. next: the cursor of the next page, "" on the last. as_of: the cut of all pages."""

    as_of: str
    decisions: list[DecisionRow]
    next: str


class DecisionDetail(msgspec.Struct, frozen=True):
    """One decision: as in a list, the payment as logged, the alert's codes and values, and its reasons in today's
    words. f, c: the positions that determine it (docs/audit.md).
    """

    row: DecisionRow
    f: str
    c: int
    margin: float
    digest: str
    engine: int
    transaction: dict[str, Any]
    alert: dict[str, Any] | None
    reasons: Reasons | None


class Unmasked(msgspec.Struct, frozen=True):
    """A payment as logged, shown to somebody for whom it is masked. position: of the record of it, in the control
    stream.
    """

    place: str
    position: int
    transaction: dict[str, Any]


class ReplayResult(msgspec.Struct, frozen=True):
    """A decision made again by today's live path. why: why it can't be made again here."""

    place: str
    transaction_id: str
    outcome: Literal["identical", "different", "not_decidable"]
    differences: list[str]
    why: str
    logged_digest: str
    recomputed_digest: str


class Me(msgspec.Struct, frozen=True):
    """Who is asking. has_password: whether they could log in with one. masked: whether personal data is masked for them
    (docs/privacy.md).
    """

    name: str
    roles: tuple[str, ...]
    via: str
    has_password: bool
    masked: bool
    routes: list[str]


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests can be answered. checks: each part, "ok" or what is wrong."""

    ready: bool
    checks: dict[str, str]


def row_of(place: str, t: TransactionReceived, score: TransactionScored) -> DecisionRow:
    """The decision as a row of a list."""
    return DecisionRow(
        place=place,
        transaction_id=t.transaction_id,
        account_id=t.account_id,
        at=receive_time(t),
        occurred_at=t.occurred_at,
        recorded_at=t.recorded_at,
        amount=t.amount,
        currency=t.currency,
        amount_base=t.amount * t.rate,
        merchant_id=t.merchant_id,
        merchant_category=t.merchant_category,
        country=t.country,
        channel=t.channel,
        device_id=t.device_id,
        card_id=t.card_id,
        decision=score.decision,
        severity=score.severity,
        probability=score.probability,
        rules=score.rules,
        shadow_rules=score.shadow_rules,
        model=score.model,
        program=score.program,
        arm=score.arm,
        degraded=score.degraded,
    )


def detail_of(
    place: str, t: TransactionReceived, score: TransactionScored, alert: AlertRaised | None, reasons: Reasons | None
) -> DecisionDetail:
    """The decision in full."""
    raised = None if alert is None else msgspec.to_builtins(alert)
    if raised is not None:
        raised.pop("transaction", None)  # shown beside it
    return DecisionDetail(
        row=row_of(place, t, score),
        f=score.feedback_position,
        c=score.control_position,
        margin=score.margin,
        digest=score.digest,
        engine=score.engine,
        transaction=msgspec.to_builtins(t),
        alert=raised,
        reasons=reasons,
    )
