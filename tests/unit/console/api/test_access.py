"""Who may do what: each route tried with each role, and how requests are authenticated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import argon2
import pytest

from console.api import access, auth, users
from console.api.access import PUBLIC, ROUTES
from console.api.users import ROLES
from core.log.memory import MemoryLog
from core.settings import Settings
from tests.builders.api import PASSWORD, Served, served


@pytest.fixture
def fresh(decided: MemoryLog, tmp_path: Path) -> Iterator[Served]:
    """An application of this test's own: it may log in wrongly and disable users."""
    with served(decided, tmp_path) as found:
        yield found


def clock(seconds: float) -> SimpleNamespace:
    """What the module `time` is to authentication, when the monotonic clock says so."""
    return SimpleNamespace(monotonic=lambda: seconds, time=time.time)


def path_of(route: str) -> tuple[str, str]:
    method, path = route.split(" ")
    return method, path.replace("{kind}", "merchant").replace("{id}", "none").replace("{token_id}", "none").replace(
        "{position}", "1"
    )


def test_each_route_answers_each_role_as_the_table_says(api: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """401 without a token, 403 for a role that the table does not name, and something else for one that it does. A
    forbidden request never reaches its handler: its body is not even looked at.
    """
    wrong = []
    for route, allowed in ROUTES.items():
        method, path = path_of(route)
        if route == "GET /v1/events":
            path += "?seconds=0"
        nobody = api.client.request(method, path).status_code
        if (nobody == 401) is (allowed is PUBLIC):
            wrong.append(f"{route} without a token: {nobody}")
        if allowed is PUBLIC:
            continue
        for role in ROLES:
            got = api.client.request(method, path, headers=api.bearer(role)).status_code
            if (got == 403) is (role in allowed) or got == 401:
                wrong.append(f"{route} as {role}: {got}")
    with capsys.disabled():
        print("\n" + access.matrix())
    assert wrong == []


def test_a_route_without_roles_does_not_start() -> None:
    """The table and the application's routes must be the same."""
    access.check_table(ROUTES)
    with pytest.raises(ValueError, match="GET /v1/new"):
        access.check_table([*ROUTES, "GET /v1/new"])
    with pytest.raises(ValueError, match="GET /v1/me"):
        access.check_table(set(ROUTES) - {"GET /v1/me"})


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer x", "Basic YTpi", "Bearer ss_000000000000_" + "A" * 43, "Bearer sess_" + "A" * 43, "nonsense"],
)
def test_no_other_header_is_accepted(fresh: Served, header: str) -> None:
    """Malformed, unknown and ended credentials are 401 with a problem that says what to do."""
    got = fresh.client.get("/v1/me", headers={"authorization": header})
    assert got.status_code == 401
    assert got.headers["content-type"].startswith("application/problem+json")
    assert got.json()["reason"] == "not_authenticated"


def test_a_wrong_secret_under_a_known_id_is_refused(fresh: Served) -> None:
    """Also after the right one was verified and is remembered."""
    token = fresh.tokens["viewer"]
    assert fresh.get("/v1/me", "viewer").status_code == 200
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert fresh.client.get("/v1/me", headers={"authorization": f"Bearer {forged}"}).status_code == 401


def test_a_disabled_user_and_a_revoked_token_are_refused_at_once(fresh: Served) -> None:
    """The running application notices the change of the file at the next request; so it does for other roles."""
    assert fresh.get("/v1/me", "viewer").json()["roles"] == ["viewer"]
    users.add(fresh.users, "viewer", ["auditor"], 0)
    assert fresh.get("/v1/me", "viewer").json()["roles"] == ["auditor"]
    users.disable(fresh.users, "viewer")
    assert fresh.get("/v1/me", "viewer").status_code == 401
    users.revoke(fresh.users, "analyst", fresh.tokens["analyst"].split("_")[1])
    assert fresh.get("/v1/me", "analyst").status_code == 401


def test_an_expired_token_is_refused(fresh: Served) -> None:
    """A token counts until its time, and not after."""
    now = int(time.time() * 1000)
    for days, status in ((1.0, 200), (0.1, 401)):
        token = users.new_token(fresh.users, "viewer", now - 86_400_000 // 2, days=days)
        assert fresh.client.get("/v1/me", headers={"authorization": f"Bearer {token}"}).status_code == status


def test_a_session_begins_with_a_password_and_ends_with_logout(fresh: Served) -> None:
    """The token works as a header and as a cookie that scripts can't read; after logout neither does."""
    got = fresh.client.post("/v1/login", json={"name": "alice", "password": PASSWORD})
    assert got.status_code == 200, got.text
    assert "HttpOnly" in got.headers["set-cookie"] and "samesite=strict" in got.headers["set-cookie"].lower()
    bearer = {"authorization": f"Bearer {got.json()['token']}"}
    assert fresh.client.get("/v1/me").json()["via"] == "session"
    assert fresh.client.get("/v1/me", headers=bearer).json()["name"] == "alice"
    assert fresh.client.post("/v1/logout").status_code == 204
    assert fresh.client.get("/v1/me", headers=bearer).status_code == 401


@pytest.mark.parametrize("header", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_another_sites_page_cannot_use_a_session(fresh: Served, header: dict[str, str]) -> None:
    """A request that changes something, sent with the cookie by a page of another site, is refused."""
    fresh.client.post("/v1/login", json={"name": "alice", "password": PASSWORD})
    got = fresh.client.post("/v1/logout", headers=header)
    assert (got.status_code, got.json()["reason"]) == (403, "cross_site")
    assert fresh.client.get("/v1/me").status_code == 200


def test_an_unknown_name_costs_as_much_as_a_wrong_password(fresh: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash as costly as a password's is verified for a name that nobody has, and for a user without a password: the
    time that a login takes tells neither.
    """
    verified: list[str] = []

    class Recording(argon2.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            verified.append(str(hash))
            return super().verify(hash, password)

    monkeypatch.setattr(users, "_password", Recording())
    for name in ("nobody", "admin", "alice"):
        got = fresh.client.post("/v1/login", json={"name": name, "password": "wrong"})
        assert (got.status_code, got.json()["detail"]) == (401, "the name or the password is wrong")
    unknown, without, known = map(argon2.extract_parameters, verified)
    assert unknown == without == known


def test_failed_logins_are_limited(fresh: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten failures an address waits for a minute, and even the right password logs nobody in for half an hour; a
    link does, and a success sets the count back.
    """
    began = 1_000_000.0

    def login(name: str, password: str, after: float) -> Any:
        monkeypatch.setattr(auth, "time", clock(began + after))
        return fresh.client.post("/v1/login", json={"name": name, "password": password})

    for number in range(auth.FAILURES_MAX - 1):
        got = login("alice", "wrong", 7.0 * number)
        assert (got.status_code, got.json()["detail"]) == (401, "the name or the password is wrong")
    assert login("alice", PASSWORD, 63.0).status_code == 200
    for number in range(10, 20):
        assert login("alice", "wrong", 7.0 * number).status_code == 401
    got = login("alice", PASSWORD, 140.0)
    assert got.status_code == 429 and int(got.headers["retry-after"]) == auth.LOCKED_S - 7 + 1
    assert "sentinel user link" in got.json()["remedy"]
    link = users.login_link(fresh.users, "alice", int(time.time() * 1000), "").rpartition("=")[2]
    assert fresh.client.post("/v1/login/link", json={"token": link}).status_code == 200
    assert login("alice", PASSWORD, 134.0 + auth.LOCKED_S).status_code == 200
    for _ in range(auth.FAILURES_MAX):
        assert login("nobody", "wrong", 5000.0).status_code == 401
    got = login("alice", PASSWORD, 5001.0)
    assert got.status_code == 429 and int(got.headers["retry-after"]) == 60


def test_attempts_at_once_are_no_more_than_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait for their turn are refused once ten have failed."""
    file = users.UserFile(tmp_path / "users.json")
    users.add(file, "alice", ["analyst"], 0, PASSWORD)
    tried: list[str] = []

    def verify(hashed: str, password: str) -> bool:
        tried.append(password)
        return False

    monkeypatch.setattr(auth, "verify", verify)
    gate = auth.Gate(file)

    async def attempts() -> list[Any]:
        each = (gate.login("alice", f"wrong {n}", f"10.0.0.{n}") for n in range(50))
        return await asyncio.gather(*each, return_exceptions=True)

    statuses = [error.problem.status for error in asyncio.run(attempts())]
    assert len(tried) == statuses.count(401) < auth.FAILURES_MAX + auth.VERIFIERS
    assert statuses.count(429) == 50 - len(tried)


def test_a_stream_of_events_ends_with_its_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By logging out, and by doing nothing: what the stream asks about its session is no act."""
    file = users.UserFile(tmp_path / "users.json")
    users.add(file, "alice", ["analyst"], 0, PASSWORD)
    gate = auth.Gate(file, idle_s=100.0)
    monkeypatch.setattr(auth, "time", clock(1000.0))
    tokens = [asyncio.run(gate.login("alice", PASSWORD, "10.0.0.1"))[0] for _ in range(2)]
    first, second = (asyncio.run(gate.principal(token, "10.0.0.1")) for token in tokens)
    assert gate.is_welcome(first) and gate.is_welcome(second)
    gate.logout(tokens[0])
    assert not gate.is_welcome(first) and gate.is_welcome(second)
    for seconds, is_welcome in ((1060.0, True), (1099.0, True), (1101.0, False)):
        monkeypatch.setattr(auth, "time", clock(seconds))
        assert gate.is_welcome(second) is is_welcome


def test_a_limit_holds_from_the_last_failure_and_is_of_bounded_size() -> None:
    """Old failures are forgotten, others' don't count, and an attacker can't make it grow."""
    limiter = auth.Limiter(60.0)
    for second in range(auth.FAILURES_MAX):
        assert limiter.wait_s("a", float(second)) == 0.0
        limiter.failed("a", float(second))
    assert limiter.wait_s("a", 9.0) == pytest.approx(60.0)
    assert limiter.wait_s("a", 68.5) == pytest.approx(0.5)
    assert limiter.wait_s("b", 9.0) == 0.0
    assert limiter.wait_s("a", 69.0) == 0.0
    limiter.failed("a", 69.0)
    assert limiter.wait_s("a", 69.0) == 0.0
    for number in range(auth.REMEMBERED_MAX + 5):
        limiter.failed(f"x{number}", 9.0)
    assert len(limiter.failures) == auth.REMEMBERED_MAX


def test_a_session_without_an_act_ends_outside_development(
    decided: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody asks keeps it alive; what a page asks by itself, and the stream of events, does not."""
    with served(decided, tmp_path, Settings(environment="staging")) as found:
        token = found.client.post("/v1/login", json={"name": "alice", "password": PASSWORD}).json()["token"]
        of_alice = {"authorization": f"Bearer {token}"}
        began = time.monotonic()

        def after(seconds: float, path: str = "/v1/me", **headers: str) -> int:
            monkeypatch.setattr(auth, "time", clock(began + seconds))
            return found.client.get(path, headers={**of_alice, **headers}).status_code

        assert after(auth.IDLE_S - 1) == 200
        assert after(2 * auth.IDLE_S - 10) == 200
        assert after(3 * auth.IDLE_S - 20, **{auth.BACKGROUND: "1"}) == 200
        assert after(3 * auth.IDLE_S - 15, "/v1/events?seconds=0") == 200
        assert after(3 * auth.IDLE_S - 5) == 401
        assert after(3 * auth.IDLE_S - 15) == 401  # it is gone, not asleep


def test_a_session_in_development_lasts(fresh: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tries it on their own machine is not sent away."""
    token = fresh.client.post("/v1/login", json={"name": "alice", "password": PASSWORD}).json()["token"]
    began = time.monotonic()
    for seconds, status in ((auth.SESSION_S - 10, 200), (auth.SESSION_S + 10, 401)):
        monkeypatch.setattr(auth, "time", clock(began + seconds))
        assert fresh.client.get("/v1/me", headers={"authorization": f"Bearer {token}"}).status_code == status


def test_what_fails_inside_is_told_without_its_details(fresh: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected error is a problem without a traceback, and no log line holds a variable's value."""
    fresh.client.app.state.gate.login = None
    got = fresh.client.post("/v1/login", json={"name": "alice", "password": PASSWORD})
    assert (got.status_code, got.json()["reason"]) == (500, "internal")
    assert "Traceback" not in got.text
    captured = capsys.readouterr()
    assert "api.failed" in captured.out + captured.err and PASSWORD not in captured.out + captured.err
