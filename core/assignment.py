"""Which arm of an experiment decides for an account. Pure: a function of the log's key, the experiment and the
account's name alone.

Two independent draws from one 64-bit hash of the account, keyed by the log's key and the experiment's salt, so that
nobody outside can choose a name that falls into a certain arm:

    upper 32 bits   is the account in the experiment?  share of 10,000 below `traffic`
    lower 32 bits   in which arm?                      cumulative shares of the arms

Raising the traffic (a ramp) therefore only adds accounts and never moves one to another arm. The probability of an arm
is known and constant (its share), and an account's arm survives restarts, rebalances and replays. A different salt
draws afresh.

Cost: 0.05 µs per account, only while an experiment runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.events import ExperimentStarted
from core.hashing import HashKey, hash_strings
from core.jit import njit

WHOLE = 10_000
"""Shares and traffic are fractions of this: basis points."""
NOT_ENROLLED = -1
ALPHA_MIN = 1e-9


@dataclass(frozen=True, slots=True)
class Allocation:
    """What assignment needs to know of an experiment. key: that of the hash. bounds: the arms' cumulative shares, of
    which the last is WHOLE.
    """

    experiment_id: str
    key: HashKey
    traffic: int
    bounds: tuple[int, ...]

    @classmethod
    def of(cls, event: ExperimentStarted, key: HashKey) -> Allocation:
        """The allocation of a started experiment. key: the log's."""
        total = 0
        bounds = []
        for arm in event.arms:
            total += arm.share
            bounds.append(total)
        return cls(event.experiment_id, key.derived(event.salt), event.traffic, tuple(bounds))

    def arms_of(self, accounts: list[str]) -> NDArray[np.int8]:
        """The index of each account's arm, NOT_ENROLLED if it is not in the experiment: n accounts → int8 (n,)."""
        arms: NDArray[np.int8] = _assign(
            hash_strings(accounts, self.key), self.traffic, np.array(self.bounds, dtype=np.int64)
        )
        return arms


def check(event: ExperimentStarted) -> None:
    """Raise BadInput if the definition is invalid in itself (the fold checks whether it fits the log)."""
    names = [arm.name for arm in event.arms]
    if len(names) < 2 or len(set(names)) != len(names) or not all(names):
        raise BadInput("an experiment needs at least two arms with distinct names")
    if not event.experiment_id or any(c in event.experiment_id + "".join(names) for c in "/,\x1e\x1f "):
        raise BadInput("names of experiments and arms must not be empty or contain spaces, commas or slashes")
    if any(arm.share <= 0 for arm in event.arms) or sum(arm.share for arm in event.arms) != WHOLE:
        raise BadInput(f"the arms' shares must be positive and add up to {WHOLE:,}")
    if len(names) > 100:
        raise BadInput("an experiment has at most 100 arms")
    if "\x1f" in event.salt:
        raise BadInput("a salt must not contain U+001F")
    check_traffic(event.traffic)
    if event.window_ms <= 0 or event.maturity_ms < 0 or event.duration_max_ms <= 0 or event.accounts_min < 0:
        raise BadInput(
            "an experiment's window and maximum duration must be positive,"
            " its maturity and minimum number of accounts not negative"
        )
    if not ALPHA_MIN <= event.alpha <= 0.5:
        raise BadInput(f"alpha must be between {ALPHA_MIN:g} and 0.5")
    if not (0.0 <= event.guardrail_margin <= 1.0 and -1.0 <= event.worthwhile <= 1.0):
        raise BadInput("guardrail_margin must be between 0 and 1 and worthwhile between -1 and 1: shares of accounts")


def check_traffic(traffic: int) -> None:
    """Raise BadInput unless 0 ≤ traffic ≤ WHOLE."""
    if not 0 <= traffic <= WHOLE:
        raise BadInput(f"traffic must be between 0 and {WHOLE:,}, got {traffic}")


@njit
def _assign(hashes: NDArray[np.uint64], traffic: int, bounds: NDArray[np.int64]) -> NDArray[np.int8]:
    out = np.empty(hashes.shape[0], dtype=np.int8)
    for i in range(hashes.shape[0]):
        upper = np.int64(hashes[i] >> np.uint64(32))
        lower = np.int64(hashes[i] & np.uint64(0xFFFFFFFF))
        if (upper * 10_000) >> 32 >= traffic:
            out[i] = -1
            continue
        part = (lower * 10_000) >> 32
        arm = 0
        while part >= bounds[arm]:
            arm += 1
        out[i] = arm
    return out
