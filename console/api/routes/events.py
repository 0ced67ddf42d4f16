"""Server-sent events: decisions and alerts as they become durable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import get
from litestar.params import FromQuery, HeaderParameter, QueryParameter
from litestar.response import Stream

from console.api.auth import Gate
from console.api.hub import Filter, Hub, Kind, Listener, missed, parse_vector, vector_text
from console.api.metrics import Metrics
from console.api.problems import ProblemError
from console.api.requests import Asked, Text, desk
from core.errors import Incomplete
from core.events import Decision, Position

KEEP_ALIVE_S = 15.0
LastEventId = Annotated[
    str | None, HeaderParameter(name="Last-Event-ID", max_length=100_000, description="Continue after this event.")
]
Seconds = Annotated[float, QueryParameter(ge=0, le=86_400, description="End the stream then; clients reconnect.")]


@get(
    "/v1/events", tags=["events"], summary="Decisions and alerts as they become durable", media_type="text/event-stream"
)
async def events(
    request: Asked,
    kind: FromQuery[Kind] = "decisions",
    account: Text = None,
    decision: FromQuery[Decision | None] = None,
    seconds: Seconds = 3_600.0,
    last_event_id: LastEventId = None,
) -> Stream:
    """`event: alert` for a decision with an alert, `event: decision` for others; `data` is a row of the search. The ID
    is the log's position: with `Last-Event-ID`, what was missed comes first. `event: gap`: too much was missed, or the
    log no longer holds it; `event: overflow`: this client is too slow, and the stream ends.
    """
    hub: Hub = request.app.state.hub
    account = desk(request).asked("account_id", account) if account else account
    after = None if last_event_id is None else parse_vector(last_event_id, desk(request).partitions)
    if hub.is_full:
        raise ProblemError(503, f"{len(hub)} clients listen already", reason="busy", headers={"retry-after": "10"})
    return Stream(
        _told(request, hub, Filter(kind, account, decision), after, time.monotonic() + seconds),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


async def _told(
    request: Asked,
    hub: Hub,
    wanted: Filter,
    after: dict[int, Position] | None,
    until: float,
) -> AsyncIterator[bytes]:
    metrics: Metrics = request.app.state.metrics
    listener, begin = hub.subscribe(wanted)
    metrics.subscribers.set(len(hub))
    try:
        yield b"retry: 1000\nid: %s\n\n" % vector_text(begin if after is None else after).encode()
        if after is not None:
            async for line in _caught_up(request, listener, after, begin):
                yield line
        while (left := until - time.monotonic()) > 0 and _is_welcome(request):
            try:
                event, name = await asyncio.wait_for(listener.queue.get(), min(left, KEEP_ALIVE_S))
            except TimeoutError:
                if listener.is_over:
                    break
                yield b": still here\n\n"
                continue
            yield b"id: %s\n%s" % (name.encode(), event.content)
            if listener.is_over and listener.queue.empty():
                break
        if listener.is_over:
            yield b"event: overflow\ndata: {}\n\n"
    finally:
        hub.unsubscribe(listener)
        metrics.subscribers.set(len(hub))


async def _caught_up(
    request: Asked, listener: Listener, after: dict[int, Position], begin: dict[int, Position]
) -> AsyncIterator[bytes]:
    try:
        found = await desk(request).run_heavy(missed, desk(request).log, after, begin, listener.filter)
    except Incomplete:
        found = None
    if found is None:
        yield b"id: %s\nevent: gap\ndata: {}\n\n" % vector_text(begin).encode()
    for event, name in found or ():
        yield b"id: %s\n%s" % (name.encode(), event.content)


def _is_welcome(request: Asked) -> bool:
    """Whether the user may still be told: their session has not ended, and nobody has disabled them."""
    gate: Gate = request.app.state.gate
    return gate.is_welcome(request.user)


HANDLERS: list[Any] = [events]
