"""The history of drift: which feature drifted, when, how much, and when the drift cleared. A fold over the control
stream.

A detection while an earlier one of the same feature is open is kept as well; clearing closes all that are open. Times
are when the monitor acted, epoch ms; windows are event time.
"""

from __future__ import annotations

import msgspec

from core.events import DriftCleared, DriftDetected, Severity
from projections.engine.base import Fact, Projection
from projections.engine.states import States


class Detection(msgspec.Struct):
    """One detection; it is open while `cleared_at` is 0."""

    position: int
    feature: str
    statistic: str
    magnitude: float
    severity: Severity
    window_start: int
    window_end: int
    detected_at: int
    actor: str
    cleared_at: int = 0
    cleared_by: str = ""
    kind: str = ""
    test: str = ""
    p_value_adjusted: float | None = None
    effects: dict[str, float] = {}
    reference_start: int = 0
    reference_end: int = 0
    rows: int = 0
    reference_rows: int = 0
    cleared_window_end: int = 0


class Drift(msgspec.Struct):
    """All detections, oldest first."""

    detections: list[Detection] = []


def _detected(state: Drift, fact: Fact) -> None:
    event: DriftDetected = fact.event
    state.detections.append(
        Detection(
            fact.id.generation,
            event.feature,
            event.statistic,
            event.magnitude,
            event.severity,
            event.window_start,
            event.window_end,
            event.occurred_at,
            event.actor,
            kind=event.kind,
            test=event.test,
            p_value_adjusted=event.p_value_adjusted,
            effects=event.effects,
            reference_start=event.reference_start,
            reference_end=event.reference_end,
            rows=event.rows,
            reference_rows=event.reference_rows,
        )
    )


def _cleared(state: Drift, fact: Fact) -> None:
    event: DriftCleared = fact.event
    for detection in state.detections:
        if detection.feature == event.feature and not detection.cleared_at:
            detection.cleared_at, detection.cleared_by = event.occurred_at, event.actor
            detection.cleared_window_end = event.window_end


DRIFT = Projection(
    name="drift",
    holds="detections and when they were cleared",
    version=2,
    state_type=Drift,
    handlers={DriftDetected: _detected, DriftCleared: _cleared},
)


class DriftAnswer(msgspec.Struct, frozen=True):
    """Detections, oldest first. open: those not yet cleared."""

    as_of: str
    open: list[Detection]
    detections: list[Detection]


def drift_answer(states: States) -> DriftAnswer:
    """The history of drift: what drifted, when, how much, and whether it has cleared."""
    detections = states.of_control(DRIFT).detections
    return DriftAnswer(states.as_of, [d for d in detections if not d.cleared_at], detections)
