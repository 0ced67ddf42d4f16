"""Sample-ratio mismatch: do accounts fall into the arms as they should? Looked at after every account.

A mismatch means that exposure depends on the arm (an arm's decisions are lost, a model is away and another one decides,
accounts are counted twice): the comparison is then not randomised, whatever it shows.

The e-process is the likelihood of the arms seen under a prediction from the accounts before, over that under the
allocation. With allocation p (one probability an arm, as known when the account was assigned), before it n accounts of
which n_a were in arm a where E_a = Σ p_a were to be expected, the prediction is

    r_a ∝ p_a · (κ·p̄_a + n_a) / (κ·p̄_a + E_a)               p̄: the first account's allocation

With a constant allocation this is (κ·p_a + n_a) / (κ + n): the Dirichlet-multinomial of Lindon & Malek 2022
("Anytime-valid inference for multinomial count data"). In this form it goes on through ramps, as a lasting mismatch
does. Any prediction from the past gives a martingale under the null, so P(some e ≥ 1/α) ≤ α (Ville).

The chi-square test beside it is the usual one, right for one look only; it is shown, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONCENTRATION = 100.0
"""κ: so many accounts' worth of trust in the allocation; the mismatches that matter are small."""


@dataclass(slots=True)
class Mismatch:
    """Counts by arm and the evidence against the allocation; arms keep their numbers."""

    observed: list[int] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    prior: list[float] = field(default_factory=list)
    log_e: float = 0.0
    log_e_max: float = 0.0

    def update(self, arm: int, allocation: Sequence[float]) -> None:
        """Take in an account that was seen in `arm`, assigned with these probabilities (each arm's, sum 1).

        Raises ValueError if it is no allocation over the same arms as before.
        """
        if abs(sum(allocation) - 1.0) > 1e-6 or min(allocation) < 0.0:
            raise ValueError(f"{list(allocation)} is no allocation")
        if not self.prior:
            self.prior = [CONCENTRATION * max(p, 1e-3) for p in allocation]
            self.observed, self.expected = [0] * len(allocation), [0.0] * len(allocation)
        if len(allocation) != len(self.prior):
            raise ValueError(f"{len(allocation)} arms, there were {len(self.prior)}")
        ratios = [
            p * (k + n) / (k + e)
            for p, k, n, e in zip(allocation, self.prior, self.observed, self.expected, strict=True)
        ]
        if allocation[arm] > 0.0:
            self.log_e += float(np.log(ratios[arm] / sum(ratios) / allocation[arm]))
        else:
            self.log_e = float("inf")  # an arm that gets nobody has somebody
        self.log_e_max = max(self.log_e_max, self.log_e)
        self.observed[arm] += 1
        for index, p in enumerate(allocation):
            self.expected[index] += p

    @property
    def p_value(self) -> float:
        """Anytime p-value: 1 / the greatest e so far."""
        return float(np.exp(-self.log_e_max))

    @property
    def chi_square(self) -> tuple[float, float]:
        """(statistic, p) of Pearson's test against the expected counts; (0, 1) with fewer than two arms in use."""
        used = [(n, e) for n, e in zip(self.observed, self.expected, strict=True) if e > 0.0]
        if len(used) < 2:
            return 0.0, 1.0
        from scipy.special import chdtrc  # heavy, and only a report needs it

        statistic = sum((n - e) ** 2 / e for n, e in used)
        return statistic, float(chdtrc(len(used) - 1, statistic))


def trajectory(arms: NDArray[np.int64], allocation: Floats) -> Floats:
    """Log e after each of n accounts, as `Mismatch.update` has it: arms (n,), allocation (n, arms) positive → (n,)."""
    seen = np.eye(allocation.shape[1])[arms]
    zero = np.zeros((1, allocation.shape[1]))
    observed = np.concatenate([zero, np.cumsum(seen, axis=0)[:-1]])
    expected = np.concatenate([zero, np.cumsum(allocation, axis=0)[:-1]])
    prior = CONCENTRATION * np.maximum(allocation[0], 1e-3)
    ratios = allocation * (prior + observed) / (prior + expected)
    rows = np.arange(len(arms))
    predicted = ratios[rows, arms] / ratios.sum(axis=1)
    return np.asarray(np.cumsum(np.log(predicted / allocation[rows, arms])))
