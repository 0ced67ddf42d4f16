"""Read-model answers as text: what `sentinel query` prints without --json. One function per answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from console.query_sources import maturity_rows, pair_rows, source_rows
from console.tables import print_fields, print_table, span_text, time_text
from core.policy import SEVERITIES
from core.times import MINUTE_MS
from core.verdicts import rater
from learners.experiments.paired import PairedReport
from learners.experiments.shadow import ShadowReport
from projections.audit.reasons import Reasons, codes_and_values, in_short
from projections.views.case_records import Case
from projections.views.cases import CaseRow, CasesAnswer
from projections.views.drift import DriftAnswer
from projections.views.labels_answers import LabelRow, LabelsAnswer, SourcesAnswer
from projections.views.lists import ListsAnswer
from projections.views.profiles.answers import ProfileAnswer
from projections.views.registry_answers import ModelRow, ReferenceAnswer, RegistryAnswer
from projections.views.throughput import StatsAnswer


def print_profile(answer: ProfileAnswer) -> None:
    """Everything known about the account, and its last transactions, newest first."""
    if answer.profile is None:
        print(f"account {answer.account_id} is not in the log; check the ID (as of {answer.as_of})")
        return
    held = msgspec.to_builtins(answer.profile)
    for name in ("first_seen", "last_seen", "blocked_since"):
        held[name] = time_text(held[name])
    recent = held.pop("recent")
    held.pop("recency")
    print_fields({**held, "open_cases": answer.open_cases, "partition": answer.partition, "as_of": answer.as_of})
    columns = ("position", "occurred_at", "amount", "currency", "merchant_id", "country", "decision", "probability")
    print_table(columns, [{**row, "occurred_at": time_text(row["occurred_at"])} for row in reversed(recent)])


def print_cases(answer: CasesAnswer) -> None:
    """One case per line."""
    columns = (
        *("case", "account", "queue", "severity", "at_risk", "stage", "clock", "due", "assignee", "alerts", "outcome"),
        "because",
    )
    print_table(columns, [_case(row) for row in answer.cases])
    print_fields({"counts": answer.counts, "queues": answer.queues, "as_of": answer.as_of})


def _case(row: CaseRow) -> dict[str, Any]:
    held = row.case
    return {
        "case": held.case_id,
        "account": held.account_id,
        "queue": held.queue,
        "severity": held.severity or "",
        "at_risk": row.amount_at_risk,
        "stage": held.stage,
        "clock": row.clock,
        "due": "" if row.due_in_ms is None else f"{row.due_in_ms / MINUTE_MS:+.0f} min",
        "assignee": held.assignee,
        "alerts": len(held.alerts),
        "outcome": (held.outcome or "") + (" (contradicted)" if held.contradicted else ""),
        "because": _because(held),
    }


def _because(held: Case) -> str:
    """The reason of the case's gravest alert, the newest if there are several."""
    if not held.alerts:
        return ""
    return in_short(max(reversed(held.alerts), key=lambda alert: SEVERITIES.index(alert.severity)))


class ToldCase(CaseRow, frozen=True):
    """A case with its alerts in words, by alert ID."""

    reasons: dict[str, Reasons]


def print_case(row: ToldCase) -> None:
    """One case with its alerts, their reasons and verdicts."""
    held = msgspec.to_builtins(row.case)
    alerts, verdicts = held.pop("alerts"), held.pop("verdicts")
    notes, checks, history = held.pop("notes"), held.pop("checks"), held.pop("history")
    del held["refused"]
    for name in ("opened_at", "due_at", "assigned_at", "resolved_at", "resolved_recorded_at", "snoozed_until"):
        held[name] = time_text(held[name])
    print_fields({**held, "amount_at_risk": row.amount_at_risk, "clock": row.clock, "partition": row.partition})
    columns = ("alert_id", "transaction_id", "severity", "fraud_score", "amount", "currency", "reason_codes")
    coded = zip(alerts, row.case.alerts, strict=True)
    print_table(columns, [{**alert, "reason_codes": codes_and_values(of)} for alert, of in coded])
    said = [
        {"alert_id": alert_id, "reason": sentence}
        for alert_id, reasons in row.reasons.items()
        for sentence in (*reasons.words, *([f"({reasons.missing})"] if reasons.missing else []))
    ]
    print_table(("alert_id", "reason"), said)
    print_table(("transaction_id", "source", "verdict", "actor"), verdicts)
    for events, shown_columns in (
        (history, "when actor work detail"),
        (notes, "when actor note"),
        (checks, "when actor verdict agrees note"),
    ):
        print_table(shown_columns.split(), [{**each, "when": time_text(each["occurred_at"])} for each in events])


def print_labels(answer: LabelsAnswer) -> None:
    """One transaction per line. A verdict in brackets is quarantined, for the reason shown."""
    columns = ("account", "transaction", "label", "fraud_share", "weighed", "verdicts")
    print_table(columns, [_label(row) for row in answer.labels])
    print_fields(
        {
            "transactions": answer.transactions,
            "immature": answer.immature,
            "counts": answer.counts,
            "verdicts": answer.quality,
            "as_of": answer.as_of,
        }
    )


def _label(row: LabelRow) -> dict[str, Any]:
    return {
        "account": row.account_id,
        "transaction": row.transaction_id,
        "label": row.status,
        "fraud_share": "" if row.consensus is None or row.consensus.share is None else row.consensus.share,
        "weighed": "" if row.consensus is None else row.consensus.method,
        "verdicts": ", ".join(
            f"{rater(said)}: {said.verdict}" + ("" if quality == "accepted" else f" [{quality}]")
            for said, quality in zip(row.verdicts, row.quality, strict=True)
        ),
    }


def print_sources(answer: SourcesAnswer) -> None:
    """Sources, analysts, pairs of them, and delays."""
    found = answer.report
    for rows in (source_rows(found.sources), source_rows(found.analysts), pair_rows(found), maturity_rows(found)):
        if rows:
            print_table(tuple(rows[0]), rows)
            print()
    print_fields({"verdicts": answer.quality, "learned_from": f"{found.items:,} transactions judged twice or more"})
    print_fields({"as_of": answer.as_of})


def print_models(rows: Sequence[ModelRow]) -> None:
    """One model per line, with its stage and lineage."""
    print_table(
        ("model", "stage", "registered", "by", "from", "digest"),
        [
            {
                "model": row.model.label,
                "stage": row.stage,
                "registered": time_text(row.model.registered_at),
                "by": row.model.registered_by,
                "from": " ← ".join(row.lineage[1:]),
                "digest": row.model.digest[:16],
            }
            for row in rows
        ],
    )


def print_registry(answer: RegistryAnswer) -> None:
    """Models, deployments (newest first), policy changes, and what is in force."""
    print_models(answer.models)
    state = answer.registry
    deployments = [
        {**msgspec.to_builtins(d), "when": time_text(d.occurred_at), "at": f"c{d.position}"}
        for d in reversed(state.deployments)
    ]
    print_table(("at", "when", "action", "alias", "model", "actor", "reason"), deployments)
    changes = [
        {**msgspec.to_builtins(p), "when": time_text(p.occurred_at), "at": f"c{p.position}"} for p in state.policy
    ]
    print_table(("at", "when", "actor", "reason", "change", "refused"), changes)
    print_fields(
        {
            "review": state.review,
            "decline": state.decline,
            "references": {k: f"{r.rows:,} rows as of {time_text(r.as_of)}" for k, r in state.references.items()},
            "as_of": answer.as_of,
        }
    )


def print_lists(answer: ListsAnswer) -> None:
    """The current list entries."""
    on = {**answer.members, "account:blocked": answer.blocked_accounts}
    rows = [
        {"name": name, "value": value, "since": time_text(m.since), "actor": m.actor, "reason": m.reason}
        for name, members in on.items()
        for value, m in members.items()
    ]
    print_table(("name", "value", "since", "actor", "reason"), rows)
    print_fields({"as_of": answer.as_of})


def print_list_history(answer: ListsAnswer) -> None:
    """Every list change, oldest first."""
    rows = [{**msgspec.to_builtins(c), "when": time_text(c.occurred_at)} for c in answer.history]
    print_table(("when", "action", "name", "value", "actor", "reason", "position"), rows)
    print_fields({"as_of": answer.as_of})


def print_drift(answer: DriftAnswer) -> None:
    """One detection per line."""
    rows = [
        {**msgspec.to_builtins(d), "detected": time_text(d.detected_at), "cleared": time_text(d.cleared_at)}
        for d in answer.detections
    ]
    print_table(("detected", "feature", "statistic", "magnitude", "severity", "cleared"), rows)
    print_fields({"open": len(answer.open), "as_of": answer.as_of})


def print_shadows(found: Sequence[ShadowReport]) -> None:
    """Each pair of deciding model and shadow, side by side."""
    if not found:
        print("no shadow model has scored anything; deploy one: sentinel model promote NAME-VERSION --as shadow")
        return
    for row in found:
        print(f"{row.model} decided, shadowed by {row.shadow}: {row.decisions:,} decisions, log time", end=" ")
        print(f"{time_text(row.first_at)} … {time_text(row.last_at)}")
        print_table(
            ("", row.model, row.shadow),
            [
                {"": "alert rate", row.model: f"{row.alert_rate:.2%}", row.shadow: f"{row.shadow_alert_rate:.2%}"},
                {"": "AUC", row.model: row.auc_roc, row.shadow: row.shadow_auc_roc},
                {"": "average precision", row.model: row.average_precision, row.shadow: row.shadow_average_precision},
            ],
        )
        print_fields(
            {
                "decisions changed": f"{row.changed:.2%} (alerts gained {row.gained:.2%}, lost {row.lost:.2%})",
                "measured on": f"{row.labelled:,} labelled, {row.frauds:,} of them fraud;"
                f" {row.unlabelled:,} pending or in review",
            }
        )
        if row.trial is not None:
            _print_trial(row.trial)
        print()
    print_fields({"as_of": found[0].as_of})


def _print_trial(trial: PairedReport) -> None:
    """The paired test of a shadow: gains per account, and the verdict."""
    print_table(
        ("metric", "gain", "from", "to", "p_better", "p_worse"),
        [
            {
                "metric": f.metric,
                "gain": f"{f.gain:+.4%}" if f.gain == f.gain else "",
                "from": f"{f.interval.low:+.4%}",
                "to": f"{f.interval.high:+.4%}",
                "p_better": f"{f.p_better:.2g}",
                "p_worse": f"{f.p_worse:.2g}",
            }
            for f in trial.findings
        ],
    )
    shown = {"promote": "better", "rollback": "worse", "stop": "no gain", "continue": "continue"}
    print_fields(
        {
            "paired test": shown[trial.verdict.action],
            "because": "; ".join(trial.verdict.reasons),
            "accounts": f"{trial.mature:,} mature of {trial.accounts:,}; {trial.changed:,} decided differently",
        }
    )


def print_stats(answer: StatsAnswer) -> None:
    """One partition per line, then the figures of the whole log."""
    rows = [{"partition": name, **msgspec.to_builtins(hour)} for name, hour in answer.partitions.items()]
    rows.append({"partition": "all", **msgspec.to_builtins(answer.totals)})
    print_table(("partition", "batches", "transactions", "alerts", "feedback", "rejects"), rows)
    found = answer.throughput
    print_fields(
        {
            "transactions_per_s": round(answer.per_s, 1),
            "age_at_most": {p: span_text(ms) for p, ms in answer.latency_ms_at_most.items() if ms is not None},
            "decisions": found.decisions,
            "models": found.models,
            "degraded": found.degraded,
            "rejects": found.rejects,
            "as_of": answer.as_of,
        }
    )


def print_reference(answer: ReferenceAnswer) -> None:
    """The columns that decisions joined."""
    if answer.values is None or answer.table is None:
        print(f"{answer.kind} {answer.id} is not in the table in force; check the ID (as of {answer.as_of})")
        return
    print_fields({**answer.values, "table": answer.table.digest[:16], "table as of": time_text(answer.table.as_of)})
    print_fields({"as_of": answer.as_of})


LAYOUTS: dict[str, Callable[[Any], None]] = {
    "registry": print_registry,
    "drift": print_drift,
    "stats": print_stats,
}
"""Layouts of the subcommands that `sentinel query` derives, by question (`projections.catalogue.QUESTIONS`). A question
without a layout is printed as JSON.
"""
