"""Masks what is personal in answers to users whose roles don't need it, in one place that every answer passes.

    masked     accounts, devices, cards and IP addresses; attributes of a payment, unless the program in force says that
               they are not personal; the program's own personal fields; notes and reasons that people wrote
    shown      tokens of a log with tokens: they name nobody without the vault
    a mask     "masked." and the value under AES-SIV: equal values have equal masks, so a user can follow an account
               from page to page, and ask by a mask; only this server opens it, with a key that follows from the log's

An answer is searched for personal values by the names of its fields (`_Personal`), and then each of these values is
replaced wherever it stands in the answer, also within texts and as a key. Values that the request named by their masks
are replaced too: an error message must not open a mask.

No oracle: a masked user who asks by a raw value is refused, whether the log knows it or not; the ETag is of the masked
answer. A program with a literal of an ID, which rule authors may try (`/v1/programs/backtest`), tells how many payments
hold it: that is what authors do, and it is in their proposals' text.

Cost: nothing for who sees everything; for others decoding and encoding the answer, about 30 µs a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar.types import ASGIApp, Empty, HTTPResponseStartEvent, Message, Receive, Scope, Send
from litestar.utils.scope.state import ScopeState

from console.api.access import sees_personal_data
from console.api.auth import Principal
from console.api.desk import Desk
from console.api.personal import Masks, alerts_told, masked
from console.api.problems import ProblemError
from console.api.unmasking import Unmasking
from core.errors import BadInput
from core.identity import required

_OPEN = ("POST /v1/decisions/{id}/unmask", "GET /v1/me")
_ONE = ("GET /v1/decisions/{id}", "POST /v1/decisions/{id}")
"""Routes about one payment, whose values may stand in texts of the answer."""
_ASKED = frozenset(("account", "card", "device", "ip"))
"""Parameters of requests that name somebody."""


def middleware(desk: Desk, unmasking: Unmasking) -> type:
    """The middleware that masks, for the users who don't see everything. It comes after authentication."""

    class Masking:
        def __init__(self, app: ASGIApp) -> None:
            self._app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            user = cast(Principal | None, scope.get("user"))
            route = f"{scope.get('method')} {scope.get('path_template')}"
            if user is None or sees_personal_data(user.roles) or route in _OPEN:
                await self._app(scope, receive, send)
                return
            masks, classes = Masks(required(desk.control.identity)), await desk.run(unmasking.classes)
            named = _asked(scope, route, masks)
            about = await desk.run(unmasking.payment, scope["path_params"]["id"]) if route.startswith(_ONE) else None
            given = _header(scope, b"if-none-match")
            scope["headers"] = [each for each in scope["headers"] if each[0] != b"if-none-match"]
            state = ScopeState.from_scope(scope)
            state.headers = state.parsed_query = Empty  # what was read of them before

            async def mask(content: Any) -> Any:
                alerts = dict.fromkeys(alerts_told(content))
                payments = [await desk.run(unmasking.payment, alert) for alert in alerts]
                return masked(content, masks, classes, [about, *payments], named)

            answer = _Answer(send, given, mask)
            await self._app(scope, receive, answer.send)

    return Masking


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _asked(scope: Scope, route: str, masks: Masks) -> list[str]:
    """Open the masks that a request names; what they stand for. Raises ProblemError for a raw value."""
    found: list[str] = []

    def opened(name: str, value: str) -> str:
        try:
            raw = masks.opened(value)
        except BadInput as error:
            remedy = "POST /v1/decisions/{id}/unmask shows one payment's values, and is recorded"
            raise ProblemError(400, str(error), reason="masked", field=name, remedy=remedy) from None
        found.append(raw)
        return raw

    parameters = scope["path_params"]
    is_device = route.startswith("GET /v1/reference/") and parameters.get("kind") == "device"
    if "id" in parameters and (route.startswith("GET /v1/accounts/") or is_device):
        scope["path_params"] = {**parameters, "id": opened("id", str(parameters["id"]))}
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if any(name in _ASKED for name, _ in query):
        query = [(name, opened(name, value) if name in _ASKED and value else value) for name, value in query]
        scope["query_string"] = urlencode(query).encode()
    return found


class _Answer:
    """Passes an answer on, masked: JSON as a whole, server-sent events one by one, anything else as it is."""

    def __init__(self, send: Send, given: str, mask: Callable[[Any], Awaitable[Any]]) -> None:
        """given: the request's If-None-Match."""
        self._send, self._given, self._mask = send, given, mask
        self._start: HTTPResponseStartEvent | None = None
        self._body = bytearray()
        self._kind = ""

    async def send(self, message: Message) -> None:
        """See the class."""
        if message["type"] == "http.response.start":
            self._start = message
            kinds = [value.decode("latin-1") for name, value in message["headers"] if name.lower() == b"content-type"]
            self._kind = kinds[0] if kinds else ""
            if not self._is_json:
                await self._send(message)
        elif message["type"] == "http.response.body" and self._is_json:
            self._body += message["body"]
            if not message.get("more_body", False):
                await self._finish()
        elif message["type"] == "http.response.body" and self._kind.startswith("text/event-stream"):
            message["body"] = b"\n".join([await self._line(line) for line in message["body"].split(b"\n")])
            await self._send(message)
        else:
            await self._send(message)

    @property
    def _is_json(self) -> bool:
        return "json" in self._kind

    async def _line(self, line: bytes) -> bytes:
        head, data, rest = line.partition(b"data: ")
        return line if head or not data else data + await self._masked(rest)

    async def _masked(self, content: bytes) -> bytes:
        return msgspec.json.encode(await self._mask(msgspec.json.decode(content)))

    async def _finish(self) -> None:
        assert self._start is not None
        body = await self._masked(bytes(self._body)) if self._body else b""
        given = list(self._start["headers"])
        headers = [each for each in given if each[0].lower() not in (b"content-length", b"etag")]
        if any(each[0].lower() == b"etag" for each in given):
            tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
            headers.append((b"etag", tag.encode()))
            if tag in [each.strip() for each in self._given.split(",")]:
                self._start["status"], body = 304, b""
        headers.append((b"content-length", str(len(body)).encode()))
        self._start["headers"] = headers
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
