"""`sentinel query`: what is known now, and what was known at any moment or position. Reads the log only."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import msgspec
import typer

from console.experiment_report import print_report
from console.log_options import AsOf, asked_queries, options
from console.options import Json
from console.query_sources import maturity_rows, pair_rows, source_rows
from console.tables import print_fields as _fields
from console.tables import print_json as _json
from console.tables import print_table as _table
from console.tables import span_text
from console.tables import time_text as _time
from core.errors import BadInput
from core.events import Severity
from core.features.reference import FIRST_COLUMN, Kind
from learners.experiments import shadow as shadow_mode
from learners.experiments.report import report
from projections.labelling.quality import PER_HOUR_MAX, Rules
from projections.queries import CaseRow
from projections.views.labels import MATURITY_DAYS, RELIABILITY, voice

app = typer.Typer(
    help="Ask the log: profiles, cases, labels, sources, registry, lists, drift, stats; now, or as of any moment.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Limit = Annotated[int, typer.Option(help="Rows at most.", min=1)]
Rates = Annotated[
    list[str] | None,
    typer.Option(
        "--rate",
        metavar="SOURCE=N",
        help="Verdicts an hour from which on a voice is held back; may be repeated. Default: "
        + ", ".join(f"{source}={count}" for source, count in PER_HOUR_MAX.items()),
    ),
]
app.callback()(options)


@app.command()
def profile(context: typer.Context, account: str, as_of: AsOf = None, as_json: Json = False) -> None:
    """One account: activity, decisions, alerts, verdicts, blocks. Seconds on any log. Exit code 1 if it is unknown."""
    with asked_queries(context) as queries:
        answer = queries.profile(account, as_of)
    if as_json:
        _json(answer)
    elif answer.profile is None:
        print(f"{account}: the log holds nothing of it (as of {answer.as_of})")
    else:
        held = msgspec.to_builtins(answer.profile)
        for name in ("first_seen", "last_seen", "blocked_since"):
            held[name] = _time(held[name])
        recent = held.pop("recent")
        held.pop("recency")
        _fields({**held, "open_cases": answer.open_cases, "partition": answer.partition, "as_of": answer.as_of})
        columns = ("position", "occurred_at", "amount", "currency", "merchant_id", "country", "decision", "probability")
        _table(columns, [{**row, "occurred_at": _time(row["occurred_at"])} for row in reversed(recent)])
    if answer.profile is None:
        raise typer.Exit(1)


@app.command()
def cases(
    context: typer.Context,
    account: Annotated[str | None, typer.Option(help="Only this account's (fast).")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Resolved cases too.")] = False,
    assignee: Annotated[str | None, typer.Option(help="Only this analyst's; \"\" for nobody's.")] = None,
    severity: Annotated[str | None, typer.Option(help="low, medium, high or critical.")] = None,
    limit: Limit = 50,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """The queue: unresolved cases, the earliest deadline first."""
    if severity is not None and severity not in get_args(Severity):
        raise BadInput(f"--severity is one of {', '.join(get_args(Severity))}, not {severity!r}")
    stages = ("open", "assigned", "resolved") if everything else ("open", "assigned")
    with asked_queries(context) as queries:
        answer = queries.cases(as_of, account=account, stages=stages, assignee=assignee, severity=severity, limit=limit)
    if as_json:
        _json(answer)
        return
    columns = ("case", "account", "severity", "stage", "clock", "due", "assignee", "alerts", "outcome")
    _table(columns, [_case_row(row) for row in answer.cases])
    _fields({"counts": answer.counts, "as_of": answer.as_of})


@app.command()
def case(context: typer.Context, case_id: str, as_of: AsOf = None, as_json: Json = False) -> None:
    """One case, by its ID or the ID of an alert in it. Exit code 1 if there is none."""
    with asked_queries(context) as queries:
        found = queries.case(case_id, as_of)
    if found is None:
        if as_json:
            print("null")
        else:
            print(f"there is no case {case_id}")
        raise typer.Exit(1)
    if as_json:
        _json(found)
        return
    held = msgspec.to_builtins(found.case)
    alerts, verdicts = held.pop("alerts"), held.pop("verdicts")
    for name in ("opened_at", "due_at", "assigned_at", "resolved_at", "resolved_recorded_at"):
        held[name] = _time(held[name])
    _fields({**held, "clock": found.clock, "partition": found.partition})
    _table(("alert_id", "transaction_id", "severity", "fraud_score", "amount", "currency", "reason_codes"), alerts)
    _table(("transaction_id", "source", "verdict", "actor"), verdicts)


@app.command()
def labels(
    context: typer.Context,
    account: Annotated[str | None, typer.Option(help="Only this account's, unlabelled ones included.")] = None,
    transaction: Annotated[str | None, typer.Option(help="Only this transaction's.")] = None,
    status: Annotated[
        str | None, typer.Option(help="fraud, legitimate, review, pending or presumed_legitimate.")
    ] = None,
    suspect: Annotated[bool, typer.Option("--suspect", help="Only those with a verdict held back for review.")] = False,
    fixed: Annotated[
        bool, typer.Option("--fixed", help="Fixed reliabilities, no check of rates: fast with --account.")
    ] = False,
    rate: Rates = None,
    maturity_days: Annotated[int, typer.Option(help="No verdict means nothing before.", min=0)] = MATURITY_DAYS,
    limit: Limit = 50,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """What transactions turned out to be: the consensus of all verdicts that count, conflicts as `review`.

    A verdict in brackets is held back, and why. Voices weigh what was learned of them (`sentinel query sources`).
    """
    rules = _rules(rate)
    with asked_queries(context) as queries:
        answer = queries.labels(
            as_of,
            account=account,
            transaction=transaction,
            status=status,
            is_suspect=suspect,
            maturity_days=maturity_days,
            limit=limit,
            rules=rules,
            is_fixed=fixed,
        )
    if as_json:
        _json(answer)
        return
    rows = [
        {
            "account": row.account_id,
            "transaction": row.transaction_id,
            "label": row.status,
            "fraud_share": "" if row.consensus is None or row.consensus.share is None else row.consensus.share,
            "weighed": "" if row.consensus is None else row.consensus.method,
            "verdicts": ", ".join(
                f"{voice(said)}: {said.verdict}" + ("" if quality == "accepted" else f" [{quality}]")
                for said, quality in zip(row.verdicts, row.quality, strict=True)
            ),
        }
        for row in answer.labels
    ]
    _table(("account", "transaction", "label", "fraud_share", "weighed", "verdicts"), rows)
    _fields(
        {
            "transactions": answer.transactions,
            "immature": answer.immature,
            "counts": answer.counts,
            "verdicts": answer.quality,
            "as_of": answer.as_of,
        }
    )


@app.command()
def sources(context: typer.Context, rate: Rates = None, as_of: AsOf = None, as_json: Json = False) -> None:
    """Who gives verdicts: how many count, how reliable each source and analyst is, who agrees, how late they come.

    Choose the maturity delay from the last table: the share of frauds that is known so many days after the payment.
    """
    rules = _rules(rate)
    with asked_queries(context) as queries:
        answer = queries.sources(as_of, rules)
    if as_json:
        _json(answer)
        return
    found = answer.report
    for rows in (source_rows(found.sources), source_rows(found.analysts), pair_rows(found), maturity_rows(found)):
        if rows:
            _table(tuple(rows[0]), rows)
            print()
    _fields({"verdicts": answer.quality, "learned_from": f"{found.items:,} transactions with two voices or more"})
    _fields({"as_of": answer.as_of})


def _rules(rates: list[str] | None) -> Rules:
    """Quality rules with these rates instead of the defaults. Raises BadInput."""
    per_hour = dict(PER_HOUR_MAX)
    for text in rates or ():
        source, _, count = text.partition("=")
        if source not in RELIABILITY or not count.isascii() or not count.isdigit():
            raise BadInput(f"--rate {text!r}: write SOURCE=N, with a source of {', '.join(RELIABILITY)}")
        per_hour[source] = int(count)
    return Rules(per_hour=per_hour)


@app.command()
def registry(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Models, stages, lineage; who deployed what, when and why; thresholds, rules and reference tables."""
    with asked_queries(context) as queries:
        answer = queries.registry(as_of)
    if as_json:
        _json(answer)
        return
    models = [
        {
            "model": row.model.label,
            "stage": row.stage,
            "registered": _time(row.model.registered_at),
            "by": row.model.registered_by,
            "from": " ← ".join(row.lineage[1:]),
            "digest": row.model.digest[:16],
        }
        for row in answer.models
    ]
    _table(("model", "stage", "registered", "by", "from", "digest"), models)
    deployments = [
        {**msgspec.to_builtins(d), "when": _time(d.occurred_at), "at": f"c{d.position}"}
        for d in reversed(answer.registry.deployments)
    ]
    _table(("at", "when", "action", "alias", "model", "actor", "reason"), deployments)
    changes = [
        {**msgspec.to_builtins(p), "when": _time(p.occurred_at), "at": f"c{p.position}"} for p in answer.registry.policy
    ]
    _table(("at", "when", "actor", "reason", "change", "refused"), changes)
    _fields(
        {
            "review": answer.registry.review,
            "decline": answer.registry.decline,
            "references": {k: f"{r.rows:,} rows as of {_time(r.as_of)}" for k, r in answer.registry.references.items()},
            "as_of": answer.as_of,
        }
    )


@app.command()
def lists(
    context: typer.Context,
    history: Annotated[bool, typer.Option("--history", help="Every change instead of what is on them.")] = False,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Block, watch and allow lists, and blocked accounts: since when, by whom and why."""
    with asked_queries(context) as queries:
        answer = queries.lists(as_of)
    if as_json:
        _json(answer)
        return
    if history:
        rows = [{**msgspec.to_builtins(c), "when": _time(c.occurred_at)} for c in answer.history]
        _table(("when", "action", "name", "value", "actor", "reason", "position"), rows)
    else:
        on = {**answer.members, "account:blocked": answer.blocked_accounts}
        rows = [
            {"name": name, "value": value, "since": _time(m.since), "actor": m.actor, "reason": m.reason}
            for name, members in on.items()
            for value, m in members.items()
        ]
        _table(("name", "value", "since", "actor", "reason"), rows)
    _fields({"as_of": answer.as_of})


@app.command()
def drift(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """The history of drift: what drifted when, how much, and whether it is over."""
    with asked_queries(context) as queries:
        answer = queries.drift(as_of)
    if as_json:
        _json(answer)
        return
    rows = [
        {**msgspec.to_builtins(d), "detected": _time(d.detected_at), "cleared": _time(d.cleared_at)}
        for d in answer.detections
    ]
    _table(("detected", "feature", "statistic", "magnitude", "severity", "cleared"), rows)
    _fields({"open": len(answer.open), "as_of": answer.as_of})


@app.command()
def experiment(
    context: typer.Context,
    experiment_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Default: the newest.")] = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """An A/B test: exposure by arm, sample ratio, gains with confidence sequences, the verdict so far."""
    with asked_queries(context) as queries:
        answer = queries.experiment(experiment_id, as_of)
    found = report(answer.experiment, answer.seen, answer.as_of)
    if as_json:
        _json(found)
    else:
        print_report(found)


@app.command()
def shadow(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Shadow models: what they would have decided beside what was, and both against labels."""
    with asked_queries(context) as queries:
        found = shadow_mode.report(queries.shadow(as_of))
    if as_json:
        _json(found)
        return
    if not found:
        print("no shadow model has scored anything (sentinel model promote NAME-VERSION --as shadow)")
    for row in found:
        print(f"{row.model} decided, {row.shadow} in its shadow: {row.decisions:,} decisions, log time", end=" ")
        print(f"{_time(row.first_at)} … {_time(row.last_at)}")
        _table(
            ("", row.model, row.shadow),
            [
                {"": "alert rate", row.model: f"{row.alert_rate:.2%}", row.shadow: f"{row.shadow_alert_rate:.2%}"},
                {"": "AUC", row.model: row.auc_roc, row.shadow: row.shadow_auc_roc},
                {"": "average precision", row.model: row.average_precision, row.shadow: row.shadow_average_precision},
            ],
        )
        _fields(
            {
                "decided otherwise": f"{row.changed:.2%} (alerts gained {row.gained:.2%}, lost {row.lost:.2%})",
                "measured on": f"{row.labelled:,} labelled, {row.frauds:,} of them fraud; {row.waiting:,} wait",
            }
        )
        print()
    if found:
        _fields({"as_of": found[0].as_of})


@app.command()
def stats(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Throughput, decisions, rejects, and how old payments were when their decision became durable."""
    with asked_queries(context) as queries:
        answer = queries.stats(as_of)
    if as_json:
        _json(answer)
        return
    rows = [{"partition": name, **msgspec.to_builtins(hour)} for name, hour in answer.partitions.items()]
    rows.append({"partition": "all", **msgspec.to_builtins(answer.totals)})
    _table(("partition", "batches", "transactions", "alerts", "feedback", "rejects"), rows)
    found = answer.throughput
    _fields(
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


@app.command()
def reference(context: typer.Context, kind: str, name: str, as_of: AsOf = None, as_json: Json = False) -> None:
    """What decisions knew of one merchant (terminal) or device. Exit code 1 if the table has no row of it."""
    kinds: dict[str, Kind] = {known: known for known in FIRST_COLUMN}
    if kind not in kinds:
        raise BadInput(f"{kind!r} is no kind of reference table; there are {', '.join(kinds)}")
    with asked_queries(context) as queries:
        answer = queries.reference(kinds[kind], name, as_of)
    if as_json:
        _json(answer)
    elif answer.values is None or answer.table is None:
        print(f"{kind} {name}: the table in force has no row of it (as of {answer.as_of})")
    else:
        _fields({**answer.values, "table": answer.table.digest[:16], "of": _time(answer.table.as_of)})
        _fields({"as_of": answer.as_of})
    if answer.values is None:
        raise typer.Exit(1)


def _case_row(row: CaseRow) -> dict[str, Any]:
    held = row.case
    due = "" if row.due_in_ms is None else f"{row.due_in_ms / 60_000:+.0f} min"
    return {
        "case": held.case_id,
        "account": held.account_id,
        "severity": held.severity or "",
        "stage": held.stage,
        "clock": row.clock,
        "due": due,
        "assignee": held.assignee,
        "alerts": len(held.alerts),
        "outcome": (held.outcome or "") + (" (contradicted)" if held.contradicted else ""),
    }
