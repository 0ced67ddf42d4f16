"""Logging in by an OpenID Connect provider, beside local users; off unless `[oidc]` is set."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.datastructures import Cookie
from litestar.params import QueryParameter

from console.api.auth import COOKIE, Gate
from console.api.oidc import PENDING_S, Oidc
from console.api.problems import ProblemError
from console.api.requests import Asked, desk, json

PATH = "/v1/login/oidc"
BROWSER_COOKIE = "ss_oidc"
Given = Annotated[str, QueryParameter(max_length=8192)]


class LoginMethods(msgspec.Struct, frozen=True):
    """How people log in. oidc: where to, "" if there is no provider; label: what to call it."""

    password: bool
    oidc: str
    label: str


@get("/v1/login/methods", tags=["system"], summary="How people log in")
async def methods(request: Asked) -> Response[LoginMethods]:
    """For the login page."""
    oidc: Oidc | None = request.app.state.oidc
    if oidc is None:
        return json(LoginMethods(True, "", ""))
    return json(LoginMethods(True, PATH, oidc.settings.label))


@get(PATH, tags=["system"], summary="Log in by the OpenID Connect provider", status_code=302)
async def begin(request: Asked) -> Response[bytes]:
    """Sends the browser to the provider; 404 if there is none."""
    url, browser = await desk(request).run(_oidc(request).begin)
    answer = Response(b"", status_code=302, headers={"location": url})
    answer.set_cookie(_browser_cookie(request, browser, int(PENDING_S)))
    return answer


@get(f"{PATH}/callback", tags=["system"], summary="Where the provider sends the browser back to", status_code=303)
async def callback(
    request: Asked,
    code: Given = "",
    oidc_state: Annotated[str, QueryParameter(name="state", max_length=8192)] = "",
    error: Given = "",
) -> Response[bytes]:
    """Begins a session as POST /v1/login does, for as long as `session_hours` says, and shows the console."""
    oidc, gate = _oidc(request), _gate(request)
    if error or not code:
        raise ProblemError(401, f"the provider did not log you in ({error or 'no code'})", reason="not_authenticated")
    person = await desk(request).run(oidc.finish, oidc_state, code, request.cookies.get(BROWSER_COOKIE, ""))
    seconds = int(oidc.settings.session_hours * 3600)
    token = gate.vouched(person.name, person.roles, seconds)
    answer = Response(b"", status_code=303, headers={"location": "/"})
    is_secure = oidc.settings.is_secure
    answer.set_cookie(
        Cookie(COOKIE, value=token, path="/", max_age=seconds, secure=is_secure, httponly=True, samesite="strict")
    )
    answer.set_cookie(_browser_cookie(request, "", 0))
    return answer


def _browser_cookie(request: Asked, value: str, seconds: int) -> Cookie:
    """Lax: the provider's redirect must bring it back."""
    is_secure = _oidc(request).settings.is_secure
    return Cookie(
        BROWSER_COOKIE, value=value, path=PATH, max_age=seconds, secure=is_secure, httponly=True, samesite="lax"
    )


def _oidc(request: Asked) -> Oidc:
    found: Oidc | None = request.app.state.oidc
    if found is None:
        raise ProblemError(
            404, "no OpenID Connect provider is set", reason="no_provider", remedy="log in with a password"
        )
    return found


def _gate(request: Asked) -> Gate:
    found: Gate = request.app.state.gate
    return found


HANDLERS = [methods, begin, callback]
