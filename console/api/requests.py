"""What handlers share: parameters, the desk behind a request, and answers as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.params import PathParameter, QueryParameter

from console.api.auth import Principal
from console.api.cursors import LIMIT_MAX
from console.api.desk import Desk
from console.api.problems import ProblemError
from core.errors import BadInput
from projections.engine.as_of import parse_time
from projections.engine.states import States

Asked = Request[Principal, None, Any]
AsOf = Annotated[
    str | None,
    QueryParameter(
        max_length=4096,
        description="A moment: a time (2026-03-01T12:00Z, epoch ms), a position (p07:1-533, c12) or an answer's as_of.",
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="Rows at most.")]
Cursor = Annotated[str, QueryParameter(max_length=8192, description="The `next` of the page before.")]
Time = Annotated[str | None, QueryParameter(max_length=64, description="Of receipt: 2026-03-01T12:00Z or epoch ms.")]
Text = Annotated[str | None, QueryParameter(max_length=1024)]
Name = Annotated[str, PathParameter(max_length=1024)]


class JSONRequest(Request[Principal, None, Any]):
    """A request whose body is refused if it is no JSON at all: no UTF-8, or nested more deeply than it can be read."""

    async def json(self) -> Any:
        """The body, decoded. Raises ProblemError."""
        try:
            return await super().json()
        except (UnicodeDecodeError, RecursionError) as error:
            raise ProblemError(400, f"the body is not JSON: {error}", reason="not_json") from None


def desk(request: Asked) -> Desk:
    """The application's desk."""
    found: Desk = request.app.state.desk
    return found


def json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response[Any]:
    """A response of JSON; bytes are JSON already."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=headers)


def unchanging(request: Asked, content: Any) -> Response[Any]:
    """A response that will never change: with an ETag, and 304 if the client has it."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    if tag in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(b"", status_code=304, headers=headers)
    return json(body, headers=headers)


def time_of(name: str, text: str | None) -> int | None:
    """Epoch ms of a parameter. Raises BadInput."""
    if text is None:
        return None
    found = parse_time(text)
    if found is None:
        raise BadInput(f"{name} {text!r} is not a time; write 2026-03-01, 2026-03-01T12:00Z or epoch ms")
    return found


async def asked(
    request: Asked, name: str, question: Callable[[States], Any], as_of: str | None, *, is_long: bool = False
) -> Response[Any]:
    """The answer to a question about now, or about a moment. name: the question with its arguments. is_long: it looks
    at all verdicts or decisions.
    """
    views = desk(request).views
    if as_of is not None:
        return unchanging(request, await desk(request).run_heavy(views.answer, name, question, as_of))
    if is_long:
        return json(await desk(request).run_heavy(views.answer_apart, question))
    return json(await desk(request).run(views.answer, name, question))
