"""The events of Kafka's `feedback` topic: verdicts, blocks, cases and outcomes of actions, each about one account."""

from __future__ import annotations

from typing import Literal

from core.events.base import Event, Severity

FeedbackSource = Literal["analyst", "customer", "chargeback", "early_fraud_warning", "representment"]
Verdict = Literal["fraud", "legitimate", "unsure"]


class AccountFact(Event, frozen=True, kw_only=True):
    """Base of what is told about an account. key: the ID of the key that signed it; signature: in base64; nonce: 32 hex
    digits, "" once the log holds tokens instead of what they stand for. The worker then sets `subject`, to which the
    signature binds it (`core.feedback_signing`).
    """

    key: str = ""
    signature: str = ""
    nonce: str = ""
    subject: str = ""


class FeedbackReceived(AccountFact, tag="feedback.v1", tag_field="type", frozen=True, kw_only=True):
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


class AccountBlocked(AccountFact, tag="account_blocked.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on every payment of the account is declined. ends_at: when a responder lifts its own block again, epoch
    ms; 0: when a person does.
    """

    account_id: str
    occurred_at: int
    actor: str
    reason: str = ""
    causation_id: str = ""
    recorded_at: int = 0
    ends_at: int = 0


class AccountUnblocked(AccountFact, tag="account_unblocked.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on the account's payments are decided normally again."""

    account_id: str
    occurred_at: int
    actor: str
    reason: str = ""
    causation_id: str = ""
    recorded_at: int = 0


class CaseEvent(AccountFact, frozen=True, kw_only=True):
    """Base of what people do with a case. act_id: by which the actor finds out whether it counted."""

    account_id: str
    case_id: str
    occurred_at: int
    actor: str
    recorded_at: int = 0
    act_id: str = ""


class CaseAct(CaseEvent, frozen=True, kw_only=True):
    """Base of what depends on the case's state. `revision` is that of the case as the actor saw it: if the case has
    changed since, the event has no effect. 0: whatever the case has become.
    """

    revision: int = 0


class CaseOpened(CaseEvent, tag="case_opened.v1", tag_field="type", frozen=True, kw_only=True):
    """An analyst opened a case on an account. `alert_id` is the alert that led to it, "" for none. severity: of a case
    without alerts, from which its deadline follows.
    """

    alert_id: str = ""
    severity: Severity | None = None
    queue: str = ""
    note: str = ""


class CaseAssigned(CaseAct, tag="case_assigned.v1", tag_field="type", frozen=True, kw_only=True):
    """The case is now assigned to this analyst; "" releases it."""

    assignee: str


class CaseRouted(CaseAct, tag="case_routed.v1", tag_field="type", frozen=True, kw_only=True):
    """The case that holds the alert `causation_id`, or of this ID, is now in this queue."""

    queue: str
    causation_id: str = ""


class CaseResolved(CaseAct, tag="case_resolved.v1", tag_field="type", frozen=True, kw_only=True):
    """The case is closed with this verdict on its payments."""

    verdict: Verdict
    note: str = ""


class CaseReopened(CaseAct, tag="case_reopened.v1", tag_field="type", frozen=True, kw_only=True):
    """The case is as it was before it was closed: its resolution is undone."""

    note: str = ""


class CaseSnoozed(CaseAct, tag="case_snoozed.v1", tag_field="type", frozen=True, kw_only=True):
    """The case need not be looked at before `until`, epoch ms; 0: it is due again."""

    until: int


class CaseNoted(CaseEvent, tag="case_noted.v1", tag_field="type", frozen=True, kw_only=True):
    """Somebody wrote a note on the case. mentions: the people whom it names."""

    note: str
    mentions: tuple[str, ...] = ()


class CaseLinked(CaseEvent, tag="case_linked.v1", tag_field="type", frozen=True, kw_only=True):
    """The case belongs together with another one, of the same or another account, or no longer does."""

    other_case_id: str
    linked: bool = True
    note: str = ""


class CaseChecked(CaseAct, tag="case_checked.v1", tag_field="type", frozen=True, kw_only=True):
    """A second person looked at a closed case; `verdict` is what they say it is."""

    verdict: Verdict
    note: str = ""


class ActionOutcome(AccountFact, frozen=True, kw_only=True):
    """Base of what became of a recommended action. `causation_id` is the alert that asked for it; severity and
    requested_at (epoch ms) say how grave the alert was and when it was recorded. attempts: how often the responder
    tried it. delay_ms: by how much enforcement was delayed on purpose.
    """

    account_id: str
    action: str
    occurred_at: int
    actor: str
    causation_id: str
    recorded_at: int = 0
    severity: Severity | None = None
    requested_at: int = 0
    attempts: int = 1
    delay_ms: int = 0


class ActionSucceeded(ActionOutcome, tag="action_succeeded.v1", tag_field="type", frozen=True, kw_only=True):
    """A recommended action was carried out."""


class ActionFailed(ActionOutcome, tag="action_failed.v1", tag_field="type", frozen=True, kw_only=True):
    """A recommended action could not be carried out, and is parked; `error` says why. code: the kind of failure
    (docs/responders.md).
    """

    error: str
    code: str = ""


class ActionRequested(AccountFact, tag="action_requested.v1", tag_field="type", frozen=True, kw_only=True):
    """A person asks for an alert's action again, after it was parked. `causation_id` is the alert; its idempotency key
    stays the same.
    """

    account_id: str
    action: str
    occurred_at: int
    actor: str
    causation_id: str
    reason: str = ""
    recorded_at: int = 0


AccountEvent = (
    FeedbackReceived
    | AccountBlocked
    | AccountUnblocked
    | CaseOpened
    | CaseAssigned
    | CaseRouted
    | CaseResolved
    | CaseReopened
    | CaseSnoozed
    | CaseNoted
    | CaseLinked
    | CaseChecked
    | ActionSucceeded
    | ActionFailed
    | ActionRequested
)
