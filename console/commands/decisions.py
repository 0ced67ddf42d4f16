"""`sentinel decisions`: payments and what was decided on them, newest first."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from console import log_options
from console.api.answers import DecisionRow
from console.log_options import DIRECTORY, AsOf, opened_log, settings_of
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
    plain_rows,
    print_csv,
)
from console.tables import print_fields, print_json, print_table, time_text
from core.events import Decision, Severity
from core.log.base import EventLog
from projections.tables.query import IDENTIFIERS, Query

LIMIT_MAX = 100_000
_COLUMNS = {name: "received_at" if name == "at" else name for name in DecisionRow.__struct_fields__}
"""The columns of the API's rows, and what the log's table calls them."""
_SHOWN = ("at", "account_id", "merchant_id", "amount", "currency", "decision", "probability", "rules", "place")


def decisions(
    context: typer.Context,
    start: From = None,
    end: To = None,
    account: Account = None,
    merchant: Annotated[str | None, typer.Option(help="Only at this merchant.")] = None,
    device: Annotated[str | None, typer.Option(help="Only from this device.")] = None,
    card: Annotated[str | None, typer.Option(help="Only with this card.")] = None,
    decision: Annotated[str | None, typer.Option(help="approve, review or decline.")] = None,
    rule: Rule = None,
    severity: Grade = None,
    min_amount: MinAmount = None,
    max_amount: MaxAmount = None,
    alerts_only: Annotated[bool, typer.Option("--alerts-only", help="Only those that raised an alert.")] = False,
    limit: Annotated[int, typer.Option(help="Maximum number of rows, the newest.", min=1, max=LIMIT_MAX)] = 50,
    as_of: AsOf = None,
    as_json: Json = False,
    as_csv: Csv = False,
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
) -> None:
    """Search decisions, newest first, by when the payment was received. Exit code 1 if none matches.

    Identifiers are shown as the log holds them, and may be given raw: a log with tokens is searched by tokens. Without
    --account every payment of the log is looked at; `sentinel export` writes more than fits a search.
    """
    check_formats(as_json, as_csv)
    check_amounts(min_amount, max_amount)
    first, last = period(start, end)
    log_options.options(context, config, redis_host, redis_port, log_prefix, DIRECTORY)
    with opened_log(context) as log:
        ask = log_options.asker(settings_of(context), log)
        given = {"account": account, "merchant": merchant, "device": device, "card": card}
        query = Query(
            **{name: ask(IDENTIFIERS[name], value) for name, value in given.items() if value},
            decision=one_of("--decision", decision, Decision),
            rule=rule,
            severity=one_of("--severity", severity, Severity),
            alerts=alerts_only,
            start=first,
            end=last,
            low=min_amount,
            high=max_amount,
        )
        found = _search(log, query, limit, as_of)
    if as_csv:
        print_csv([*_COLUMNS], found.decisions)
    elif as_json:
        print_json(found)
    else:
        print_table(_SHOWN, [{**row, "at": time_text(row["at"])} for row in found.decisions])
        print_fields({"decisions": len(found.decisions), "as_of": found.as_of})
    if not found.decisions:
        raise typer.Exit(1)


class _Answer(msgspec.Struct, frozen=True):
    """Decisions as the API gives them, newest first, and their cut."""

    as_of: str
    decisions: list[dict[str, Any]]


def _search(log: EventLog, query: Query, limit: int, as_of: str | None) -> _Answer:
    from projections.tables.searching import search  # loads Polars

    found = search(log, query, limit, [*_COLUMNS.values()], as_of)
    rows = found.rows.rename({column: name for name, column in _COLUMNS.items()})
    return _Answer(found.as_of, plain_rows(rows))
