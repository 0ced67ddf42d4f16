"""`sentinel alerts`: alerts, newest first, with their cases; with --follow, new ones as they are raised."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from console import log_options
from console.following import run_steps
from console.log_options import DIRECTORY, AsOf, Checkpoints, asked, opened_log, opened_states
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from console.search_options import (
    Account,
    Csv,
    From,
    Grade,
    MaxAmount,
    MinAmount,
    Rule,
    To,
    check_amounts,
    check_formats,
    one_of,
    period,
    print_csv,
)
from console.tables import print_fields, print_json, print_table, time_text
from core.errors import BadInput
from core.events import Position, Severity
from core.log.base import EventLog, Stream
from projections.views.alerts import AlertFilter, AlertRow, Status, alerts_answer, just_raised

WAIT_MS = 1_000
PAUSE_S = 0.2
_SHOWN = ("recorded_at", "alert_id", "account_id", "severity", "fraud_score", "amount", "currency", "stage", "rules")


def alerts(
    context: typer.Context,
    status: Annotated[str, typer.Argument(metavar="[open|closed|all]", help="By their case.")] = "open",
    start: From = None,
    end: To = None,
    account: Account = None,
    rule: Rule = None,
    severity: Grade = None,
    min_score: Annotated[float, typer.Option("--min-score", help="At least this fraud score.", min=0, max=1)] = 0.0,
    min_amount: MinAmount = None,
    max_amount: MaxAmount = None,
    limit: Annotated[int, typer.Option(help="Maximum number of rows, the newest.", min=1)] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Then print new alerts until Ctrl-C.")] = False,
    as_of: AsOf = None,
    as_json: Json = False,
    as_csv: Csv = False,
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    checkpoint_directory: Checkpoints = DIRECTORY,
) -> None:
    """Alerts, newest first, by when they were raised: those whose case is open, or closed ones, or all. Exit code 1 if
    none matches.

    With --follow, new alerts are printed one line each, as JSON objects with --json.
    """
    check_formats(as_json, as_csv)
    check_amounts(min_amount, max_amount)
    if follow and (as_of is not None or end is not None or as_csv):
        raise BadInput("--follow can't be combined with --as-of, --to or --csv")
    first, last = period(start, end)
    log_options.options(context, config, redis_host, redis_port, log_prefix, checkpoint_directory)
    with opened_states(context, as_of) as states:
        wanted = AlertFilter(
            status=one_of("the status", status, Status),
            account=asked(context, states.log, "account_id", account),
            rule=rule,
            severity=one_of("--severity", severity, Severity),
            start=first,
            end=last,
            score=min_score,
            low=min_amount,
            high=max_amount,
        )
        answer = alerts_answer(states, wanted, limit)
        after = {p: bound.transactions for p, bound in states.cut.partitions.items()}
    if as_csv:
        print_csv(AlertRow.__struct_fields__, map(msgspec.structs.asdict, answer.alerts))
    elif as_json:
        print_json(answer)
    else:
        print_table(_SHOWN, map(_shown, answer.alerts))
        print_fields({"counts": answer.counts, "as_of": answer.as_of})
    if follow:
        with opened_log(context) as log:
            run_steps(lambda: tell_new(log, after, wanted, as_json), follow=True, interval_s=PAUSE_S)
    if not answer.alerts:
        raise typer.Exit(1)


def tell_new(log: EventLog, after: dict[int, Position], wanted: AlertFilter, as_json: bool) -> None:
    """Print the alerts that were raised after the positions, which move on. Waits WAIT_MS for the first."""
    stream: Stream = "alerts"
    for (partition, _), page in log.follow({(p, stream): at for p, at in after.items()}, WAIT_MS).items():
        for entry in page:
            row = just_raised(log, partition, entry)
            if wanted.holds(row):
                print(msgspec.json.encode(row).decode() if as_json else _line(row), flush=True)
            after[partition] = entry.id


def _shown(row: AlertRow) -> dict[str, Any]:
    return {**msgspec.structs.asdict(row), "recorded_at": time_text(row.recorded_at)}


def _line(row: AlertRow) -> str:
    about = f"{time_text(row.recorded_at)}  {row.alert_id}  {row.account_id}  {row.severity}  {row.fraud_score:.2f}"
    return f"{about}  {row.amount:,.2f} {row.currency}  {' '.join(row.rules)}"
