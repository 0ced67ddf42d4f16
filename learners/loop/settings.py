"""All settings of the adaptive loop: one frozen record, read from the `[learn]` table of the settings file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from core.assignment import ALPHA_MIN, WHOLE
from core.errors import BadInput
from core.events import Severity
from core.settings import unknown_name
from core.times import DAY_MS
from learners.experiments.design import USUAL, Design, usual_guardrails
from learners.experiments.verdict import METRICS, Criteria, criteria_of
from learners.training.gate import COUNTS, GateSettings

CandidateKind = Literal["retrained", "boosted", "refitted", "online"]


class LearnSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times are log time; durations end in their unit.

    Retraining starts on `labels_min` new verdicts of which `frauds_min` are fraud, or on an open drift that no training
    has followed yet, of at least `drift_severity` or, for a loss of performance, of any severity; never sooner than
    `interval_days` after the last one began.
    """

    labels_min: int = 500
    frauds_min: int = 50
    interval_days: float = 1.0
    drift_severity: Severity = "high"
    watch_drift: bool = True

    # Training: `train_days` of decisions, a gap of `maturity_days`, then the `holdout_days` that the gate evaluates on.
    # These end `maturity_days` before the training begins, so that all their labels are mature.
    train_days: float = 30.0
    holdout_days: float = 7.0
    maturity_days: float = USUAL.maturity_ms / DAY_MS
    update_days: float = 7.0
    """Rows this recent are new to an incremental candidate; older rows are sampled (`replay_rows`)."""
    replay_rows: int = 20_000
    candidates: tuple[CandidateKind, ...] = ("retrained", "boosted")
    trials: int = 0
    seed: int = 7
    gate: dict[str, float] = {}
    """`learners.training.gate.GateSettings` by name."""

    # Shadow: minimum duration and decisions; then the ratio of the two alert rates, the larger over the smaller, may be
    # at most `alert_rate_ratio_max`. With `shadow_test`, the paired test then decides, by the design below, within
    # `shadow_days_max`; the test that follows is a guardrail. Without, the test itself must show the gain.
    shadow_hours: float = 24.0
    shadow_rows_min: int = 1_000
    alert_rate_ratio_max: float = 3.0
    shadow_test: bool = True
    shadow_days_max: float = 60.0

    # The test. If disabled, a candidate that passes as shadow becomes champion.
    test: bool = True
    share: int = WHOLE // 2
    """The candidate's share of the accounts in the test, in 1/10,000."""
    ramp: tuple[tuple[float, int], ...] = ((0.0, 1_000), (24.0, 5_000), (72.0, WHOLE))
    """(hours since the start, traffic in 1/10,000), ascending."""
    # The design of the test, with the defaults of every experiment (`learners.experiments.design`).
    window_days: float = USUAL.window_ms / DAY_MS
    alpha: float = USUAL.alpha
    primary: str = USUAL.primary
    guardrails: tuple[str, ...] | None = None
    """None: the default ones, except the primary metric."""
    guardrail_margin: float = USUAL.guardrail_margin
    worthwhile: float = USUAL.worthwhile
    accounts_min: int = USUAL.accounts_min
    duration_max_days: float = USUAL.duration_max_ms / DAY_MS

    approval_days: float = 14.0
    """With four eyes: a proposal that nobody approves for this long no longer blocks the loop."""

    # The guard of a new champion, for `guard_days`: compared with its predecessor on the same decisions.
    guard_days: float = 14.0
    guard_rows_min: int = 500
    guard_alert_ratio_max: float = 5.0
    guard_frauds_min: int = 20
    guard_precision_loss_max: float = 0.1
    """Maximum loss of average precision against its predecessor; breached if the whole interval exceeds it."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float) and not math.isfinite(value):
                raise BadInput(f"learn: {name} must be finite, not {value!r}")
        durations = ("duration_max_days", "shadow_days_max", "guard_days")
        positive = ("train_days", "holdout_days", "update_days", "window_days", *durations)
        for name in positive:
            if not getattr(self, name) > 0:
                raise BadInput(f"learn: {name} must be above 0, not {getattr(self, name)!r}")
        for name in ("interval_days", "maturity_days", "shadow_hours", "worthwhile", "approval_days"):
            if not getattr(self, name) >= 0:
                raise BadInput(f"learn: {name} must not be negative, not {getattr(self, name)!r}")
        if not 0 <= self.guardrail_margin <= 1 or not self.worthwhile <= 1 or not ALPHA_MIN <= self.alpha <= 0.5:
            raise BadInput(
                f"learn: guardrail_margin must be in [0, 1], worthwhile at most 1, and alpha in [{ALPHA_MIN:g}, 0.5]"
            )
        unknown = sorted({self.primary, *(self.guardrails or ())} - set(METRICS))
        if unknown:
            raise BadInput(f"learn: unknown metric {', '.join(unknown)}; expected one of {', '.join(METRICS)}")
        for name in ("alert_rate_ratio_max", "guard_alert_ratio_max"):
            if not getattr(self, name) > 1:
                raise BadInput(f"learn: {name} must be a ratio above 1, not {getattr(self, name)!r}")
        if not self.candidates or len(set(self.candidates)) != len(self.candidates):
            raise BadInput("learn: candidates must list at least one kind, each only once")
        if not 0 < self.share < WHOLE:
            raise BadInput(f"learn: share must be above 0 and below {WHOLE:,}, not {self.share}")
        hours, traffic = [step[0] for step in self.ramp], [step[1] for step in self.ramp]
        if not self.ramp or hours[0] != 0.0 or hours != sorted(hours) or traffic != sorted(traffic):
            raise BadInput("learn: ramp must list (hours, traffic) from hour 0, both ascending")
        if not all(0 < step <= WHOLE for step in traffic):
            raise BadInput(f"learn: traffic in ramp must be above 0 and at most {WHOLE:,}")
        self.gate_settings()

    def gate_settings(self) -> GateSettings:
        """The gate's thresholds. Raises BadInput for an unknown one."""
        for name in self.gate:
            if name not in GateSettings.__dataclass_fields__:
                raise BadInput(f"learn.gate: {unknown_name(name, GateSettings.__dataclass_fields__)}")
        return GateSettings(**{n: int(v) if n in COUNTS else v for n, v in self.gate.items()})  # type: ignore[arg-type]

    def design(self) -> Design:
        """The design of a candidate's test."""
        return Design(
            window_ms=int(self.window_days * DAY_MS),
            maturity_ms=int(self.maturity_days * DAY_MS),
            alpha=self.alpha,
            primary=self.primary,
            guardrails=usual_guardrails(self.primary) if self.guardrails is None else self.guardrails,
            guardrail_margin=self.guardrail_margin,
            worthwhile=self.worthwhile,
            accounts_min=self.accounts_min,
            duration_max_ms=int(self.duration_max_days * DAY_MS),
        )

    def shadow_criteria(self) -> Criteria:
        """When the paired test of a shadow ends: the design of the test, within `shadow_days_max`."""
        design = self.design()
        return criteria_of(msgspec.structs.replace(design, duration_max_ms=int(self.shadow_days_max * DAY_MS)))

    def holdout(self, known_until: int) -> tuple[int, int]:
        """Event times [from, to) of the rows on which the gate judges as of `known_until`, epoch ms: mature by then."""
        end = known_until - int(self.maturity_days * DAY_MS)
        return end - int(self.holdout_days * DAY_MS), end

    def train_end(self, known_until: int) -> int:
        """Until when (event time, epoch ms) a training as of `known_until` takes its rows: their labels are mature when
        the gate's rows begin.
        """
        return self.holdout(known_until)[0] - int(self.maturity_days * DAY_MS)

    def traffic_at(self, hours: float) -> int:
        """The ramp's traffic, this many hours after a test began."""
        return max(traffic for after, traffic in self.ramp if after <= max(hours, 0.0))


def learn_settings(table: Mapping[str, Any]) -> LearnSettings:
    """Settings from a table of a configuration file. Raises BadInput with one line that names the setting."""
    for name in table:
        if name not in LearnSettings.__struct_fields__:
            raise BadInput(f"learn: {unknown_name(name, LearnSettings.__struct_fields__)}")
    try:
        return msgspec.convert(dict(table), LearnSettings)
    except msgspec.ValidationError as error:
        raise BadInput(f"learn: {error}") from None
