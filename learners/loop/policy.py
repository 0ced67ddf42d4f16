"""The next step of the adaptive loop: a pure function of its state and the evidence in the log. A dry run is this call.

In every phase the guard comes first: for `guard_days` a deployed champion is compared with its predecessor on the same
decisions. A change of the alert rate needs no labels (and does not count against a champion that won a test, which was
judged by labels); a loss of average precision does. A champion that can't be loaded leaves only the rules to decide, so
it is rolled back at once.

    phase       condition                                                 step
    any         the guard is breached, and there is a predecessor         roll back
    idle        the shadow became champion (by hand, or by approval)      drop the shadow
    idle        an open, severe drift or loss of performance that no
                training has followed, or that a refused one followed too
                soon, enough new verdicts, or a breach without a
                predecessor                                               start a retraining
    training                                                              train (again, if a process died: same bytes)
    shadowing   alert rates not comparable, or too few decisions after
                `PATIENCE` times the minimum time                         drop the candidate
    shadowing   the paired test shows that the shadow is better           start the test (or promote, if disabled)
    shadowing   a guardrail is breached, no gain, or it takes too long    drop the candidate
    testing     the verdict is not "continue"                             conclude: promote, keep, or roll back
    testing     the ramp is due, the test is the loop's own,
                and nobody else has set its traffic                       ramp
    waiting     no approval within `approval_days`                        as idle
    waiting                                                               wait for somebody else's approval
    otherwise                                                             wait

A candidate is promoted only if both hold: the paired test of its shadow, always valid at level alpha, and no breach of
a guardrail in the test, in which it decides for its arm's accounts. Without `shadow_test`, the test must show the gain.

A training right after a drift sees almost nothing of what came after it, and is rightly refused. It does not settle the
drift: it is tried again once its rows cover, after the change, at least as long as the gate's hold-out, and twice as
long as the refused one's did (`_sees_more`). So a drift that stays open costs trainings at doubling intervals.

Every step states its reasons in words, which become the event's `reason`. Whatever was appended that the loop can't
evaluate (`Evidence.obstacles`) is added to the reasons of a waiting step; it never stops the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from core.events import Severity
from core.governance import SHADOW
from core.times import DAY_MS, HOUR_MS
from learners.drift.policy import PERFORMANCE
from learners.experiments.paired import PairedReport
from learners.experiments.report import Report
from learners.loop.evidence import ModelComparison, NewLabels
from learners.loop.settings import LearnSettings
from learners.loop.state import LoopState, OpenDrift, Phase

Action = Literal["wait", "retrain", "train", "test", "promote", "drop", "ramp", "conclude", "roll back"]
Trigger = Literal["labels", "drift", "degradation"]

_SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")
PATIENCE = 3
"""A shadow with too few decisions after this many times `shadow_hours` is dropped."""


class Evidence(msgspec.Struct, frozen=True):
    """The evidence for a step; None: not examined, or no data yet. way_back: the model that a rollback returns to, ""
    for none. obstacles: what could not be evaluated, and why, in words. unloadable: why the champion can't be loaded
    although its predecessor can, "" otherwise.
    """

    labels: NewLabels
    way_back: str = ""
    guard: ModelComparison | None = None
    shadow: ModelComparison | None = None
    trial: PairedReport | None = None
    report: Report | None = None
    obstacles: tuple[str, ...] = ()
    unloadable: str = ""


class Step(msgspec.Struct, frozen=True):
    """The next step and its reasons. trigger: of a retraining; traffic: of a ramp; model: the model it concerns."""

    action: Action
    reasons: tuple[str, ...]
    phase: Phase
    model: str = ""
    trigger: Trigger = "labels"
    traffic: int = 0
    breach: tuple[str, float, float] | None = None
    """Of a rollback: (metric, value, limit)."""

    @property
    def reason(self) -> str:
        """The reasons in one line."""
        return "; ".join(self.reasons)


def guarded(state: LoopState, settings: LearnSettings, now_ms: int) -> bool:
    """Whether the champion is under guard now."""
    age_ms = now_ms - state.champion_at[0]
    return bool(state.champion) and not state.champion_rolled_back and age_ms <= settings.guard_days * DAY_MS


def breach(
    seen: ModelComparison | None, settings: LearnSettings, *, tested: bool = False
) -> tuple[str, tuple[str, float, float]] | None:
    """How the champion, compared with its predecessor, breaches the guard: in words, and as (metric, value, limit)."""
    if seen is None or seen.rows < settings.guard_rows_min:
        return None
    if seen.alert_ratio > settings.guard_alert_ratio_max and not tested:
        words = (
            f"alert rate {seen.alert_rate:.2%}, its predecessor's {seen.alert_rate_other:.2%} on the same"
            f" {seen.rows:,} decisions: a ratio of {seen.alert_ratio:.1f}, at most"
            f" {settings.guard_alert_ratio_max:g} allowed"
        )
        return words, ("alert_ratio", seen.alert_ratio, settings.guard_alert_ratio_max)
    if seen.gain_high is not None and seen.gain_high < -settings.guard_precision_loss_max:
        words = (
            f"average precision {seen.average_precision:.3f}, its predecessor's {seen.average_precision_other:.3f} on"
            f" the same decisions: a loss of at least {-seen.gain_high:.3f}"
        )
        return words, ("average_precision_gain", seen.gain_high, -settings.guard_precision_loss_max)
    return None


def decide(state: LoopState, evidence: Evidence, settings: LearnSettings, now_ms: int) -> Step:
    """The next step (see the module's head). now_ms: log time, epoch ms."""
    step = _next(state, evidence, settings, now_ms)
    if step.action != "wait" or not evidence.obstacles:
        return step
    return msgspec.structs.replace(step, reasons=(*step.reasons, *evidence.obstacles))


def _next(state: LoopState, evidence: Evidence, settings: LearnSettings, now_ms: int) -> Step:
    phase = state.phase
    found = None
    if guarded(state, settings, now_ms):
        found = breach(evidence.guard, settings, tested=state.champion_tested)
        if evidence.unloadable:
            found = f"only the rules decide: {evidence.unloadable}", ("can_be_loaded", 0.0, 1.0)
    if found is not None and evidence.way_back:
        return Step("roll back", (found[0],), phase, model=evidence.way_back, breach=found[1])
    if not state.champion:
        return Step("wait", ("there is no champion: register and promote a model first",), phase)
    if phase == "idle":
        return _idle(state, evidence, settings, now_ms, found[0] if found else "")
    if phase == "training":
        assert state.run is not None
        return Step("train", (f"retraining {state.run.run_id} has begun and not ended",), phase, model=state.champion)
    if phase == "shadowing":
        return _shadowing(state, evidence, settings, now_ms)
    if phase == "testing":
        return _testing(state, evidence.report, settings, now_ms)
    if now_ms - (state.proposed_at or 0) > settings.approval_days * DAY_MS:
        return _idle(state, evidence, settings, now_ms, found[0] if found else "")
    return Step("wait", (f"{state.candidate} is proposed and awaits approval by a second person",), phase)


def _idle(state: LoopState, evidence: Evidence, settings: LearnSettings, now_ms: int, degraded: str) -> Step:
    phase = state.phase
    if state.registry.aliases.get(SHADOW) == state.champion:
        return Step("drop", (f"{state.champion} is now champion, not shadow",), phase, model=state.champion)
    if degraded and state.run_began < state.champion_at[0]:
        return Step("retrain", (degraded, "there is no earlier champion"), phase, trigger="degradation")
    wait_ms = state.run_began + settings.interval_days * DAY_MS - now_ms
    severe = _severe(state, settings, now_ms)
    labels = evidence.labels
    enough = labels.verdicts >= settings.labels_min and labels.frauds >= settings.frauds_min
    news = f"{labels.verdicts:,} new verdicts, {labels.frauds:,} of them fraud"
    if (severe or enough) and wait_ms > 0 and state.run_began:
        return Step("wait", (f"the last retraining began less than {settings.interval_days:g} days ago",), phase)
    if severe:
        return Step("retrain", (f"drift is open: {', '.join(severe)}", news), phase, trigger="drift")
    if enough:
        return Step("retrain", (news,), phase, trigger="labels")
    wanted = f"at least {settings.labels_min:,} and {settings.frauds_min:,} needed"
    return Step("wait", (f"{news}, since the last training ({wanted}); no severe drift since",), phase)


def _severe(state: LoopState, settings: LearnSettings, now_ms: int) -> Sequence[str]:
    """Open drifts that call for a training: any loss of performance, and any other drift that is severe enough. Inputs
    may change without harm; a confirmed loss is the harm itself. One calls for a single training after its report, or
    for another if that was refused and more of what followed the change is there by now.
    """
    least = _SEVERITIES.index(settings.drift_severity)
    return sorted(
        f"{feature} ({drift.severity})"
        for feature, drift in state.drifting.items()
        if (feature.startswith(PERFORMANCE) or _SEVERITIES.index(drift.severity) >= least)
        and (drift.reported > state.run_began or (state.refused and _sees_more(drift, state, settings, now_ms)))
    )


def _sees_more(drift: OpenDrift, state: LoopState, settings: LearnSettings, now_ms: int) -> bool:
    """Whether a training now would have enough rows after the change, and twice as many as the last one, by time."""
    had, has = (max(settings.train_end(moment) - drift.seen_until, 0) for moment in (state.trained_until, now_ms))
    return has >= max(2 * had, int(settings.holdout_days * DAY_MS))


def _shadowing(state: LoopState, evidence: Evidence, settings: LearnSettings, now_ms: int) -> Step:
    phase: Phase = "shadowing"
    seen = evidence.shadow
    hours = (now_ms - state.shadow_at[0]) / HOUR_MS
    rows = seen.rows if seen is not None else 0
    if hours < settings.shadow_hours or rows < settings.shadow_rows_min:
        if hours >= PATIENCE * max(settings.shadow_hours, 1.0):
            return Step("drop", (f"only {rows:,} comparable decisions in {hours:.0f} h",), phase, model=state.candidate)
        progress = f"{hours:.1f} of {settings.shadow_hours:g} h, {rows:,} of {settings.shadow_rows_min:,} decisions"
        return Step("wait", (f"{state.candidate} is shadow: {progress}",), phase)
    assert seen is not None
    other = f"the champion's {seen.alert_rate_other:.2%} on the same {rows:,} decisions"
    rates = f"alert rate {seen.alert_rate:.2%}, {other}"
    most = settings.alert_rate_ratio_max
    if seen.alert_ratio > most:
        words = f"{rates}: a ratio of {seen.alert_ratio:.1f}, at most {most:g} allowed"
        return Step("drop", (words,), phase, model=state.candidate)
    passed: Action = "test" if settings.test else "promote"
    if not settings.shadow_test:
        return Step(passed, (f"passed as shadow: {rates}",), phase, model=state.candidate)
    trial = evidence.trial
    if trial is None:
        return Step("wait", (f"{state.candidate} is shadow: the paired test has no data yet",), phase)
    counts = f"paired test on {trial.mature:,} mature accounts, {trial.changed:,} of them decided differently"
    reasons = (*trial.verdict.reasons, counts)
    match trial.verdict.action:
        case "continue":
            return Step("wait", (f"{state.candidate} is shadow", *reasons), phase)
        case "promote":
            return Step(passed, ("shown to be better as shadow", *reasons, rates), phase, model=state.candidate)
        case "rollback" | "stop":
            return Step("drop", reasons, phase, model=state.candidate)


def _testing(state: LoopState, report: Report | None, settings: LearnSettings, now_ms: int) -> Step:
    phase: Phase = "testing"
    assert state.experiment is not None
    name = state.experiment.experiment_id
    if report is not None and report.verdict.action != "continue":
        arm = next((a for a in state.experiment.arms if a.name == report.verdict.arm), None)
        label = f"{arm.model}-{arm.version}" if arm else ""
        return Step("conclude", report.verdict.reasons, phase, model=label)
    traffic = settings.traffic_at((now_ms - state.test_at[0]) / HOUR_MS)
    if traffic > state.experiment.traffic and state.is_own_test and not state.ramped_by_hand:
        return Step("ramp", (f"{name} is ramped to {traffic / 100:g} % of accounts",), phase, traffic=traffic)
    reasons = report.verdict.reasons if report is not None else ("there is no report on it yet",)
    return Step("wait", (f"experiment {name} continues", *reasons), phase)
