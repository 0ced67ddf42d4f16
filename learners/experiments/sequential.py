"""Always-valid inference for the difference of two arms' means: valid at any number of looks and any stopping time.

Each account contributes one outcome y in [0, 1] when it is mature, in order of maturity. It was assigned to the treated
arm with probability p and to the control arm with probability q, both known at assignment (a ramp may change them,
depending on the data so far; p + q < 1 with more than two arms). Its contribution is

    z = w · (1[treated]/p − 1[control]/q) · (y − c)        w = min(p, q),   c = pooled mean of the earlier accounts

so that E[z | past] = w · effect, whatever the account would do in either arm, and |z| ≤ 1. The only randomness used is
the assignment by hash: nothing is assumed about the accounts, their order, or the distribution of outcomes.

`up` and `down` are the wealth of a gambler who bets on z, with equal initial wealth on each of the stakes `STAKES`:

    up   = mean over θ of Π (1 + θ (z − w·null_up))          an e-process for "the effect is at most null_up"
    down = mean over θ of Π (1 − θ (z − w·null_down))        the same for "the effect is at least null_down"

The null hypothesis concerns the running weighted average effect (Σ w·effect / Σ w, at every time so far), so the effect
need not be the same for every account: with μ = E[z | past], Π(1 + θ(z−w·null)) ≤ Π (1+θ(z−w·null))/(1+θ(μ−w·null)) ·
exp(θ Σ(μ−w·null)), a martingale times a factor ≤ 1. By Ville's inequality P(some e ≥ 1/α) ≤ α under the null
(Waudby-Smith & Ramdas 2023, "Estimating means of bounded random variables by betting"; here with a mixture of fixed
stakes).

The confidence sequence covers the running weighted average effect at all times simultaneously with probability 1 − α:
exp(θ Σ(z − μ) − ψ(θ) Σ z²), ψ(θ) = −log(1−θ) − θ, is a supermartingale (Fan, Grama & Liu 2015; Howard, Ramdas,
McAuliffe & Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", its empirical-Bernstein
bound and its section on average treatment effects). It is mixed over the same stakes and solved for the mean. Because
1 + θz ≥ exp(θz − ψ(θ)z²), the e-process rejects whenever the interval (of the same one-sided level, nulls 0) excludes
zero; it may reject earlier.

`update` and `trajectory` perform the same arithmetic, one account at a time or all at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STAKES: Floats = 0.5 * 2.0 ** -np.arange(10.0)
"""Stakes as shares of the wealth, 0.5 … 0.00098, for effects that take about ten to ten million accounts to detect."""
_PENALTIES: Floats = -np.log1p(-STAKES) - STAKES
_LOG_PARTS = float(np.log(len(STAKES)))
_NEWTON_STEPS = 12
_PIECE = 50_000

CONTROL = 0
"""The control arm's code in the arrays below; the compared treated arm is 1, any other arm −1."""


class Interval(NamedTuple):
    """A confidence interval of the effect, within [−1, 1]."""

    low: float
    high: float


class Contribution(NamedTuple):
    """An account's contribution: z in [−1, 1] and its weight in (0, 0.5]."""

    z: float
    weight: float


def contribution(arm: int, treated: float, control: float, outcome: float, centre: float) -> Contribution:
    """One account's z and w (see the module's head). arm: 1 treated, 0 control, −1 any other.

    Raises ValueError unless both probabilities are in (0, 1) and sum to at most 1, and outcome and centre in [0, 1].
    """
    if not (0.0 < treated < 1.0 and 0.0 < control < 1.0 and treated + control <= 1.0 + 1e-9):
        raise ValueError(f"invalid allocation {treated}, {control}: both must be in (0, 1) and sum to at most 1")
    if not (0.0 <= outcome <= 1.0 and 0.0 <= centre <= 1.0):
        raise ValueError(f"outcome and centre must be in [0, 1], not {outcome} and {centre}")
    weight = min(treated, control)
    share = weight / treated if arm == 1 else -weight / control if arm == CONTROL else 0.0
    return Contribution(share * (outcome - centre), weight)


@dataclass(slots=True)
class Effect:
    """The state of one comparison on one metric. Log wealths and penalties are (stakes,) arrays.

    null_up, null_down: see the module's head. up_max, down_max: the greatest log e so far (0 at the start).
    """

    null_up: float = 0.0
    null_down: float = 0.0
    accounts: int = 0
    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    outcomes: float = 0.0
    up: Floats = field(default_factory=lambda: np.zeros(len(STAKES)))
    down: Floats = field(default_factory=lambda: np.zeros(len(STAKES)))
    up_max: float = 0.0
    down_max: float = 0.0

    @property
    def centre(self) -> float:
        """Mean outcome of all accounts so far and one more of 0; the next account is centred on it."""
        return self.outcomes / (self.accounts + 1)

    def observe(self, arm: int, treated: float, control: float, outcome: float) -> None:
        """Add the next mature account (see `contribution`)."""
        z, weight = contribution(arm, treated, control, outcome, self.centre)
        self.update(z, weight)
        self.outcomes += outcome

    def update(self, z: float, weight: float) -> None:
        """Add a contribution z in [−1, 1] with weight in (0, 0.5]."""
        self.accounts += 1
        self.weight += weight
        self.total += z
        self.squares += z * z
        self.up += np.log1p(STAKES * (z - weight * self.null_up))
        self.down += np.log1p(-STAKES * (z - weight * self.null_down))
        self.up_max = max(self.up_max, float(_log_mean(self.up)))
        self.down_max = max(self.down_max, float(_log_mean(self.down)))

    def extend(self, arm: NDArray[np.int64], treated: Floats, control: Floats, outcome: Floats) -> None:
        """`observe` n accounts, arrays (n,), in pieces, so that memory does not grow with n."""
        for begin in range(0, len(arm), _PIECE):
            piece = slice(begin, begin + _PIECE)
            z, weight = contributions(arm[piece], treated[piece], control[piece], outcome[piece], self)
            path = trajectory(z, weight, after=self)
            self.accounts += len(z)
            self.outcomes += float(outcome[piece].sum())
            self.weight, self.total = float(path.weight[-1]), float(path.total[-1])
            self.squares = float(path.squares[-1])
            self.up, self.down = path.up, path.down
            self.up_max = max(self.up_max, float(path.log_e_up.max()))
            self.down_max = max(self.down_max, float(path.log_e_down.max()))

    @property
    def estimate(self) -> float:
        """The weighted average effect; NaN before the first account."""
        return self.total / self.weight if self.weight else float("nan")

    @property
    def log_e_up(self) -> float:
        """Log of the current e-value against "the effect is at most null_up"."""
        return float(_log_mean(self.up))

    @property
    def log_e_down(self) -> float:
        """Log of the current e-value against "the effect is at least null_down"."""
        return float(_log_mean(self.down))

    def interval(self, alpha: float) -> Interval:
        """The (1 − alpha) confidence sequence of the running weighted average effect, at the current account."""
        low, high = bounds(np.array([self.total]), np.array([self.squares]), np.array([self.weight]), alpha)
        return Interval(float(low[0]), float(high[0]))


class Trajectory(NamedTuple):
    """`Effect` after each of n accounts: float64 arrays (n,)."""

    weight: Floats
    total: Floats
    squares: Floats
    log_e_up: Floats
    log_e_down: Floats
    up: Floats
    down: Floats
    """The last two are (stakes,): the log wealths after the last account."""

    @property
    def estimate(self) -> Floats:
        """The weighted average effect after each account."""
        return self.total / self.weight

    def intervals(self, alpha: float) -> tuple[Floats, Floats]:
        """(lower, upper) ends of the (1 − alpha) confidence sequence after each account."""
        return bounds(self.total, self.squares, self.weight, alpha)

    def excludes(self, effect: Floats | float, alpha: float) -> NDArray[np.bool_]:
        """Where `intervals` excludes this effect (a scalar, or (n,), one per account): bool (n,). Cheaper than
        `intervals`.
        """
        centred = (self.total - self.weight * effect)[:, None]
        penalty = self.squares[:, None] * _PENALTIES
        most = np.maximum(_log_mean(STAKES * centred - penalty), _log_mean(-STAKES * centred - penalty))
        return np.asarray(most >= np.log(2.0 / alpha))


def contributions(
    arm: NDArray[np.int64], treated: Floats, control: Floats, outcome: Floats, after: Effect | None = None
) -> tuple[Floats, Floats]:
    """(z, w) of n accounts in order of maturity, following those in `after`; all arrays (n,), as in `observe`."""
    after = after or Effect()
    before = np.cumsum(np.concatenate([[after.outcomes], outcome[:-1]]))
    centre = before / np.arange(after.accounts + 1.0, after.accounts + len(outcome) + 1.0)
    weight = np.minimum(treated, control)
    share = np.where(arm == 1, weight / treated, np.where(arm == CONTROL, -weight / control, 0.0))
    return share * (outcome - centre), weight


def trajectory(z: Floats, weight: Floats, after: Effect | None = None) -> Trajectory:
    """The state of `Effect` after each of n ≥ 1 updates following `after`, whose nulls are used and which is unchanged.
    z, weight: (n,). Memory: n × 20 float64.
    """
    after = after or Effect()
    up = _running(after.up, np.log1p(STAKES * (z - weight * after.null_up)[:, None]))
    down = _running(after.down, np.log1p(-STAKES * (z - weight * after.null_down)[:, None]))
    return Trajectory(
        _running(np.float64(after.weight), weight),
        _running(np.float64(after.total), z),
        _running(np.float64(after.squares), z * z),
        _log_mean(up),
        _log_mean(down),
        up[-1],
        down[-1],
    )


def bounds(total: Floats, squares: Floats, weight: Floats, alpha: float) -> tuple[Floats, Floats]:
    """Ends of the confidence sequence from Σz, Σz² and Σw, each (n,) → lower, upper (n,), within [−1, 1].

    Raises ValueError unless 0 < alpha < 1.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be in (0, 1), not {alpha}")
    log_level = float(np.log(2.0 / alpha))
    below = _lower(total, squares, weight, log_level)
    above = -_lower(-total, squares, weight, log_level)
    return below, above


def _lower(total: Floats, squares: Floats, weight: Floats, log_level: float) -> Floats:
    """The greatest m with log mean exp(θ(total − weight·m) − ψ(θ)·squares) ≥ log_level.

    The left side is convex and decreasing in m, so Newton's steps from a point below the root stay below it, and the
    bound is valid after any number of steps. They start where the best single stake alone would reach the level.
    """
    penalty = squares[:, None] * _PENALTIES
    with np.errstate(divide="ignore", invalid="ignore"):
        m = ((total[:, None] - (log_level + _LOG_PARTS + penalty) / STAKES) / weight[:, None]).max(axis=1)
        for _ in range(_NEWTON_STEPS):
            exponents = STAKES * (total - weight * m)[:, None] - penalty
            top = exponents.max(axis=1)
            parts = np.exp(exponents - top[:, None])
            mass = parts.sum(axis=1)
            excess = top + np.log(mass) - _LOG_PARTS - log_level
            m = m + np.maximum(excess, 0.0) / (weight * (parts @ STAKES) / mass)
    return np.where(weight > 0.0, np.maximum(m, -1.0), -1.0)


def _running(before: Floats | np.float64, steps: Floats) -> Floats:
    """Running sums along the first axis, starting from `before`, in the same order of addition as `update`."""
    return np.asarray(np.cumsum(np.concatenate([np.asarray(before)[None], steps]), axis=0)[1:])


def _log_mean(logs: Floats) -> Floats:
    """Log of the mean of exp(logs) over the last axis."""
    top = logs.max(axis=-1)
    return np.asarray(top + np.log(np.exp(logs - top[..., None]).sum(axis=-1)) - _LOG_PARTS)
