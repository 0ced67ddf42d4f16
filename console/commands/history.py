"""`sentinel history`: history mode, in which past data is taken as received when it was dated."""

from __future__ import annotations

from typing import Annotated

import typer

from console.acts import Actor, Reason, act_of
from console.log_options import opened_log, options, settings_of
from console.options import Json
from console.tables import print_json, print_table, time_text
from core import control_stream
from core.errors import BadInput
from core.events import HistoryEnded, HistoryStarted
from core.times import minute_text
from ingest import copying, history
from projections.engine.as_of import parse_time

app = typer.Typer(
    help="History mode: load past data as if each message had been received when it was dated. `sentinel produce` does"
    " so by itself.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.callback()(options)


@app.command()
def start(
    context: typer.Context,
    earliest: Annotated[str, typer.Option("--from", help="Earliest time of a message (2026-01-05, or epoch ms).")],
    latest: Annotated[str, typer.Option("--until", help="Latest time of a message.")],
    reason: Reason,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """From here on take every message as received when it was dated, and reject those outside the range.

    It applies to messages sent after this command has finished.
    """
    first, last = _moment("--from", earliest), _moment("--until", latest)
    with opened_log(context) as log:
        done = history.start(log, settings_of(context), first, last, **act_of(actor, reason, log).fields)
    _print(f"history from {minute_text(first)} to {minute_text(last)} opened", done.position, as_json)


@app.command()
def stop(context: typer.Context, reason: Reason, actor: Actor = "", as_json: Json = False) -> None:
    """End the open history. Messages that were sent before and are not yet decided still belong to it."""
    with opened_log(context) as log:
        done = history.stop(log, settings_of(context), **act_of(actor, reason, log).fields)
    _print("history ended", done.position, as_json)


@app.command()
def copy(
    context: typer.Context,
    transactions: Annotated[str, typer.Option("--from-transactions", help="Topic with the payments to copy.")],
    feedback: Annotated[str, typer.Option("--from-feedback", help="Topic with the feedback to copy.")],
    reason: Reason,
    earliest: Annotated[
        str, typer.Option("--earliest", help="No payment is dated before this. Default: 30 days before the first.")
    ] = "",
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Copy all messages of two topics to this log's topics, as history: how a log gets more partitions.

    Messages that the log's topics hold already are left out, so run it again for what came since, or after it was
    interrupted. See docs/partitions.md.
    """
    s = settings_of(context)
    since = _moment("--earliest", earliest) if earliest else None
    with opened_log(context) as log:
        done = copying.copy(log, s, transactions, feedback, since, **act_of(actor, reason, log).fields)
    if as_json:
        print_json({"transactions": done.transactions, "feedback": done.feedback, "left_out": done.left_out})
    else:
        print(
            f"{done.transactions:,} payments and {done.feedback:,} messages of feedback copied to"
            f" {s.transactions_topic} and {s.feedback_topic}; {done.left_out:,} left out (docs/partitions.md)"
        )


@app.command()
def show(context: typer.Context, as_json: Json = False) -> None:
    """The histories of this log, and whether one is open."""
    with opened_log(context) as log:
        entries = control_stream.accepted(log)
    rows: list[dict[str, object]] = []
    for position, event in entries:
        if isinstance(event, HistoryStarted):
            rows.append(
                {
                    "at": f"c{position}",
                    "from": minute_text(event.earliest),
                    "until": minute_text(event.latest),
                    "opened": time_text(event.occurred_at),
                    "by": event.actor,
                    "reason": event.reason,
                    "ended": "",
                }
            )
        elif isinstance(event, HistoryEnded):
            rows[-1]["ended"] = f"{time_text(event.occurred_at)} (c{position})"
    if as_json:
        print_json({"histories": rows, "open": bool(rows) and not rows[-1]["ended"]})
    elif not rows:
        print("no history: every message so far was live")
    else:
        print_table(("at", "from", "until", "opened", "by", "reason", "ended"), rows)


def _moment(option: str, text: str) -> int:
    moment = parse_time(text)
    if moment is None:
        raise BadInput(f"{option} {text!r} is not a valid time; write 2026-03-06, 2026-03-06T12:00Z or epoch ms")
    return moment


def _print(words: str, position: int, as_json: bool) -> None:
    if as_json:
        print_json({"done": words, "position": position})
    else:
        print(f"{words} at c{position}")
