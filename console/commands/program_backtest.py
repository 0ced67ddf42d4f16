"""`sentinel program backtest`: what a program would have decided on logged payments, before it decides anything."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from console.log_options import opened_log, settings_of
from console.options import Json, moment
from console.program_names import Which, program_named, registry_of
from console.tables import print_json
from core.errors import BadInput
from core.files import open_private
from core.log.base import EventLog
from core.program import document
from core.text import visible


def backtest(
    context: typer.Context,
    which: Which,
    start: Annotated[
        str | None, typer.Option("--from", help="First event time (2026-01-31[T12:00], UTC) or position (1-533).")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="End of the range: an event time (exclusive) or the last position.")
    ] = None,
    since: Annotated[
        str,
        typer.Option(
            "--since",
            help="Instead of --from: `deployed`, since the program that decides now was deployed, or `proposed`, since"
            " this one was.",
        ),
    ] = "",
    rule: Annotated[str, typer.Option("--rule", metavar="CODE", help="Report on this rule only.")] = "",
    as_of: Annotated[str | None, typer.Option("--as-of", help="Only verdicts given by this time.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes that fold, if a fold is needed.", min=1)] = min(
        2, os.cpu_count() or 1
    ),
    sample: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Judge a share of the accounts, such as 5%, and estimate the rest."),
    ] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Also write the report to this file, as a page.")] = None,
    link: Annotated[
        str,
        typer.Option(help="With --html: an address for a payment, with {transaction_id}, {account_id} or {position}."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Show what a program would have decided: decisions before and after, hits by rule, value, precision, changes.

    A program that reads only what logged scores store is judged from their columns, and so are features that can be
    computed from columns; what columns don't tell is decided again by a fold of the log. Labels come from the
    checkpoints of `sentinel project`, where there are any. Reads only.
    """
    from console import backtest_page, backtest_text, backtesting  # with the decision path
    from console.whatif_changes import scope_of

    known_until = moment("--as-of", as_of)
    if page is not None and not page.resolve().parent.is_dir():
        raise BadInput(f"--html {page}: the directory {page.parent} does not exist")
    if link and "{" not in link:
        raise BadInput(f"--link {link}: name the payment by {{transaction_id}}, {{account_id}} or {{position}}")
    if since and start is not None:
        raise BadInput("give --from or --since, not both")
    with opened_log(context) as log:
        start = _since(log, since, which) if since else start
        wanted = backtesting.Wanted(which, scope_of(start, end), rule, known_until, jobs, _share(sample))
        found = backtesting.run(log, settings_of(context), wanted, context.obj.directory, quiet=as_json)
    if page is not None:
        with open_private(page) as file:
            file.write(backtest_page.page(found, rule, link))
    if as_json:
        print_json(found)
    else:
        print(visible(backtest_text.text(found, rule), lines=True))


def _share(text: str | None) -> float | None:
    """A share in (0, 1] from "5%" or "0.05"."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        share = 0.0
    if not 0.0 < share <= 1.0:
        raise BadInput(f"--sample {text}: give a share of the accounts, such as 5% or 0.05")
    return share


def _since(log: EventLog, since: str, which: str) -> str:
    """The event time from which on a backtest judges, as `--from` has it. Raises BadInput if that never happened."""
    registry = registry_of(log)
    match since:
        case "deployed":
            said = [each.began for each in registry.services]
            missing = "the log's default program decides, and none was ever deployed"
        case "proposed":
            digest = document.digest(program_named(log, registry, which))
            said = [each.proposed for each in registry.proposals.values() if each.digest == digest]
            missing = f"{which} is not proposed"
        case _:
            raise BadInput(f"--since {since}: expected `deployed` or `proposed`; for a time there is --from")
    if not said:
        raise BadInput(f"--since {since}: {missing}")
    return datetime.fromtimestamp(said[-1].occurred_at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
