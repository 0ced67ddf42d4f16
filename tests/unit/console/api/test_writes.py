"""What people change over HTTP: the log's own acts, with the authenticated user as actor; bad input; no way around."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from core.codec import decode_control
from core.log.memory import MemoryLog
from tests.builders import baseline_log
from tests.builders.api import Served, served


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """A log of this module's own: its control stream changes."""
    found = MemoryLog()
    baseline_log.fill(found, transactions=800, accounts=20)
    return found


@pytest.fixture(scope="module")
def api(log: MemoryLog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(log, tmp_path_factory.mktemp("writes")) as found:
        yield found


def last(log: MemoryLog) -> Any:
    return decode_control(log.read_control(log.control_head() - 1)[0][1])


def test_an_act_is_an_event_by_the_user_who_asked(api: Served, log: MemoryLog) -> None:
    """Thresholds, rules and lists are set in the control stream; a repeat appends nothing."""
    body = {"review": 0.35, "decline": 0.85, "reason": "too many complaints"}
    first = api.client.patch("/v1/thresholds", json=body, headers=api.bearer("publisher")).json()
    event = last(log)
    assert (event.actor, event.reason, event.review, event.decline) == ("publisher", "too many complaints", 0.35, 0.85)
    assert first == {"position": log.control_head(), "changed": True, "proposals": []}
    again = api.client.patch("/v1/thresholds", json=body, headers=api.bearer("publisher")).json()
    assert again == {"position": first["position"], "changed": False, "proposals": []}
    listed = api.post(
        "/v1/lists", {"kind": "merchant", "effect": "block", "add": ["Shop-66"], "reason": "card testing"}, "analyst"
    ).json()
    assert (listed["added"], last(log).actor) == (["shop-66"], "analyst")
    rules = {"parameters": {"velocity_10m": 7}, "disable": ["UNUSUAL_HOUR"], "reason": "holiday"}
    api.client.patch("/v1/rules", json=rules, headers=api.bearer("publisher"))
    assert last(log).parameters["velocity_10m"] == 7.0
    deadline = time.monotonic() + 20.0
    while api.get("/v1/thresholds").json()["decline"] != 0.85:
        assert time.monotonic() < deadline
    assert api.get("/v1/thresholds").json()["history"][-1]["actor"] == "publisher"


@pytest.mark.parametrize("field", ["actor", "occurred_at"])
def test_nobody_acts_in_anothers_name(api: Served, log: MemoryLog, field: str) -> None:
    """A body that names an actor or a time is refused, and nothing is appended."""
    before = log.control_head()
    got = api.client.patch(
        "/v1/thresholds", json={"review": 0.2, "reason": "x", field: "bob"}, headers=api.bearer("publisher")
    )
    assert got.status_code == 400 and log.control_head() == before


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/lists", {"kind": "ship", "effect": "block", "add": ["x"], "reason": "r"}, 400, "ship"),
        ("/v1/lists", {"kind": "merchant", "effect": "block", "reason": "r"}, 422, "no value"),
        ("/v1/lists", {"kind": "merchant", "effect": "block", "add": ["x"], "reason": ""}, 400, "reason"),
        ("/v1/lists", {"kind": "ip", "effect": "block", "add": ["999.1.1.1/99"], "reason": "r"}, 422, "999"),
        ("/v1/models/none-1/deploy", {"reason": "r"}, 422, "none-1"),
        ("/v1/users", {"name": "X Y", "roles": ["viewer"]}, 422, "user name"),
        ("/v1/users", {"name": "xy", "roles": ["king"]}, 400, "king"),
        ("/v1/users/nobody/disable", None, 404, "nobody"),
    ],
)
def test_bad_acts_get_a_problem(api: Served, path: str, body: Any, status: int, words: str) -> None:
    """The caller's fault, in words that name it, and nothing is appended."""
    role = "admin" if "users" in path else "publisher"
    got = api.post(path, body, role)
    assert got.status_code == status and words in got.text, got.text
    assert "--" not in got.json()["detail"]


def test_users_are_managed_by_administrators(api: Served) -> None:
    """A new user with a token can act at once; disabled, no more; administrators can't lock themselves out."""
    api.post("/v1/users", {"name": "newbie", "roles": ["viewer"]})
    token = api.post("/v1/users/newbie/tokens", {"note": "test"}).json()["token"]
    bearer = {"authorization": f"Bearer {token}"}
    assert api.client.get("/v1/me", headers=bearer).json()["name"] == "newbie"
    listed = api.get("/v1/users", "admin")
    assert token.split("_")[2] not in listed.text and "argon2" not in listed.text
    token_id = token.split("_")[1]
    assert api.post(f"/v1/users/newbie/tokens/{token_id}/revoke").status_code == 204
    assert api.client.get("/v1/me", headers=bearer).status_code == 401
    assert api.post("/v1/users/admin/disable").status_code == 409
    assert api.post("/v1/users", {"name": "admin", "roles": ["viewer"]}).status_code == 409
