"""The case queue: cases with their deadlines, assignees and outcomes. Folded by account.

alert          joins the account's unresolved case that was opened by an alert, or opens one, named after the alert.
               A case has the severity of its most severe alert and the earliest deadline of its alerts: recorded_at
               + `SLA_MS[severity]` (an alert is visible to nobody before it is recorded).
verdict        is kept with every case that contains the transaction, unless its time is impossible. Once analysts have
               judged all alerted transactions of a case fraud or legitimate, it is resolved: as fraud if any of them
               is. A verdict from another source (chargeback, customer, …) that conflicts with a resolved case's outcome
               marks the case `contradicted`, for a second look.
work           what people and responders do with cases: `projections.views.case_work`
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import msgspec

from core.codec import decode_alert
from core.errors import BadInput
from core.events import (
    CaseAssigned,
    CaseChecked,
    CaseLinked,
    CaseNoted,
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseRouted,
    CaseSnoozed,
    FeedbackReceived,
    Position,
    Verdict,
)
from core.policy import SEVERITIES
from core.verdicts import is_timely, verdict_record
from projections.engine.base import DecidedTransaction, Fact, Projection
from projections.engine.states import States
from projections.views import case_work
from projections.views.case_records import (
    SLA_MS,
    Case,
    CaseAlert,
    CaseChange,
    Cases,
    CaseVerdict,
    Clock,
    clock,
)

Order = Literal["due", "amount", "severity", "age"]


def _alerted(state: Cases, fact: Fact) -> None:
    decided: DecidedTransaction = fact.event
    alert = decided.alert
    if alert is None:
        return
    cases = state.of(alert.account_id)
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
            decided.transaction.rate,
        )
    )
    if len(case.alerts) > 1:  # whoever looked at the case before has not seen this one
        case.revision += 1
        case.history.append(CaseChange("alert", "alert", fact.recorded_at, case.revision, alert.alert_id))
    if case.severity is None or SEVERITIES.index(alert.severity) > SEVERITIES.index(case.severity):
        case.severity = alert.severity
    due = fact.recorded_at + SLA_MS[alert.severity]
    case.due_at = min(case.due_at, due) if case.due_at else due


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
        case_work.resolve(case, outcome, event.actor, event.occurred_at, recorded_at)
        case.revision += 1
        change = CaseChange("resolved", event.actor, event.occurred_at, case.revision, outcome)
        case.history.append(change)


CASES = Projection(
    name="cases",
    holds="cases with alerts, severity, SLA clock, queue, assignment, notes, links, outcome, checks",
    version=5,
    state_type=Cases,
    handlers={
        DecidedTransaction: _alerted,
        FeedbackReceived: _verdict,
        CaseOpened: case_work.opened,
        CaseAssigned: case_work.assigned,
        CaseRouted: case_work.routed,
        CaseResolved: case_work.resolved,
        CaseReopened: case_work.reopened,
        CaseSnoozed: case_work.snoozed,
        CaseNoted: case_work.noted,
        CaseLinked: case_work.linked,
        CaseChecked: case_work.checked,
    },
)


class CaseRow(msgspec.Struct, frozen=True):
    """A case and its SLA clock. due_in_ms: time to the deadline, negative if overdue; None if the clock is stopped.
    amount_at_risk: of its alerted payments, in the base currency.
    """

    case: Case
    partition: int
    clock: Clock
    due_in_ms: int | None
    amount_at_risk: float


class CasesAnswer(msgspec.Struct, frozen=True):
    """Cases in the order asked for. counts: all cases by stage and by clock, and unresolved ones by queue, before
    filtering.
    """

    as_of: str
    counts: dict[str, int]
    cases: list[CaseRow]
    queues: dict[str, int] = {}


def cases_answer(
    states: States,
    *,
    account: str | None = None,
    stages: Sequence[str] = ("open", "assigned"),
    assignee: str | None = None,
    severity: str | None = None,
    limit: int = 50,
    queue: str | None = None,
    is_awake: bool = False,
    order: Order = "due",
    after: int = 0,
) -> CasesAnswer:
    """The case queue, filtered. For one account, the other accounts are not folded. is_awake: without snoozed cases.
    after: how many of the chosen to leave out, from the first.

    order: due (earliest deadline first), amount (most at risk first), severity (gravest first, then due), age.
    """
    if order not in get_args(Order):
        raise BadInput(f"cases are ordered by {', '.join(get_args(Order))}, not {order!r}")
    if account is None:
        held = states.by_partition(CASES)
    else:
        held = {p: states.of_account(CASES, account, p) for p in states.partitions_of_account(account)}
    rows = [row for partition, state in held.items() for row in case_rows(state, partition, states.moment, account)]
    counts = {**_counted(row.case.stage for row in rows), **_counted(row.clock for row in rows)}
    chosen = [
        row
        for row in rows
        if row.case.stage in stages
        and assignee in (None, row.case.assignee)
        and severity in (None, row.case.severity)
        and queue in (None, row.case.queue)
        and not (is_awake and row.case.snoozed_until > states.moment)
    ]
    chosen.sort(
        key=lambda row: (*_rank(row, order), row.case.due_at == 0, row.case.due_at, row.partition, row.case.case_id)
    )
    queues = _counted(row.case.queue for row in rows if row.case.stage != "resolved" and row.case.queue)
    return CasesAnswer(states.as_of, counts, chosen[after : after + limit], queues)


def _rank(row: CaseRow, order: Order) -> tuple[float, ...]:
    match order:
        case "amount":
            return (-row.amount_at_risk,)
        case "severity":
            return (-SEVERITIES.index(row.case.severity) if row.case.severity else 1,)
        case "age":
            return (row.case.opened_at,)
        case _:
            return ()


def case_answer(states: States, case_id: str, account: str | None = None) -> CaseRow | None:
    """One case by its ID, an alias, or the ID of an alert in it; None if there is none.

    Given an account or an alert's ID, only that account is folded.
    """
    if account is not None:
        (partition,) = states.partitions_of_account(account)
        mine = states.of_account(CASES, account, partition)
        return _named(case_rows(mine, partition, states.moment, account), case_id)
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
        rows.append(CaseRow(case, partition, running, due, case.amount_at_risk))
    return rows


def _named(rows: list[CaseRow], case_id: str) -> CaseRow | None:
    """The case with this ID, alias or alert."""
    for row in rows:
        if case_id in (row.case.case_id, *row.case.names, *(alert.alert_id for alert in row.case.alerts)):
            return row
    return None


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
