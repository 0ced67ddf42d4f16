"""Gauges whose values are asked for at a scrape, because their series come and go: names, labels and meanings.

Names end with their unit. Labels are bounded: partitions, roles, severities, names of models, read models and actions;
never of a person. Who exports a gauge fills it (`ingest.condition`, `console.follower_health`,
`console.api.system_gauges`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from core.assignment import WHOLE
from core.control import ControlState
from core.errors import BadInput
from core.policy import SEVERITIES


class Family(NamedTuple):
    """A gauge's name, what it says, its labels, and which processes export it."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    by: str = "console"

    def of(self, values: Mapping[Any, float]) -> Metric:
        """The gauge with these values, by tuples of the labels' values in order."""
        family = GaugeMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, value in values.items():
            family.add_metric(labels, float(value))
        return family

    def is_(self, value: float | None) -> Metric:
        """The gauge without labels; without a value, no series."""
        return self.of({} if value is None else {(): value})


READY = Family("sentinel_ready", "1 if this check of /readyz passes, else 0", ("check",), by="all")
MODEL = Family(
    "sentinel_model_info",
    "1 for each deployed model, by its role (champion, shadow or an experiment's arm); digest: of its SHA-256",
    ("role", "model", "digest"),
    by="worker, console",
)
PROGRAM = Family(
    "sentinel_program_info", "1 for the program in force; digest: of its SHA-256", ("digest",), by="worker, console"
)
CONTROL = Family(
    "sentinel_control_position",
    "Position of the control stream up to which this process has read it",
    by="worker, console",
)
LAG = Family(
    "sentinel_kafka_lag_messages",
    "Messages of a partition that are not decided yet, at most; topic: transactions or feedback",
    ("topic", "partition"),
    by="worker (its own partitions), console (all)",
)
SNAPSHOT_AGE = Family(
    "sentinel_snapshot_age_seconds",
    "Since a partition's state was last that of its snapshot: what a restart folds again; 0 if nothing was decided"
    " since",
    ("partition",),
    by="worker",
)
TABLE_AGE = Family(
    "sentinel_table_age_seconds", "Since the payments' time up to which a table counts", ("kind",), by="worker, console"
)
ANCHOR_AGE = Family(
    "sentinel_anchor_age_seconds", "Since the newest signed checkpoint that the log names", by="worker, console"
)
ANCHORS_FAILING = Family(
    "sentinel_anchor_destinations_failing", "Destinations that did not take the newest checkpoint", by="notary"
)
ARCHIVE_AGE = Family(
    "sentinel_archive_age_seconds",
    "Since the oldest batch that is not archived was recorded; 0 if all are",
    ("partition",),
)
PARTITIONS = Family("sentinel_log_partitions", "Partitions of the log")
ORPHANS = Family("sentinel_log_partitions_without_owner", "Partitions that no member of the workers' group has")
LOG_PARKED = Family(
    "sentinel_log_partition_parked", "1 if the log records the partition as parked, else 0", ("partition",)
)
LOG_DEGRADED = Family(
    "sentinel_log_partitions_degraded", "Partitions that are decided without an artifact that did not load"
)
SERVER_UP = Family("sentinel_log_server_up", "1 if the log's servers answer, else 0")
SERVER_MEMORY = Family("sentinel_log_server_memory_bytes", "Memory that a log server uses", ("server",))
SERVER_LIMIT = Family("sentinel_log_server_memory_max_bytes", "Its limit (maxmemory); 0 for none", ("server",))
SERVER_CLIENTS = Family("sentinel_log_server_clients", "Connections to a log server", ("server",))
SERVER_UPTIME = Family("sentinel_log_server_uptime_seconds", "Since a log server was started", ("server",))
KAFKA_UP = Family("sentinel_kafka_up", "1 if Kafka answers, else 0")
VIEW_LAG = Family(
    "sentinel_projection_lag_seconds",
    "Since the oldest entry that a read model has not folded was recorded; 0 if it has folded all",
    ("projection",),
    by="console, projector",
)
VIEW_BEHIND = Family(
    "sentinel_projection_lag_entries",
    "Entries that a read model has not folded",
    ("projection",),
    by="console, projector",
)
VIEW_FAULTED = Family(
    "sentinel_projection_faulted",
    "1 if a read model stands still at an error",
    ("projection",),
    by="console, projector",
)
CASES_OPEN = Family("sentinel_cases_open", "Cases that are not resolved", ("severity",))
CASES_OVERDUE = Family("sentinel_cases_overdue", "Cases that are not resolved and past their deadline", ("severity",))
CASES_AT_RISK = Family("sentinel_cases_at_risk_base_currency", "Alerted payments of open cases, in the base currency")
CASES_RESOLVED = Family(
    "sentinel_cases_resolved", "Resolved cases; clock: met or missed, by their deadline", ("outcome", "clock")
)
DRIFT_OPEN = Family("sentinel_drift_open", "Figures whose drift was detected and has not cleared", ("severity",))
EXPERIMENTS = Family("sentinel_experiments_running", "Experiments that run: 0 or 1")
TRAFFIC = Family("sentinel_experiment_traffic_ratio", "Share of the accounts that take part in the running experiment")
ACTIONS_ON = Family("sentinel_action_enabled", "1 if responders carry an action out, 0 if it is held back", ("action",))
PHASE = Family("sentinel_loop_phase", "1 for the phase of the adaptive loop, 0 for the others", ("phase",), by="loop")
FAMILIES = tuple(each for each in globals().values() if isinstance(each, Family))
"""All of them, for the page of metrics and the tests of dashboards."""
_DIGEST = 16


def deciding(state: ControlState) -> Iterable[Metric]:
    """What decides at a control position: models, program, how far the stream was read."""
    named = {"champion": state.champion, "shadow": state.shadow}
    models = {(role, of.label, of.digest[:_DIGEST]): 1.0 for role, of in named.items() if of is not None}
    for arm in state.experiment.arms if state.experiment is not None else ():
        models[f"arm {arm.name}", f"{arm.model}-{arm.version}", arm.digest[:_DIGEST]] = 1.0
    yield MODEL.of(models)
    with suppress(BadInput):  # a log that has not begun
        yield PROGRAM.of({(state.program_in_force[:_DIGEST],): 1.0})
    yield CONTROL.is_(state.position)


def ages(state: ControlState, now_ms: int) -> Iterable[Metric]:
    """How old tables and the newest anchor are. now_ms: epoch ms."""
    yield TABLE_AGE.of({(kind,): max(now_ms - at, 0) / 1000 for kind, (_, at) in state.references.items()})
    yield ANCHOR_AGE.is_(max(now_ms - state.checkpoint_at, 0) / 1000 if state.checkpoint_at else None)


def experiments(state: ControlState) -> Iterable[Metric]:
    """The running experiment."""
    running = state.experiment
    yield EXPERIMENTS.is_(running is not None)
    yield TRAFFIC.is_(0.0 if running is None else running.traffic / WHOLE)


def by_severity(family: Family, severities: Iterable[str | None]) -> Metric:
    """A count for each severity, and "none" if some have none."""
    found = Counter(severity or "none" for severity in severities)
    return family.of({(name,): found[name] for name in (*SEVERITIES, *(["none"] if found["none"] else []))})
