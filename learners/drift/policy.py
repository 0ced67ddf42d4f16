"""When a difference counts: the one place with thresholds. Nothing here computes a statistic.

How a feature is compared (numeric, categorical, or not at all), and after how many days of log, says the feature itself
(`core.features.spec`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from core.errors import BadInput
from core.events import Severity
from core.features import spec
from core.features.spec import DAY_MS, HOUR_MS, Comparison

SCORE = "score"
"""The name under which the model's margin (log-odds) is compared like a feature."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


POLICIES: dict[str, Comparison] = {feature.name: feature.drift for feature in spec.FEATURES}


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    """When a difference is drift. All thresholds of the project's drift detection.

    levels: effect sizes from which a difference is low, medium, high, critical; the first is the floor below which
    nothing is drift, whatever its p-value. ks: the KS distance D. psi: < 0.1 is the credit industry's "no change",
    > 0.25 its "major" (Siddiqi 2006). cramers_v: Cohen's w (1988) for small, medium and large is 0.1, 0.3, 0.5.
    q: false-discovery rate of one look; small, since a monitor looks many times, at windows that overlap.
    rows_min, accounts_min: fewer in either window are not tested; fraud_accounts_min: accounts with fraud, for
    performance. bins: of PSI.
    clear_share: an open drift is over when every effect is below this share of its floor, or is not significant.
    cool_down_ms: after a drift of a feature was told or cleared, how long (event time) the same is not told again.
    """

    ks: tuple[float, ...] = (0.1, 0.2, 0.3, 0.45)
    psi: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    cramers_v: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5)
    auc_drop: tuple[float, ...] = (0.02, 0.05, 0.1, 0.15)
    average_precision_drop: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    calibration_shift: tuple[float, ...] = (0.3, 0.6, 0.9, 1.4)
    q: float = 0.001
    rows_min: int = 200
    accounts_min: int = 30
    fraud_accounts_min: int = 20
    bins: int = 10
    clear_share: float = 0.8
    cool_down_ms: int = 3 * DAY_MS
    reference_ms: int = 14 * DAY_MS
    window_ms: int = 7 * DAY_MS
    settle_ms: int = 38 * DAY_MS
    step_ms: int = 6 * HOUR_MS
    label_delay_ms: int = 7 * DAY_MS
    policies: dict[str, Comparison] = field(default_factory=lambda: POLICIES)

    def __post_init__(self) -> None:
        for name in ("ks", "psi", "cramers_v", "auc_drop", "average_precision_drop", "calibration_shift"):
            levels = getattr(self, name)
            if len(levels) != len(SEVERITIES) or any(a >= b for a, b in zip((0.0, *levels), levels, strict=False)):
                raise BadInput(f"drift: {name} needs {len(SEVERITIES)} ascending levels above 0, not {levels}")
        if not 0 < self.q < 1:
            raise BadInput(f"drift: q is a rate between 0 and 1, not {self.q}")
        for name in ("rows_min", "accounts_min", "fraud_accounts_min", "reference_ms", "window_ms", "step_ms"):
            if getattr(self, name) < 1:
                raise BadInput(f"drift: {name} must be at least 1, not {getattr(self, name)}")
        if not 2 <= self.bins <= 50:
            raise BadInput(f"drift: bins must be between 2 and 50, not {self.bins}")

    def levels(self, statistic: str) -> tuple[float, ...]:
        """The levels of an effect size by its name. Raises BadInput for an unknown one."""
        known = {
            "ks": self.ks,
            "psi": self.psi,
            "cramers_v": self.cramers_v,
            "auc_roc": self.auc_drop,
            "average_precision": self.average_precision_drop,
            "calibration": self.calibration_shift,
        }
        if statistic not in known:
            raise BadInput(f"drift: unknown statistic {statistic!r}")
        return known[statistic]


def level(effect: float, levels: tuple[float, ...]) -> int:
    """How many levels an effect reaches: 0 is below the floor, 1 low … 4 critical. NaN reaches none."""
    return sum(effect >= bound for bound in levels)
