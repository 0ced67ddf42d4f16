"""The file of users: what is stored, who can read it, and what counts when it changes."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from console.api import users
from console.api.users import UserFile
from core.errors import BadInput, Corrupt
from tests.builders.api import NOW_MS, PASSWORD, Served


@pytest.fixture
def file(tmp_path: Path) -> UserFile:
    return UserFile(tmp_path / "private" / "users.json")


def test_secrets_are_stored_as_argon2_hashes_in_a_private_file(file: UserFile) -> None:
    """Neither a password nor a token's secret is in the file, which only its owner can read, whatever the umask."""
    before = os.umask(0)
    try:
        users.add(file, "ann", ["analyst"], NOW_MS, PASSWORD)
        token = users.new_token(file, "ann", NOW_MS)
    finally:
        os.umask(before)
    content = file.path.read_text()
    _, token_id, secret = token.split("_", 2)
    assert PASSWORD not in content and secret not in content and token_id in content
    assert content.count("$argon2id$") == 2
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    ann = file.load().users["ann"]
    assert users.verify(ann.password, PASSWORD) and not users.verify(ann.password, PASSWORD + "x")
    assert users.verify(ann.tokens[0].hash, secret) and not users.verify(ann.tokens[0].hash, secret[:-1] + "?")


def test_a_disabled_user_keeps_no_token_and_gets_none(file: UserFile) -> None:
    """Tokens are forgotten with the user; adding the user again enables them, with their old password."""
    users.add(file, "ann", ["analyst"], NOW_MS, PASSWORD)
    users.new_token(file, "ann", NOW_MS)
    users.disable(file, "ann")
    assert file.load().users["ann"].tokens == ()
    with pytest.raises(BadInput, match="disabled"):
        users.new_token(file, "ann", NOW_MS)
    ann = users.add(file, "ann", ["viewer"], NOW_MS)
    assert not ann.disabled and ann.roles == ("viewer",) and users.verify(ann.password, PASSWORD)


def test_a_token_can_be_revoked_alone(file: UserFile) -> None:
    """Only the named token goes; another ID is an error that lists those that there are."""
    users.add(file, "ann", ["analyst"], NOW_MS)
    first, second = (users.new_token(file, "ann", NOW_MS).split("_")[1] for _ in range(2))
    users.revoke(file, "ann", first)
    assert [token.token_id for token in file.load().users["ann"].tokens] == [second]
    with pytest.raises(BadInput, match=second):
        users.revoke(file, "ann", first)


def test_another_process_changes_are_seen(file: UserFile) -> None:
    """A file that was loaded is read again once another has replaced it, and no change is lost."""
    assert file.load().users == {}
    other = UserFile(file.path)
    users.add(other, "ann", ["analyst"], NOW_MS)
    users.add(file, "bob", ["viewer"], NOW_MS)
    users.add(other, "cho", ["admin"], NOW_MS)
    assert set(file.load().users) == {"ann", "bob", "cho"}


@pytest.mark.parametrize(
    ("name", "roles", "password", "words"),
    [
        ("Ann", ["analyst"], "", "not a user name"),
        ("../ann", ["analyst"], "", "not a user name"),
        ("ann", ["king"], "", "king: give roles"),
        ("ann", [], "", "no role"),
        ("ann", ["analyst"], "short", "12 to 256"),
    ],
)
def test_a_bad_user_is_refused(file: UserFile, name: str, roles: list[str], password: str, words: str) -> None:
    """Each kind of bad input is named, and nothing is stored."""
    with pytest.raises(BadInput, match=words):
        users.add(file, name, roles, NOW_MS, password)
    assert not file.path.exists()


def test_a_file_that_others_can_read_or_that_is_damaged_is_refused(file: UserFile) -> None:
    """Its mode and its content are checked at every load."""
    users.add(file, "ann", ["analyst"], NOW_MS)
    file.path.chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        UserFile(file.path).load()
    file.path.chmod(0o600)
    file.path.write_text("{")
    with pytest.raises(Corrupt, match="not a file of users"):
        file.load()


def test_a_link_logs_in_once_and_does_nothing_else(api: Served) -> None:
    """It begins a session, is used up, is no token, and expires."""
    now = int(time.time() * 1000)
    link = users.login_link(api.users, "alice", now, "http://console")
    address, _, token = link.partition("/#login=")
    assert address == "http://console"
    bearer = {"authorization": f"Bearer {token}"}
    assert api.client.get("/v1/me", headers=bearer).status_code == 401
    first = api.client.post("/v1/login/link", json={"token": token})
    api.client.cookies.clear()  # others share the client
    assert first.status_code == 200
    assert first.json()["name"] == "alice"
    session = {"authorization": f"Bearer {first.json()['token']}"}
    assert api.client.get("/v1/me", headers=session).json()["roles"] == ["analyst", "viewer"]
    again = api.client.post("/v1/login/link", json={"token": token})
    assert again.status_code == 401
    assert "sentinel user link" in again.json()["remedy"]
    old = users.login_link(api.users, "alice", now - users.LINK_MINUTES * 60_000 - 1, "")
    assert api.client.post("/v1/login/link", json={"token": old.partition("=")[2]}).status_code == 401
    assert api.client.post("/v1/login/link", json={"token": api.tokens["viewer"]}).status_code == 401


def test_commands_name_the_file_of_users_if_it_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to add for the one that `sentinel user` takes anyway; a path with a space is quoted."""
    monkeypatch.chdir(tmp_path)
    assert users.file_option(users.DEFAULT_FILE) == users.file_option(tmp_path / users.DEFAULT_FILE) == ""
    assert users.file_option(tmp_path / "our users.json") == f" --users '{tmp_path}/our users.json'"


def test_the_owner_is_an_administrator_or_made(tmp_path: Path) -> None:
    """Of no users: `admin` with every role of a person. Of others: whoever administrates, and nobody is changed."""
    file = UserFile(tmp_path / "users.json")
    assert users.owner(file, 1) == "admin"
    assert set(file.load().users["admin"].roles) == set(users.ROLES) - {"viewer", "submitter"}
    assert users.owner(file, 2) == "admin"
    other = UserFile(tmp_path / "others.json")
    users.add(other, "ann", ["analyst"], 1)
    assert users.owner(other, 2) == ""
    users.add(other, "eve", ["admin"], 1)
    assert users.owner(other, 2) == "eve"
