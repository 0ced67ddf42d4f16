"""The configuration of drift detection: severity levels, error rates and window lengths. Computes no statistic.

The feature spec (`core.features.spec`) defines how each feature is compared (numeric, categorical, or not at all) and
after how many days of log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from core.errors import BadInput
from core.events import Severity
from core.features import spec
from core.features.spec import Comparison
from core.times import DAY_MS
from learners.drift.statistics import EFFECTS

SCORE = "score"
"""The name under which the model's margin (log-odds) is compared as if it were a feature."""
PERFORMANCE = "performance:"
"""The prefix of the names of performance metrics ("performance:auc_roc")."""
ALERTS, FRAUD = "alerts:", "fraud:"
"""The prefixes of figures of alerted payments, and of payments reported as fraud ("fraud:hour_of_day")."""
ALERT_RATE, FRAUD_RATE, RECALL = "alerts:rate", "fraud:rate", "performance:recall"
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


PERFORMANCE_LEVELS: dict[str, tuple[str, tuple[float, float, float, float]]] = {
    "auc_roc": ("drop of the AUC", (0.02, 0.05, 0.1, 0.15)),
    "average_precision": ("drop of the average precision", (0.05, 0.1, 0.2, 0.3)),
    "calibration": ("shift of ln(observed / expected frauds)", (0.3, 0.6, 0.9, 1.4)),
}
"""The meaning and the levels of each performance metric (`learners.drift.performance`)."""
LEVELS: dict[str, tuple[float, ...]] = {
    **{each.name: each.levels for each in EFFECTS},
    **{name: levels for name, (_, levels) in PERFORMANCE_LEVELS.items()},
}
SHARES = {"headline": 0.35, "inputs": 0.25, "slow": 0.03, "alerts": 0.07, "frauds": 0.2, "performance": 0.1}
"""How the error budget is divided among groups of figures, and equally among the figures of a group (of alerts and of
frauds, by `FRAUD_WEIGHTS`). A few headline figures move whenever much moves; features that remember a month are never
the first to tell."""
HEADLINE = ("amount", "amount_to_typical", "hour_of_day", ALERT_RATE)
POLICIES: dict[str, Comparison] = {feature.name: feature.drift for feature in spec.FEATURES}


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    """All thresholds of drift detection.

    levels: by effect size, where low, medium, high and critical begin (`statistics.EffectSize`).
    alpha: the error budget, the probability of any false alarm in `horizon_ms` of looks, shared by `SHARES`; an open
    drift stays open up to `alpha_clear`. windows_ms: lengths of the current windows, ascending.
    rows_min, accounts_min: minimum in each window for a test; frauds_min, fraud_accounts_min: the same for alerts and
    frauds in the reference, of which a window (one of `fraud_windows_ms`) needs `window_frauds_min` accounts.
    bins: of PSI.
    clear_share: an open drift clears when every effect is below this share of its floor, or not significant.
    cool_down_ms: for how long (event time) after a drift of a feature was reported or cleared it is not reported again.
    """

    levels: dict[str, tuple[float, ...]] = field(default_factory=lambda: dict(LEVELS))
    alpha: float = 0.05
    alpha_clear: float = 0.5
    horizon_ms: int = 56 * DAY_MS
    rows_min: int = 200
    accounts_min: int = 30
    frauds_min: int = 30
    fraud_accounts_min: int = 20
    window_frauds_min: int = 5
    bins: int = 10
    clear_share: float = 0.8
    cool_down_ms: int = 3 * DAY_MS
    reference_ms: int = 14 * DAY_MS
    windows_ms: tuple[int, ...] = (DAY_MS, 3 * DAY_MS, 7 * DAY_MS)
    fraud_windows_ms: tuple[int, ...] = (3 * DAY_MS, 7 * DAY_MS, 14 * DAY_MS)
    performance_windows_ms: tuple[int, ...] = (7 * DAY_MS, 28 * DAY_MS)
    settle_ms: int = 38 * DAY_MS
    step_ms: int = DAY_MS
    maturity_ms: int = 7 * DAY_MS
    policies: dict[str, Comparison] = field(default_factory=lambda: POLICIES)

    def __post_init__(self) -> None:
        for name, levels in self.levels.items():
            if len(levels) != len(SEVERITIES) or any(a >= b for a, b in zip((0.0, *levels), levels, strict=False)):
                raise BadInput(f"drift: {name} needs {len(SEVERITIES)} ascending levels above 0, not {levels}")
        for name in ("alpha", "alpha_clear"):
            if not 0 < getattr(self, name) < 1:
                raise BadInput(f"drift: {name} must be between 0 and 1, not {getattr(self, name)}")
        for name in ("rows_min", "accounts_min", "frauds_min", "fraud_accounts_min", "reference_ms", "step_ms"):
            if getattr(self, name) < 1:
                raise BadInput(f"drift: {name} must be at least 1, not {getattr(self, name)}")
        for name in ("windows_ms", "fraud_windows_ms", "performance_windows_ms"):
            lengths = getattr(self, name)
            if not lengths or any(a >= b for a, b in zip((0, *lengths), lengths, strict=False)):
                raise BadInput(f"drift: {name} must be one or more lengths above 0, ascending, not {lengths}")
        if not 2 <= self.bins <= 50:
            raise BadInput(f"drift: bins must be between 2 and 50, not {self.bins}")

    @property
    def looks(self) -> int:
        """How many looks the error budget must last for (`sequential`)."""
        return max(round(self.horizon_ms / self.step_ms), 1)

    @property
    def window_ms(self) -> int:
        """The longest of the current windows of payments."""
        return self.windows_ms[-1]

    @property
    def longest_ms(self) -> int:
        """The longest of all current windows but those of performance."""
        return max(self.windows_ms[-1], self.fraud_windows_ms[-1])


def level(effect: float, levels: tuple[float, ...]) -> int:
    """The level that an effect reaches: 0 below the floor, 1 low … 4 critical. NaN reaches none."""
    return sum(effect >= bound for bound in levels)


def markdown() -> str:
    """The table of effect sizes for docs/drift.md."""
    rows = ["| effect size | of | low | medium | high | critical |", "|---|---|---|---|---|---|"]
    of = {"numeric": "numeric features, score", "categorical": "categorical features"}
    lines = [(e.meaning, ", ".join(of[kind] for kind in e.kinds), e.levels) for e in EFFECTS]
    lines += [(meaning, "performance", levels) for meaning, levels in PERFORMANCE_LEVELS.values()]
    rows += [f"| {meaning} | {what} | {' | '.join(f'{x:g}' for x in levels)} |" for meaning, what, levels in lines]
    return "\n".join(rows) + "\n"
