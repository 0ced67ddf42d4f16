"""Prometheus metrics of responders. Times are wall clock, seconds."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from core.policy import SEVERITIES

_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400)
_REACTION = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1)

RESPONDER = CollectorRegistry()
ACTIONS = Counter("sentinel_responder_actions_total", "Actions settled", ["action", "outcome"], registry=RESPONDER)
RESPONSE = Histogram(
    "sentinel_responder_response_seconds",
    "From the record of an alert to its executed action, intended delays included",
    ["severity"],
    buckets=_BOUNDS,
    registry=RESPONDER,
)
REACTION = Histogram(
    "sentinel_responder_reaction_seconds",
    "From reading an alert to acting on it, or to a message being ready for its channel; without intended delays",
    buckets=_REACTION,
    registry=RESPONDER,
)
LATE = Counter("sentinel_responder_late_total", "Actions carried out after their SLA", ["severity"], registry=RESPONDER)
WAITING = Gauge("sentinel_responder_waiting", "Items that wait in this responder's partitions", registry=RESPONDER)
HELD = Gauge(
    "sentinel_responder_held", "Items held back: switched off, or blocks above the limit", ["why"], registry=RESPONDER
)
PARKED = Gauge("sentinel_responder_parked", "Parked items of this responder's partitions", registry=RESPONDER)
FAILING = Gauge(
    "sentinel_responder_channel_failing", "1 while a channel does not take messages", ["channel"], registry=RESPONDER
)
REPEATED = Gauge(
    "sentinel_responder_repeated", "Outcomes in the log of items that were settled before", registry=RESPONDER
)
OWNED = Gauge("sentinel_responder_partitions_owned", "Partitions that this responder acts on", registry=RESPONDER)


def begin(actions: Iterable[str], channels: Iterable[str]) -> None:
    """Export zeros from the beginning, so that the first of each is an increase."""
    for action in actions:
        ACTIONS.labels(action, "succeeded")
    for channel in channels:
        FAILING.labels(channel)
    for severity in SEVERITIES:
        LATE.labels(severity)
        RESPONSE.labels(severity)
