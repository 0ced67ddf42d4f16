"""The drift monitor: reports to the control stream when a feature's drift begins, worsens or clears.

The state of each feature is a fold of DriftDetected and DriftCleared in the control stream and nothing else:

    state        result of the look                     event           next state
    stable       drift                                  DriftDetected   drifting
    drifting     drift, more severe than reported       DriftDetected   drifting
    drifting     clearly none (`FeatureDrift.over`)     DriftCleared    cooling
    drifting     another model decides (the score)      DriftCleared    cooling
    cooling      drift, after the cool-down
                 or more severe than reported           DriftDetected   drifting
    any          anything else                          –               unchanged

"Clearly none" is hysteresis: an open drift stays open in a band below the floor, so that an effect that hovers around
the floor is reported once. A window that ends no later than the last one reported for a feature is ignored for it, so
nothing is reported twice if the monitor is killed and restarted at any moment, or runs twice. Appends are conditional
on the folded position; if another writer was first, the monitor folds and decides again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from core.control_stream import Known, accepted, append, effective
from core.events import Control, DriftCleared, DriftDetected
from core.log.base import EventLog
from learners.drift.compare import FeatureDrift, Window
from learners.drift.look import Look, Looker, Serving, serving
from learners.drift.policy import SEVERITIES, DriftConfig
from learners.drift.rows import Rows

ACTOR = "sentinel drift"


class Reported(NamedTuple):
    """The last reported state of a feature: whether a drift is open, its worst severity (1 … 4), and the end of the
    window (epoch ms).
    """

    is_open: bool
    level: int
    window_end: int


@dataclass(slots=True)
class MonitorState:
    """The last reported state of each feature; `position` is the last control position folded."""

    position: int = 0
    reported: dict[str, Reported] = field(default_factory=dict)

    @property
    def opened(self) -> frozenset[str]:
        """The features with an open drift."""
        return frozenset(feature for feature, reported in self.reported.items() if reported.is_open)

    def apply(self, sequence: int, event: Control) -> None:
        """Apply one control event; one that was already applied is ignored (I5)."""
        if sequence <= self.position:
            return
        self.position = sequence
        if isinstance(event, DriftDetected):
            before = self.reported.get(event.feature, Reported(False, 0, 0))
            level = SEVERITIES.index(event.severity) + 1
            worst = max(level, before.level) if before.is_open else level
            self.reported[event.feature] = Reported(True, worst, max(event.window_end, before.window_end))
        elif isinstance(event, DriftCleared) and event.feature in self.reported:
            before = self.reported[event.feature]
            self.reported[event.feature] = Reported(False, before.level, max(event.window_end, before.window_end))


def folded(events: Iterable[tuple[int, Control]]) -> MonitorState:
    """The state after the events."""
    state = MonitorState()
    for sequence, event in events:
        state.apply(sequence, event)
    return state


def decide(
    state: MonitorState, look: Look, config: DriftConfig, now_ms: int, actor: str = ACTOR
) -> list[DriftDetected | DriftCleared]:
    """The events that the look adds to the reported state (see the module's table). Pure. now_ms: the events' time,
    epoch ms.
    """
    events: list[DriftDetected | DriftCleared] = []
    for found in look.findings:
        reported = state.reported.get(found.feature, Reported(False, 0, 0))
        end = look.windows(found)[1].end
        if end <= reported.window_end:
            continue
        if found.drifted:
            is_cool = not reported.is_open and end - reported.window_end >= config.cool_down_ms
            if found.level > reported.level or is_cool:
                events.append(_detected(found, look, now_ms, actor))
        elif reported.is_open and found.state == "model_changed":
            events.append(_cleared(found, look, now_ms, actor, "another model decides"))
        elif reported.is_open and found.state == "tested" and found.over:
            events.append(_cleared(found, look, now_ms, actor, "no longer differs from the reference"))
    return events


def _detected(found: FeatureDrift, look: Look, now_ms: int, actor: str) -> DriftDetected:
    assert found.severity is not None
    reference, current = look.windows(found)
    return DriftDetected(
        occurred_at=now_ms,
        actor=actor,
        feature=found.feature,
        statistic=found.statistic,
        magnitude=found.magnitude,
        severity=found.severity,
        window_start=current.start,
        window_end=current.end,
        kind=found.kind,
        test=found.test,
        p_value_adjusted=_number(found.p_value_adjusted),
        effects={name: effect for name, effect in found.effects.items() if math.isfinite(effect)},
        reference_start=reference.start,
        reference_end=reference.end,
        rows=found.rows[0],
        reference_rows=found.rows[1],
        design_effect=_number(found.design_effect),
    )


def _cleared(found: FeatureDrift, look: Look, now_ms: int, actor: str, reason: str) -> DriftCleared:
    current = look.windows(found)[1]
    return DriftCleared(
        occurred_at=now_ms,
        actor=actor,
        reason=reason,
        feature=found.feature,
        window_start=current.start,
        window_end=current.end,
        statistic=found.statistic,
        magnitude=_number(found.magnitude),
    )


def _number(value: float) -> float | None:
    """None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


class DriftMonitor:
    """Monitors a log and appends new findings. Its only state beyond the log is a cache of rows already read."""

    def __init__(self, log: EventLog, looker: Looker, config: DriftConfig, actor: str = ACTOR) -> None:
        self._log, self._looker, self._config, self._actor = log, looker, config, actor

    def look(self, as_of: int) -> Look:
        """The look at `as_of` (epoch ms); appends nothing."""
        return self._looker.look(serving(accepted(self._log)), as_of)

    def windows(self, as_of: int) -> tuple[Window, Rows, Window, Rows]:
        """The windows of the look at `as_of` (epoch ms) and their rows: reference, its rows, current, its rows."""
        return self._looker.rows(serving(accepted(self._log)), as_of)

    def step(self, as_of: int, now_ms: int) -> tuple[Look, Sequence[DriftDetected | DriftCleared]]:
        """Look at the window that ends at `as_of` and append new findings; returns (the look, the appended events).

        Steps: 1 fold the control stream, 2 look, 3 decide, 4 append if the stream has not moved, else repeat from 1.
        The look itself is repeated only if the champion, the thresholds or the open drifts have changed.
        """
        seen: list[tuple[Serving, frozenset[str], Look]] = []

        def new_findings(known: Known) -> list[DriftDetected | DriftCleared]:
            events = effective(known.entries)
            serves, state = serving(events), folded(events)
            if not seen or seen[-1][:2] != (serves, state.opened):
                seen.append((serves, state.opened, self._looker.look(serves, as_of, state.opened)))
            return decide(state, seen[-1][2], self._config, now_ms, self._actor)

        appended = append(self._log, new_findings).events
        return seen[-1][2], [event for event in appended if isinstance(event, DriftDetected | DriftCleared)]
