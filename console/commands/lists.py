"""`sentinel list`: block, watch and allow lists: what is on them, who changed them, and every change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer

from console.acts import Actor, Reason, act_of, print_proposed
from console.log_options import AsOf, opened_log, opened_states, options, settings_of
from console.options import Json
from console.tables import print_fields, print_json, print_table, time_text
from core import control_stream
from core.errors import BadInput
from core.events import ListEffect, ListKind
from core.log.base import EventLog
from ingest.protecting import Protection
from learners.governance import business
from projections.views.lists import LISTS, ListEdit, Member

app = typer.Typer(
    help="Block, watch and allow lists: show, add, remove, history.", no_args_is_help=True, rich_markup_mode=None
)
app.callback()(options)

KINDS: tuple[ListKind, ...] = get_args(ListKind)
EFFECTS: tuple[ListEffect, ...] = get_args(ListEffect)

Kind = Annotated[str, typer.Argument(help=f"What the values are: {', '.join(KINDS)}.")]
Effect = Annotated[str, typer.Argument(help=f"What the list does: {', '.join(EFFECTS)}.")]
OneKind = Annotated[str | None, typer.Argument(metavar="[KIND]", help=f"Only this kind: {', '.join(KINDS)}.")]
OneEffect = Annotated[str | None, typer.Argument(metavar="[EFFECT]", help=f"Only this effect: {', '.join(EFFECTS)}.")]
Values = Annotated[list[str] | None, typer.Argument(metavar="[VALUE]...", help="The values.")]
File = Annotated[Path | None, typer.Option("--file", help="File with one value a line, UTF-8.")]


@app.command()
def show(
    context: typer.Context, kind: OneKind = None, effect: OneEffect = None, as_of: AsOf = None, as_json: Json = False
) -> None:
    """Show what is on the lists: since when, by whom and why. Values are in the form in which they are compared."""
    _check(kind, effect)
    with opened_states(context, as_of) as states:
        members, moment = states.of_control(LISTS).members, states.as_of
    rows = [
        {"kind": of, "effect": does, "value": value, **_told(member)}
        for (of, does), held in sorted((_split(name), held) for name, held in members.items())
        if kind in (None, of) and effect in (None, does)
        for value, member in held.items()
    ]
    if as_json:
        print_json({"as_of": moment, "members": rows})
        return
    print_table(
        ("kind", "effect", "value", "since", "actor", "reason", "at"),
        [{**row, "since": time_text(row["since"])} for row in rows],
    )
    print_fields({"values": len(rows), "as_of": moment})


@app.command()
def add(
    context: typer.Context,
    kind: Kind,
    effect: Effect,
    reason: Reason,
    values: Values = None,
    file: File = None,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Put values on a list. `block` declines, `watch` sends to review, `allow` approves whatever the model says.

    sentinel list add merchant block shop-66 --reason "card testing"

    A value that is already on the list stays as it is. An IP list also takes networks, such as 10.0.0.0/8.
    """
    found_kind, found_effect = _check(kind, effect)
    with opened_log(context) as log:
        done = business.change_list(
            log,
            found_kind,
            found_effect,
            act_of(actor, reason, log),
            add=_known(context, log, found_kind, _values(values, file)),
        )
    _print_done(done, as_json)


@app.command()
def remove(
    context: typer.Context,
    kind: Kind,
    effect: Effect,
    reason: Reason,
    values: Values = None,
    file: File = None,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Remove values from a list, and say which were not on it."""
    found_kind, found_effect = _check(kind, effect)
    with opened_log(context) as log:
        done = business.change_list(
            log,
            found_kind,
            found_effect,
            act_of(actor, reason, log),
            remove=_known(context, log, found_kind, _values(values, file)),
        )
    _print_done(done, as_json)


@app.command()
def history(
    context: typer.Context, kind: OneKind = None, effect: OneEffect = None, as_of: AsOf = None, as_json: Json = False
) -> None:
    """Show every change, oldest first: who made it, when and why. Refused changes too."""
    _check(kind, effect)
    with opened_states(context, as_of) as states:
        edits, moment = states.of_control(LISTS).history, states.as_of
    shown = [edit for edit in edits if _is_of(edit, kind, effect)]
    if as_json:
        print_json({"as_of": moment, "history": shown})
        return
    print_edits(shown)
    print_fields({"changes": len(shown), "as_of": moment})


def print_edits(edits: list[ListEdit]) -> None:
    """One change per line."""
    rows = [
        {**msgspec.to_builtins(edit), "when": time_text(edit.occurred_at), "list": " ".join(_split(edit.name))}
        for edit in edits
    ]
    print_table(("when", "action", "list", "value", "actor", "reason", "position", "refused"), rows)


def _is_of(edit: ListEdit, kind: str | None, effect: str | None) -> bool:
    of, does = _split(edit.name)
    return kind in (None, of) and effect in (None, does)


def _split(name: str) -> tuple[str, str]:
    kind, _, effect = name.partition(":")
    return kind, effect


def _told(member: Member) -> dict[str, Any]:
    return {"since": member.since, "actor": member.actor, "reason": member.reason, "at": f"c{member.position}"}


def _check(kind: str | None, effect: str | None) -> tuple[Any, Any]:
    """Kind and effect as given. Raises BadInput if they don't exist."""
    if kind is not None and kind not in KINDS:
        raise BadInput(f"{kind!r} is not a kind of list; choose {', '.join(KINDS)}")
    if effect is not None and effect not in EFFECTS:
        raise BadInput(f"{effect!r} is not an effect of a list; choose {', '.join(EFFECTS)}")
    return kind, effect


def _known(context: typer.Context, log: EventLog, kind: ListKind, values: list[str]) -> list[str]:
    """The values as the log holds them."""
    identity = control_stream.current(log).identity
    return values if identity is None else Protection.of(settings_of(context)).listed(identity, kind, values)


def _values(values: list[str] | None, file: Path | None) -> list[str]:
    found = list(values or ())
    if file is not None:
        found += read_lines(file)
    if not found:
        raise BadInput("no value given: name values, or a file of them with --file")
    return found


def read_lines(file: Path) -> Iterator[str]:
    """The file's lines that are not blank, trimmed. Raises BadInput if it can't be read."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"can't read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from None
    return (line.strip() for line in text.split("\n") if line.strip())


def _print_done(done: business.ListAct, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    waiting = ("added" if done.effect == "allow" else "removed") if done.proposals else ""
    said = [
        f"{len(values):,} {what}{' once approved' if what == waiting else ''}: {', '.join(values[:10])}"
        + (", …" if len(values) > 10 else "")
        for what, values in (("added", done.added), ("removed", done.removed))
        if values
    ]
    if done.unchanged:
        said.append(f"{len(done.unchanged):,} unchanged")
    print(f"{done.kind} {done.effect} list at c{done.position}: {'; '.join(said)}")
    print_proposed(done.proposals)
