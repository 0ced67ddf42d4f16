"""Builds the application: routes, authentication, errors, limits, the description of the API. Starts nothing itself."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from litestar import Litestar
from litestar.datastructures import State
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import BeforeMessageSendHookHandler, ControllerRouterHandler, Message, Scope

from console.api import access, auth, description, masking, metrics, problems
from console.api.desk import Desk
from console.api.hub import Hub
from console.api.inspecting import Inspector
from console.api.oidc import Oidc
from console.api.oidc_settings import oidc_settings
from console.api.requests import JSONRequest
from console.api.routes import (
    acting,
    authoring,
    casework,
    decisions,
    events,
    experimenting,
    overview,
    people,
    performance,
    programs,
    proposing,
    reading,
    single_sign_on,
    submitting,
    system,
    whatif,
)
from console.api.submitting import ANSWERED_MAX, Idempotency, Kept, Submitter
from console.api.system_gauges import System
from console.api.tail import Tail
from console.api.unmasking import Unmasking
from console.api.users import UserFile

BODY_BYTES_MAX = 2 * 2**20
HANDLERS: list[ControllerRouterHandler] = [
    *system.HANDLERS,
    *single_sign_on.HANDLERS,
    *decisions.HANDLERS,
    *submitting.HANDLERS,
    *reading.HANDLERS,
    *overview.HANDLERS,
    *performance.HANDLERS,
    *programs.HANDLERS,
    *authoring.HANDLERS,
    *whatif.HANDLERS,
    *events.HANDLERS,
    *acting.HANDLERS,
    *experimenting.HANDLERS,
    *proposing.HANDLERS,
    *casework.HANDLERS,
    *people.HANDLERS,
]
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


def build(desk: Desk, users: UserFile) -> Litestar:
    """The application on a desk, which it starts and closes. Raises ValueError if a route has no roles, BadInput for a
    bad setting.
    """
    provider = oidc_settings(desk.settings.oidc)
    counted = metrics.Metrics()
    gate = auth.Gate(users, math.inf if desk.settings.environment == "development" else auth.IDLE_S)
    tail = Tail(desk.log, desk.partitions)
    submitter = Submitter(desk, tail, counted)
    hub = Hub(desk.partitions)
    unmasking = Unmasking(desk)
    inspector = Inspector(desk.settings, len(desk.partitions))

    @asynccontextmanager
    async def running(app: Litestar) -> AsyncIterator[None]:
        desk.start()
        try:
            await desk.run(tail.prepare)
            hub.begin(tail.vector)
            tail.listeners.append(hub.hear)
            tail.start()
            submitter.start()
            yield
        finally:
            await desk.run(submitter.stop)
            await desk.run(tail.stop)
            desk.close()

    app = Litestar(
        HANDLERS,
        request_class=JSONRequest,
        middleware=[metrics.middleware(counted), auth.middleware(gate), masking.middleware(desk, unmasking)],
        exception_handlers={Exception: problems.on_error},
        request_max_body_size=BODY_BYTES_MAX,
        lifespan=[running],
        state=State(
            {
                "desk": desk,
                "gate": gate,
                "metrics": counted,
                "tail": tail,
                "hub": hub,
                "casework": casework.Casework(desk),
                "submitter": submitter,
                "unmasking": unmasking,
                "oidc": None if provider is None else Oidc(provider),
                "inspector": inspector,
                "system": System(desk, inspector),
                "idempotency": Idempotency(Kept(ANSWERED_MAX)),
            }
        ),
        before_send=[_with_headers()],
        openapi_config=_description(),
        logging_config=None,
    )
    access.check_table(routes_of(app))
    description.complete(app)
    return app


def routes_of(app: Litestar) -> list[str]:
    """The application's own routes, as the table of roles names them."""
    return [
        f"{method} {route.path_format}"
        for route in app.routes
        if not route.path.startswith("/schema")
        for method in sorted(getattr(route, "methods", ()))
        if method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    ]


def _with_headers() -> BeforeMessageSendHookHandler:
    async def add(message: Message, scope: Scope) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            headers += _HEADERS
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message["headers"] = headers

    return add


def _description() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Stream-Sentinel",
        version=version("stream-sentinel"),
        description="Payments decided by way of Kafka and the log; all that the log knows, now or as of any moment.",
        components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
        security=[{"token": []}],
        render_plugins=[JsonRenderPlugin()],
        use_handler_docstrings=True,
    )
