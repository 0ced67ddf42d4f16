"""What Grafana's dashboards show (`tests.builders.dashboards` writes them).

A panel is its title, what it shows, its unit, and its queries with their legends. Gauges of the system come from every
process that knows them, so queries take `max by`; counters of workers add up.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

PER_S, COUNT, SECONDS, BYTES, SHARE = "cps", "short", "s", "bytes", "percentunit"


class Panel(NamedTuple):
    """kind: a curve, one figure, or a table of labels. queries: expression and legend."""

    title: str
    shows: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Literal["timeseries", "stat", "table"] = "timeseries"


class Dashboard(NamedTuple):
    """name: of its file, and its uid after "stream-sentinel-"."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def curve(title: str, shows: str, unit: str, *queries: tuple[str, str]) -> Panel:
    return Panel(title, shows, unit, queries)


def figure(title: str, shows: str, unit: str, query: str) -> Panel:
    return Panel(title, shows, unit, ((query, title),), "stat")


def table(title: str, shows: str, query: str) -> Panel:
    return Panel(title, shows, COUNT, ((query, ""),), "table")


def rate(name: str, by: str = "", where: str = "") -> str:
    """A counter's rate over a minute, all processes together."""
    return f"sum{f' by ({by})' if by else ''} (rate({name}{where}[1m]))"


def quantile(q: float, name: str, by: str = "") -> str:
    """A quantile of a histogram over a minute, over all processes."""
    return f"histogram_quantile({q:g}, sum by (le{f', {by}' if by else ''}) (rate({name}_bucket[1m])))"


def known(name: str, by: str = "") -> str:
    """A gauge that several processes may export."""
    return f"max by ({by}) ({name})" if by else f"max({name})"


def total(name: str, by: str) -> str:
    return f"sum(max by ({by}) ({name}))"


TRANSACTIONS = rate("sentinel_transactions_total")
DECLINED = rate("sentinel_transactions_total", where='{decision="decline"}')
ALERTS = rate("sentinel_alerts_total")
LAG = "max by (topic, partition) (sentinel_kafka_lag_messages)"
LATENCY = "sentinel_latency_seconds"

OVERVIEW = Dashboard(
    "overview",
    "Overview",
    (
        figure("Transactions/s", "Decided and durable, all workers.", PER_S, TRANSACTIONS),
        figure("Latency p99", "From Kafka's timestamp to the durable decision.", SECONDS, quantile(0.99, LATENCY)),
        figure(
            "Failed checks", "Checks of /readyz that fail now, of any process.", COUNT, "sum(sentinel_ready == bool 0)"
        ),
        figure("Messages waiting", "In Kafka and not decided.", COUNT, f"sum({LAG})"),
        figure("Alert rate", "Alerts per transaction.", SHARE, f"{ALERTS} / {TRANSACTIONS}"),
        figure("Overdue cases", "Open cases past their deadline.", COUNT, total("sentinel_cases_overdue", "severity")),
        curve(
            "Decisions/s",
            "By decision, all workers.",
            PER_S,
            (rate("sentinel_transactions_total", "decision"), "{{decision}}"),
        ),
        curve(
            "Latency",
            "From Kafka's timestamp to the durable decision, all workers.",
            SECONDS,
            *((quantile(q, LATENCY), f"p{q * 100:g}") for q in (0.5, 0.99, 0.999)),
        ),
        curve(
            "Partitions",
            "Of the log, and those without an owner: the second must be 0.",
            COUNT,
            (known("sentinel_log_partitions"), "all"),
            (known("sentinel_log_partitions_without_owner"), "without owner"),
        ),
        curve(
            "Checks of /readyz",
            "1 if it passes in every process.",
            COUNT,
            ("min by (check) (sentinel_ready)", "{{check}}"),
        ),
        table("What decides", "Deployed models by role.", known("sentinel_model_info", "role, model, digest")),
        table("Releases", "Processes by release.", "count by (version, job) (sentinel_build_info)"),
    ),
)
WORKER = Dashboard(
    "worker",
    "Worker",
    (
        curve(
            "Latency",
            "From Kafka's timestamp to the durable decision, by worker.",
            SECONDS,
            (quantile(0.99, LATENCY, "instance"), "p99 {{instance}}"),
        ),
        curve(
            "Stages, p99",
            "Time of each stage of a batch. Appending overlaps with deciding the next batch.",
            SECONDS,
            (quantile(0.99, "sentinel_stage_seconds", "stage"), "{{stage}}"),
        ),
        curve(
            "Batches/s",
            "How often each stage runs.",
            PER_S,
            ("sum by (stage) (rate(sentinel_stage_seconds_count[1m]))", "{{stage}}"),
        ),
        curve(
            "Messages waiting",
            "In Kafka and not decided, by topic and partition.",
            COUNT,
            (LAG, "{{topic}} {{partition}}"),
        ),
        curve(
            "Partitions by worker",
            "Owned by each.",
            COUNT,
            ("max by (instance) (sentinel_partitions_owned)", "{{instance}}"),
        ),
        curve(
            "Partitions in trouble",
            "Stalled: messages wait and none is decided. Parked: can't be decided. Both must be 0.",
            COUNT,
            ("sum(sentinel_partitions_stalled)", "stalled"),
            ("sum(sentinel_partitions_parked)", "parked"),
        ),
        curve(
            "Rejects/s",
            "Messages rejected, by reason.",
            PER_S,
            (rate("sentinel_rejects_total", "reason"), "{{reason}}"),
        ),
        curve(
            "Refused appends/s",
            "Another writer came first: a few around a rebalance are normal.",
            PER_S,
            (rate("sentinel_append_conflicts_total"), "refused"),
        ),
        curve(
            "Feedback/s",
            "Verdicts and other account events applied.",
            PER_S,
            (rate("sentinel_feedback_total"), "feedback"),
        ),
        curve(
            "Unreadable messages/s",
            "In batches that Kafka gave damaged, and that were passed.",
            PER_S,
            (rate("sentinel_messages_skipped_total"), "skipped"),
        ),
        curve(
            "CPU",
            "Cores that each worker uses.",
            COUNT,
            ('rate(process_cpu_seconds_total{job="worker"}[1m])', "{{instance}}"),
        ),
        curve("Memory", "Resident, by worker.", BYTES, ('process_resident_memory_bytes{job="worker"}', "{{instance}}")),
        curve(
            "Accounts",
            "Held in memory, by worker.",
            COUNT,
            ("max by (instance) (sentinel_accounts_held)", "{{instance}}"),
        ),
        curve(
            "Forgotten/s",
            "Accounts evicted from full partitions, and payments whose repetition is no longer recognised.",
            PER_S,
            (rate("sentinel_accounts_evicted_total"), "accounts"),
            (rate("sentinel_payments_forgotten_total"), "payments"),
        ),
        curve(
            "Snapshot age",
            "What a restart would have to fold again, by partition.",
            SECONDS,
            (known("sentinel_snapshot_age_seconds", "partition"), "{{partition}}"),
        ),
        curve(
            "Control position",
            "Up to where each process has read the control stream: all must agree within seconds.",
            COUNT,
            ("max by (job, instance) (sentinel_control_position)", "{{job}} {{instance}}"),
        ),
    ),
)
MODEL = Dashboard(
    "model",
    "Model quality",
    (
        figure("Alert rate", "Alerts per transaction.", SHARE, f"{ALERTS} / {TRANSACTIONS}"),
        figure(
            "Precision of alerts",
            "Share of fraud among resolved cases that are fraud or legitimate.",
            SHARE,
            'sum(max by (clock) (sentinel_cases_resolved{outcome="fraud"}))'
            ' / sum(max by (outcome, clock) (sentinel_cases_resolved{outcome=~"fraud|legitimate"}))',
        ),
        figure(
            "Degraded decisions",
            "Share of decisions without the model or a table, over a minute.",
            SHARE,
            f"{rate('sentinel_degraded_total')} / {TRANSACTIONS}",
        ),
        figure("Open drift", "Figures whose drift has not cleared.", COUNT, total("sentinel_drift_open", "severity")),
        curve(
            "Probability of fraud",
            "Quantiles of what the deciding model said: a shift without a new model is drift.",
            SHARE,
            *((quantile(q, "sentinel_fraud_probability"), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)),
        ),
        curve(
            "Mean probability",
            "Expected share of fraud among the payments decided.",
            SHARE,
            (f"{rate('sentinel_fraud_probability_sum')} / {rate('sentinel_fraud_probability_count')}", "mean"),
        ),
        curve(
            "Decisions",
            "Share of each decision.",
            SHARE,
            (
                f"{rate('sentinel_transactions_total', 'decision')} / ignoring(decision) group_left() {TRANSACTIONS}",
                "{{decision}}",
            ),
        ),
        curve("Alerts/s", "By severity.", PER_S, (rate("sentinel_alerts_total", "severity"), "{{severity}}")),
        curve(
            "Drift", "Open detections, by severity.", COUNT, (known("sentinel_drift_open", "severity"), "{{severity}}")
        ),
        curve(
            "Experiment",
            "Share of the accounts in the running experiment; 0 without one.",
            SHARE,
            (known("sentinel_experiment_traffic_ratio"), "traffic"),
        ),
        curve(
            "Adaptive loop",
            "1 for the phase that it is in.",
            COUNT,
            (known("sentinel_loop_phase", "phase"), "{{phase}}"),
        ),
        curve(
            "Table age",
            "By kind of reference table.",
            SECONDS,
            (known("sentinel_table_age_seconds", "kind"), "{{kind}}"),
        ),
        table("Models", "Deployed, by role.", known("sentinel_model_info", "role, model, digest")),
        table("Program", "In force.", known("sentinel_program_info", "digest")),
    ),
)
LOG = Dashboard(
    "log",
    "Log and archive",
    (
        figure("Log servers", "1 if they answer.", COUNT, "min(sentinel_log_server_up)"),
        figure("Kafka", "1 if it answers.", COUNT, "min(sentinel_kafka_up)"),
        figure("Anchor age", "Since the newest signed checkpoint.", SECONDS, known("sentinel_anchor_age_seconds")),
        figure(
            "Archive age", "Of the oldest batch that is not archived.", SECONDS, known("sentinel_archive_age_seconds")
        ),
        curve(
            "Log server memory",
            "In use, and the limit where there is one.",
            BYTES,
            (known("sentinel_log_server_memory_bytes", "server"), "{{server}}"),
            (known("sentinel_log_server_memory_max_bytes", "server"), "limit of {{server}}"),
        ),
        curve(
            "Append, p50 and p99",
            "From sending a batch to the log server's last answer.",
            SECONDS,
            (
                'histogram_quantile(0.5, sum by (le) (rate(sentinel_stage_seconds_bucket{stage="append"}[1m])))',
                "p50",
            ),
            (
                'histogram_quantile(0.99, sum by (le) (rate(sentinel_stage_seconds_bucket{stage="append"}[1m])))',
                "p99",
            ),
        ),
        curve(
            "Connections", "To each log server.", COUNT, (known("sentinel_log_server_clients", "server"), "{{server}}")
        ),
        curve(
            "Uptime",
            "Of each log server: a drop is a restart.",
            SECONDS,
            (known("sentinel_log_server_uptime_seconds", "server"), "{{server}}"),
        ),
        curve(
            "Archive age",
            "Of the oldest batch that is not archived, by partition.",
            SECONDS,
            (known("sentinel_archive_age_seconds", "partition"), "{{partition}}"),
        ),
        curve(
            "Anchor destinations failing",
            "That did not take the newest checkpoint.",
            COUNT,
            (known("sentinel_anchor_destinations_failing"), "failing"),
        ),
        curve(
            "Read models: left to fold",
            "Entries, by read model.",
            COUNT,
            (known("sentinel_projection_lag_entries", "projection"), "{{projection}}"),
        ),
        curve(
            "Read models: lag",
            "Since the oldest entry that is not folded was recorded.",
            SECONDS,
            (known("sentinel_projection_lag_seconds", "projection"), "{{projection}}"),
        ),
        curve(
            "Read models at a standstill",
            "After an error: must be 0.",
            COUNT,
            (total("sentinel_projection_faulted", "projection"), "faulted"),
        ),
        curve(
            "Partitions parked or degraded",
            "As the log records them: both must be 0.",
            COUNT,
            (total("sentinel_log_partition_parked", "partition"), "parked"),
            (known("sentinel_log_partitions_degraded"), "degraded"),
        ),
        curve("API requests/s", "By status.", PER_S, (rate("sentinel_api_requests_total", "status"), "{{status}}")),
        curve(
            "API, p99",
            "To the response's start, by route.",
            SECONDS,
            (quantile(0.99, "sentinel_api_request_seconds", "route"), "{{route}}"),
        ),
    ),
)
BUSINESS = Dashboard(
    "business",
    "Business",
    (
        figure(
            "Declined",
            "Share of payments declined, over a minute.",
            SHARE,
            f"{DECLINED} / {TRANSACTIONS}",
        ),
        figure("Open cases", "Not resolved.", COUNT, total("sentinel_cases_open", "severity")),
        figure("Overdue cases", "Past their deadline.", COUNT, total("sentinel_cases_overdue", "severity")),
        figure(
            "At risk",
            "Alerted payments of open cases, in the base currency.",
            COUNT,
            known("sentinel_cases_at_risk_base_currency"),
        ),
        curve("Decisions/s", "By decision.", PER_S, (rate("sentinel_transactions_total", "decision"), "{{decision}}")),
        curve("Alerts/s", "By severity.", PER_S, (rate("sentinel_alerts_total", "severity"), "{{severity}}")),
        curve("Open cases", "By severity.", COUNT, (known("sentinel_cases_open", "severity"), "{{severity}}")),
        curve("Overdue cases", "By severity.", COUNT, (known("sentinel_cases_overdue", "severity"), "{{severity}}")),
        curve(
            "Resolved cases",
            "All of the log, by outcome.",
            COUNT,
            ("sum by (outcome) (max by (outcome, clock) (sentinel_cases_resolved))", "{{outcome}}"),
        ),
        curve(
            "Deadlines met",
            "Share of resolved cases with a deadline that were resolved in time.",
            SHARE,
            (
                'sum(max by (outcome) (sentinel_cases_resolved{clock="met"}))'
                ' / sum(max by (outcome, clock) (sentinel_cases_resolved{clock=~"met|missed"}))',
                "met",
            ),
        ),
        curve(
            "Actions/s",
            "Carried out or parked by responders, by action and outcome.",
            PER_S,
            (rate("sentinel_responder_actions_total", "action, outcome"), "{{action}} {{outcome}}"),
        ),
        curve(
            "Alert to action, p99",
            "Intended delays included, by severity of the alert.",
            SECONDS,
            (quantile(0.99, "sentinel_responder_response_seconds", "severity"), "{{severity}}"),
        ),
        curve(
            "Actions that wait",
            "Waiting, held back, and parked.",
            COUNT,
            ("sum(sentinel_responder_waiting)", "waiting"),
            ("sum by (why) (sentinel_responder_held)", "held: {{why}}"),
            ("sum(sentinel_responder_parked)", "parked"),
        ),
        curve(
            "Late actions/s",
            "Carried out after their deadline, by severity.",
            PER_S,
            (rate("sentinel_responder_late_total", "severity"), "{{severity}}"),
        ),
        table("Actions", "1 if responders carry it out.", known("sentinel_action_enabled", "action")),
        curve("Feedback/s", "Verdicts and other account events.", PER_S, (rate("sentinel_feedback_total"), "feedback")),
    ),
)
DASHBOARDS = (OVERVIEW, WORKER, MODEL, LOG, BUSINESS)
