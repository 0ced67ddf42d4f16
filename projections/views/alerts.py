"""Alerts with what became of them: each is in a case (`projections.views.cases`), and open until that is resolved."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from core.codec import decode_alert, decode_transaction
from core.errors import Corrupt
from core.events import Severity, Verdict
from core.log.base import Entry, EventLog
from projections.engine.states import States
from projections.views.case_records import Case, CaseAlert, Stage
from projections.views.cases import CASES

Status = Literal["open", "closed", "all"]


class AlertRow(msgspec.Struct, frozen=True):
    """An alert and its case. recorded_at: when it was raised, log time; due_at: the case's deadline, 0 for none; both
    epoch ms. amount_base: in the base currency.
    """

    alert_id: str
    place: str
    recorded_at: int
    account_id: str
    transaction_id: str
    severity: Severity
    fraud_score: float
    amount: float
    currency: str
    amount_base: float
    rules: tuple[str, ...]
    case_id: str
    stage: Stage
    assignee: str
    outcome: Verdict | None
    due_at: int


class AlertFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts; all conditions must hold. start ≤ recorded_at < end, epoch ms; score, low, high: bounds of fraud
    score and amount in the base currency, inclusive.
    """

    status: Status = "all"
    account: str | None = None
    rule: str | None = None
    severity: Severity | None = None
    start: int | None = None
    end: int | None = None
    score: float = 0.0
    low: float | None = None
    high: float | None = None

    def holds(self, row: AlertRow) -> bool:
        """Whether the alert matches."""
        return (
            (self.status == "all" or (row.stage == "resolved") == (self.status == "closed"))
            and self.account in (None, row.account_id)
            and (self.rule is None or self.rule in row.rules)
            and self.severity in (None, row.severity)
            and (self.start is None or row.recorded_at >= self.start)
            and (self.end is None or row.recorded_at < self.end)
            and row.fraud_score >= self.score
            and (self.low is None or row.amount_base >= self.low)
            and (self.high is None or row.amount_base <= self.high)
        )


class AlertsAnswer(msgspec.Struct, frozen=True):
    """Alerts, newest first. counts: of all that match but for their status, by their case's stage."""

    as_of: str
    counts: dict[str, int]
    alerts: list[AlertRow]


def alerts_answer(states: States, wanted: AlertFilter, limit: int = 50) -> AlertsAnswer:
    """The newest alerts that match. For one account, the other accounts are not folded."""
    anyway = msgspec.structs.replace(wanted, status="all")
    if wanted.account is None:
        held = states.by_partition(CASES)
    else:
        where = states.partitions_of_account(wanted.account)
        held = {p: states.of_account(CASES, wanted.account, p) for p in where}
    rows = [
        row
        for partition, state in held.items()
        for name, of in state.accounts.items()
        if wanted.account in (None, name)
        for case in of.cases
        for alert in case.alerts
        if anyway.holds(row := _row(partition, case, alert))
    ]
    counts = dict(sorted(Counter[str](row.stage for row in rows).items()))
    chosen = sorted(filter(wanted.holds, rows), key=lambda row: (-row.recorded_at, row.place))
    return AlertsAnswer(states.as_of, counts, chosen[:limit])


def just_raised(log: EventLog, partition: int, entry: Entry) -> AlertRow:
    """An entry of the alerts as it was when it was recorded: open, and nobody's. Raises Corrupt."""
    alert = decode_alert(entry.payload)
    payload = log.get(partition, "transactions", entry.id)
    if payload is None:
        raise Corrupt(f"partition {partition}: the transaction of alert {alert.alert_id} is missing")
    paid = decode_transaction(payload)
    return AlertRow(
        alert_id=alert.alert_id,
        place=_place(partition, str(entry.id)),
        recorded_at=paid.recorded_at,
        account_id=alert.account_id,
        transaction_id=paid.transaction_id,
        severity=alert.severity,
        fraud_score=alert.fraud_score,
        amount=paid.amount,
        currency=paid.currency,
        amount_base=paid.amount * paid.rate,
        rules=alert.reason_codes,
        case_id="",
        stage="open",
        assignee="",
        outcome=None,
        due_at=0,
    )


def _row(partition: int, case: Case, alert: CaseAlert) -> AlertRow:
    return AlertRow(
        alert_id=alert.alert_id,
        place=_place(partition, alert.position),
        recorded_at=alert.recorded_at,
        account_id=case.account_id,
        transaction_id=alert.transaction_id,
        severity=alert.severity,
        fraud_score=alert.fraud_score,
        amount=alert.amount,
        currency=alert.currency,
        amount_base=alert.amount * alert.rate,
        rules=alert.reason_codes,
        case_id=case.case_id,
        stage=case.stage,
        assignee=case.assignee,
        outcome=case.outcome,
        due_at=case.due_at,
    )


def _place(partition: int, position: str) -> str:
    return f"p{partition:02d}:{position}"
