"""An account's profile: the first thing an analyst looks at, and the state of the projection `profiles`.

Times are event time, epoch ms UTC. Amounts are summed per currency, in log order. About 1 kB per account.
"""

from __future__ import annotations

import msgspec

from core.events import Decision, Severity

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
    """One account. countries, merchants: counts of the `PLACES` most recently seen. recent: the newest decisions."""

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


def touched(state: Profiles, account: str, occurred_at: int) -> Profile:
    """The account's profile, created if necessary, with its time range extended to `occurred_at` (epoch ms)."""
    profile = state.accounts.get(account)
    if profile is None:
        profile = state.accounts[account] = Profile(account, occurred_at, occurred_at)
    profile.first_seen = min(profile.first_seen, occurred_at)
    profile.last_seen = max(profile.last_seen, occurred_at)
    return profile
