"""One look: chooses the windows, reads them and compares them. The same log, configuration and moment give the same
look.

The reference window is frozen: it begins at the champion's first decision (the first under the control position that
deployed it), but not before the log is `settle_ms` old, and lasts `reference_ms`. It moves when another champion is
deployed. The current window is the last `window_ms` before `as_of`. Both last whole weeks, or the current window lasts
less than one and is compared with rows from the same hours of the week (`rows.same_hours`).

Performance is compared in the window that ended `maturity_ms` earlier, whose labels are mature. The look has no
`labels` until that window begins after the reference and the reference's own labels are mature. The estimate is for the
current window.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from scipy.special import expit

from core.control import DEFAULT_REVIEW
from core.errors import BadInput
from core.events import Control, ModelDeployed, ModelRolledBack, ThresholdsChanged
from core.times import DAY_MS, WEEK_MS
from learners import platt
from learners.drift.compare import FeatureDrift, Window, compare, main_model
from learners.drift.estimate import Estimate, estimate
from learners.drift.performance import (
    LabelledRows,
    Measured,
    Performance,
    compare_performance,
    labelled,
    measure,
    summary,
)
from learners.drift.policy import DriftConfig
from learners.drift.rows import Rows, same_hours
from learners.drift.windows import WindowReader
from projections.labelling.reader import LabelReader


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
    """The windows compared and the findings: times in epoch ms, features in the order of the spec, then the score."""

    reference: Window
    current: Window
    reference_rows: int
    rows: int
    features: tuple[FeatureDrift, ...]
    labels: LabelledPerformance | None = None

    @property
    def drifted(self) -> list[FeatureDrift]:
        """The findings that drifted, most severe first."""
        found = [*self.features, *(self.labels.features if self.labels else ())]
        return sorted((f for f in found if f.drifted), key=lambda f: -f.level)


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
    """Raise BadInput unless the windows can be compared in spite of weekly seasonality."""
    if config.reference_ms % WEEK_MS:
        raise BadInput("the reference window must last whole weeks (7, 14, 21, … days) because of weekly seasonality")
    if config.window_ms > WEEK_MS and config.window_ms % WEEK_MS:
        raise BadInput("the current window must last at most a week, or whole weeks, because of weekly seasonality")


def reference_window(config: DriftConfig, oldest: int, deployed: int, as_of: int) -> Window:
    """The frozen reference (see the module's head). Raises BadInput if it does not end before the current window."""
    earliest = max(oldest + config.settle_ms, deployed)
    start = -(-earliest // config.step_ms) * config.step_ms
    window = Window(start, start + config.reference_ms)
    missing = window.end + config.window_ms - as_of
    if missing > 0:
        raise BadInput(
            f"{missing / DAY_MS:.1f} days too early: the reference window needs "
            f"{config.settle_ms / DAY_MS:g} days of log before it and lasts {config.reference_ms / DAY_MS:g} days from "
            f"the champion's deployment, the current window {config.window_ms / DAY_MS:g} more; shorten them, or set "
            "a reference window"
        )
    return window


class Looker:
    """Makes looks at one log. Rows of the reference window are cached between looks."""

    def __init__(
        self, reader: WindowReader, labels: LabelReader, config: DriftConfig, reference: Window | None = None
    ) -> None:
        """reference: overrides the reference window that starts at the champion's deployment."""
        check_lengths(config)
        self._reader, self._of_labels, self._config, self._given = reader, labels, config, reference
        self._oldest: int | None = None
        self._kept: tuple[Window, Rows] | None = None
        self._deployed: tuple[int, int] | None = None
        self._before: tuple[tuple[Window, str], LabelledRows, dict[str, Measured]] | None = None

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
            if self._given.end > as_of - self._config.window_ms:
                raise BadInput("the reference window must end before the current window begins")
            return self._given
        oldest = self.oldest()
        if self._deployed is None or self._deployed[0] != serving.champion_since:
            since = self._reader.decided_since(serving.champion_since) if serving.champion_since else oldest
            if since is None:
                raise BadInput(
                    f"the champion deployed at c{serving.champion_since} has made no decisions yet;"
                    " set another reference window with --reference-start"
                )
            self._deployed = (serving.champion_since, since)
        return reference_window(self._config, oldest, self._deployed[1], as_of)

    def rows(self, serving: Serving, as_of: int) -> tuple[Window, Rows, Window, Rows]:
        """(reference window, its rows, current window, its rows)."""
        reference = self.reference(serving, as_of)
        if self._kept is None or self._kept[0] != reference:
            self._kept = (reference, self._reader.read(reference.start, reference.end))
        current = Window(as_of - self._config.window_ms, as_of)
        return reference, self._kept[1], current, self._reader.read(current.start, current.end)

    def look(self, serving: Serving, as_of: int) -> Look:
        """Compare the window that ends at `as_of` (epoch ms) with the reference."""
        reference, before, current, now = self.rows(serving, as_of)
        alike = same_hours(before, current.start, current.end)
        return Look(
            reference=reference,
            current=current,
            reference_rows=len(alike),
            rows=len(now),
            features=tuple(compare(alike, now, self._config, reference.start - self.oldest())),
            labels=self._labels(reference, before, current, now, serving.review),
        )

    def _labels(
        self, reference: Window, before: Rows, current: Window, now: Rows, review: float
    ) -> LabelledPerformance | None:
        delay, model = self._config.maturity_ms, main_model(now)
        window = Window(current.start - delay, current.end - delay)
        if model is None or model not in before.digests or window.start < reference.end:
            return None
        key = (reference, model)
        if self._before is None or self._before[0] != key:
            known = labelled(before, model, self._of_labels.view(reference.end + delay), delay)
            self._before = (key, known, measure(known, self._config))
        _, known, measured = self._before
        labels = self._of_labels.view(window.end + delay)
        since = labelled(self._reader.read(window.start, window.end), model, labels, delay)
        found = measure(since, self._config)
        newest = labelled(now, model, None, 0)
        return LabelledPerformance(
            model=model,
            current=window,
            before=summary(known, measured),
            now=summary(since, found),
            features=tuple(compare_performance(known, since, measured, found, self._config)),
            estimate=estimate(newest.margins, platt.fit(known.margins, known.labels), expit(newest.margins) >= review),
        )
