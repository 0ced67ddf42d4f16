"""Prometheus metrics of the API: requests and their seconds by route, counted in a middleware outside all others. They
are answered at the API's own `/metrics`, and beside the system's (`console.api.system_gauges`) at the metrics port.
"""

from __future__ import annotations

import time
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        by = ("method", "route")
        self.requests = Counter("sentinel_api_requests", "Requests answered.", (*by, "status"), registry=self.registry)
        self.seconds = Histogram(
            "sentinel_api_request_seconds",
            "Seconds to the response's start.",
            by,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.confirmed = Histogram(
            "sentinel_api_kafka_seconds",
            "Seconds until Kafka confirmed a payment.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.decided = Histogram(
            "sentinel_api_decision_seconds",
            "Seconds from Kafka's confirmation to the durable decision.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.subscribers = Gauge("sentinel_api_subscribers", "Open event streams.", registry=self.registry)

    def text(self) -> str:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry).decode()


def middleware(metrics: Metrics) -> Any:
    """The middleware that counts."""

    class Counting:
        def __init__(self, app: ASGIApp) -> None:
            self._app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await self._app(scope, receive, send)
                return
            began = time.perf_counter()
            route = scope.get("path_template") or "?"
            method = str(scope.get("method"))

            async def counted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    metrics.requests.labels(method, route, str(message["status"])).inc()
                    metrics.seconds.labels(method, route).observe(time.perf_counter() - began)
                await send(message)

            await self._app(scope, receive, counted)

    return Counting
