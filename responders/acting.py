"""What an item becomes in the log: its effect and its outcome, as account events. Pure.

    block_account      AccountBlocked, ActionSucceeded
    unblock_account    AccountUnblocked, ActionSucceeded
    queue_for_review   CaseRouted, ActionSucceeded
    a notification     ActionSucceeded, after the channels took it
    any                ActionFailed, once it can't be carried out

An account that is blocked already is not blocked again: each of its payments is another alert that asks for it.
The effect comes before the outcome: it settles the item by itself, so a crash between the two repeats nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from core.events import (
    AccountBlocked,
    AccountEvent,
    AccountUnblocked,
    ActionFailed,
    ActionSucceeded,
    AlertRaised,
    CaseRouted,
)
from core.text import visible
from core.times import HOUR_MS
from responders.outbox import ACTOR, Item
from responders.settings import BLOCK, QUEUE, UNBLOCK, RespondSettings

ERROR_CHARACTERS_MAX = 500


class Tried(NamedTuple):
    """How an item was carried out: at what time (epoch ms), how often it was tried, and how long it was held back on
    purpose.
    """

    at: int
    attempts: int = 1
    delay_ms: int = 0


def succeeded(
    settings: RespondSettings, item: Item, alert: AlertRaised | None, tried: Tried, *, is_needless: bool = False
) -> list[AccountEvent]:
    """The events of an item that is carried out. alert: needed by all but `unblock_account`. is_needless: whether
    things are so already, and only the outcome is recorded.
    """
    outcome = ActionSucceeded(
        account_id=item.account_id,
        action=item.action,
        occurred_at=tried.at,
        actor=ACTOR,
        causation_id=item.alert_id,
        severity=item.severity,
        requested_at=item.requested_at,
        attempts=tried.attempts,
        delay_ms=tried.delay_ms,
    )
    effect = None if is_needless else _effect(settings, item, alert, tried.at)
    return [outcome] if effect is None else [effect, outcome]


def failed(item: Item, tried: Tried, code: str, error: str) -> list[AccountEvent]:
    """The events of an item that is parked."""
    shown = "".join(c if c.isprintable() else " " for c in visible(error))[:ERROR_CHARACTERS_MAX]
    return [
        ActionFailed(
            account_id=item.account_id,
            action=item.action,
            occurred_at=tried.at,
            actor=ACTOR,
            causation_id=item.alert_id,
            error=shown or code,
            code=code,
            severity=item.severity,
            requested_at=item.requested_at,
            attempts=tried.attempts,
            delay_ms=tried.delay_ms,
        )
    ]


def _effect(settings: RespondSettings, item: Item, alert: AlertRaised | None, at: int) -> AccountEvent | None:
    about: dict[str, Any] = {
        "account_id": item.account_id,
        "occurred_at": at,
        "actor": ACTOR,
        "causation_id": item.alert_id,
    }
    if item.action == UNBLOCK:
        return AccountUnblocked(**about, reason="the automatic block has ended")
    if alert is not None and item.action == BLOCK:
        ends_at = at + round(settings.block_hours * HOUR_MS) if settings.block_hours else 0
        codes = ", ".join(alert.reason_codes) or "no reason code"
        reason = f"{alert.severity} alert {item.alert_id}: {codes}"[:ERROR_CHARACTERS_MAX]
        return AccountBlocked(**about, reason=reason, ends_at=ends_at)
    if alert is not None and item.action == QUEUE:
        return CaseRouted(**about, case_id=item.alert_id, queue=queue_of(settings, alert))
    return None


def queue_of(settings: RespondSettings, alert: AlertRaised) -> str:
    """The queue of an alert's case: that of the first route that fits. Amounts are compared in the base currency."""
    rate, amount = alert.transaction.get("rate", 1.0), alert.transaction.get("amount", 0.0)
    worth = float(amount) * float(rate) if isinstance(amount, int | float) and isinstance(rate, int | float) else 0.0
    for route in settings.routes:
        if route.severity and alert.severity not in route.severity:
            continue
        if worth < route.amount_min or (route.codes and not set(route.codes) & set(alert.reason_codes)):
            continue
        return route.queue
    return settings.queue
