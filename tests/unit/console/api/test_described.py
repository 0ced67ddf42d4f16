"""The API against its own description: whatever schemathesis makes of it, valid or not, nothing fails inside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from console import wiring
from console.api import users
from console.api.users import ROLES
from console.stack import Broker, Valkey
from tests.builders.api import Served, served
from tests.worker_harness import Threaded, stage, wait_for

EXAMPLES = int(os.environ.get("SENTINEL_TEST_EXAMPLES", "4"))
"""For each operation and mode; more of them find more."""


@pytest.fixture(scope="module")
def everything(
    valkey_server: Valkey, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, dict[str, str]]]:
    """The API beside a worker, and the headers of somebody with every role."""
    directory = tmp_path_factory.mktemp("described")
    on = stage(broker.bootstrap, valkey_server.host, valkey_server.port, directory, history=False)
    on.create_topics()
    with Threaded(on) as worker:
        wait_for(lambda: len(worker.worker.partitions) == on.settings.partitions, "the assignment")
        with served(wiring.open_log(on.settings), directory, on.settings) as api:
            users.add(api.users, "everybody", list(ROLES), 0)
            yield api, {"authorization": f"Bearer {users.new_token(api.users, 'everybody', 1)}"}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_fails_inside(everything: tuple[Served, dict[str, str]], mode: GenerationMode) -> None:
    """Each operation with generated requests: no 5xx, and every error is a problem with its own status."""
    api, headers = everything
    described = api.client.get("/schema/openapi.json").json()
    schema = schemathesis.openapi.from_dict(described, config=SchemathesisConfig())
    tried: dict[str, int] = {}
    failed: dict[str, str] = {}
    for found in schema.get_all_operations():
        _try(found.ok(), mode, api, headers, tried, failed)
    assert failed == {}
    assert len(tried) > 40 and sum(tried.values()) > 200


def _try(
    operation: Any,
    mode: GenerationMode,
    api: Served,
    headers: dict[str, str],
    tried: dict[str, int],
    failed: dict[str, str],
) -> None:
    name = f"{operation.method.upper()} {operation.path}"

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        try:
            answer = _send(api, headers, case)
        except httpx.InvalidURL:  # the client refuses it: too long
            return
        tried[name] = tried.get(name, 0) + 1
        status = answer.status_code
        is_problem = answer.headers.get("content-type", "").startswith("application/problem+json")
        if status >= 500 or (status >= 400 and (not is_problem or answer.json()["status"] != status)):
            failed.setdefault(name, f"{status} {answer.text[:300]} for {case.body!r} {case.query!r}")

    with suppress(Unsatisfiable):  # nothing about this operation can be made invalid
        one()


def _send(api: Served, headers: dict[str, str], case: Any) -> Any:
    made = case.as_transport_kwargs(base_url="http://testserver", headers=headers)
    query = dict(made.get("params") or {})
    if case.operation.path == "/v1/events":
        query["seconds"] = "0"
    given: dict[str, Any] = {}
    if "json" in made:
        given["json"] = made["json"]
    elif made.get("data") is not None:
        given["content"] = made["data"] if isinstance(made["data"], str | bytes) else str(made["data"])
    sent = {str(name): str(value).encode("utf-8", "replace") for name, value in (made.get("headers") or {}).items()}
    sent["authorization"] = headers["authorization"].encode()
    return api.client.request(made["method"], made["url"], params=query or None, headers=sent, **given)
