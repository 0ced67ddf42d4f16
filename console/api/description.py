"""Completes the API's description: every error is a problem (`console.api.problems`), not the framework's own form, and
each schema has a title of its own, which generators of clients take as a name.
"""

from __future__ import annotations

from litestar import Litestar
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, Reference, Schema

from console.api.access import PUBLIC, ROUTES
from console.api.problems import MEDIA_TYPE

METHODS = ("get", "post", "put", "patch", "delete")
_PROBLEM = "#/components/schemas/Problem"
_COMMON = {"400": "The request can't be accepted.", "default": "A problem; its status says what kind."}
_GUARDED = {"401": "No valid token or session.", "403": "A role that may not."}


def complete(app: Litestar) -> None:
    """Change the application's description, before anybody has read it."""
    described = app.openapi_schema
    for path, item in (described.paths or {}).items():
        for method in METHODS:
            operation: Operation | None = getattr(item, method)
            route = f"{method.upper()} {path}"
            if operation is not None and operation.responses is not None:
                is_public = route not in ROUTES or ROUTES[route] is PUBLIC
                _tell_problems(operation, _COMMON if is_public else {**_COMMON, **_GUARDED})
                if is_public:
                    operation.security = []
    for name, schema in described.components.schemas.items():
        if isinstance(schema, Schema):
            schema.title = name


def _tell_problems(operation: Operation, of: dict[str, str]) -> None:
    problem = OpenAPIMediaType(schema=Reference(ref=_PROBLEM))
    assert operation.responses is not None
    for status, words in of.items():
        operation.responses[status] = OpenAPIResponse(description=words, content={MEDIA_TYPE: problem})
