"""`sentinel user`: who may use the HTTP API: local users, their roles, passwords and tokens."""

from __future__ import annotations

import getpass
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from console.api import users as known
from console.api.users import ROLES, UserFile
from console.options import Json
from console.tables import print_json, print_table, time_text
from core.errors import BadInput

app = typer.Typer(
    help="Users of the HTTP API: add, list, disable; create and revoke tokens.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
File = Annotated[Path, typer.Option("--users", help="File of users; of mode 0600.")]
Name = Annotated[str, typer.Argument(help="The user's name: the actor of what they do.")]
DEFAULT = known.DEFAULT_FILE


@app.command()
def add(
    name: Name,
    role: Annotated[list[str], typer.Option(help=f"{', '.join(ROLES)}; may be repeated.")],
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password; from a pipe, read one line.")
    ] = False,
    users: File = DEFAULT,
) -> None:
    """Add a user, or give one other roles (and, with --password, another password).

    sentinel user add ann --role analyst --password
    """
    text = _password() if password else ""
    user = known.add(UserFile(users), name, role, _now(), text)
    print(f"{user.name}: {', '.join(user.roles)}")


def _password() -> str:
    if not sys.stdin.isatty():
        text = sys.stdin.readline().rstrip("\n")
    else:
        text = getpass.getpass("password: ")
        if getpass.getpass("again: ") != text:
            raise BadInput("the two passwords differ")
    if not text:
        raise BadInput("the password is empty")
    return text


@app.command("list")
def list_users(users: File = DEFAULT, as_json: Json = False) -> None:
    """List users, their roles, and their tokens' IDs."""
    rows: list[dict[str, Any]] = [
        {
            "name": user.name,
            "roles": list(user.roles),
            "disabled": user.disabled,
            "password": bool(user.password),
            "created_at": user.created_at,
            "tokens": [
                {"id": t.token_id, "created_at": t.created_at, "expires_at": t.expires_at, "note": t.note}
                for t in user.tokens
            ],
        }
        for user in UserFile(users).load().users.values()
    ]
    if as_json:
        print_json({"users": rows})
        return
    for row in rows:
        row["roles"] = ", ".join(row["roles"])
        row["tokens"] = ", ".join(" ".join(filter(None, (t["id"], t["note"]))) for t in row["tokens"])
        row["password"] = "yes" if row["password"] else ""
        row["disabled"] = "yes" if row["disabled"] else ""
        row["since"] = time_text(row["created_at"])
    print_table(("name", "roles", "disabled", "password", "tokens", "since"), rows)


@app.command()
def disable(name: Name, users: File = DEFAULT) -> None:
    """Refuse a user from the next request on, and forget their tokens. `add` enables them again."""
    known.disable(UserFile(users), name)
    print(f"{name} is disabled")


@app.command()
def token(
    name: Name,
    days: Annotated[float, typer.Option(min=0.0, help="Days until it expires; 0: never.")] = 90.0,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    users: File = DEFAULT,
) -> None:
    """Create a token of a user and print it. Nobody can see it again."""
    print(known.new_token(UserFile(users), name, _now(), days=days, note=note))


@app.command()
def link(
    name: Name,
    url: Annotated[str, typer.Option(help="The console's address.")] = "http://127.0.0.1:8700",
    users: File = DEFAULT,
) -> None:
    """Print an address of the console that logs the user in, once, within 15 minutes."""
    print(known.login_link(UserFile(users), name, _now(), url.rstrip("/")))


@app.command()
def revoke(
    name: Name, token_id: Annotated[str, typer.Argument(help="As `list` shows it.")], users: File = DEFAULT
) -> None:
    """Forget a token."""
    known.revoke(UserFile(users), name, token_id)
    print(f"{name}: token {token_id} is revoked")


def _now() -> int:
    return int(time.time() * 1000)
