"""What is compared, and when it counts: the one place with thresholds and with the reason for every exception.

Every feature of the spec has a row in `POLICIES`: how it is compared (numeric, categorical, or not at all) and after
how many days of log it has settled, since a 30-day sum of an account that is followed for 10 days grows by itself.
Nothing here computes a statistic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from core.errors import BadInput
from core.events import Severity
from core.features import spec
from core.features.spec import DAY_MS, HOUR_MS

Kind = Literal["numeric", "categorical", "excluded"]
SCORE = "score"
"""The name under which the model's margin (log-odds) is compared like a feature."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


class Policy(NamedTuple):
    """How one feature is compared. categories: its values, ascending (categorical only); settle_days: of log before."""

    kind: Kind
    settle_days: int
    reason: str
    categories: tuple[float, ...] = ()


def _numeric(settle_days: int, reason: str = "a quantity") -> Policy:
    return Policy("numeric", settle_days, reason)


def _flag(settle_days: int, reason: str) -> Policy:
    return Policy("categorical", settle_days, reason, (0.0, 1.0))


def _excluded(reason: str) -> Policy:
    return Policy("excluded", 0, reason)


_SETTLES = {"10m": 1, "1h": 1, "24h": 2, "7d": 8, "30d": 31}
_TABLE_SETTLES = {"1d": 9, "7d": 15, "30d": 38}  # window + label delay of 7 days + the table's own day

_FEW_MERCHANTS = "few merchants have known fraud, and one moves all its payments for weeks, across accounts and days"

_SPECIAL: dict[str, Policy] = {
    "amount": _numeric(0),
    "hour_of_day": Policy("categorical", 0, "24 hours on a circle: order has no meaning", tuple(map(float, range(24)))),
    "day_of_week": _excluded("the calendar: says which days are in the window, not what they look like"),
    "amount_to_mean_7d": _numeric(8, "relative to the account's last 7 days"),
    "amount_to_mean_30d": _numeric(31, "relative to the account's last 30 days"),
    "amount_to_max_30d": _numeric(31, "relative to the account's last 30 days"),
    "decayed_mean": _numeric(31, "half-life 30 days: before one half-life it follows the account's age"),
    "decayed_std": _numeric(31, "as decayed_mean; grows with the first transactions"),
    "amount_zscore": _numeric(31, "divides by decayed_std, which grows with the first transactions"),
    "typical_amount": _numeric(31, "settles with the account's first weeks of transactions"),
    "amount_to_typical": _numeric(31, "divides by typical_amount"),
    "days_since_high_amount": _excluded(
        "grows by a day a day until the next high amount, which a young log has few of"
    ),
    "high_amounts": _numeric(31, "half-life 7 days, after the ten transactions that an account needs first"),
    "seconds_since_last": _numeric(8, "a gap longer than the log is not seen"),
    "account_age_days": _excluded("grows by a day a day"),
    "transactions_total": _excluded("only grows"),
    "count_today": _numeric(1),
    "sum_today": _numeric(1),
    "hour_share": _numeric(31, "share of the account's whole history: coarse while that is short"),
    "merchant_is_new": _flag(31, "yes or no; everything is new until 16 merchants are known"),
    "category_is_new": _flag(31, "yes or no; everything is new until 8 categories are known"),
    "country_is_new": _flag(31, "yes or no; everything is new at first"),
    "device_is_new": _flag(31, "yes or no; everything is new at first"),
    "km_from_last": _numeric(8),
    "speed_kmh": _numeric(8),
    "fraud_verdicts": _excluded("only grows"),
    "days_since_fraud": _excluded("grows by a day a day until the next verdict, and verdicts only accumulate"),
    "legitimate_verdicts": _excluded("only grows"),
    "account_blocked": _flag(0, "yes or no"),
    "merchant_reports_7d": _numeric(45, "reports of 7 days, and chargebacks come up to 5 weeks after the payment"),
    "merchant_days_since_fraud": _excluded(_FEW_MERCHANTS),
    "merchant_run_days": _excluded(_FEW_MERCHANTS),
    "merchant_run_frauds": _excluded(_FEW_MERCHANTS),
    "merchant_run_share": _excluded(_FEW_MERCHANTS),
    "merchant_run_amount": _excluded(_FEW_MERCHANTS),
    "merchant_legitimate_since_fraud": _excluded(_FEW_MERCHANTS),
    "merchant_risk_last_3": _excluded(_FEW_MERCHANTS),
    "merchant_risk_last_8": _excluded(_FEW_MERCHANTS),
    "device_accounts_30d": _numeric(38, "table over 30 days"),
    "device_reports_30d": _numeric(68, "reports of 30 days, and chargebacks come up to 5 weeks after the payment"),
}


def _policy(feature: spec.Feature) -> Policy:
    if feature.name in _SPECIAL:
        return _SPECIAL[feature.name]
    window = feature.name.rpartition("_")[2]
    if feature.name.startswith(("merchant_count_", "merchant_risk_")):
        return _numeric(_TABLE_SETTLES[window], f"table over {window}, 7 days of label delay before it")
    return _numeric(_SETTLES[window], f"an account's last {window}")


POLICIES: dict[str, Policy] = {feature.name: _policy(feature) for feature in spec.FEATURES}


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
    policies: dict[str, Policy] = field(default_factory=lambda: POLICIES)

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


def markdown() -> str:
    """The table of policies for docs/drift.md."""
    rows = ["| feature | compared as | settled after | why |", "|---|---|---|---|"]
    for name, policy in POLICIES.items():
        days = "" if policy.kind == "excluded" else f"{policy.settle_days} d"
        rows.append(f"| `{name}` | {policy.kind} | {days} | {policy.reason} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")  # noqa: T201  the documentation's table
