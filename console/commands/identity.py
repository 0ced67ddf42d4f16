"""`sentinel identity`: who may act: keys, the roster, and whether identity is required (docs/identity.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from console import identity_keys
from console.acts import Actor, Reason, act_of, print_proposed
from console.log_options import opened_log, options, settings_of
from console.options import Json
from console.tables import print_fields, print_json, print_table
from core import control_stream
from core.authority import PERSONS, SERVICES
from core.errors import BadInput
from core.events import FeedbackRule
from core.roster import Identity, Roster
from core.signing import key_id, public_bytes
from learners.governance import identities
from learners.governance.identities import RosterAct

app = typer.Typer(
    help="Who may act: keys, the roster, and whether identity is required.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.callback()(options)

DIRECTORY = Path(".sentinel/identities")
FEEDBACK: dict[str, FeedbackRule] = {"signed": "signed", "named": "named", "nothing": ""}
Name = Annotated[str, typer.Argument(help="The identity's name, as on the roster.")]
Roles = Annotated[
    list[str] | None,
    typer.Option("--role", help=f"Of a person: {', '.join(PERSONS)}. Of a service: {', '.join(SERVICES)}. Repeatable."),
]
User = Annotated[str | None, typer.Option("--user", help="Their name as a user of the API, which vouches for them.")]
Out = Annotated[
    Path | None, typer.Option(help=f"File of the private key. Default: in {DIRECTORY}.", show_default=False)
]


@app.command()
def new(name: Name, out: Out = None, as_json: Json = False) -> None:
    """Make a key, of mode 0600, and print its public half. Needs no log.

    Give the public key to an administrator, who runs `sentinel identity add`. SENTINEL_IDENTITY_PASSPHRASE encrypts the
    file.
    """
    _, found = _made(name, out)
    if as_json:
        print_json(found)
        return
    print_fields(found)


def _made(name: str, out: Path | None) -> tuple[identity_keys.FileKey, dict[str, Any]]:
    key = identity_keys.new(name)
    path = out if out is not None else DIRECTORY / f"{key.name.replace(' ', '-')}-{key.key_id[:6]}.pem"
    identity_keys.write(path, key, os.environ)
    return key, {"name": key.name, "key": key.key_id, "public_key": key.public_key, "file": str(path)}


@app.command("list")
def list_roster(context: typer.Context, as_json: Json = False) -> None:
    """Show the roster, and whether identity is required."""
    with opened_log(context) as log:
        roster = control_stream.current(log).governance.roster
    if as_json:
        rows = [_row(each, roster) for each in _sorted(roster)]
        print_json({"required": roster.required, "feedback": roster.feedback, "identities": rows})
        return
    print_table(
        ("name", "roles", "user", "keys", "revoked"),
        [
            {
                "name": each.name,
                "roles": ", ".join(each.roles),
                "user": each.subject,
                "keys": ", ".join(each.keys),
                "revoked": "yes" if each.revoked else "",
            }
            for each in _sorted(roster)
        ],
    )
    print_fields({"required": "yes" if roster.required else "no", "feedback": roster.feedback or "unsigned"})


def _sorted(roster: Roster) -> list[Identity]:
    return sorted(roster.identities.values(), key=lambda each: (each.revoked, each.name))


def _row(each: Identity, roster: Roster) -> dict[str, Any]:
    keys = {key: roster.keys[key] for key in each.keys}
    return {"name": each.name, "roles": each.roles, "user": each.subject, "keys": keys, "revoked": each.revoked}


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Default: the name of your own key, for the first one.")] = None,
    role: Roles = None,
    public_key: Annotated[str, typer.Option(help="64 hex digits, as `new` printed them. Default: none.")] = "",
    user: User = None,
    reason: Reason = "enrolled",
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Put a person or a service on the roster, signed by your key (identity_key).

    The first one is an administrator who adds themselves: sentinel identity add --role admin
    """
    with opened_log(context) as log:
        own = log.signer
        if own is None:
            raise BadInput("the roster is changed under a key: make one with `sentinel identity new`, set identity_key")
        chosen = name or own.name
        key = public_key or (_own_public(context) if chosen == own.name else "")
        done = identities.enrol(log, act_of(actor, reason, log), chosen, tuple(role or ()), key, user or "")
    _print_done(done, f"{chosen} is on the roster", as_json)


def _own_public(context: typer.Context) -> str:
    return identity_keys.read(Path(settings_of(context).identity_key), os.environ).public_key


@app.command()
def change(
    context: typer.Context,
    name: Name,
    role: Roles = None,
    user: User = None,
    reason: Reason = "changed",
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Give an identity other roles (all of them), or another user of the API."""
    with opened_log(context) as log:
        done = identities.change(log, act_of(actor, reason, log), name, role or None, user)
    _print_done(done, f"{name} is changed", as_json)


@app.command()
def rotate(
    context: typer.Context,
    out: Out = None,
    public_key: Annotated[str, typer.Option(help="A key made elsewhere. Default: a new one is made here.")] = "",
    name: Annotated[str, typer.Option(help="Whose key. Default: yours.")] = "",
    reason: Reason = "rotated",
    as_json: Json = False,
) -> None:
    """Add a new key to your identity, made here or elsewhere. Then use it, and revoke the old one with it:

    sentinel identity revoke NAME --key ID
    """
    with opened_log(context) as log:
        own = log.signer
        if own is None:
            raise BadInput("set identity_key to the key that is to be replaced")
        chosen = name or own.name
        found: dict[str, Any] = {}
        if not public_key:
            key, found = _made(chosen, out)
            public_key = key.public_key
        done = identities.add_key(log, act_of("", reason, log), chosen, public_key)
    _print_done(done, f"{chosen} also has key {key_id(public_bytes(public_key))}", as_json, found)


@app.command()
def revoke(
    context: typer.Context,
    name: Name,
    reason: Reason,
    key: Annotated[str, typer.Option(help="Only this key, by its ID. Default: the identity and all its keys.")] = "",
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Revoke an identity or one of its keys, for ever. What was signed before stays."""
    with opened_log(context) as log:
        done = identities.revoke(log, act_of(actor, reason, log), name, key)
    _print_done(done, f"{f'key {key} of ' if key else ''}{name} is revoked", as_json)


@app.command()
def require(
    context: typer.Context,
    reason: Reason,
    state: Annotated[str, typer.Argument(help="on or off.")] = "on",
    feedback: Annotated[
        str,
        typer.Option(help="What feedback needs to be accepted: signed, named (an actor on the roster), or nothing."),
    ] = "signed",
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Require identity: from here on what nobody on the roster signed, or whose roles don't allow it, has no effect.

    Takes an administrator (two under four eyes) and a worker on the roster; every service needs a key of its own. With
    --feedback signed, so does everyone who gives verdicts; with named or nothing, protect the feedback topic
    (docs/security.md).
    """
    if state not in ("on", "off"):
        raise BadInput(f"identity is required or not: on or off, not {state!r}")
    if feedback not in FEEDBACK:
        raise BadInput(f"--feedback must be one of {', '.join(FEEDBACK)}, not {feedback!r}")
    rule: FeedbackRule = FEEDBACK[feedback] if state == "on" else ""
    with opened_log(context) as log:
        done = identities.require(log, act_of(actor, reason, log), state == "on", rule)
    told = f", and feedback must be {rule}" if rule else ""
    _print_done(done, f"identity is {'' if state == 'on' else 'no longer '}required{told}", as_json)


def _print_done(done: RosterAct, said: str, as_json: bool, more: dict[str, Any] | None = None) -> None:
    if as_json:
        print_json({"position": done.position, "changed": done.changed, "proposals": done.proposals, **(more or {})})
        return
    if not done.proposals:
        print(f"{said}{'' if done.changed else ' already'} at c{done.position}")
    print_fields(more or {})
    print_proposed(done.proposals)
