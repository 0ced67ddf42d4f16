"""Health and metrics of the commands that follow the log: what `ingest.health` serves for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from prometheus_client import Metric

from core.log.base import EventLog
from core.settings import Settings
from ingest import families
from ingest.health import STEP_S, Health, log_check, serve
from projections.engine.runner import Status


def followed(s: Settings, log: EventLog, step_s: float = STEP_S) -> Health:
    """The health of a process that takes steps of at most `step_s`, served if the settings give a port. Raises
    Unavailable if the port is taken.
    """
    health = Health()
    health.check("log", log_check(log))
    health.follow_steps(step_s)
    serve(s, health)
    health.started()
    return health


def trouble(found: Sequence[Status], lag_max: int) -> str:
    """What is wrong with read models: those that stand still, and those with too much left to fold."""
    faulted = sorted({each.projection for each in found if each.current and each.condition == "faulted"})
    if faulted:
        return f"at a standstill after an error: {', '.join(faulted)}"
    late = {name: behind for name, (behind, _, _) in _by_name(found).items() if behind > lag_max}
    if late:
        name, behind = max(late.items(), key=lambda each: each[1])
        return f"{name} has {behind:,} entries left to fold, more than {lag_max:,}"
    return ""


def read_models(found: Sequence[Status]) -> Iterable[Metric]:
    """Their gauges."""
    rows = _by_name(found)
    yield families.VIEW_BEHIND.of({(name,): behind for name, (behind, _, _) in rows.items()})
    yield families.VIEW_LAG.of({(name,): seconds for name, (_, seconds, _) in rows.items()})
    yield families.VIEW_FAULTED.of({(name,): is_faulted for name, (_, _, is_faulted) in rows.items()})


def _by_name(found: Sequence[Status]) -> dict[str, tuple[int, float, bool]]:
    """Of each current read model: entries behind, seconds behind, whether a source is faulted."""
    ordered = sorted((each for each in found if each.current), key=lambda each: each.projection)
    return {
        name: (
            sum(each.lag_events for each in of),
            max(each.lag_seconds for each in of),
            any(each.condition == "faulted" for each in of),
        )
        for name, group in groupby(ordered, lambda each: each.projection)
        for of in [list(group)]
    }
