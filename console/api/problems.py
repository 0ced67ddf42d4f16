"""Errors as problem details (RFC 9457): what is wrong, where, and what to do. No traceback leaves the process.

Our own errors (`core.errors`) are mapped by whose fault they are; the framework's by their status.
"""

from __future__ import annotations

import re
import traceback
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException

from core.errors import BadInput, Conflict, Corrupt, NotDecidable, SentinelError, Unavailable
from core.text import clipped, visible

MEDIA_TYPE = "application/problem+json"
RETRY_S = 1
_PATH = re.compile(r"at `\$\.?([^`]*)`|field `([^`]+)`|field '([^']+)'")


class FieldProblem(msgspec.Struct, frozen=True):
    """One fault of a document or a request. field: a JSON path or a parameter's name, "" for the whole."""

    detail: str
    field: str = ""
    line: int = 0


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem detail. reason: a stable code (docs/bad-input.md); field: what it is about; remedy: what to do."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    instance: str = ""
    reason: str = ""
    field: str = ""
    remedy: str = ""
    problems: list[FieldProblem] = []


class ProblemError(SentinelError):
    """An error that is answered with this problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str = "",
        field: str = "",
        remedy: str = "",
        problems: list[FieldProblem] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            HTTPStatus(status).phrase,
            status,
            visible(clipped(detail)),
            "about:blank",
            "",
            reason,
            field,
            remedy,
            problems or [],
        )
        self.headers = headers or {}


_FLAG = re.compile(r"--([a-z][a-z-]*[a-z])")
"""An option of the command line in a message; here it is a field of that name."""


def not_found(what: str, remedy: str = "check the ID") -> ProblemError:
    """The error that something is not in the log (as of the moment asked for)."""
    return ProblemError(404, f"{what} is not in the log", reason="not_found", remedy=remedy)


def field_of(message: str) -> str:
    """The field that a decoder's message names; "" if it names none."""
    found = _PATH.search(message)
    return next((group for group in found.groups() if group), "") if found else ""


def from_bad_input(error: BadInput, method: str) -> ProblemError:
    """What a caller sent and can't be accepted: 400 in a query, 422 in a document."""
    text = _plain(error)
    return ProblemError(400 if method in ("GET", "HEAD") else 422, text, reason=error.reason, field=field_of(text))


def _plain(error: Exception) -> str:
    """The error's words without the command line's spelling."""
    return _FLAG.sub(lambda found: found[1].replace("-", "_"), str(error))


def _of(error: Exception, method: str) -> ProblemError:
    match error:
        case ProblemError():
            return error
        case BadInput():
            return from_bad_input(error, method)
        case Conflict():
            return ProblemError(409, _plain(error), reason="conflict", remedy="read again, then repeat the request")
        case NotDecidable():
            return ProblemError(409, str(error), reason="not_decidable", remedy="ask a release that has the engine")
        case Unavailable():
            return ProblemError(
                503,
                str(error),
                reason="unavailable",
                remedy="try again; a repeated transaction ID is decided once",
                headers={"retry-after": str(RETRY_S)},
            )
        case Corrupt():
            return ProblemError(500, str(error), reason="corrupt", remedy="run `sentinel verify`")
    return ProblemError(500, "an internal error; the server's log has it", reason="internal")


def on_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The application's handler of every exception."""
    if isinstance(error, HTTPException) and not isinstance(error, SentinelError):
        found = _of_framework(error)
    else:
        found = _of(error, request.method)
    if found.problem.status >= 500 and found.problem.reason in ("internal", "corrupt"):
        # Without the frames' variables: one of them may be a password.
        trace = "".join(traceback.format_exception(error))
        structlog.get_logger().error("api.failed", method=request.method, path=request.url.path, trace=trace)
    return response(found, request.url.path)


def response(found: ProblemError, path: str) -> Response[bytes]:
    """The response that tells of the problem."""
    body = msgspec.json.encode(msgspec.structs.replace(found.problem, instance=visible(path[:200])))
    return Response(body, status_code=found.problem.status, media_type=MEDIA_TYPE, headers=found.headers)


def _of_framework(error: HTTPException) -> ProblemError:
    status = error.status_code
    if isinstance(error, ValidationException):
        extra = error.extra if isinstance(error.extra, list) else []
        problems = [
            FieldProblem(str(e.get("message", "")), str(e.get("key", ""))) for e in extra if isinstance(e, dict)
        ]
        detail = "; ".join(f"{p.field}: {p.detail}" if p.field else p.detail for p in problems) or error.detail
        first = problems[0].field if problems else field_of(detail)
        return ProblemError(400, detail, reason="bad_request", field=first, problems=problems)
    if status >= 500:
        return ProblemError(500, "an internal error; the server's log has it", reason="internal")
    remedies = {404: "see /schema for the routes", 405: "see /schema for the methods", 413: "send less at once"}
    reason = {401: "not_authenticated", 403: "not_permitted", 404: "no_such_route", 413: "too_large"}
    return ProblemError(
        status,
        error.detail,
        reason=reason.get(status, "bad_request"),
        remedy=remedies.get(status, ""),
        headers=dict(error.headers or {}),
    )


JSON = MediaType.JSON
