"""Sample-ratio mismatch (SRM): do the numbers of accounts per arm match the allocation? Tested after every account.

A mismatch means that exposure depends on the arm (decisions of an arm are lost, a model is unavailable and another one
decides, accounts are counted twice). The comparison is then not randomised, and its result is invalid.

The e-process is the likelihood of the observed arms under a prediction from the earlier accounts, divided by that under
the allocation. Let p be the allocation (one probability per arm, known when the account was assigned), n the number of
earlier accounts, n_a those observed in arm a, and E_a = Σ p_a those expected there. The prediction is

    r_a ∝ p_a · (κ·p̄_a + n_a) / (κ·p̄_a + E_a)               p̄: the first account's allocation

With a constant allocation this is (κ·p_a + n_a) / (κ + n): the Dirichlet-multinomial of Lindon & Malek 2022
("Anytime-valid inference for multinomial count data"). In this form the process continues across ramps, so that a
lasting mismatch accumulates. Any prediction from the past gives a martingale under the null, so P(some e ≥ 1/α) ≤ α
(Ville).

The usual chi-square test is valid for a single look only; it is displayed, but decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONCENTRATION = 100.0
"""κ: the weight of the allocation in the prediction, in accounts; large, because relevant mismatches are small."""


@dataclass(slots=True)
class Mismatch:
    """Counts by arm and the evidence against the allocation. Arms keep their indices."""

    observed: list[int] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    prior: list[float] = field(default_factory=list)
    log_e: float = 0.0
    log_e_max: float = 0.0

    def update(self, arm: int, allocation: Sequence[float]) -> None:
        """Add an account observed in `arm`, assigned with these probabilities (one per arm, sum 1).

        Raises ValueError if `allocation` is invalid or has another number of arms than before.
        """
        if abs(sum(allocation) - 1.0) > 1e-6 or min(allocation) < 0.0:
            raise ValueError(f"invalid allocation {list(allocation)}: probabilities must be at least 0 and sum to 1")
        if not self.prior:
            self.prior = [CONCENTRATION * max(p, 1e-3) for p in allocation]
            self.observed, self.expected = [0] * len(allocation), [0.0] * len(allocation)
        if len(allocation) != len(self.prior):
            raise ValueError(f"the allocation has {len(allocation)} arms, the earlier ones {len(self.prior)}")
        ratios = [
            p * (k + n) / (k + e)
            for p, k, n, e in zip(allocation, self.prior, self.observed, self.expected, strict=True)
        ]
        if allocation[arm] > 0.0:
            self.log_e += float(np.log(ratios[arm] / sum(ratios) / allocation[arm]))
        else:
            self.log_e = float("inf")  # an account in an arm of probability 0
        self.log_e_max = max(self.log_e_max, self.log_e)
        self.observed[arm] += 1
        for index, p in enumerate(allocation):
            self.expected[index] += p

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value: 1 / the greatest e so far."""
        return float(np.exp(-self.log_e_max))

    @property
    def chi_square(self) -> tuple[float, float]:
        """(statistic, p) of Pearson's test against the expected counts; (0, 1) if fewer than two arms are in use."""
        used = [(n, e) for n, e in zip(self.observed, self.expected, strict=True) if e > 0.0]
        if len(used) < 2:
            return 0.0, 1.0
        from scipy.special import chdtrc  # slow to import, and needed only by reports

        statistic = sum((n - e) ** 2 / e for n, e in used)
        return statistic, float(chdtrc(len(used) - 1, statistic))


def trajectory(arms: NDArray[np.int64], allocation: Floats) -> Floats:
    """Log e after each of n accounts, as in `Mismatch.update`: arms (n,), allocation (n, arms) positive → (n,)."""
    seen = np.eye(allocation.shape[1])[arms]
    zero = np.zeros((1, allocation.shape[1]))
    observed = np.concatenate([zero, np.cumsum(seen, axis=0)[:-1]])
    expected = np.concatenate([zero, np.cumsum(allocation, axis=0)[:-1]])
    prior = CONCENTRATION * np.maximum(allocation[0], 1e-3)
    ratios = allocation * (prior + observed) / (prior + expected)
    rows = np.arange(len(arms))
    predicted = ratios[rows, arms] / ratios.sum(axis=1)
    return np.asarray(np.cumsum(np.log(predicted / allocation[rows, arms])))
