"""Authentication of requests: bearer tokens, and sessions of people who logged in with a password.

    Authorization: Bearer ss_…      a token; its Argon2id hash is verified once, then a keyed digest of it is compared
    Authorization: Bearer sess_…    a session, from POST /v1/login or, for a link that works once, POST /v1/login/link
    Cookie: ss_session=sess_…       the same in a browser; a request that changes something must come from our own page

Sessions and verified tokens are held in memory only, as keyed BLAKE2b digests under a key of this process, and compared
in constant time. The user is looked up at each request, so a change of roles counts at once. No secret is logged.

    ten failures of an address within a minute    it waits for a minute
    ten with one token or link                    that one waits for a minute; the address is not blamed, since behind a
                                                  proxy everybody has the same
    ten of a name within half an hour             its password logs nobody in for half an hour (PCI DSS 8.3.4). A link
                                                  does, so a stranger can't keep anybody out
    no act in a session for `idle_s`              it has ended (PCI DSS 8.2.8). What a page asks for by itself, as the
                                                  header `x-background` says, is not an act
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from console.api.access import PUBLIC, ROUTES, permitted
from console.api.problems import ProblemError
from console.api.users import Role, User, UserFile, revoke, set_password, token_parts, verify
from core.errors import BadInput

SESSION_S = 12 * 3600.0
COOKIE = "ss_session"
FAILURES_MAX = 10
FAILURE_WINDOW_S = 60.0
LOCKED_S = 1800.0
IDLE_S = 900.0
BACKGROUND = "x-background"
REMEMBERED_MAX = 10_000
VERIFIERS = 2
"""Passwords verified at once; each takes 64 MB for 60 ms."""
EVENTS = "GET /v1/events"
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. name: the actor of what they do. via: "token", "session", or "oidc" for a provider's session.
    session: the digest of its token, if it is one.
    """

    name: str
    roles: tuple[Role, ...]
    via: str
    session: bytes = field(default=b"", repr=False, compare=False)


@dataclass(slots=True)
class _Session:
    """roles: those that a provider vouches for; None: the local user's, at each request. acted: when something was last
    done in it, by the monotonic clock, as until.
    """

    name: str
    until: float
    acted: float
    roles: tuple[Role, ...] | None = None


@dataclass
class Limiter:
    """Counts failures per key: after FAILURES_MAX within window_s, nothing is allowed for window_s. Bounded, the oldest
    key forgotten first.
    """

    window_s: float
    failures: OrderedDict[str, list[float]] = field(default_factory=OrderedDict)

    def wait_s(self, key: str, now: float) -> float:
        """How long to wait before the next attempt; 0.0 if it is allowed."""
        recent = self.failures.get(key, [])
        return max(0.0, recent[-1] + self.window_s - now) if len(recent) == FAILURES_MAX else 0.0

    def failed(self, key: str, now: float) -> None:
        """Count a failure."""
        recent = [at for at in self.failures.pop(key, []) if now - at < self.window_s]
        self.failures[key] = [*recent, now][-FAILURES_MAX:]
        while len(self.failures) > REMEMBERED_MAX:
            self.failures.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget the key's failures, after a success."""
        self.failures.pop(key, None)


class Gate:
    """Authenticates against one file of users, in one event loop. idle_s: a session ends after so long without acts."""

    def __init__(self, users: UserFile, idle_s: float = math.inf) -> None:
        self.users = users
        self._idle_s = idle_s
        self._key = secrets.token_bytes(32)
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._verified: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._attempts = Limiter(FAILURE_WINDOW_S)  # of addresses, tokens, and users who change their password
        self._logins = Limiter(LOCKED_S)  # by name
        self._verifying = asyncio.Semaphore(VERIFIERS)

    async def login(self, name: str, password: str, address: str) -> tuple[str, Principal]:
        """A new session's token, and whose it is. Raises ProblemError (401, 429)."""
        self._check_limit(f"address {address}", name)
        user = self.users.load().users.get(name)
        hashed = user.password if user is not None and not user.disabled else ""
        async with self._verifying:
            self._check_limit(f"address {address}", name)  # again: many may have waited
            is_right = await asyncio.to_thread(verify, hashed, password)
        if user is None or not is_right:
            self._failed(f"address {address}", name)
            raise ProblemError(401, "the name or the password is wrong", reason="not_authenticated")
        self._logins.forget(name)
        return self._begun(Principal(user.name, user.roles, "session"))

    async def follow(self, link: str, address: str) -> tuple[str, Principal]:
        """A new session's token, and whose it is, for the token of a login link, which is used up. Raises ProblemError
        (401, 429).
        """
        owned = await self._owner(link, address, is_link=True)
        if owned is None or not await asyncio.to_thread(self._use_up, *owned):
            raise ProblemError(
                401,
                "this link does not log in any more: each does once, soon after it was made",
                reason="not_authenticated",
                remedy="log in with a password, or make another link: `sentinel user link NAME`",
            )
        return self._begun(self._allowed(owned[0], "session"))

    async def set_password(self, who: Principal, session: str, current: str, password: str, address: str) -> None:
        """Give the user of a session another password, and end their other sessions. current: the password so far, ""
        if they have none. Raises ProblemError (403, 422, 429), BadInput for a password that is too short or too long.
        """
        if who.via != "session":
            raise ProblemError(403, "only a local user's session sets a password: log in first", reason="needs_session")
        own = f"password of {who.name}"  # apart: a stranger's attempts must not keep out who is in
        known = self.users.load().users[who.name].password
        async with self._verifying:
            self._check_limit(own)
            if known and not await asyncio.to_thread(verify, known, current):
                self._failed(own)
                raise ProblemError(
                    422, "the current password is wrong", reason="wrong_password", field="current", remedy="try again"
                )
            await asyncio.to_thread(set_password, self.users, who.name, password)
        mine = self._digest(session)
        for digest in [d for d, s in self._sessions.items() if s.name == who.name and d != mine]:
            del self._sessions[digest]

    def has_password(self, name: str) -> bool:
        """Whether the user can log in with a password."""
        user = self.users.load().users.get(name)
        return user is not None and bool(user.password)

    def _use_up(self, name: str, token_id: str) -> bool:
        """Forget a link; False if another request was first."""
        try:
            revoke(self.users, name, token_id)
        except BadInput:
            return False
        return True

    def _begun(self, who: Principal) -> tuple[str, Principal]:
        return self._remembered(who.name, SESSION_S), who

    def vouched(self, name: str, roles: tuple[Role, ...], seconds: float) -> str:
        """A new session's token, for somebody whom a provider vouches for. Raises ProblemError (403) if a local user
        has the name.
        """
        self._check_no_local(name)
        return self._remembered(name, seconds, roles)

    def is_welcome(self, who: Principal) -> bool:
        """Whether somebody who was admitted would still be, in a session that has not ended: a local user who is not
        disabled, or somebody whom a provider vouched for and who has no local namesake. It is no act.
        """
        if who.session and self._alive(who.session) is None:
            return False
        user = self.users.load().users.get(who.name)
        return user is None if who.via == "oidc" else user is not None and not user.disabled

    def _check_no_local(self, name: str) -> None:
        if name in self.users.load().users:
            raise ProblemError(
                403,
                f"{name} is the name of a local user, in whose name the provider can't let anybody act",
                reason="not_permitted",
                remedy="log in with the local user's password, or choose another name_claim",
            )

    def _remembered(self, name: str, seconds: float, roles: tuple[Role, ...] | None = None) -> str:
        token, now = f"sess_{secrets.token_urlsafe(32)}", time.monotonic()
        self._sessions[self._digest(token)] = _Session(name, now + seconds, now, roles)
        while len(self._sessions) > REMEMBERED_MAX:
            self._sessions.popitem(last=False)
        return token

    def logout(self, token: str) -> None:
        """End a session."""
        self._sessions.pop(self._digest(token), None)

    async def principal(self, token: str, address: str, *, is_act: bool = True) -> Principal:
        """Whose token or session this is. is_act: somebody asks, not a page by itself. Raises ProblemError (401, 429,
        403).
        """
        if token.startswith("sess_"):
            return self._of_session(self._digest(token), is_act=is_act)
        owned = await self._owner(token, address)
        if owned is None:
            raise _unauthenticated("the token is not valid: ask an administrator for one (`sentinel user token`)")
        return self._allowed(owned[0], "token")

    def _of_session(self, digest: bytes, *, is_act: bool) -> Principal:
        session = self._alive(digest)
        if session is None:
            raise _unauthenticated("the session has ended: log in again")
        if is_act:
            session.acted = time.monotonic()
        if session.roles is None:
            return replace(self._allowed(session.name, "session"), session=digest)
        self._check_no_local(session.name)
        return Principal(session.name, session.roles, "oidc", digest)

    def _alive(self, digest: bytes) -> _Session | None:
        """The session, unless it has ended; then it is forgotten."""
        session = self._sessions.get(digest)
        if session is not None and time.monotonic() < min(session.until, session.acted + self._idle_s):
            return session
        self._sessions.pop(digest, None)
        return None

    async def _owner(self, text: str, address: str, *, is_link: bool = False) -> tuple[str, str] | None:
        """(Whose it is, its ID) of a valid token, which is or is not that of a link. Counts a failure."""
        token_id, secret = token_parts(text) or ("", "")
        for user in self.users.load().users.values():
            for token in user.tokens:
                if token.token_id != token_id or token.is_link is not is_link:
                    continue
                if 0 < token.expires_at <= time.time() * 1000:
                    raise _unauthenticated("the token has expired")
                return (user.name, token_id) if await self._is_secret(token_id, token.hash, secret) else None
        self._check_limit(f"address {address}")
        self._failed(f"address {address}")
        return None

    async def _is_secret(self, token_id: str, hashed: str, secret: str) -> bool:
        digest = self._digest(secret)
        known = self._verified.get(token_id)
        if known is not None and known[0] == hashed and hmac.compare_digest(known[1], digest):
            return True
        async with self._verifying:
            self._check_limit(f"token {token_id}")
            if not await asyncio.to_thread(verify, hashed, secret):
                self._failed(f"token {token_id}")
                return False
        self._verified[token_id] = (hashed, digest)
        while len(self._verified) > REMEMBERED_MAX:
            self._verified.popitem(last=False)
        return True

    def _allowed(self, name: str, via: str) -> Principal:
        user: User | None = self.users.load().users.get(name)
        if user is None or user.disabled:
            raise _unauthenticated(f"{name} is disabled")
        return Principal(user.name, user.roles, via)

    def _check_limit(self, who: str, name: str = "") -> None:
        """Raise ProblemError (429) for too many failed attempts. who: what tries; name: whose password it tries."""
        now = time.monotonic()
        locked = self._logins.wait_s(name, now)
        wait = max(locked, self._attempts.wait_s(who, now))
        if wait > 0.0:
            raise ProblemError(
                429,
                f"too many failed attempts: wait {wait:.0f} s",
                reason="too_many_attempts",
                remedy="or have an administrator make a link that logs in: `sentinel user link NAME`" if locked else "",
                headers={"retry-after": str(int(wait) + 1)},
            )

    def _failed(self, who: str, name: str = "") -> None:
        now = time.monotonic()
        self._attempts.failed(who, now)
        if name:
            self._logins.failed(name, now)

    def _digest(self, secret: str) -> bytes:
        return hashlib.blake2b(secret.encode("utf-8", "replace"), key=self._key, digest_size=32).digest()


def _unauthenticated(detail: str) -> ProblemError:
    return ProblemError(401, detail, reason="not_authenticated", headers={"www-authenticate": "Bearer"})


def token_of(request: Request[Any, Any, Any]) -> tuple[str, bool]:
    """(token, whether it came as a cookie); "" if the request has none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme:
        return (token.strip() if scheme.lower() == "bearer" else ""), False
    return request.cookies.get(COOKIE, ""), True


def check_origin(request: Request[Any, Any, Any]) -> None:
    """Raise ProblemError if a browser sends this for another site's page."""
    site, origin = request.headers.get("sec-fetch-site", ""), request.headers.get("origin", "")
    is_ours = not origin or origin.partition("://")[2] == request.headers.get("host", "")
    if site not in ("", "same-origin", "none") or not is_ours:
        raise ProblemError(403, "a session's requests must come from the console's own pages", reason="cross_site")


def middleware(gate: Gate) -> type:
    """The middleware that lets a request through to its handler: `scope["user"]` is then a Principal, or None."""

    class Authentication:
        def __init__(self, app: ASGIApp) -> None:
            self._app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.HTTP:
                scope["user"] = await _admitted(gate, Request(scope))
                scope["auth"] = None
            await self._app(scope, receive, send)

    return Authentication


async def _admitted(gate: Gate, request: Request[Any, Any, Any]) -> Principal | None:
    route = route_of(request)
    if route is None or ROUTES[route] is PUBLIC:
        return None
    token, is_cookie = token_of(request)
    if not token:
        raise _unauthenticated("no token: send `Authorization: Bearer …`, or log in")
    if is_cookie and request.method not in _SAFE:
        check_origin(request)
    if request.method not in _SAFE:
        _check_now(request)
    is_act = BACKGROUND not in request.headers and route != EVENTS
    who = await gate.principal(token, address_of(request), is_act=is_act)
    if not permitted(who.roles, route):
        needed = ", ".join(sorted(ROUTES[route]))
        raise ProblemError(
            403,
            f"{who.name} ({', '.join(who.roles)}) may not {route}",
            reason="not_permitted",
            remedy=f"it takes one of the roles {needed}",
        )
    return who


def _check_now(request: Request[Any, Any, Any]) -> None:
    """Raise ProblemError for an act at a past moment: what happened then can't be changed."""
    if b"as_of" in request.scope["query_string"] and "as_of" in request.query_params:
        raise ProblemError(
            409,
            f"as_of {request.query_params['as_of']!r} names a past moment; this request acts, and acts happen now",
            reason="past_moment",
            field="as_of",
            remedy="leave out as_of; a question that takes a body has its as_of there",
        )


def address_of(request: Request[Any, Any, Any]) -> str:
    """The client's address, for limits."""
    return request.client.host if request.client is not None else "?"


def route_of(request: Request[Any, Any, Any]) -> str | None:
    """The row of the table of roles; None for the description of the API, which is public."""
    template = request.scope["path_template"]
    if template == "/schema" or template.startswith("/schema/"):
        return None
    method = "GET" if request.method == "HEAD" else request.method
    return f"{method} {template}"
