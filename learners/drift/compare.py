"""Compares windows of 1 to 14 days with a reference, figure by figure: effect sizes, evidence, and a verdict.

A figure has drifted if an effect size reaches its floor **and** the evidence suffices. With much data every difference
is significant, so the effect size decides; with little data noise is large, so the evidence decides.

    figures      what is compared, of which payments
    clustered    a figure's difference between two windows, tested with rows clustered by account and by day
    sequential   the windows' p-values as one test, whose false alarms are bounded however often one looks

The effect sizes are those of the window with the most evidence, and are functions of the same counts as the test.

Cost (one shared core, benchmarks/drift.py --speed): 0.4 s for a look at 100,000 rows of the longest window, 62 figures
in three windows; 2.7 s to prepare a reference of as many, once.
"""

from __future__ import annotations

from collections.abc import Container
from copy import copy
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.events import Severity
from core.times import DAY_MS
from learners.drift import clustered, statistics
from learners.drift.clustered import Frame, Placed, Seen, Yardstick
from learners.drift.figures import Figure, Sample, episode_weights, figures, usual
from learners.drift.policy import ALERTS, FRAUD, RECALL, SEVERITIES, DriftConfig, level
from learners.drift.rows import Rows
from learners.drift.sequential import adjusted, combined

FEW_SMOOTH = 0.8
"""How much of a figure's error budget rank (cos and sin) get where there are too few rows for bins."""
State = Literal["tested", "excluded", "settling", "too_few_rows", "model_changed", "no_labels"]


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """One figure (a feature, "score", "alerts:…", "fraud:…" or "performance:…"): effect sizes, evidence, verdict.

    window_ms: the window with the most evidence; effects: by name, in that window; statistic: the effect that reaches
    the highest level, magnitude: its value. NaN: not tested. test: the contrast with the most evidence. p_value: over
    contrasts and windows, of this look; p_value_adjusted: over all looks and figures (`sequential`). missing: share of
    NaN in the reference and the window. design_effect: rows / effective rows, of `test`. level: 0 no drift … 4
    critical. over: far enough below the floor to clear an open drift. rows: in the window and in the reference.
    """

    feature: str
    kind: str
    state: State
    drifted: bool = False
    severity: Severity | None = None
    statistic: str = ""
    magnitude: float = float("nan")
    test: str = ""
    p_value: float = float("nan")
    p_value_adjusted: float = float("nan")
    effects: dict[str, float] = {}
    missing: tuple[float, float] = (0.0, 0.0)
    design_effect: float = float("nan")
    level: int = 0
    over: bool = True
    window_ms: int = 0
    rows: tuple[int, int] = (0, 0)


class Window(NamedTuple):
    """Event time, epoch ms, [start, end)."""

    start: int
    end: int


class Baseline:
    """The reference, ready to be compared with any number of windows: one yardstick for each figure, made when first
    needed. Memory: the reference's rows and a few numbers for each account-day.
    """

    def __init__(
        self, samples: dict[str, Sample], ends: dict[str, int], config: DriftConfig, settled_ms: int, review: float
    ) -> None:
        """samples: of the reference window, by group; ends: where it ends for each, epoch ms. settled_ms: length of the
        log before it. review: the threshold's margin.
        """
        self.samples, self.ends, self.config = samples, ends, config
        self._settled_ms = settled_ms
        self.figures = figures(config, review, usual(samples["payments"]))
        self._frames: dict[str, Frame] = {}
        self._yardsticks: dict[str, Yardstick] = {}

    def extended(self, samples: dict[str, Sample], ends: dict[str, int]) -> Baseline:
        """The same reference with more groups; what is known of the present ones is kept."""
        more = copy(self)
        more.samples, more.ends = self.samples | samples, self.ends | ends
        return more

    def frame(self, group: str) -> Frame:
        """The clusters of a group."""
        if group not in self._frames:
            sample = self.samples[group]
            self._frames[group] = clustered.frame(sample.accounts, sample.times, shops_of(group, sample))
        return self._frames[group]

    def yardstick(self, figure: Figure) -> Yardstick:
        """The figure's yardstick."""
        if figure.name not in self._yardsticks:
            sample, known = self.samples[figure.group], self.frame(figure.group)
            values = figure.values(sample)
            weights = episode_weights(sample) if sample.episodes else None
            smooth = FEW_SMOOTH if sample.episodes else 0.5
            of = clustered.scale(figure.kind, values, figure.categories, self.config.bins, weights, smooth)
            self._yardsticks[figure.name] = Yardstick(of, known, values, weights, figure.group == "payments")
        return self._yardsticks[figure.name]

    def state(self, figure: Figure) -> State:
        """Whether the figure can be compared at all."""
        config = self.config
        if figure.kind == "excluded":
            return "excluded"
        if self._settled_ms < figure.settle_days * DAY_MS:
            return "settling"
        if figure.group not in self.samples:
            return "no_labels"
        if figure.group != "payments" and not len(self.samples["scored"]):
            return "model_changed"
        of_frauds = self.samples[figure.group].episodes
        least = (config.frauds_min, config.fraud_accounts_min) if of_frauds else (config.rows_min, config.accounts_min)
        few = len(self.samples[figure.group]) < least[0] or len(self.frame(figure.group).accounts) < least[1]
        return "too_few_rows" if few else "tested"


def shops_of(group: str, sample: Sample) -> NDArray[np.uint64] | None:
    """The shops of the rows if they depend by shop: those of alerts and frauds, and of their rates."""
    return None if group == "payments" else sample.rows.shops[sample.index]


def compare(
    before: Baseline, now: dict[str, Sample], end: int, effects_of: Container[str] | None = None
) -> list[FeatureDrift]:
    """All figures in the windows that end at `end` (epoch ms). now: the samples that hold the longest window.
    effects_of: leave out the effects of other figures without evidence, whose verdict does not depend on them.
    """
    scored = len(now["scored"].between(end - before.config.window_ms, end))
    where: dict[tuple[str, tuple[int, ...]], tuple[Sample, Placed, NDArray[np.float64] | None]] = {}
    found = []
    for figure in before.figures:
        state = before.state(figure)
        if state in ("tested", "model_changed") and figure.group != "payments" and not scored:
            state = "too_few_rows"
        elif state == "tested" and figure.group not in now:
            state = "no_labels"
        if state != "tested":
            found.append(FeatureDrift(feature=figure.name, kind=_kind(figure), state=state))
            continue
        group, lengths = figure.group, figure.windows
        if (group, lengths) not in where:
            same = next((where[key] for key in where if key[0] == group and key[1][-1] == lengths[-1]), None)
            if same is None:
                sample = now[group].between(end - lengths[-1], end)
                shops = shops_of(group, sample)
                placed = clustered.placed(before.frame(group), sample.accounts, sample.times, end, lengths, shops)
                weights = episode_weights(sample) if sample.episodes else None
                where[group, lengths] = sample, placed, weights
            else:
                sample, placed, weights = same
                where[group, lengths] = sample, clustered.in_windows(placed, sample.times, end, lengths), weights
        sample, placed, weights = where[group, lengths]
        values = figure.values(sample)
        seen = before.yardstick(figure).windows(placed, values, weights)
        found.append(_found(before, figure, sample, values, seen, end, effects_of is None or figure.name in effects_of))
    return found


def _kind(figure: Figure) -> str:
    if figure.name == RECALL:
        return "performance"
    if figure.name.startswith((ALERTS, FRAUD)):
        return "fraud"
    return "categorical" if figure.kind == "hour" else figure.kind


def _found(
    before: Baseline, figure: Figure, sample: Sample, values: np.ndarray, seen: list[Seen], end: int, with_effects: bool
) -> FeatureDrift:
    """The finding on one figure. values (n,): of the sample's rows. with_effects: even without evidence."""
    config, yardstick = before.config, before.yardstick(figure)
    few = (0, config.window_frauds_min) if sample.episodes else (config.rows_min, config.accounts_min)
    lengths = figure.windows
    is_tested = [
        end - length >= before.ends[figure.group] and each.rows >= few[0] and each.accounts >= few[1]
        for length, each in zip(lengths, seen, strict=True)
    ]
    if figure.name == RECALL:
        seen = [_only_a_fall(each, yardstick) for each in seen]
    if not any(is_tested):
        return FeatureDrift(feature=figure.name, kind=_kind(figure), state="too_few_rows")
    p = np.array([each.p_value if tested else np.nan for each, tested in zip(seen, is_tested, strict=True)])
    best, p_value = int(np.argmin(np.where(np.isnan(p), np.inf, p))), combined(p, np.full(len(p), 1.0 / len(p)))
    window, length = seen[best], lengths[best]
    test = window.best(yardstick.scale)
    low = int(np.searchsorted(sample.times, end - length))
    counts = np.stack([yardstick.counts, window.counts])
    shares = counts[:, -1] / counts.sum(axis=1)
    p_adjusted, effects = adjusted(p_value, figure.share, config.looks), {}
    if with_effects or p_adjusted <= max(config.alpha, config.alpha_clear):
        current = np.sort(values[low:])
        current = current[: len(current) - int(np.isnan(current).sum())]
        kind: Literal["numeric", "categorical"] = "numeric" if figure.kind == "numeric" else "categorical"
        effects = statistics.effects(kind, statistics.Sample(yardstick.ascending, current, counts))
    return judged(
        FeatureDrift(
            feature=figure.name,
            kind=_kind(figure),
            state="tested",
            effects=effects,
            test=yardstick.scale.names[test],
            p_value=p_value,
            p_value_adjusted=p_adjusted,
            missing=(float(shares[0]), float(shares[1])),
            design_effect=float(window.design_effects[test]),
            window_ms=length,
            rows=(len(values) - low, len(before.samples[figure.group])),
        ),
        config,
        least=2 if figure.is_slow else 1,
    )


def _only_a_fall(seen: Seen, yardstick: Yardstick) -> Seen:
    """One-sided: a higher share of frauds that were alerted is no loss."""
    hit = yardstick.scale.names.index("bin 1")
    if not seen.differences[hit] < 0:
        nothing = np.ones(len(seen.p_values))
        return seen._replace(p_values=nothing, p_value=1.0)
    return seen


def judged(each: FeatureDrift, config: DriftConfig, least: int = 1) -> FeatureDrift:
    """The same finding with verdict and severity, from its effects and its adjusted p-value. least: the lowest level
    that is reported.
    """
    reached, statistic, near = 0, "", False
    for name, effect in each.effects.items():
        levels = config.levels[name]
        if not statistic or level(effect, levels) > reached:
            reached, statistic = level(effect, levels), name
        near = near or effect >= config.clear_share * levels[least - 1]
    drifted = reached >= least and each.p_value_adjusted <= config.alpha
    return msgspec.structs.replace(
        each,
        statistic=statistic,
        magnitude=each.effects.get(statistic, float("nan")),
        drifted=drifted,
        severity=SEVERITIES[reached - 1] if drifted else None,
        level=reached if drifted else 0,
        over=not (near and each.p_value_adjusted <= config.alpha_clear),
    )


def main_model(rows: Rows) -> str | None:
    """The digest of the model that decided the most rows; None if no model decided any."""
    used = np.bincount(rows.models[rows.models >= 0], minlength=1)
    return rows.digests[int(used.argmax())] if used.any() else None
