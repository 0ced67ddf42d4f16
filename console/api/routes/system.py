"""Health, metrics, logging in and out, and the control stream as an audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.datastructures import Cookie
from litestar.params import JSONBody

from console.api.access import PUBLIC, ROUTES, permitted, sees_personal_data
from console.api.answers import Me, Readiness
from console.api.auth import COOKIE, SESSION_S, Gate, Principal, address_of, check_origin, token_of
from console.api.cursors import SequenceCursor, decode, encode
from console.api.metrics import CONTENT_TYPE
from console.api.requests import Asked, AsOf, Cursor, Limit, desk, json
from console.api.system import SystemAnswer, system
from core.control_stream import ControlEntry


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name and a password."""

    name: str
    password: str


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token in a login link, after `#login=`."""

    token: str


class NewPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A password of 12 to 256 characters. current: the one so far, "" if there is none."""

    password: Annotated[str, msgspec.Meta(max_length=256)]
    current: Annotated[str, msgspec.Meta(max_length=256)] = ""


class Session(msgspec.Struct, frozen=True):
    """A session. token: for `Authorization: Bearer`; browsers have it as a cookie."""

    token: str
    name: str
    roles: tuple[str, ...]
    seconds: int


class ControlEntryRow(msgspec.Struct, frozen=True):
    """An event of the control stream: who did what, when and why. refused: why it had no effect."""

    position: int
    type: str
    actor: str
    occurred_at: int
    reason: str
    refused: str
    event: dict[str, Any]


class ControlPage(msgspec.Struct, frozen=True):
    """Control events, oldest first. next: the cursor of the next page, "" at the end. until: the position up to which
    the stream is told.
    """

    until: int
    events: list[ControlEntryRow]
    next: str


@get(["/livez", "/healthz"], tags=["system"], summary="Whether this process answers")
async def livez() -> dict[str, str]:
    """Says nothing about the servers behind it; see /readyz. /healthz is its former name."""
    return {"status": "ok"}


@get("/readyz", tags=["system"], summary="Whether requests can be answered")
async def readyz(request: Asked) -> Response[Readiness]:
    """503 with what is wrong, until the log answers and the read models have caught up; also if one of them stands
    still.
    """
    found = await desk(request).run(request.app.state.system.checks)
    is_ready = not any(found.values())
    return json(Readiness(is_ready, {name: said or "ok" for name, said in found.items()}), 200 if is_ready else 503)


@get("/metrics", tags=["system"], summary="Prometheus metrics", media_type="text/plain")
async def metrics(request: Asked) -> Response[str]:
    """Requests by route, method and status, and their seconds; see docs/api.md."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE)


@post("/v1/login", tags=["system"], summary="Log in with a password", status_code=200)
async def login(request: Asked, data: JSONBody[Login]) -> Response[Session]:
    """Starts a session of 12 hours. The token is also set as a cookie that scripts can't read."""
    gate: Gate = request.app.state.gate
    check_origin(request)
    return _begun(*await gate.login(data.name, data.password, address_of(request)))


@post("/v1/login/link", tags=["system"], summary="Log in with a link", status_code=200)
async def login_link(request: Asked, data: JSONBody[Link]) -> Response[Session]:
    """As with a password. A link (`sentinel user link`) works once, within 15 minutes."""
    gate: Gate = request.app.state.gate
    check_origin(request)
    return _begun(*await gate.follow(data.token, address_of(request)))


def _begun(token: str, who: Principal) -> Response[Session]:
    answer = json(Session(token, who.name, who.roles, int(SESSION_S)))
    answer.set_cookie(Cookie(COOKIE, value=token, httponly=True, samesite="strict", path="/", max_age=int(SESSION_S)))
    return answer


@post("/v1/logout", tags=["system"], summary="End the session", status_code=204)
async def logout(request: Asked) -> Response[None]:
    """A token stays valid; `sentinel user revoke` ends it."""
    gate: Gate = request.app.state.gate
    gate.logout(token_of(request)[0])
    answer: Response[Any] = Response(b"", status_code=204)
    answer.delete_cookie(COOKIE)
    return answer


@get("/v1/me", tags=["system"], summary="Who I am, and what I may do")
async def me(request: Asked) -> Response[Me]:
    """Name, roles, and the routes that they permit."""
    who = request.user
    routes = [route for route, roles in ROUTES.items() if roles is PUBLIC or permitted(who.roles, route)]
    gate: Gate = request.app.state.gate
    return json(
        Me(who.name, who.roles, who.via, gate.has_password(who.name), not sees_personal_data(who.roles), routes)
    )


@post("/v1/me/password", tags=["system"], summary="Choose a password", status_code=204)
async def password(request: Asked, data: JSONBody[NewPassword]) -> Response[None]:
    """Of the user who is logged in; ends their other sessions. Needs the current password, unless they have none."""
    gate: Gate = request.app.state.gate
    await gate.set_password(request.user, token_of(request)[0], data.current, data.password, address_of(request))
    return Response(None, status_code=204)


@get("/v1/system", tags=["system"], summary="Whether everything runs: lag, workers, servers, read models, findings")
async def everything(request: Asked) -> Response[SystemAnswer]:
    """Kafka, workers and servers as of a few seconds ago, `sentinel doctor`'s findings as of a minute ago. Addresses,
    hosts and the words of findings and errors are for administrators.
    """
    has_details = "admin" in request.user.roles
    inspector = request.app.state.inspector
    return json(await desk(request).run(system, desk(request), inspector, has_details=has_details))


@get("/v1/control", tags=["system"], summary="Every act on what decides, with its actor and reason")
async def control(request: Asked, limit: Limit = 100, cursor: Cursor = "", as_of: AsOf = None) -> Response[ControlPage]:
    """The control stream from its beginning: models, programs, rules, thresholds, lists, rates, experiments."""
    after = decode(cursor, SequenceCursor).after if cursor else 0
    entries, until = await desk(request).run(desk(request).control_page, after, limit + 1, as_of)
    return json(_control_page(entries, limit, until))


def _control_page(entries: Sequence[ControlEntry], limit: int, until: int) -> ControlPage:
    rows = []
    for position, event, _, refused in entries[:limit]:
        fields = msgspec.to_builtins(event)
        fields.pop("hash_key", None)  # who knows it can choose names that collide
        said = [fields.pop(name, "") for name in ("type", "actor", "occurred_at", "reason")]
        rows.append(ControlEntryRow(position, said[0], said[1], said[2], said[3], refused, fields))
    more = encode(SequenceCursor(rows[-1].position)) if len(entries) > limit else ""
    return ControlPage(until, rows, more)


HANDLERS = [livez, readyz, metrics, login, login_link, logout, me, password, everything, control]
