"""Login by an OpenID Connect provider: the whole way with a real one, each check of it, and settings."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from msgspec.structs import replace

from console.api import auth, users
from console.api import oidc as sign_on
from console.api.oidc_settings import SECRET_VARIABLE, oidc_settings
from core.errors import BadInput
from core.log.memory import MemoryLog
from core.settings import Settings
from tests.builders.api import PASSWORD, Served, served
from tests.builders.provider import Provider, provider

MAPPED: dict[str, Any] = {
    "client_id": "console",
    "public_url": "https://console.example",
    "roles": {"fraud": ["analyst"], "it": ["admin", "auditor"]},
}
ANN: dict[str, Any] = {"email": "Ann@bank.example", "email_verified": True, "groups": ["fraud", "sports"]}


@pytest.fixture
def at() -> Iterator[Provider]:
    with provider() as found:
        found.person("ann", **ANN)
        yield found


@pytest.fixture
def api(decided: MemoryLog, tmp_path: Path, at: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The API with that provider, as a confidential client."""
    monkeypatch.setenv(SECRET_VARIABLE, "s3cret-of-the-client")
    with served(decided, tmp_path, Settings(oidc={**MAPPED, "issuer": at.issuer})) as found:
        found.client.base_url = "https://console.example"  # type: ignore[assignment]
        yield found


def logged_in(api: Served, at: Provider, sub: str = "ann") -> Any:
    """The callback's answer, after somebody went all the way."""
    begun = api.client.get("/v1/login/oidc", follow_redirects=False)
    assert begun.status_code == 302, begun.text
    back = at.visit(begun.headers["location"], sub)
    assert back.startswith("https://console.example/v1/login/oidc/callback?")
    return api.client.get(at.path_of(back), follow_redirects=False)


def test_a_person_logs_in_by_the_provider(api: Served, at: Provider) -> None:
    """Name and roles are the token's; the session is a cookie that scripts can't read and that goes by TLS only. PKCE
    and the client's secret are used; neither is in a page's address.
    """
    assert api.client.get("/v1/login/methods").json() == {
        "password": True,
        "oidc": "/v1/login/oidc",
        "label": "single sign-on",
    }
    done = logged_in(api, at)
    assert done.status_code == 303 and done.headers["location"] == "/", done.text
    cookie = next(c for c in done.headers.get_list("set-cookie") if c.startswith("ss_session="))
    assert "HttpOnly" in cookie and "Secure" in cookie and "samesite=strict" in cookie.lower()
    me = api.client.get("/v1/me").json()
    assert (me["name"], me["roles"], me["via"]) == ("ann@bank.example", ["analyst"], "oidc")
    (form,) = at.exchanged
    assert len(form["code_verifier"]) >= 43 and at.authorizations[0].startswith("Basic ")
    assert api.client.post("/v1/me/password", json={"password": PASSWORD}).json()["reason"] == "needs_session"
    assert api.client.post("/v1/logout").status_code == 204
    assert api.client.get("/v1/me").status_code == 401


def test_an_act_has_the_providers_name(api: Served, at: Provider) -> None:
    """Roles count as a local user's do: an administrator's read is allowed, an analyst's act is not."""
    at.person("eve", email="eve@bank.example", email_verified=True, groups="it")
    logged_in(api, at, "eve")
    assert api.client.get("/v1/users").status_code == 200
    assert api.client.post("/v1/cases", json={}).status_code == 403


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({**ANN, "groups": ["sports"]}, "no role"),
        ({**ANN, "groups": 7}, "no role"),
        ({**ANN, "email_verified": False}, "not verified"),
        ({"email": "ann@bank.example", "groups": ["fraud"]}, "not verified"),
        ({**ANN, "email": "a b"}, "no name"),
        ({"email_verified": True, "groups": ["fraud"]}, "no name"),
        ({**ANN, "email": "alice"}, "local user"),
    ],
)
def test_claims_that_give_nothing_are_refused(api: Served, at: Provider, claims: dict[str, Any], words: str) -> None:
    """No role, an e-mail address that nobody verified, no name, or the name of a local user: 403, and no session."""
    at.person("ann", **claims)
    got = logged_in(api, at)
    assert got.status_code == 403 and words in got.json()["detail"], got.text
    assert api.client.get("/v1/me").status_code == 401


def test_a_local_user_of_the_name_ends_the_session(api: Served, at: Provider) -> None:
    """Nobody acts in another's name, also when the local user is made later."""
    logged_in(api, at)
    assert api.client.get("/v1/me").status_code == 200
    gate = api.client.app.state.gate
    ann = auth.Principal("ann@bank.example", ("analyst",), "oidc")
    assert gate.is_welcome(ann)  # streams of events go on
    users.add(api.users, "ann@bank.example", ["viewer"], 1)
    assert api.client.get("/v1/me").status_code == 403 and not gate.is_welcome(ann)


def test_a_login_is_bound_to_its_browser_and_works_once(api: Served, at: Provider) -> None:
    """Another browser's callback, a made-up state, and a second use are refused."""
    begun = api.client.get("/v1/login/oidc", follow_redirects=False)
    back = at.path_of(at.visit(begun.headers["location"], "ann"))
    kept = dict(api.client.cookies)
    api.client.cookies.clear()
    other = api.client.get(back, follow_redirects=False)
    assert (other.status_code, "another browser" in other.json()["detail"]) == (401, True)
    api.client.cookies.update(kept)
    again = api.client.get(back, follow_redirects=False)
    assert again.status_code == 401 and "not begun here" in again.json()["detail"]
    made_up = api.client.get("/v1/login/oidc/callback?code=x&state=y", follow_redirects=False)
    assert made_up.status_code == 401
    denied = api.client.get("/v1/login/oidc/callback?error=access_denied&state=y", follow_redirects=False)
    assert denied.status_code == 401 and "access_denied" in denied.json()["detail"]
    assert at.exchanged == []


def forged(at: Provider, body: bytes, key: RSAKey | None, **changes: Any) -> bytes:
    """The answer with an ID token whose claims are changed, signed by another key; without a key: not signed."""
    answer = json.loads(body)
    payload = answer["id_token"].split(".")[1]
    import base64

    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))) | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    if key is None:
        header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
        text = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        token = f"{header}.{text}."
    else:
        token = jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)
    return json.dumps(answer | {"id_token": token}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": ["console", "another"]},
        {"exp": 1},
        {"exp": None},
        {"nonce": "another"},
        {"nonce": None},
        {"at_hash": "AAAA"},
        {"sub": None},
        {"iat": 2**40},
    ],
)
def test_an_id_token_with_a_wrong_claim_is_refused(
    api: Served, at: Provider, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Although the provider's own key signed it: 401, and no session."""
    key = RSAKey.generate_key(2048, {"kid": "k"})
    described = api.client.app.state.oidc
    described.described()
    described.keys = (sign_on.KeySet([key]), time.monotonic())
    at.changed = lambda body: forged(at, body, key)
    assert logged_in(api, at).status_code == 303
    api.client.cookies.clear()
    at.changed = lambda body: forged(at, body, key, **changes)
    got = logged_in(api, at)
    assert got.status_code == 401 and "ID token" in got.json()["detail"], got.text
    assert api.client.get("/v1/me").status_code == 401


@pytest.mark.parametrize("is_signed", [True, False])
def test_an_id_token_that_the_provider_did_not_sign_is_refused(api: Served, at: Provider, is_signed: bool) -> None:
    """By another key, or not at all."""
    key = RSAKey.generate_key(2048, {"kid": "k"}) if is_signed else None
    at.changed = lambda body: forged(at, body, key)
    assert logged_in(api, at).status_code == 401


def test_a_withdrawn_key_signs_for_an_hour_at_most(api: Served, at: Provider) -> None:
    """Keys are fetched again after METADATA_S, also if nobody came with a key that is not known."""
    key = RSAKey.generate_key(2048, {"kid": "k"})
    at.changed = lambda body: forged(at, body, key)
    own = api.client.app.state.oidc
    own.described()
    own.keys = (sign_on.KeySet([key]), time.monotonic() - sign_on.METADATA_S + 60.0)
    assert logged_in(api, at).status_code == 303
    own.keys = (sign_on.KeySet([key]), time.monotonic() - sign_on.METADATA_S - 1.0)
    assert logged_in(api, at).status_code == 401


def test_an_exchange_that_fails_is_told(api: Served, at: Provider) -> None:
    """A code that the provider refuses, no ID token, and a provider that is gone: no session, no traceback."""
    at.changed = lambda body: b'{"access_token": "x", "token_type": "Bearer"}'
    assert "no ID token" in logged_in(api, at).json()["detail"]
    begun = api.client.get("/v1/login/oidc", follow_redirects=False)
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    got = api.client.get(f"/v1/login/oidc/callback?code=made-up&state={state}", follow_redirects=False)
    assert got.status_code == 401 and "s3cret" not in got.text
    api.client.app.state.oidc.settings = replace(api.client.app.state.oidc.settings, issuer="http://127.0.0.1:1")
    api.client.app.state.oidc.metadata = None
    gone = api.client.get("/v1/login/oidc", follow_redirects=False)
    assert (gone.status_code, gone.json()["reason"]) == (503, "unavailable")


def test_it_is_off_unless_set(decided: MemoryLog, tmp_path: Path) -> None:
    """Local users only: the routes say so."""
    with served(decided, tmp_path) as api:
        assert api.client.get("/v1/login/methods").json()["oidc"] == ""
        for path in ("/v1/login/oidc", "/v1/login/oidc/callback?code=x&state=y"):
            assert api.client.get(path, follow_redirects=False).status_code == 404


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"issuer": "http://idp.example"}, "https"),
        ({"issuer": "nonsense"}, "https"),
        ({"public_url": "http://console.example"}, "https"),
        ({"roles": {}}, "roles"),
        ({"roles": {"x": ["king"]}}, "king"),
        ({"scopes": ["email"]}, "openid"),
        ({"client_secret": "abc"}, "secret_file"),
        ({"isuer": "x"}, "isuer"),
        ({"session_hours": 1000}, "session_hours"),
    ],
)
def test_bad_settings_are_refused_at_the_start(changes: dict[str, Any], words: str) -> None:
    """In words that name the setting; a secret in the file is refused, and not repeated."""
    with pytest.raises(BadInput, match=words) as raised:
        oidc_settings({**MAPPED, "issuer": "https://idp.example", **changes})
    assert "abc" not in str(raised.value)


def test_the_secret_comes_from_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that others can read is refused; without a file, the environment has it."""
    file = tmp_path / "secret"
    file.write_text("from the file\n")
    file.chmod(0o600)
    given = oidc_settings({**MAPPED, "issuer": "https://idp.example", "secret_file": str(file)})
    assert given is not None and given.secret() == "from the file"
    file.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        given.secret()
    monkeypatch.setenv(SECRET_VARIABLE, "from the environment")
    assert replace(given, secret_file="").secret() == "from the environment"
