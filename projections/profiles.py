"""The account profile: what an analyst wants to see first. A fold over one partition, each account on its own.

Times are event time, epoch ms UTC. Amounts are added up per currency, in log order. About 1 kB an account.
"""

from __future__ import annotations

import msgspec

from core.events import AccountBlocked, AccountUnblocked, Decision, FeedbackReceived, Severity
from projections.base import Decided, Fact, Projection

RECENT = 10
PLACES = 8


class Recent(msgspec.Struct, frozen=True):
    """One of the account's last decisions."""

    position: str
    transaction_id: str
    occurred_at: int
    amount: float
    currency: str
    merchant_id: str
    country: str
    decision: Decision
    probability: float
    severity: Severity | None


class Profile(msgspec.Struct):
    """One account. `countries` and `merchants` count the `PLACES` seen last; `recent` are the newest decisions."""

    account_id: str
    first_seen: int = 0
    last_seen: int = 0
    transactions: int = 0
    amounts: dict[str, float] = {}
    amount_max: dict[str, float] = {}
    decisions: dict[str, int] = {}
    alerts: dict[str, int] = {}
    verdicts: dict[str, int] = {}
    countries: dict[str, int] = {}
    merchants: dict[str, int] = {}
    recency: dict[str, list[str]] = {}
    blocked: bool = False
    blocked_since: int = 0
    blocked_by: str = ""
    blocked_reason: str = ""
    recent: list[Recent] = []


class Profiles(msgspec.Struct):
    """Profiles by account."""

    accounts: dict[str, Profile] = {}


def _profile(state: Profiles, account: str, occurred_at: int) -> Profile:
    profile = state.accounts.get(account)
    if profile is None:
        profile = state.accounts[account] = Profile(account, occurred_at, occurred_at)
    profile.first_seen = min(profile.first_seen, occurred_at)
    profile.last_seen = max(profile.last_seen, occurred_at)
    return profile


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _count_recent(profile: Profile, what: str, counts: dict[str, int], name: str) -> None:
    """Count `name`; the one seen longest ago is forgotten when there are more than PLACES."""
    if not name:
        return
    order = profile.recency.setdefault(what, [])
    if name in counts:
        order.remove(name)
    order.append(name)
    _count(counts, name)
    if len(order) > PLACES:
        del counts[order.pop(0)]


def _decided(state: Profiles, fact: Fact) -> None:
    decided: Decided = fact.event
    transaction, score = decided.transaction, decided.score
    profile = _profile(state, transaction.account_id, transaction.occurred_at)
    profile.transactions += 1
    currency = transaction.currency
    profile.amounts[currency] = profile.amounts.get(currency, 0.0) + transaction.amount
    profile.amount_max[currency] = max(profile.amount_max.get(currency, transaction.amount), transaction.amount)
    _count(profile.decisions, score.decision)
    if decided.alert is not None:
        _count(profile.alerts, decided.alert.severity)
    _count_recent(profile, "countries", profile.countries, transaction.country)
    _count_recent(profile, "merchants", profile.merchants, transaction.merchant_id)
    profile.recent.append(
        Recent(
            str(fact.id),
            transaction.transaction_id,
            transaction.occurred_at,
            transaction.amount,
            currency,
            transaction.merchant_id,
            transaction.country,
            score.decision,
            score.probability,
            score.severity,
        )
    )
    del profile.recent[:-RECENT]


def _verdict(state: Profiles, fact: Fact) -> None:
    event: FeedbackReceived = fact.event
    _count(_profile(state, event.account_id, event.occurred_at).verdicts, f"{event.source}:{event.verdict}")


def _blocked(state: Profiles, fact: Fact) -> None:
    event: AccountBlocked = fact.event
    profile = _profile(state, event.account_id, event.occurred_at)
    profile.blocked, profile.blocked_since = True, event.occurred_at
    profile.blocked_by, profile.blocked_reason = event.actor, event.reason


def _unblocked(state: Profiles, fact: Fact) -> None:
    event: AccountUnblocked = fact.event
    profile = _profile(state, event.account_id, event.occurred_at)
    profile.blocked, profile.blocked_since, profile.blocked_by, profile.blocked_reason = False, 0, "", ""


PROFILES = Projection(
    name="profiles",
    version=1,
    state_type=Profiles,
    handlers={
        Decided: _decided,
        FeedbackReceived: _verdict,
        AccountBlocked: _blocked,
        AccountUnblocked: _unblocked,
    },
)
