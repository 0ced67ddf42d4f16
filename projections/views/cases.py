"""The case queue: cases with their deadlines, assignees and outcomes. Folded by account.

alert          joins the account's unresolved case that was opened by an alert, or opens one, named after the alert.
               A case has the severity of its most severe alert and the earliest deadline of its alerts: recorded_at
               + `SLA_MS[severity]` (an alert is visible to nobody before it is recorded).
CaseOpened     opens a case by hand. If its alert is already in a case, the new ID becomes an alias of that case.
CaseAssigned   assigns an unresolved case; the last assignment counts.
CaseResolved   resolves the case with an outcome; a later one corrects the outcome. Unknown case IDs are ignored.
verdict        is kept with every case that contains the transaction, unless its time is impossible. Once analysts have
               judged all alerted transactions of a case fraud or legitimate, it is resolved: as fraud if any of them
               is. A verdict from another source (chargeback, customer, …) that conflicts with a resolved case's outcome
               marks the case `contradicted`, for a second look.

Times: `opened_at` and `due_at` are log time, the rest when the actor acted; epoch ms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from core.codec import decode_alert
from core.events import (
    CaseAssigned,
    CaseOpened,
    CaseResolved,
    FeedbackReceived,
    FeedbackSource,
    Position,
    Severity,
    Verdict,
)
from core.policy import SEVERITIES
from core.times import MINUTE_MS
from core.verdicts import is_timely, verdict_record
from projections.engine.base import DecidedTransaction, Fact, Projection
from projections.engine.states import States

SLA_MS: dict[Severity, int] = {
    "critical": 15 * MINUTE_MS,
    "high": 60 * MINUTE_MS,
    "medium": 8 * 60 * MINUTE_MS,
    "low": 24 * 60 * MINUTE_MS,
}
"""The time within which a case must be resolved after an alert of this severity."""

Stage = Literal["open", "assigned", "resolved"]
Clock = Literal["running", "overdue", "met", "missed", "none"]


class CaseAlert(msgspec.Struct, frozen=True):
    """An alert in a case. position: the transaction's position in the partition; paid_at: its event time, epoch ms.
    values: what its rules read.
    """

    alert_id: str
    position: str
    transaction_id: str
    severity: Severity
    fraud_score: float
    amount: float
    currency: str
    reason_codes: tuple[str, ...]
    recorded_at: int
    paid_at: int = 0
    values: dict[str, float | None] = {}


class CaseVerdict(msgspec.Struct, frozen=True):
    """A verdict on one of the case's transactions."""

    transaction_id: str
    source: FeedbackSource
    verdict: Verdict
    actor: str
    occurred_at: int


class Case(msgspec.Struct):
    """One case. due_at: 0 if it contains no alert and so has no deadline. names: aliases of its ID."""

    case_id: str
    account_id: str
    opened_at: int
    opened_by: str
    severity: Severity | None = None
    due_at: int = 0
    stage: Stage = "open"
    assignee: str = ""
    assigned_at: int = 0
    outcome: Verdict | None = None
    resolved_at: int = 0
    resolved_recorded_at: int = 0
    resolved_by: str = ""
    note: str = ""
    contradicted: bool = False
    alerts: list[CaseAlert] = []
    verdicts: list[CaseVerdict] = []
    names: list[str] = []


class AccountCases(msgspec.Struct):
    """An account's cases, oldest first."""

    cases: list[Case] = []


class Cases(msgspec.Struct):
    """Cases by account."""

    accounts: dict[str, AccountCases] = {}


def clock(case: Case, now_ms: int) -> Clock:
    """The SLA clock as of `now_ms` (epoch ms, log time)."""
    if not case.due_at:
        return "none"
    if case.stage == "resolved":
        return "met" if case.resolved_recorded_at <= case.due_at else "missed"
    return "running" if now_ms <= case.due_at else "overdue"


def find(cases: list[Case], case_id: str) -> Case | None:
    """The case with this ID or alias."""
    return next((case for case in cases if case.case_id == case_id or case_id in case.names), None)


def _of(state: Cases, account: str) -> list[Case]:
    return state.accounts.setdefault(account, AccountCases()).cases


def _alerted(state: Cases, fact: Fact) -> None:
    decided: DecidedTransaction = fact.event
    alert = decided.alert
    if alert is None:
        return
    cases = _of(state, alert.account_id)
    case = next((c for c in cases if c.stage != "resolved" and c.opened_by == "alert"), None)
    if case is None:
        case = Case(alert.alert_id, alert.account_id, fact.recorded_at, "alert")
        cases.append(case)
    case.alerts.append(
        CaseAlert(
            alert.alert_id,
            str(fact.id),
            decided.transaction.transaction_id,
            alert.severity,
            alert.fraud_score,
            decided.transaction.amount,
            decided.transaction.currency,
            alert.reason_codes,
            fact.recorded_at,
            decided.transaction.occurred_at,
            alert.values,
        )
    )
    if case.severity is None or SEVERITIES.index(alert.severity) > SEVERITIES.index(case.severity):
        case.severity = alert.severity
    due = fact.recorded_at + SLA_MS[alert.severity]
    case.due_at = min(case.due_at, due) if case.due_at else due


def _opened(state: Cases, fact: Fact) -> None:
    event: CaseOpened = fact.event
    cases = _of(state, event.account_id)
    if find(cases, event.case_id) is not None:
        return
    holder = next((c for c in cases if event.alert_id and any(a.alert_id == event.alert_id for a in c.alerts)), None)
    if holder is not None:
        holder.names.append(event.case_id)
    else:
        cases.append(Case(event.case_id, event.account_id, fact.recorded_at, event.actor))


def _assigned(state: Cases, fact: Fact) -> None:
    event: CaseAssigned = fact.event
    case = find(_of(state, event.account_id), event.case_id)
    if case is not None and case.stage != "resolved":
        case.stage, case.assignee, case.assigned_at = "assigned", event.assignee, event.occurred_at


def _resolved(state: Cases, fact: Fact) -> None:
    event: CaseResolved = fact.event
    case = find(_of(state, event.account_id), event.case_id)
    if case is not None:
        _resolve(case, event.verdict, event.actor, event.occurred_at, fact.recorded_at)
        case.note = event.note


def _resolve(case: Case, outcome: Verdict, actor: str, occurred_at: int, recorded_at: int) -> None:
    if case.stage != "resolved":
        case.resolved_at, case.resolved_recorded_at = occurred_at, recorded_at
    case.stage, case.outcome, case.resolved_by, case.contradicted = "resolved", outcome, actor, False


def _verdict(state: Cases, fact: Fact) -> None:
    event: FeedbackReceived = fact.event
    held = state.accounts.get(event.account_id)
    for case in held.cases if held is not None else ():
        paid_at = [alert.paid_at for alert in case.alerts if alert.transaction_id == event.transaction_id]
        if not paid_at:
            continue
        if not is_timely(verdict_record(event, fact.recorded_at), paid_at[0]):
            continue  # held back everywhere (projections.labelling.quality), so it settles no case either
        case.verdicts.append(
            CaseVerdict(event.transaction_id, event.source, event.verdict, event.actor, event.occurred_at)
        )
        if case.stage == "resolved":
            if event.source != "analyst" and event.verdict != "unsure" and case.outcome != "unsure":
                case.contradicted = case.contradicted or _is_against(case, event.verdict)
        elif event.source == "analyst":
            _settle(case, event, fact.recorded_at)


def _is_against(case: Case, verdict: Verdict) -> bool:
    """Whether the verdict conflicts with the case's outcome. A case of several alerts may be fraud though one of them
    is legitimate.
    """
    if verdict == "fraud":
        return case.outcome == "legitimate"
    return case.outcome == "fraud" and len(case.alerts) == 1


def _settle(case: Case, event: FeedbackReceived, recorded_at: int) -> None:
    """Resolve the case if the analysts' last verdict on each of its alerted transactions is conclusive."""
    in_order = sorted(case.verdicts, key=lambda v: v.occurred_at)
    last = {v.transaction_id: v.verdict for v in in_order if v.source == "analyst"}
    words = [last.get(alert.transaction_id, "unsure") for alert in case.alerts]
    if "unsure" not in words:
        outcome: Verdict = "fraud" if "fraud" in words else "legitimate"
        _resolve(case, outcome, event.actor, event.occurred_at, recorded_at)


CASES = Projection(
    name="cases",
    holds="cases with alerts, severity, SLA clock, assignment, outcome",
    version=4,
    state_type=Cases,
    handlers={
        DecidedTransaction: _alerted,
        CaseOpened: _opened,
        CaseAssigned: _assigned,
        CaseResolved: _resolved,
        FeedbackReceived: _verdict,
    },
)


class CaseRow(msgspec.Struct, frozen=True):
    """A case and its SLA clock. due_in_ms: time to the deadline, negative if overdue; None if the clock is stopped."""

    case: Case
    partition: int
    clock: Clock
    due_in_ms: int | None


class CasesAnswer(msgspec.Struct, frozen=True):
    """Cases by deadline, earliest first. counts: all cases by stage and by clock, before filtering."""

    as_of: str
    counts: dict[str, int]
    cases: list[CaseRow]


def cases_answer(
    states: States,
    *,
    account: str | None = None,
    stages: Sequence[str] = ("open", "assigned"),
    assignee: str | None = None,
    severity: str | None = None,
    limit: int = 50,
) -> CasesAnswer:
    """The case queue, filtered. For one account, the other accounts are not folded."""
    if account is None:
        held = states.by_partition(CASES)
    else:
        held = {p: states.of_account(CASES, account, p) for p in states.partitions_of_account(account)}
    rows = [row for partition, state in held.items() for row in case_rows(state, partition, states.moment, account)]
    counts = {**_counted(row.case.stage for row in rows), **_counted(row.clock for row in rows)}
    chosen = [
        row
        for row in rows
        if row.case.stage in stages and assignee in (None, row.case.assignee) and severity in (None, row.case.severity)
    ]
    chosen.sort(key=lambda row: (row.case.due_at == 0, row.case.due_at, row.partition, row.case.case_id))
    return CasesAnswer(states.as_of, counts, chosen[:limit])


def case_answer(states: States, case_id: str) -> CaseRow | None:
    """One case by its ID, an alias, or the ID of an alert in it; None if there is none.

    Given an alert's ID, only its account is folded.
    """
    match = re.fullmatch(r"(\d+):(\d+-\d+)", case_id)
    if match is not None and int(match[1]) in states.partitions:
        partition = int(match[1])
        payload = states.log.get(partition, "alerts", Position.parse(match[2]))
        if payload is not None:
            account = decode_alert(payload).account_id
            mine = states.of_account(CASES, account, partition)
            return _named(case_rows(mine, partition, states.moment, account), case_id)
    for partition in states.partitions:
        row = _named(case_rows(states.of(CASES, partition), partition, states.moment), case_id)
        if row is not None:
            return row
    return None


def case_rows(state: Cases, partition: int, now_ms: int, account: str | None = None) -> list[CaseRow]:
    """A partition's cases with their clocks, or only those of `account`."""
    held = state.accounts.values() if account is None else [a for n, a in state.accounts.items() if n == account]
    rows = []
    for case in (case for of in held for case in of.cases):
        running = clock(case, now_ms)
        due = case.due_at - now_ms if running in ("running", "overdue") else None
        rows.append(CaseRow(case, partition, running, due))
    return rows


def _named(rows: list[CaseRow], case_id: str) -> CaseRow | None:
    """The case with this ID, alias or alert."""
    for row in rows:
        if case_id in (row.case.case_id, *row.case.names, *(alert.alert_id for alert in row.case.alerts)):
            return row
    return None


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
