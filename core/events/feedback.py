"""The events of Kafka's `feedback` topic: verdicts, blocks, cases and outcomes of actions, each about one account."""

from __future__ import annotations

from typing import Literal

from core.events.base import Event

FeedbackSource = Literal["analyst", "customer", "chargeback", "early_fraud_warning", "representment"]
Verdict = Literal["fraud", "legitimate", "unsure"]


class FeedbackReceived(Event, tag="feedback.v1", tag_field="type", frozen=True, kw_only=True):
    """A verdict on one transaction. `amount` is the amount in dispute in `currency`, 0 where the source has none. The
    worker sets `rate`, the worth of one unit in the base currency.
    """

    account_id: str
    transaction_id: str
    occurred_at: int
    source: FeedbackSource
    verdict: Verdict
    confidence: float = 1.0
    actor: str = ""
    amount: float = 0.0
    merchant_id: str = ""
    device_id: str = ""
    transaction_occurred_at: int = 0
    reason: str = ""
    recorded_at: int = 0
    currency: str = ""
    rate: float = 1.0


class AccountBlocked(Event, tag="account_blocked.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on every payment of the account is declined."""

    account_id: str
    occurred_at: int
    actor: str
    reason: str = ""
    causation_id: str = ""
    recorded_at: int = 0


class AccountUnblocked(Event, tag="account_unblocked.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on the account's payments are decided normally again."""

    account_id: str
    occurred_at: int
    actor: str
    reason: str = ""
    causation_id: str = ""
    recorded_at: int = 0


class CaseOpened(Event, tag="case_opened.v1", tag_field="type", frozen=True, kw_only=True):
    """An analyst opened a case on an account. `alert_id` is the alert that led to it, "" for none."""

    account_id: str
    case_id: str
    occurred_at: int
    actor: str
    alert_id: str = ""
    recorded_at: int = 0


class CaseAssigned(Event, tag="case_assigned.v1", tag_field="type", frozen=True, kw_only=True):
    """The case is now assigned to this analyst."""

    account_id: str
    case_id: str
    occurred_at: int
    actor: str
    assignee: str
    recorded_at: int = 0


class CaseResolved(Event, tag="case_resolved.v1", tag_field="type", frozen=True, kw_only=True):
    """The case is closed with this verdict on its payments."""

    account_id: str
    case_id: str
    occurred_at: int
    actor: str
    verdict: Verdict
    note: str = ""
    recorded_at: int = 0


class ActionSucceeded(Event, tag="action_succeeded.v1", tag_field="type", frozen=True, kw_only=True):
    """A recommended action was carried out. `causation_id` is the alert that asked for it."""

    account_id: str
    action: str
    occurred_at: int
    actor: str
    causation_id: str
    recorded_at: int = 0


class ActionFailed(Event, tag="action_failed.v1", tag_field="type", frozen=True, kw_only=True):
    """A recommended action could not be carried out; `error` says why."""

    account_id: str
    action: str
    occurred_at: int
    actor: str
    causation_id: str
    error: str
    recorded_at: int = 0


AccountEvent = (
    FeedbackReceived
    | AccountBlocked
    | AccountUnblocked
    | CaseOpened
    | CaseAssigned
    | CaseResolved
    | ActionSucceeded
    | ActionFailed
)
