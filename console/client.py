"""A small client of the HTTP API, on httpx alone: copy this file to wherever you need it.

    with Sentinel("http://127.0.0.1:8700", token) as sentinel:
        sentinel.decide({"transaction_id": "t1", "account_id": "a1", "amount": 12.5, "occurred_at": 1767600000000})
        for decision in sentinel.decisions(decision="decline", rule="VELOCITY_10M"):
            ...

Answers are the API's own JSON; /schema/openapi.json describes them. What a description can't say is done here: pages
are followed, errors are exceptions, what is safe to repeat is repeated, and streams of events are taken up where they
broke off.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

TRIES = 5
WAIT_S_MAX = 30.0
BATCH_MAX = 1_000
Json = Any


class ProblemError(Exception):
    """The API's refusal (RFC 9457). status: of HTTP; reason: a stable code; problems: every fault, if there are
    several.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.detail = str(problem.get("detail", ""))
        self.reason = str(problem.get("reason", ""))
        self.field = str(problem.get("field", ""))
        self.remedy = str(problem.get("remedy", ""))
        self.problems: list[dict[str, Any]] = problem.get("problems", [])
        super().__init__(f"{status}: {self.detail}" + (f" ({self.remedy})" if self.remedy else ""))


class Event(NamedTuple):
    """kind: decision, alert, gap (some were missed) or overflow. place: give it to `events` to go on after it."""

    kind: str
    data: dict[str, Any]
    place: str


class Sentinel:
    """A server of the API and who asks it. Not for several threads at once.

    url: the console's address. token: `sentinel user token`. as_of: a moment at which everything is read. client: an
    httpx client to use instead of a new one. sleep: for tests.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        as_of: str = "",
        timeout_s: float = 30.0,
        client: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url, self._token, self._as_of = url.rstrip("/"), token, as_of
        self._client = httpx.Client(timeout=timeout_s) if client is None else client
        self._sleep = sleep

    def at(self, moment: str) -> Sentinel:
        """The same server as of a moment: a time, a position, or an answer's `as_of`."""
        return Sentinel(self._url, self._token, as_of=moment, client=self._client, sleep=self._sleep)

    def get(self, path: str, **query: Json) -> Json:
        """What a GET answers. Repeated while the server is away. Raises ProblemError, httpx.HTTPError."""
        return self._sent("GET", path, query=query, is_repeatable=True)

    def post(self, path: str, body: Json = None, **query: Json) -> Json:
        """What a POST answers. Sent once. Raises ProblemError, httpx.HTTPError."""
        return self._sent("POST", path, body, query)

    def patch(self, path: str, body: Json) -> Json:
        """What a PATCH answers. Sent once. Raises ProblemError, httpx.HTTPError."""
        return self._sent("PATCH", path, body)

    def pages(self, path: str, rows: str, **query: Json) -> Iterator[dict[str, Any]]:
        """The rows of all pages, as of the first one's moment. rows: the field that holds them."""
        cursor = ""
        while True:
            page = self.get(path, cursor=cursor, **query)
            yield from page[rows]
            cursor = page["next"]
            if not cursor:
                return

    def decisions(self, **query: Json) -> Iterator[dict[str, Any]]:
        """The decisions that match, newest first (GET /v1/decisions)."""
        return self.pages("/v1/decisions", "decisions", **{"limit": 500, **query})

    def decide(self, payment: Mapping[str, Any], *, wait_ms: int = 2_000) -> dict[str, Any]:
        """The decision on a payment, once it is durable; `status` is "accepted" if that takes longer than wait_ms.
        Repeated after a failure: the transaction's ID makes sure that it is decided once. Raises ProblemError,
        httpx.HTTPError.
        """
        headers = {"idempotency-key": str(uuid.uuid4())}
        answer: dict[str, Any] = self._sent(
            "POST", "/v1/decisions", payment, {"wait_ms": wait_ms}, headers=headers, is_repeatable=True
        )
        return answer

    def decide_many(self, payments: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """A result for each payment, in order; `status` says what became of it (POST /v1/decisions/batch)."""
        waiting: list[Mapping[str, Any]] = []
        for payment in payments:
            waiting.append(payment)
            if len(waiting) == BATCH_MAX:
                yield from self._batch(waiting)
                waiting = []
        if waiting:
            yield from self._batch(waiting)

    def _batch(self, payments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._sent("POST", "/v1/decisions/batch", payments, is_repeatable=True)["results"]
        return found

    def events(self, after: str = "", **query: Json) -> Iterator[Event]:
        """Decisions and alerts as they become durable, without end: a broken stream is taken up after the last event.
        query: kind="alerts", account, decision. after: an event's place. Raises ProblemError for a wrong request.
        """
        failures = 0
        while True:
            headers = self._headers({"last-event-id": after} if after else {})
            try:
                with self._client.stream(
                    "GET",
                    f"{self._url}/v1/events",
                    params=_given(query),
                    headers=headers,
                    timeout=_endless(self._client),
                ) as answer:
                    if answer.is_error:
                        answer.read()
                        raise _problem(answer)
                    for event in _parsed(answer.iter_lines()):
                        failures, after = 0, event.place or after
                        if event.kind:
                            yield event
            except httpx.TransportError:
                if (failures := failures + 1) >= TRIES:
                    raise
            except ProblemError as error:
                if error.status != 503 or (failures := failures + 1) >= TRIES:
                    raise
            self._sleep(min(2.0**failures / 2, WAIT_S_MAX))

    def _sent(
        self,
        method: str,
        path: str,
        body: Json = None,
        query: Mapping[str, Json] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool = False,
    ) -> Json:
        params = _given({**({"as_of": self._as_of} if self._as_of and method == "GET" else {}), **(query or {})})
        for attempt in range(1, TRIES + 1):
            is_last = not is_repeatable or attempt == TRIES
            try:
                answer = self._client.request(
                    method,
                    f"{self._url}{path}",
                    params=params,
                    json=body,
                    headers=self._headers(headers or {}),
                )
            except httpx.TransportError:
                if is_last:
                    raise
                self._sleep(min(2.0**attempt / 4, WAIT_S_MAX))
                continue
            if not answer.is_error:
                return answer.json() if answer.content else None
            if answer.status_code not in (429, 503) or is_last:
                raise _problem(answer)
            self._sleep(_asked_s(answer))
        raise AssertionError  # the last try returned or raised

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}", **more}

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _given(query: Mapping[str, Json]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None and value != ""}


def _problem(answer: httpx.Response) -> ProblemError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    return ProblemError(answer.status_code, problem if isinstance(problem, dict) else {})


def _asked_s(answer: httpx.Response) -> float:
    """How long the server asks to wait: seconds. A proxy before it may give a date instead: 1 s then."""
    said = answer.headers.get("retry-after", "")
    return min(float(said), WAIT_S_MAX) if said.isdecimal() else 1.0


def _endless(client: httpx.Client) -> httpx.Timeout:
    """The client's limits, but for reading: the server sends a comment at least every 15 s."""
    return httpx.Timeout(client.timeout.connect, read=60.0)


def _parsed(lines: Iterable[str]) -> Iterator[Event]:
    """Server-sent events; those without a kind only tell a place."""
    kind, data, place = "", "", ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data += value
        elif name == "id":
            place = value
        elif not line and (kind or place):
            yield Event(kind, json.loads(data) if data else {}, place)
            kind, data = "", ""
