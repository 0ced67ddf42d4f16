"""What is said of an alert to somebody outside: JSON for programs, a line of text for people. Pure.

The body is the same at every attempt. It holds what the receiver needs to act and to ask back, and neither card number,
IP address nor attributes.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from core.events import AlertRaised, Decision, Severity
from core.hashing import HashKey
from core.text import visible
from core.times import utc
from core.trace_context import LOG_ID_CHARACTERS
from responders.channels.base import Message
from responders.outbox import Item


class WebhookAlert(msgspec.Struct, frozen=True):
    """The alert. values: of what the reason codes are about, by name; transaction: the payment, without its card
    number, IP address and attributes.
    """

    log_id: str
    alert_id: str
    action: str
    account_id: str
    severity: Severity
    decision: Decision
    fraud_score: float
    reason_codes: tuple[str, ...]
    values: dict[str, float | None]
    transaction: dict[str, float | int | str]


class WebhookBody(msgspec.Struct, frozen=True):
    """A webhook's body (https://www.standardwebhooks.com). type: `alert.` and the action; timestamp: when the alert was
    recorded, or asked for again, ISO 8601 in UTC.
    """

    type: str
    timestamp: str
    data: WebhookAlert


_LEFT_OUT = ("ip", "card_id", "attributes", "rate")


def key_of(log_id: str, item: Item) -> str:
    """The idempotency key: alert and action, and the log's ID, since another log has alerts of the same IDs."""
    return f"{log_id[:LOG_ID_CHARACTERS]}:{item.alert_id}:{item.action}"


def message(log_id: str, item: Item, alert: AlertRaised, at: int) -> Message:
    """The message that carries out an action. at: now, epoch s."""
    kind = f"alert.{item.action}"
    paid = alert.transaction.items()
    details = {name: value for name, value in paid if name not in _LEFT_OUT and not isinstance(value, dict)}
    body = WebhookBody(
        kind,
        utc(item.requested_at).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        WebhookAlert(
            log_id,
            alert.alert_id,
            item.action,
            alert.account_id,
            alert.severity,
            alert.decision,
            alert.fraud_score,
            alert.reason_codes,
            alert.values,
            details,
        ),
    )
    return Message(
        key_of(log_id, item),
        kind,
        at,
        msgspec.json.encode(body),
        visible(f"{alert.severity} fraud alert: account {alert.account_id}"),
        text(item, alert),
        alert.severity == "critical",
    )


def text(item: Item, alert: AlertRaised) -> str:
    """The alert in one line."""
    paid = alert.transaction
    amount = f"{paid.get('amount', 0.0):,.2f} {paid.get('currency', '')}".strip()
    where = f" at {paid['merchant_id']}" if paid.get("merchant_id") else ""
    asked = {
        "request_step_up_authentication": "Please ask the customer to confirm. ",
        "notify_customer": "Please tell the customer. ",
    }.get(item.action, "")
    return visible(
        f"{asked}{alert.severity}: {alert.decision} of {amount}{where}, account {alert.account_id}, payment"
        f" {paid.get('transaction_id', '')}; {', '.join(alert.reason_codes) or 'model'} (alert {alert.alert_id})"
    )


def drawn(key: HashKey, item: Item, low: float, high: float) -> int:
    """The delay of an item, ms, uniform in low … high (s): the same for every responder, and unknown to whoever does
    not know the log's key, so nobody outside can tell which payment gave an account away.
    """
    if high <= 0:
        return 0
    digest = hmac.new(key.text.encode(), f"delay:{item.alert_id}:{item.action}".encode(), hashlib.sha256).digest()
    share = int.from_bytes(digest[:7], "big") / 2**56
    return round(1000 * (low + (high - low) * share))
