"""How a first administrator gets in, and how people choose and change their passwords."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console import cli, wiring
from console.api import auth, server, users
from console.api.users import UserFile
from core.log.memory import MemoryLog
from core.settings import Settings
from tests.builders.api import NOW_MS, PASSWORD, Served, served


@pytest.fixture
def api(decided: MemoryLog, tmp_path: Path) -> Iterator[Served]:
    """An application of this test's own: it may log in wrongly."""
    with served(decided, tmp_path) as found:
        yield found


def test_the_first_start_prints_a_link_and_the_second_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The link is of `admin`, who may do all that a person can; it is printed once the server answers."""
    started: list[Any] = []
    monkeypatch.setattr(wiring, "settings", lambda config, **given: Settings())
    monkeypatch.setattr(server, "run", lambda *arguments: started.append(arguments))
    file = tmp_path / "users.json"
    for _ in range(2):
        monkeypatch.setattr("sys.argv", ["sentinel", "serve", "--users", str(file)])
        with pytest.raises(SystemExit):
            cli.main()
        if started[-1][5] is not None:
            started[-1][5]("http://127.0.0.1:4711")
    assert len(started) == 2 and started[1][5] is None
    said = capsys.readouterr().out
    assert "http://127.0.0.1:4711/#login=ss_" in said and "sentinel user link admin" in said
    admin = UserFile(file).load().users["admin"]
    assert (set(admin.roles), admin.password, len(admin.tokens)) == (set(users.PERSON), "", 1)


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "http://127.0.0.1:1"), ("::1", "http://[::1]:1")])
def test_an_address_is_one_that_a_browser_takes(host: str, address: str) -> None:
    """IPv6 in brackets."""
    assert server.address_of(host, 1) == address


def linked(api: Served, name: str) -> dict[str, str]:
    """The header of a session that a link began."""
    link = users.login_link(api.users, name, int(time.time() * 1000), "")
    session = api.client.post("/v1/login/link", json={"token": link.partition("=")[2]}).json()["token"]
    api.client.cookies.clear()
    return {"authorization": f"Bearer {session}"}


def test_the_first_administrator_chooses_a_password(api: Served) -> None:
    """Logged in by a link, without a password so far: from then on the password logs in, and other sessions end."""
    users.add(api.users, "boss", ["admin"], NOW_MS)
    session, other = linked(api, "boss"), linked(api, "boss")
    assert api.client.get("/v1/me", headers=session).json()["has_password"] is False
    short = api.client.post("/v1/me/password", json={"password": "short"}, headers=session)
    assert (short.status_code, "12 to 256" in short.json()["detail"]) == (422, True)
    assert api.client.post("/v1/me/password", json={"password": PASSWORD}, headers=session).status_code == 204
    assert api.client.get("/v1/me", headers=session).json()["has_password"] is True
    assert api.client.get("/v1/me", headers=other).status_code == 401
    login = {"name": "boss", "password": PASSWORD}
    assert api.client.post("/v1/login", json=login).status_code == 200


def test_a_password_is_changed_with_the_current_one(api: Served) -> None:
    """Not by whoever finds a session open, and not by a token, whatever its role; failures are limited."""
    users.add(api.users, "carl", ["analyst"], NOW_MS, PASSWORD)
    session = linked(api, "carl")
    for given in ({}, {"current": "wrong"}):
        body = {"password": PASSWORD + "2", **given}
        got = api.client.post("/v1/me/password", json=body, headers=session)
        assert (got.status_code, got.json()["reason"], got.json()["field"]) == (422, "wrong_password", "current")
    body = {"password": PASSWORD + "2", "current": PASSWORD}
    assert api.client.post("/v1/me/password", json=body, headers=session).status_code == 204
    assert users.verify(api.users.load().users["carl"].password, PASSWORD + "2")
    got = api.post("/v1/me/password", body, "admin")
    assert (got.status_code, got.json()["reason"]) == (403, "needs_session")
    assert not api.users.load().users["admin"].password
    for _ in range(auth.FAILURES_MAX):
        got = api.client.post("/v1/me/password", json=body, headers=session)
    assert got.status_code == 429
