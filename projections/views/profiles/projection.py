"""The projection of account profiles: a fold over one partition, independent for each account.

The handlers below fold fact by fact; `projections.views.profiles.columnar` does the same over the archive by columns.
"""

from __future__ import annotations

from core.events import AccountBlocked, AccountUnblocked, FeedbackReceived
from projections.engine.base import ByColumns, DecidedTransaction, Fact, Projection
from projections.views.profiles.columnar import COLUMNS, ProfileColumns
from projections.views.profiles.record import PLACES, RECENT, Profile, Profiles, Recent, touched


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _count_recent(profile: Profile, what: str, counts: dict[str, int], name: str) -> None:
    """Count `name`; the least recently seen one is dropped when there are more than PLACES."""
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
    decided: DecidedTransaction = fact.event
    transaction, score = decided.transaction, decided.score
    profile = touched(state, transaction.account_id, transaction.occurred_at)
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
    _count(touched(state, event.account_id, event.occurred_at).verdicts, f"{event.source}:{event.verdict}")


def _blocked(state: Profiles, fact: Fact) -> None:
    event: AccountBlocked = fact.event
    profile = touched(state, event.account_id, event.occurred_at)
    profile.blocked, profile.blocked_since = True, event.occurred_at
    profile.blocked_by, profile.blocked_reason = event.actor, event.reason


def _unblocked(state: Profiles, fact: Fact) -> None:
    event: AccountUnblocked = fact.event
    profile = touched(state, event.account_id, event.occurred_at)
    profile.blocked, profile.blocked_since, profile.blocked_by, profile.blocked_reason = False, 0, "", ""


PROFILES = Projection(
    name="profiles",
    holds="per account: activity, amounts, decisions, alerts, verdicts, blocks, the last ten decisions",
    version=1,
    state_type=Profiles,
    handlers={
        DecidedTransaction: _decided,
        FeedbackReceived: _verdict,
        AccountBlocked: _blocked,
        AccountUnblocked: _unblocked,
    },
    columnar=ByColumns(COLUMNS, ProfileColumns),
)
