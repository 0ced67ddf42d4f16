"""Which arm an account is in: stable for ever, in the shares that were asked for, and not moved by a ramp."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from core import assignment
from core.assignment import NOT_ENROLLED, WHOLE, Allocation
from core.errors import BadInput
from core.events import Arm, ExperimentStarted
from core.hashing import HashKey, hash_strings
from core.identity import FIXED
from tests.builders.events import T0, fuzz

GOLDEN = [1, 2, 0, 1, 2, -1, 2, 0, 0, 0, 1, 1, -1, 0, 2, 0, 1, -1, 1, 1, 1, -1, 1, 0]
ACCOUNTS = [f"account-{n}" for n in range(200_000)]


def allocation(*shares: int, traffic: int = WHOLE, salt: str = "s") -> Allocation:
    return Allocation("e1", FIXED.key.derived(salt), traffic, tuple(int(b) for b in np.cumsum(shares)))


def started(**changes: Any) -> ExperimentStarted:
    arms = (Arm("control", "m", "1.0.0", "aa", 5000), Arm("new", "m", "1.1.0", "bb", 5000))
    values: dict[str, Any] = {"experiment_id": "e1", "arms": arms, "salt": "s", "occurred_at": T0, "actor": "ann"}
    return ExperimentStarted(**(values | changes))


def test_assignment_never_changes() -> None:
    """These accounts are in these arms in every version of the code: logs depend on it."""
    arms = allocation(2000, 5000, 3000, traffic=7000, salt="golden").arms_of([f"a{n}" for n in range(24)])
    assert arms.tolist() == GOLDEN


@pytest.mark.parametrize("shares", [(5000, 5000), (9000, 1000), (1, 9999), (2500, 2500, 2500, 2500)])
def test_shares_are_kept(shares: tuple[int, ...]) -> None:
    """Accounts fall into arms in the shares asked for (chi-square), whatever share of them is in the experiment."""
    arms = allocation(*shares, traffic=4000).arms_of(ACCOUNTS)
    enrolled = arms[arms != NOT_ENROLLED]
    assert stats.binomtest(len(enrolled), len(ACCOUNTS), 0.4).pvalue > 1e-4
    expected = np.array(shares) / WHOLE * len(enrolled)
    assert stats.chisquare(np.bincount(enrolled, minlength=len(shares)), expected).pvalue > 1e-4


def test_salts_draw_independently() -> None:
    """Two experiments' arms of the same accounts have nothing to do with each other."""
    one, two = allocation(5000, 5000, salt="s1").arms_of(ACCOUNTS), allocation(5000, 5000, salt="s2").arms_of(ACCOUNTS)
    table = np.zeros((2, 2))
    np.add.at(table, (one, two), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-4


@fuzz(max_examples=60)
@given(
    st.lists(st.text(min_size=1).filter(lambda t: "\x1f" not in t), min_size=1, max_size=20),
    st.integers(0, WHOLE),
    st.integers(0, WHOLE),
    st.integers(1, WHOLE - 1),
)
def test_a_ramp_moves_nobody_between_arms(accounts: list[str], before: int, after: int, share: int) -> None:
    """Raising the traffic only adds accounts; an arm follows from the account, the salt and the shares alone."""
    low, high = sorted((before, after))
    a = allocation(share, WHOLE - share, traffic=low)
    first, second = a.arms_of(accounts), dataclasses.replace(a, traffic=high).arms_of(accounts)
    assert all(x in (NOT_ENROLLED, y) for x, y in zip(first.tolist(), second.tolist(), strict=True))
    assert [int(a.arms_of([account])[0]) for account in accounts] == first.tolist()
    h = [int(v) for v in hash_strings(accounts, FIXED.key.derived("s"))]
    wanted = [
        (0 if (v & 0xFFFFFFFF) * WHOLE >> 32 < share else 1) if (v >> 32) * WHOLE >> 32 < low else NOT_ENROLLED
        for v in h
    ]
    assert first.tolist() == wanted


def test_an_arm_depends_on_the_logs_key() -> None:
    """Outside the log nobody can tell an account's arm from its name and the experiment's salt."""
    other = HashKey.of("f" * 32)
    one, two = (Allocation.of(started(), key).arms_of(ACCOUNTS) for key in (FIXED.key, other))
    assert 0.49 < (one == two).mean() < 0.51


@pytest.mark.parametrize(
    "changes",
    [
        {"arms": ()},
        {"arms": (Arm("a", "m", "1", "aa", WHOLE),)},
        {"arms": (Arm("a", "m", "1", "aa", 5000), Arm("a", "m", "2", "bb", 5000))},
        {"arms": (Arm("a", "m", "1", "aa", 5000), Arm("b", "m", "2", "bb", 4999))},
        {"arms": (Arm("a", "m", "1", "aa", 10001), Arm("b", "m", "2", "bb", -1))},
        {"arms": (Arm("a/x", "m", "1", "aa", 5000), Arm("b", "m", "2", "bb", 5000))},
        {"experiment_id": ""},
        {"experiment_id": "e 1"},
        {"traffic": 10_001},
        {"traffic": -1},
        {"salt": "\x1f"},
        {"alpha": 0.0},
        {"window_ms": 0},
        {"maturity_ms": -1},
        {"guardrail_margin": 5.0},
        {"guardrail_margin": -0.1},
        {"worthwhile": 2.0},
        {"alpha": 5e-324},
    ],
)
def test_definitions_that_make_no_sense(changes: dict[str, Any]) -> None:
    """An experiment that could not be assigned or analysed is refused."""
    with pytest.raises(BadInput):
        assignment.check(started(**changes))
    assignment.check(started())
