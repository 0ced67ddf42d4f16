"""Hostile bodies, parameters and cursors: an answer or a problem, never a failure inside, and nothing appended."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest

from core.log.memory import MemoryLog
from tests.builders import hostile
from tests.builders.api import Served
from tests.builders.hostile import OUTRIGHT, TEXTS, Surface
from tests.builders.program_texts import ONE

CASES = 20 * int(os.environ.get("SENTINEL_TEST_CASES", "1"))
BODIES: dict[str, Any] = {
    "/v1/programs/check": {"text": ONE},
    "/v1/programs/backtest": {"text": ONE, "days": 1.0},
    "/v1/whatif": {"parameters": {"review": 0.4}, "disabled": [], "days": 1.0},
    "/v1/decisions": {
        "transaction_id": "t1",
        "account_id": "a1",
        "amount": 5.0,
        "currency": "EUR",
        "merchant_id": "m1",
        "occurred_at": 1_767_607_200_000,
        "attributes": {"city": "X"},
    },
    "/v1/login": {"name": "alice", "password": "x" * 12},
}
PATHS = ("/v1/decisions", "/v1/alerts", "/v1/cases", "/v1/control", "/v1/lists", "/v1/programs", "/v1/models")
NAMES = ("as_of", "cursor", "limit", "account", "since", "until", "severity", "q", "status")


def fault(answer: Any, *expected: int) -> str:
    """What is wrong with an answer; "" if nothing is."""
    kind = answer.headers.get("content-type", "")
    if answer.status_code >= 500 and answer.status_code not in expected:
        return f"{answer.status_code} {answer.text[:200]}"
    if answer.status_code >= 400 and not kind.startswith("application/problem+json"):
        return f"{answer.status_code} {kind}"
    return "too long" if answer.status_code >= 400 and len(answer.content) > 50_000 else ""


def ends(log: MemoryLog) -> list[Any]:
    return [log.control_head(), *(log.head(p) for p in range(2))]


@pytest.mark.parametrize("path", BODIES)
def test_bodies(api: Served, decided: MemoryLog, path: str) -> None:
    """Of the requests that read the most. Without Kafka, a valid payment is answered as unavailable."""
    before, faults = ends(decided), []
    body = json.dumps(BODIES[path]).encode()
    if path == "/v1/decisions":
        path = "/v1/decisions/batch"
        body = b"[" + body + b"]"
    headers = api.bearer("admin" if "decisions" not in path else "submitter") | {"content-type": "application/json"}
    surface = Surface(path, lambda: [body], lambda content: None, structured=True)
    for content in [*hostile.cases(surface, 1, CASES), *OUTRIGHT]:
        if wrong := fault(api.client.post(path, content=content, headers=headers), 503):
            faults.append(f"{path}: {wrong} for {content[:200]!r}")
    assert faults == [] and ends(decided) == before


def test_parameters(api: Served) -> None:
    """Of lists and of single things."""
    chance, faults = random.Random(3), []
    for _ in range(5 * CASES):
        path = chance.choice(PATHS)
        query = {chance.choice(NAMES): chance.choice((*TEXTS, *hostile.NUMBERS)).encode("utf-8", "replace")[:9_000]}
        if wrong := fault(api.client.get(path, params=query, headers=api.bearer("auditor"))):
            faults.append(f"{path}: {wrong} for {query}"[:500])
    assert faults == []
