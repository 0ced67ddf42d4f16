"""The drift monitor: looks, and tells the control stream when a feature begins to drift, gets worse, or is over.

One state a feature, a fold of DriftDetected and DriftCleared in the control stream and nothing else; the table is

    state        the look says                          event           next
    stable       drift                                  DriftDetected   drifting
    drifting     drift, severity above what was told    DriftDetected   drifting
    drifting     clearly none (`FeatureDrift.over`)     DriftCleared    cooling
    drifting     another model decides (the score)      DriftCleared    cooling
    cooling      drift, and the cool-down is over
                 or severity above what was told        DriftDetected   drifting
    any          anything else                          –               same

"Clearly none" leaves a gap below the floor in which an open drift stays open, so that one that hovers there is told
once. A window that ends no later than the last one told of a feature says nothing about it: killed at any moment and
started again, or run twice, the monitor tells nothing twice. Appending is conditional on the position that was folded;
if somebody else was first, it folds again and decides again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
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


class Told(NamedTuple):
    """The last that was told of a feature: is it open, how severe (1 … 4) it was at worst, and the window's end."""

    is_open: bool
    level: int
    window_end: int


@dataclass(slots=True)
class MonitorState:
    """What was told, by feature; `position` is the control sequence folded last."""

    position: int = 0
    told: dict[str, Told] = field(default_factory=dict)

    def apply(self, sequence: int, event: Control) -> None:
        """Apply one control event; one that was applied before is left out (I5)."""
        if sequence <= self.position:
            return
        self.position = sequence
        if isinstance(event, DriftDetected):
            before = self.told.get(event.feature, Told(False, 0, 0))
            level = SEVERITIES.index(event.severity) + 1
            worst = max(level, before.level) if before.is_open else level
            self.told[event.feature] = Told(True, worst, max(event.window_end, before.window_end))
        elif isinstance(event, DriftCleared) and event.feature in self.told:
            before = self.told[event.feature]
            self.told[event.feature] = Told(False, before.level, max(event.window_end, before.window_end))


def folded(events: Iterable[tuple[int, Control]]) -> MonitorState:
    """The state after the events."""
    state = MonitorState()
    for sequence, event in events:
        state.apply(sequence, event)
    return state


def decide(
    state: MonitorState, look: Look, config: DriftConfig, now_ms: int, actor: str = ACTOR
) -> list[DriftDetected | DriftCleared]:
    """What the look adds to what was told (see the module's table). Pure. now_ms: when it is told, epoch ms."""
    events: list[DriftDetected | DriftCleared] = []
    for found, seen in _seen(look):
        told = state.told.get(found.feature, Told(False, 0, 0))
        if seen.current.end <= told.window_end:
            continue
        if found.drifted:
            is_cool = not told.is_open and seen.current.end - told.window_end >= config.cool_down_ms
            if found.level > told.level or is_cool:
                events.append(_detected(found, seen, now_ms, actor))
        elif told.is_open and found.state == "model_changed":
            events.append(_cleared(found, seen, now_ms, actor, "another model decides"))
        elif told.is_open and found.state == "tested" and found.over:
            events.append(_cleared(found, seen, now_ms, actor, "like the reference again"))
    return events


class _Windows(NamedTuple):
    """Where a figure was seen."""

    reference: Window
    current: Window
    reference_rows: int
    rows: int


def _seen(look: Look) -> Iterator[tuple[FeatureDrift, _Windows]]:
    """Everything that a look found, each with its windows: labels come later, so theirs are older."""
    here = _Windows(look.reference, look.current, look.reference_rows, look.rows)
    yield from ((found, here) for found in look.features)
    if look.labels is not None:
        labels = look.labels
        there = _Windows(look.reference, labels.current, labels.before.rows, labels.now.rows)
        yield from ((found, there) for found in labels.features)


def _detected(found: FeatureDrift, look: _Windows, now_ms: int, actor: str) -> DriftDetected:
    assert found.severity is not None
    return DriftDetected(
        occurred_at=now_ms,
        actor=actor,
        feature=found.feature,
        statistic=found.statistic,
        magnitude=found.magnitude,
        severity=found.severity,
        window_start=look.current.start,
        window_end=look.current.end,
        kind=found.kind,
        test=found.test,
        p_value_adjusted=_number(found.p_value_adjusted),
        effects={name: effect for name, effect in found.effects.items() if math.isfinite(effect)},
        reference_start=look.reference.start,
        reference_end=look.reference.end,
        rows=look.rows,
        reference_rows=look.reference_rows,
        design_effect=_number(found.design_effect),
    )


def _cleared(found: FeatureDrift, look: _Windows, now_ms: int, actor: str, reason: str) -> DriftCleared:
    return DriftCleared(
        occurred_at=now_ms,
        actor=actor,
        reason=reason,
        feature=found.feature,
        window_start=look.current.start,
        window_end=look.current.end,
        statistic=found.statistic,
        magnitude=_number(found.magnitude),
    )


def _number(value: float) -> float | None:
    """None for what JSON does not have: NaN and infinity."""
    return value if math.isfinite(value) else None


class DriftMonitor:
    """Looks at a log and appends what is new. Holds nothing that the log does not, except rows it read before."""

    def __init__(self, log: EventLog, looker: Looker, config: DriftConfig, actor: str = ACTOR) -> None:
        self._log, self._looker, self._config, self._actor = log, looker, config, actor

    def look(self, as_of: int) -> Look:
        """The look at `as_of` (epoch ms); appends nothing."""
        return self._looker.look(serving(accepted(self._log)), as_of)

    def windows(self, as_of: int) -> tuple[Window, Rows, Window, Rows]:
        """The windows of the look at `as_of` (epoch ms) and their rows: reference, its rows, current, its rows."""
        return self._looker.rows(serving(accepted(self._log)), as_of)

    def step(self, as_of: int, now_ms: int) -> tuple[Look, Sequence[DriftDetected | DriftCleared]]:
        """Look at the window that ends at `as_of` and tell what is new; (the look, what was appended).

        Steps: 1 fold the control stream, 2 look, 3 decide, 4 append if the stream is still where it was, else from 1;
        it looks again only if another model, or other thresholds, serve by now.
        """
        seen: list[tuple[Serving, Look]] = []

        def tell(known: Known) -> list[DriftDetected | DriftCleared]:
            events = effective(known.entries)
            serves = serving(events)
            if not seen or seen[-1][0] != serves:
                seen.append((serves, self._looker.look(serves, as_of)))
            return decide(folded(events), seen[-1][1], self._config, now_ms, self._actor)

        told = append(self._log, tell).events
        return seen[-1][1], [event for event in told if isinstance(event, DriftDetected | DriftCleared)]
