"""`sentinel program radius`: what a rule or a program has touched since it decides."""

from __future__ import annotations

from typing import Annotated

import typer

from console.log_options import opened_log, settings_of
from console.options import Json
from console.program_names import program_named, registry_of
from console.tables import print_fields, print_json, time_text
from core import control_stream
from core.control_stream import identity_of
from core.errors import BadInput
from core.log.base import EventLog
from core.partitions import partitions_of
from core.program import document, loading
from core.text import listed


def radius(
    context: typer.Context,
    which: Annotated[
        str, typer.Argument(metavar="[PROGRAM]", help="The program; without it, all that ever decided.")
    ] = "",
    rule: Annotated[str, typer.Option("--rule", metavar="CODE", help="Only decisions that this rule hit.")] = "",
    start: Annotated[
        str | None, typer.Option("--from", help="First event time (2026-01-31[T12:00], UTC) or position (1-533).")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="End of the range: an event time (exclusive) or the last position.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a blast radius: which decisions a rule hit or a program made, whose, how much, and what became known later.

    For a rule that was wrong: how many customers it stopped, since when, and which of them are known to be honest.
    Reads only columns of the log.
    """
    from console import pool  # with the decision path
    from console.backtesting import labels_of
    from console.whatif_changes import scope_of
    from projections.audit import rule_radius
    from projections.audit.row_labels import RowLabels
    from projections.engine.checkpoints import CheckpointStore

    if not which and not rule:
        raise BadInput("name a program, a rule (--rule CODE), or both")
    scope = scope_of(start, end)
    with opened_log(context) as log:
        settings = settings_of(context)
        digest = document.digest(program_named(log, registry_of(log), which))[:16] if which else ""
        _check(log, rule)
        heads = {p: log.head(p) for p in partitions_of(log)}
        labels = labels_of(log, CheckpointStore(context.obj.directory, settings.log_prefix), None)
        rows = RowLabels(labels, identity_of(log).key)
        total = sum(log.length(p, "scores") for p in heads)
        calls = [(log, heads, scope, rows, rule, digest, pool.report)]
        found = pool.each(rule_radius.touched, calls, jobs=1, title="reading", total=total, quiet=as_json)[0]
    if as_json:
        print_json({"program": which, "rule": rule, "touched": found})
        return
    print_fields(
        {
            "decisions": f"{found.count:,}" + (f" ({found.shadow:,} without effect)" if found.shadow else ""),
            "from": time_text(found.first_ms),
            "to": time_text(found.last_ms),
            "by decision": ", ".join(f"{name} {n:,}" for name, n in found.decisions.items()) or "none",
            "customers": f"{found.accounts:,}",
            "amount": f"{found.amount:,.2f} ({found.declined_amount:,.2f} declined)",
            "no other rule hit": f"{found.alone:,}" if rule else "",
            "later labels": f"{found.frauds:,} fraud, {found.legitimate:,} legitimate, {found.unknown:,} unknown",
            "wrongly stopped": f"{found.wrongly_stopped:,} ({found.wrongly_stopped_amount:,.2f})",
            "missed frauds": f"{found.missed:,} ({found.missed_amount:,.2f})",
            "programs": ", ".join(f"{name} {n:,}" for name, n in found.programs.items()),
        }
    )


def _check(log: EventLog, rule: str) -> None:
    """Raise BadInput for a rule that no program had that ever decided here."""
    state = control_stream.current(log)
    loaded = (loading.load(digest, log.get_blob) for digest in state.programs_decided)
    known = {each.code: None for program in loaded for each in program.checked.rules}
    if rule and rule not in known:
        raise BadInput(f"--rule {rule}: no program that decided here has it; known: {listed(list(known))}")
