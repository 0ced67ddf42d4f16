"""The small client: answers, pages, moments, errors, what is repeated and what is not, broken streams."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from console import client
from console.client import Event, ProblemError, Sentinel
from core.log.memory import MemoryLog
from tests.builders import baseline_log, notebook
from tests.builders.api import Served, served
from tests.builders.baseline_log import PARTITIONS


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    log = MemoryLog()
    baseline_log.fill(log, transactions=1200, accounts=20)
    return log


@pytest.fixture(scope="module")
def api(decided: MemoryLog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(decided, tmp_path_factory.mktemp("client")) as found:
        yield found


@pytest.fixture
def sentinel(api: Served) -> Sentinel:
    return Sentinel("http://testserver", api.tokens["auditor"], client=api.client)


def scripted(*answers: Callable[[httpx.Request], httpx.Response]) -> tuple[Sentinel, list[httpx.Request], list[float]]:
    """A client of a server that answers so, in turn; the requests that it got, and how long the client slept."""
    requests: list[httpx.Request] = []
    slept: list[float] = []
    left = list(answers)

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return left.pop(0)(request)

    made = httpx.Client(transport=httpx.MockTransport(handler))
    return Sentinel("http://x/", "ss_t", client=made, sleep=slept.append), requests, slept


def answering(status: int, body: Any, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, json=body, headers=headers)


def failing(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def test_the_example_notebook_is_up_to_date() -> None:
    """Run again, it gives what it shows; if not: python -m tests.builders.notebook."""
    assert notebook.FILE.read_text(encoding="utf-8") == notebook.written()


def test_it_stands_alone() -> None:
    """It imports the standard library and httpx only, so that it can be copied."""
    tree = ast.parse(Path(client.__file__).read_text())
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).partition(".")[0] for name in found} <= set(sys.stdlib_module_names) | {"httpx"}


def test_all_pages_are_followed(sentinel: Sentinel, decided: MemoryLog) -> None:
    """Every decision once, newest first."""
    rows = list(sentinel.decisions(limit=70))
    assert len({row["place"] for row in rows}) == sum(decided.length(p, "scores") for p in range(PARTITIONS))
    assert [row["at"] for row in rows] == sorted((row["at"] for row in rows), reverse=True)
    declined = list(sentinel.decisions(decision="decline", account=None))
    assert 0 < len(declined) < len(rows) and {row["decision"] for row in declined} == {"decline"}


def test_a_moment_counts_for_every_read(sentinel: Sentinel) -> None:
    """But not for what is posted, whose moment is in the body."""
    then = sentinel.at("p01:1-100")
    assert len(list(then.decisions())) < len(list(sentinel.decisions()))
    assert then.get("/v1/stats")["as_of"].startswith("p00:")
    assert then.post("/v1/whatif", {"review": 0.2})["total"]["decisions"] > 0


def test_a_refusal_is_an_error_that_says_what_to_do(sentinel: Sentinel) -> None:
    """With the API's own words and codes."""
    with pytest.raises(ProblemError, match="404: case none") as raised:
        sentinel.get("/v1/cases/none")
    assert (raised.value.status, raised.value.reason) == (404, "not_found") and raised.value.remedy
    with pytest.raises(ProblemError) as raised:
        sentinel.patch("/v1/thresholds", {"review": 0.2, "reason": "x"})
    assert raised.value.status == 403
    broken, *_ = scripted(lambda request: httpx.Response(502, text="<html>"))
    with pytest.raises(ProblemError, match="502"):
        broken.get("/v1/stats")


def test_a_payment_is_sent_again_with_the_same_key() -> None:
    """After a lost connection and a 503, as long after as the server says; the decision is the last answer."""
    made, requests, slept = scripted(
        failing,
        answering(503, {"detail": "away"}, **{"retry-after": "3"}),
        answering(503, {"detail": "a proxy's"}, **{"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        answering(200, {"decision": "approve"}),
    )
    assert made.decide({"transaction_id": "t"}, wait_ms=100) == {"decision": "approve"}
    assert len({request.headers["idempotency-key"] for request in requests}) == 1
    assert [json.loads(request.content) for request in requests] == [{"transaction_id": "t"}] * 4
    assert requests[0].url.params["wait_ms"] == "100" and slept == [0.5, 3.0, 1.0]


def test_what_is_not_safe_is_sent_once() -> None:
    """An act whose outcome is unknown is the caller's to look at; a payment that is wrong is not sent again either."""
    made, requests, _ = scripted(failing)
    with pytest.raises(httpx.ConnectError):
        made.post("/v1/lists", {})
    assert len(requests) == 1
    made, requests, _ = scripted(answering(422, {"detail": "negative", "reason": "negative_amount"}))
    with pytest.raises(ProblemError):
        made.decide({})
    assert len(requests) == 1


def test_it_gives_up_in_the_end() -> None:
    """After TRIES, with the last failure."""
    made, requests, slept = scripted(*[failing] * client.TRIES)
    with pytest.raises(httpx.ConnectError):
        made.get("/v1/stats")
    assert len(requests) == client.TRIES and len(slept) == client.TRIES - 1


def test_many_payments_go_in_batches() -> None:
    """Of at most BATCH_MAX, with a result for each, in order."""
    sizes: list[int] = []

    def batch(request: httpx.Request) -> httpx.Response:
        sent = json.loads(request.content)
        sizes.append(len(sent))
        return httpx.Response(200, json={"results": [{"transaction_id": each["transaction_id"]} for each in sent]})

    made, *_ = scripted(batch, batch)
    results = list(made.decide_many({"transaction_id": str(n)} for n in range(client.BATCH_MAX + 5)))
    assert sizes == [client.BATCH_MAX, 5]
    assert [row["transaction_id"] for row in results] == [str(n) for n in range(client.BATCH_MAX + 5)]


def test_a_broken_stream_is_taken_up_where_it_ended() -> None:
    """With the last event's place, also if it only told a place; comments are skipped."""
    first = b'retry: 1000\nid: p0\n\n: still here\n\nid: p1\nevent: alert\ndata: {"a": 1}\n\n'
    first += b"id: p2\nevent: decision\ndata: {}\n\n"
    made, requests, _ = scripted(
        lambda request: httpx.Response(200, content=first),
        failing,
        lambda request: httpx.Response(200, content=b'id: p3\nevent: alert\ndata: {"a": 2}\n\n'),
    )
    found = list(islice(made.events(kind="alerts"), 3))
    assert found == [Event("alert", {"a": 1}, "p1"), Event("decision", {}, "p2"), Event("alert", {"a": 2}, "p3")]
    assert "last-event-id" not in requests[0].headers and requests[0].url.params["kind"] == "alerts"
    assert [request.headers["last-event-id"] for request in requests[1:]] == ["p2", "p2"]
    made, *_ = scripted(answering(403, {"detail": "no"}))
    with pytest.raises(ProblemError, match="403"):
        next(made.events())
