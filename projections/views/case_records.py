"""What the case queue holds (`projections.views.cases`): cases, what is in them, and what was done with them.

Times: `opened_at` and `due_at` are log time, the rest when the actor acted; epoch ms.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from core.events import FeedbackSource, Severity, Verdict
from core.times import MINUTE_MS

SLA_MS: dict[Severity, int] = {
    "critical": 15 * MINUTE_MS,
    "high": 60 * MINUTE_MS,
    "medium": 8 * 60 * MINUTE_MS,
    "low": 24 * 60 * MINUTE_MS,
}
"""The time within which a case must be resolved after an alert of this severity."""

Stage = Literal["open", "assigned", "resolved"]
Clock = Literal["running", "overdue", "met", "missed", "none"]
Work = Literal[
    "opened", "alert", "assigned", "released", "routed", "resolved", "reopened", "snoozed", "woken", "noted", "linked",
    "unlinked", "checked",
]  # fmt: skip
REFUSED_MAX = 50


class CaseAlert(msgspec.Struct, frozen=True):
    """An alert in a case. position: the transaction's position in the partition; paid_at: its event time, epoch ms.
    values: what its rules read. rate: the worth of one unit of `currency` in the base currency.
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
    rate: float = 1.0


class CaseVerdict(msgspec.Struct, frozen=True):
    """A verdict on one of the case's transactions."""

    transaction_id: str
    source: FeedbackSource
    verdict: Verdict
    actor: str
    occurred_at: int


class CaseNote(msgspec.Struct, frozen=True):
    """What somebody wrote. mentions: the people whom it names."""

    actor: str
    occurred_at: int
    note: str
    mentions: tuple[str, ...] = ()


class CaseCheck(msgspec.Struct, frozen=True):
    """What a second person said of a resolved case, and whether that is its outcome."""

    actor: str
    occurred_at: int
    verdict: Verdict
    agrees: bool
    note: str = ""


class CaseChange(msgspec.Struct, frozen=True):
    """Something that was done with the case. detail: the assignee, queue, verdict, other case. act_id: the actor's."""

    work: Work
    actor: str
    occurred_at: int
    revision: int
    detail: str = ""
    act_id: str = ""


class RefusedAct(msgspec.Struct, frozen=True):
    """An act without effect: somebody else was first, or the case was not as it requires."""

    act_id: str
    actor: str
    occurred_at: int
    why: str


class Case(msgspec.Struct):
    """One case. due_at: 0 if it has no deadline. names: aliases of its ID.

    revision: raised by whatever an analyst must have seen before acting: another alert, an assignment, a resolution. An
    act that names an older one has no effect. links: IDs of other cases. note: that of the resolution.
    """

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
    revision: int = 1
    queue: str = ""
    snoozed_until: int = 0
    notes: list[CaseNote] = []
    links: list[str] = []
    checks: list[CaseCheck] = []
    history: list[CaseChange] = []
    refused: list[RefusedAct] = []

    @property
    def amount_at_risk(self) -> float:
        """The sum of its alerted payments, in the base currency."""
        return sum(alert.amount * alert.rate for alert in self.alerts)


class AccountCases(msgspec.Struct):
    """An account's cases, oldest first."""

    cases: list[Case] = []


class Cases(msgspec.Struct):
    """Cases by account."""

    accounts: dict[str, AccountCases] = {}

    def of(self, account: str) -> list[Case]:
        """The account's cases, to be changed."""
        return self.accounts.setdefault(account, AccountCases()).cases


def clock(case: Case, now_ms: int) -> Clock:
    """The SLA clock as of `now_ms` (epoch ms, log time)."""
    if not case.due_at:
        return "none"
    if case.stage == "resolved":
        return "met" if case.resolved_recorded_at <= case.due_at else "missed"
    return "running" if now_ms <= case.due_at else "overdue"


def find(cases: list[Case], case_id: str) -> Case | None:
    """The case with this ID or alias, or with an alert of this ID."""
    named = next((case for case in cases if case_id == case.case_id or case_id in case.names), None)
    return named or next((case for case in cases if any(a.alert_id == case_id for a in case.alerts)), None)
