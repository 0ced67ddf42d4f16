"""One account's profile and open cases."""

from __future__ import annotations

from collections import Counter

import msgspec

from projections.engine.states import States
from projections.views.cases import CASES, case_rows
from projections.views.profiles.projection import PROFILES
from projections.views.profiles.record import Profile


class ProfileAnswer(msgspec.Struct, frozen=True):
    """An account's profile; None if the log has no entry of it. open_cases: counts by SLA clock."""

    as_of: str
    account_id: str
    partition: int | None
    profile: Profile | None
    open_cases: dict[str, int]


def profile_answer(states: States, account: str) -> ProfileAnswer:
    """The account's profile and its open cases, without folding the other accounts."""
    for partition in states.partitions_of_account(account):
        profiles, cases = states.of_account_each([PROFILES, CASES], account, partition)
        profile = profiles.accounts.get(account)
        if profile is not None:
            rows = case_rows(cases, partition, states.moment, account)
            clocks = Counter(row.clock for row in rows if row.case.stage != "resolved")
            return ProfileAnswer(states.as_of, account, partition, profile, dict(sorted(clocks.items())))
    return ProfileAnswer(states.as_of, account, None, None, {})
