"""`sentinel proposal`: what waits for a second person under four eyes: shown, approved, withdrawn.

Changes of thresholds, rules, rates, lists, experiments, the roster and the switches themselves; models and programs
too, which `sentinel model` and `sentinel program` also approve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol

import msgspec
import typer

from console.acts import Actor, Reason, act_of
from console.log_options import opened_log, options
from console.options import Json
from console.tables import print_fields, print_json, print_table, time_text
from core.control_stream import history
from core.errors import BadInput
from core.log.base import EventLog
from core.text import visible
from learners.governance import models, programs, proposals
from learners.governance.control_events import Act
from projections.views.programs import label_of, programs_of
from projections.views.registry import registry_of

app = typer.Typer(
    help="Proposals that wait for a second person: list, show, approve, withdraw.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.callback()(options)

Id = Annotated[str, typer.Argument(metavar="ID", help="The proposal, as `list` shows it.")]


@app.command("list")
def list_open(context: typer.Context, as_json: Json = False) -> None:
    """List what waits, oldest first: changes, models and programs."""
    with opened_log(context) as log:
        rows = _open(log)
    if as_json:
        print_json({"proposals": rows})
        return
    for row in rows:
        row["when"], row["change"] = time_text(row["occurred_at"]), _short(row["change"])
    print_table(("proposal", "kind", "change", "actor", "when", "reason"), rows)


@app.command()
def show(context: typer.Context, proposal: Id, as_json: Json = False) -> None:
    """Show one in full: exactly what takes effect if it is approved."""
    with opened_log(context) as log:
        found = _find(log, proposal)
    if as_json:
        print_json(found)
        return
    change = found.pop("change")
    print_fields({**found, "occurred_at": time_text(found["occurred_at"])})
    print(visible(msgspec.json.format(msgspec.json.encode(change), indent=2).decode(), lines=True))


@app.command()
def approve(
    context: typer.Context,
    proposal: Id,
    reason: Annotated[str, typer.Option("--reason", help="What you checked.")],
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Approve another person's proposal. A change takes effect at once, a model is deployed; a program then can be."""
    ends: dict[str, _End] = {"model": models.approve, "program": programs.approve}
    _end(context, proposal, "approved", ends, proposals.approve, actor, reason, as_json)


@app.command()
def withdraw(context: typer.Context, proposal: Id, reason: Reason, actor: Actor = "", as_json: Json = False) -> None:
    """Take a proposal back, yours or another's."""
    ends: dict[str, _End] = {"model": models.withdraw_proposal, "program": programs.withdraw}
    _end(context, proposal, "withdrawn", ends, proposals.withdraw, actor, reason, as_json)


class _Ended(Protocol):
    @property
    def position(self) -> int: ...


_End = Callable[[EventLog, str, Act], _Ended]


def _end(
    context: typer.Context,
    proposal: str,
    outcome: str,
    ends: Mapping[str, _End],
    end_change: _End,
    actor: str,
    reason: str,
    as_json: bool,
) -> None:
    """End a proposal and say so. ends: how one of a kind with proposals of its own is ended; end_change: all others."""
    with opened_log(context) as log:
        kind, act = _find(log, proposal)["kind"], act_of(actor, reason, log)
        position = ends.get(kind, end_change)(log, proposal, act).position
    if as_json:
        print_json({"position": position, "outcome": outcome, "proposal": proposal, "kind": kind})
        return
    print(f"{proposal} {outcome} at c{position}")


def _open(log: EventLog) -> list[dict[str, Any]]:
    """What waits: kind is `model`, `program`, or the type of the event that would take effect."""
    entries = history(log)
    found = [
        {
            "proposal": each.proposal_id,
            "kind": each.kind.partition(".")[0],
            "position": each.position,
            "occurred_at": each.occurred_at,
            "actor": each.actor,
            "reason": each.reason,
            "change": {name: value for name, value in each.change.items() if name != "type"},
        }
        for each in proposals.open_changes(entries)
    ]
    for model in registry_of(entries).proposals.values():
        change = {"model": model.model, "alias": model.alias, "digest": model.digest}
        about = {"position": model.position, "occurred_at": model.occurred_at, "actor": model.actor}
        found.append(
            {"proposal": model.proposal_id, "kind": "model", **about, "reason": model.reason, "change": change}
        )
    registry = programs_of(entries)
    for program in registry.proposals.values():
        change = {"program": label_of(registry, program.digest), "digest": program.digest}
        if program.approved is not None:
            change["approved by"] = program.approved.actor
        said = msgspec.structs.asdict(program.proposed)
        found.append({"proposal": program.proposal_id, "kind": "program", **said, "change": change})
    return sorted(found, key=lambda row: row["position"])


def _find(log: EventLog, proposal: str) -> dict[str, Any]:
    rows = _open(log)
    for row in rows:
        if row["proposal"] == proposal:
            return row
    known = ", ".join(row["proposal"] for row in rows) or "none"
    raise BadInput(f"no proposal {proposal!r} is open (open: {known})")


def _short(change: dict[str, Any]) -> str:
    text = ", ".join(f"{name} {msgspec.json.encode(value).decode()}" for name, value in change.items())
    return text if len(text) <= 100 else f"{text[:99]}…"
