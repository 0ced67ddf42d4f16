"""Users over HTTP, for administrators: the same file as `sentinel user`."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.params import JSONBody

from console.api import users as known
from console.api.auth import Gate
from console.api.problems import ProblemError, not_found
from console.api.requests import Asked, Name, desk, json
from console.api.users import Role, User


class TokenRow(msgspec.Struct, frozen=True):
    """A token, without its secret. Times in epoch ms; expires_at 0: never."""

    token_id: str
    created_at: int
    expires_at: int
    note: str


class UserRow(msgspec.Struct, frozen=True):
    """A user, without secrets."""

    name: str
    roles: tuple[Role, ...]
    disabled: bool
    has_password: bool
    created_at: int
    tokens: list[TokenRow]


class UsersAnswer(msgspec.Struct, frozen=True):
    """All users, by name."""

    users: list[UserRow]


class NewUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user to add, or to give other roles and, if one is given, another password."""

    name: Annotated[str, msgspec.Meta(max_length=64)]
    roles: list[Role]
    password: Annotated[str, msgspec.Meta(max_length=256)] = ""


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to create. days: until it expires; 0: never."""

    days: Annotated[float, msgspec.Meta(ge=0, le=3650)] = 90.0
    note: Annotated[str, msgspec.Meta(max_length=128)] = ""


class TokenAnswer(msgspec.Struct, frozen=True):
    """A new token, shown this once."""

    token: str


@get("/v1/users", tags=["users"], summary="Users, their roles and tokens")
async def users(request: Asked) -> Response[UsersAnswer]:
    """Without secrets."""
    found = await desk(request).run(_gate(request).users.load)
    return json(UsersAnswer([_row(user) for _, user in sorted(found.users.items())]))


@post("/v1/users", tags=["users"], summary="Add a user, or change one", status_code=200)
async def add(request: Asked, data: JSONBody[NewUser]) -> Response[UserRow]:
    """Counts at the user's next request. Nobody can take their own role of admin away."""
    if data.name == request.user.name and "admin" not in data.roles:
        raise ProblemError(409, "this would take away your own role of admin", reason="own_role", field="roles")
    roles = [str(role) for role in data.roles]
    user = await desk(request).run(known.add, _gate(request).users, data.name, roles, _now(), data.password)
    return json(_row(user))


@post("/v1/users/{id:str}/disable", tags=["users"], summary="Refuse a user from now on", status_code=200)
async def disable(request: Asked, id: Name) -> Response[UserRow]:
    """And forget their tokens; adding them again enables them."""
    if id == request.user.name:
        raise ProblemError(409, "you can't disable yourself", reason="own_role")
    return json(_row(await desk(request).run(known.disable, _gate(request).users, _known(request, id))))


@post("/v1/users/{id:str}/tokens", tags=["users"], summary="Create a token", status_code=201)
async def token(request: Asked, id: Name, data: JSONBody[NewToken]) -> Response[TokenAnswer]:
    """Shown this once."""
    name, gate = _known(request, id), _gate(request)
    made = await desk(request).run(known.new_token, gate.users, name, _now(), days=data.days, note=data.note)
    return json(TokenAnswer(made), 201)


@post("/v1/users/{id:str}/tokens/{token_id:str}/revoke", tags=["users"], summary="Forget a token", status_code=204)
async def revoke(request: Asked, id: Name, token_id: Name) -> Response[None]:
    """It is refused at the next request."""
    await desk(request).run(known.revoke, _gate(request).users, _known(request, id), token_id)
    return Response(None, status_code=204)


def _gate(request: Asked) -> Gate:
    found: Gate = request.app.state.gate
    return found


def _known(request: Asked, name: str) -> str:
    if name not in _gate(request).users.load().users:
        raise not_found(f"user {name}", "see /v1/users for those that there are")
    return name


def _row(user: User) -> UserRow:
    tokens = [TokenRow(t.token_id, t.created_at, t.expires_at, t.note) for t in user.tokens]
    return UserRow(user.name, user.roles, user.disabled, bool(user.password), user.created_at, tokens)


def _now() -> int:
    return int(time.time() * 1000)


HANDLERS = [users, add, disable, token, revoke]
