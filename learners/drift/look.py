"""One look: chooses the windows, reads them and compares them. The same log, configuration and moment give the same
look.

The reference window is frozen: it begins at the champion's first decision (the first under the control position that
deployed it), but not before the log is `settle_ms` old, and lasts `reference_ms`. It moves when another champion is
deployed. The current windows are the last 1, 3 and 7 days before `as_of` (of alerts and frauds 3, 7 and 14); one that
overlaps the reference is left out.

    figures of          reference                   current windows end at
    payments, alerts    [start, end)                as_of
    reported frauds     the same + `maturity_ms`    as_of, by the time of the report
    performance         [start, end)                as_of − `maturity_ms`: labels must be mature in both

The reference lasts whole weeks, because payments have a weekly rhythm; a shorter current window is compared with all of
it, and the rhythm is part of the variance between days (`clustered`). The estimate is for the longest window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import msgspec
from scipy.special import expit, logit

from core.control import DEFAULT_REVIEW
from core.errors import BadInput
from core.events import Control, ModelDeployed, ModelRolledBack, ThresholdsChanged
from core.times import DAY_MS, WEEK_MS, minute_text
from learners import platt
from learners.drift.compare import Baseline, FeatureDrift, Window, compare, main_model
from learners.drift.estimate import Estimate, estimate
from learners.drift.figures import REPORTS, Sample, is_performance, samples
from learners.drift.performance import (
    LabelledRows,
    Measured,
    Performance,
    compare_performance,
    labelled,
    measure,
    summary,
)
from learners.drift.policy import FRAUD, RECALL, DriftConfig
from learners.drift.rows import Rows
from learners.drift.windows import WindowReader
from learners.platt import Platt
from projections.labelling.reader import LabelReader
from projections.labelling.view import LabelView


class LabelledPerformance(msgspec.Struct, frozen=True, kw_only=True):
    """One model's performance by labels: in the reference window, in the window `current`, whose labels are mature, and
    as estimated for the newest window (`estimate`).
    """

    model: str
    current: Window
    before: Performance
    now: Performance
    features: tuple[FeatureDrift, ...]
    estimate: Estimate


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The windows compared and the findings: times in epoch ms, features in the order of the spec, then the score,
    alerts and reported frauds. current: the longest window of payments. delay_ms: how much later the reference of
    reports is, and how much sooner the windows of performance end. left_out, reference_left_out: decisions in these
    windows that can't be compared, because of their engine or feature spec.
    """

    reference: Window
    current: Window
    reference_rows: int
    rows: int
    features: tuple[FeatureDrift, ...]
    labels: LabelledPerformance | None = None
    delay_ms: int = 0
    reference_left_out: int = 0
    left_out: int = 0

    @property
    def findings(self) -> list[FeatureDrift]:
        """All findings: features and performance."""
        return [*self.features, *(self.labels.features if self.labels else ())]

    @property
    def drifted(self) -> list[FeatureDrift]:
        """The findings that drifted, most severe first."""
        return sorted((f for f in self.findings if f.drifted), key=lambda f: -f.level)

    def windows(self, found: FeatureDrift) -> tuple[Window, Window]:
        """(reference, current) of a finding."""
        late = self.delay_ms if found.feature.startswith(FRAUD) or found.feature == RECALL else 0
        early = self.delay_ms if is_performance(found.feature) and found.feature != RECALL else 0
        end = self.current.end - early
        reference = Window(self.reference.start + late, self.reference.end + late)
        return reference, Window(end - (found.window_ms or self.current.end - self.current.start), end)


class Serving(msgspec.Struct, frozen=True):
    """The control position of the champion's deployment (0: none), and the review threshold (a probability)."""

    champion_since: int = 0
    review: float = DEFAULT_REVIEW


def serving(events: Sequence[tuple[int, Control]]) -> Serving:
    """The fold of the control stream's accepted events, from its beginning."""
    since, review = 0, DEFAULT_REVIEW
    for sequence, event in events:
        if isinstance(event, ModelDeployed | ModelRolledBack) and event.alias == "champion":
            since = sequence
        elif isinstance(event, ThresholdsChanged):
            review = event.review
    return Serving(since, review)


def check_lengths(config: DriftConfig) -> None:
    """Raise BadInput unless the windows can be compared in spite of the daily and weekly rhythm of payments."""
    if config.reference_ms % WEEK_MS:
        raise BadInput("the reference window must last whole weeks (7, 14, 21, … days) because of the weekly rhythm")
    if any(each % DAY_MS for each in (*config.windows_ms, *config.fraud_windows_ms)):
        raise BadInput("the current windows must last whole days because of the daily rhythm")


class TooEarly(BadInput):
    """The log is too short for a look; the words say what it covers and when the first look is possible."""


def reference_window(config: DriftConfig, oldest: int, deployed: int, as_of: int) -> Window:
    """The frozen reference (see the module's head). Raises TooEarly if it does not end before the shortest window."""
    earliest = max(oldest + config.settle_ms, deployed)
    start = -(-earliest // config.step_ms) * config.step_ms
    window = Window(start, start + config.reference_ms)
    first = window.end + config.windows_ms[0]
    if as_of < first:
        begin = "the log" if oldest + config.settle_ms >= deployed else "the champion's first decision"
        raise TooEarly(
            f"too early to compare: the log covers {minute_text(oldest)} to {minute_text(as_of)}, "
            f"{(as_of - oldest) / DAY_MS:.1f} days; the first look is possible at {minute_text(first)} "
            f"({config.settle_ms / DAY_MS:g} days until accounts have a history, {config.reference_ms / DAY_MS:g} of "
            f"reference from {begin} on, {config.windows_ms[0] / DAY_MS:g} to compare). Shorter: --settle-days 7 "
            "--reference-days 7, or --reference-start"
        )
    return window


@dataclass(frozen=True)
class _LabelledReference:
    """One model's rows with labels in the reference, and their metrics."""

    rows: LabelledRows
    measured: dict[str, Measured]

    @cached_property
    def performance(self) -> Performance:
        return summary(self.rows, self.measured)

    @cached_property
    def calibration(self) -> Platt:
        return platt.fit(self.rows.margins, self.rows.labels)


class _LabelledWindows(NamedTuple):
    """One model's rows with labels and their metrics in the reference and in the first window, `current`, and the
    findings of all windows.
    """

    model: str
    current: Window
    before: _LabelledReference
    first: LabelledRows
    found: dict[str, Measured]
    features: tuple[FeatureDrift, ...]

    def shown(self, newest: Rows, review: float) -> LabelledPerformance:
        """As a look has it. newest: the rows that the estimate is for; review: the threshold, a probability."""
        scored = labelled(newest, self.model, None, 0)
        return LabelledPerformance(
            model=self.model,
            current=self.current,
            before=self.before.performance,
            now=summary(self.first, self.found),
            features=self.features,
            estimate=estimate(scored.margins, self.before.calibration, expit(scored.margins) >= review),
        )


class Looker:
    """Makes looks at one log. What the reference gives is kept between looks."""

    def __init__(
        self,
        reader: WindowReader,
        labels: LabelReader,
        config: DriftConfig,
        reference: Window | None = None,
        for_display: bool = True,
    ) -> None:
        """reference: overrides the reference window that starts at the champion's deployment. for_display: False leaves
        out of looks what no event depends on: effects of figures that neither have evidence nor are open, and `labels`,
        whose findings follow the features.
        """
        check_lengths(config)
        self._reader, self._of_labels, self._config, self._given = reader, labels, config, reference
        self._for_display = for_display
        self._oldest: int | None = None
        self._kept: tuple[Window, Rows] | None = None
        self._deployed: tuple[int, int] | None = None
        self._baseline: tuple[tuple[Window, str | None, float], Baseline, Baseline | None] | None = None
        self._before: tuple[tuple[Window, str], _LabelledReference] | None = None

    def newest(self) -> int:
        """The newest event time in the log, rounded down to a whole step, epoch ms."""
        return self._reader.newest() // self._config.step_ms * self._config.step_ms

    def oldest(self) -> int:
        """The log's first event time, epoch ms."""
        if self._oldest is None:
            self._oldest = self._reader.oldest()
        return self._oldest

    def reference(self, serving: Serving, as_of: int) -> Window:
        """The reference window for a look at `as_of`. Raises BadInput if the log is too young."""
        if self._given is not None:
            if self._given.end > as_of - self._config.windows_ms[0]:
                raise BadInput("the reference window must end before the current window begins")
            return self._given
        oldest = self.oldest()
        if self._deployed is None or self._deployed[0] != serving.champion_since:
            since = self._reader.decided_since(serving.champion_since) if serving.champion_since else oldest
            if since is None:
                raise TooEarly(
                    f"the champion deployed at c{serving.champion_since} has made no decisions yet;"
                    " set another reference window with --reference-start"
                )
            self._deployed = (serving.champion_since, since)
        return reference_window(self._config, oldest, self._deployed[1], as_of)

    def rows(self, serving: Serving, as_of: int) -> tuple[Window, Rows, Window, Rows]:
        """(reference window, its rows, the longest current window of payments, its rows). Rows go on for one maturity
        more than the reference, and begin with the longest window of frauds and one maturity before, for the reports of
        fraud (`figures`).
        """
        reference, delay = self.reference(serving, as_of), self._config.maturity_ms
        if self._kept is None or self._kept[0] != reference:
            self._kept = (reference, self._reader.read(reference.start, reference.end + delay))
        current = Window(as_of - self._config.window_ms, as_of)
        start = as_of - self._config.longest_ms - delay
        return reference, self._kept[1], current, self._reader.read(start, current.end)

    def look(self, serving: Serving, as_of: int, opened: frozenset[str] = frozenset()) -> Look:
        """Compare the windows that end at `as_of` (epoch ms) with the reference. opened: figures whose drift was
        reported and has not ended.
        """
        reference, before, current, now = self.rows(serving, as_of)
        delay = self._config.maturity_ms
        newest = now.between(current.start, current.end)
        model = main_model(newest)
        baseline = self._based(reference, before, model, serving.review, as_of)
        labels = self._of_labels.view(as_of) if "reports" in baseline.samples else None
        current_samples = samples(now, model, _margin(serving.review), labels, delay)
        found = compare(baseline, current_samples, as_of, None if self._for_display else opened)
        performance = self._performance(reference, before, as_of, model)
        if performance is not None and not self._for_display:
            found.extend(performance.features)
        return Look(
            reference=reference,
            current=current,
            reference_rows=len(baseline.samples["payments"]),
            rows=len(newest),
            features=tuple(found),
            labels=performance.shown(newest, serving.review) if performance and self._for_display else None,
            delay_ms=delay,
            reference_left_out=len(before.between(reference.start, reference.end).left_out),
            left_out=len(newest.left_out),
        )

    def _based(self, reference: Window, rows: Rows, model: str | None, review: float, as_of: int) -> Baseline:
        """The reference as a baseline. Reports are in it once their own window is over."""
        delay = self._config.maturity_ms
        key = (reference, model, review)
        if self._baseline is None or self._baseline[0] != key:
            held, ends = self._held(reference, rows, model, review, None)
            settled = reference.start - self.oldest()
            self._baseline = (key, Baseline(held, ends, self._config, settled, _margin(review)), None)
        _, without, with_reports = self._baseline
        if as_of - self._config.windows_ms[0] < reference.end + delay:
            return without
        if with_reports is None:
            labels = self._of_labels.view(reference.end + delay)
            with_reports = without.extended(*self._held(reference, rows, model, review, labels))
            self._baseline = (key, without, with_reports)
        return with_reports

    def _held(
        self, reference: Window, rows: Rows, model: str | None, review: float, labels: LabelView | None
    ) -> tuple[dict[str, Sample], dict[str, int]]:
        """The reference's samples, and where it ends, by group: of all but reports, or with `labels` of reports."""
        delay = self._config.maturity_ms
        found = samples(rows, model, _margin(review), labels, delay)
        groups = [group for group in found if (group in REPORTS) == (labels is not None)]
        ends = {group: reference.end + (delay if group in REPORTS else 0) for group in groups}
        held = {g: found[g].between(ends[g] - self._config.reference_ms, ends[g]) for g in groups}
        return held, ends

    def _performance(self, reference: Window, before: Rows, as_of: int, model: str | None) -> _LabelledWindows | None:
        """The model's performance by labels; None without a model or before the labels are mature."""
        delay, lengths = self._config.maturity_ms, self._config.performance_windows_ms
        end = as_of - delay
        starts = [max(end - length, reference.end) for length in lengths]
        covers = end - starts[0] >= min(lengths[0], self._config.reference_ms)
        if model is None or model not in before.digests or not covers:
            return None
        key = (reference, model)
        if self._before is None or self._before[0] != key:
            labels = self._of_labels.view(reference.end + delay)
            known = labelled(before.between(reference.start, reference.end), model, labels, delay)
            self._before = (key, _LabelledReference(known, measure(known)))
        held = self._before[1]
        rows = self._reader.read(starts[-1], end, with_features=False)
        labels = self._of_labels.view(as_of)
        currents: list[LabelledRows | None] = []
        for place, start in enumerate(starts):
            is_new = place == 0 or start < starts[place - 1]
            currents.append(labelled(rows.between(start, end), model, labels, delay) if is_new else None)
        found = [measure(each) if each is not None else {} for each in currents]
        first = currents[0]
        assert first is not None
        features = tuple(compare_performance(held.rows, currents, held.measured, found, self._config))
        return _LabelledWindows(model, Window(starts[0], end), held, first, found[0], features)


def _margin(review: float) -> float:
    """The threshold's margin (log-odds)."""
    return float(logit(min(max(review, 1e-9), 1.0 - 1e-9)))
