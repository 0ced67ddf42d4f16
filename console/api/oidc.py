"""Logging in by an OpenID Connect provider: authorisation code with PKCE, and a checked ID token (authlib, joserfc).

    begin     a random state, nonce and code verifier are kept for ten minutes, bound to the browser by a cookie
    finish    cookie and state must match; the code is exchanged, once, with the verifier; the ID token must be signed
              by a key of the provider, issued by it for us, with our nonce, and not have expired

The name of the actor and the roles follow from the token's claims alone. A name that a local user has is refused:
nobody acts in another's name. Calls to the provider are made in threads, with a time limit; no secret or token is
logged.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from console.api.oidc_settings import OidcSettings
from console.api.problems import ProblemError
from console.api.users import ROLES, Role, is_name
from core.errors import Unavailable

PENDING_S = 600.0
PENDING_MAX = 1_000
TIMEOUT_S = 10.0
METADATA_S = 3600.0
KEYS_S = 60.0
"""How often keys are fetched at most because of a key that is not known. They are kept as long as metadata at most: one
that the provider has withdrawn must not sign for ever.
"""
LEEWAY_S = 60
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures only: neither "none" nor a shared secret."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom the provider vouches for."""

    name: str
    roles: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class _Pending:
    browser: bytes
    nonce: str
    verifier: str
    until: float


class Oidc:
    """See the module's docstring. Thread-safe; its calls wait for the provider. metadata, keys: the provider's, each
    with until when it holds or when it was fetched (monotonic seconds); None before it is needed.
    """

    def __init__(self, settings: OidcSettings) -> None:
        """Contacts nobody. Raises BadInput if the secret can't be read."""
        self.settings = settings
        self._secret = settings.secret()
        self._lock = threading.Lock()
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self.metadata: tuple[dict[str, Any], float] | None = None
        self.keys: tuple[KeySet, float] | None = None

    def begin(self) -> tuple[str, str]:
        """(where to send the browser, the cookie that binds it). Raises Unavailable if the provider does not answer."""
        metadata = self.described()
        state, nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(4))
        with self._client() as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        with self._lock:
            self._pending[state] = _Pending(_digest(browser), nonce, verifier, time.monotonic() + PENDING_S)
            while len(self._pending) > PENDING_MAX:
                self._pending.popitem(last=False)
        return str(url), browser

    def finish(self, state: str, code: str, browser: str) -> Person:
        """Whom the code stands for. Raises ProblemError (401, 403), Unavailable."""
        with self._lock:
            pending = self._pending.pop(state, None)
        if pending is None or time.monotonic() > pending.until:
            raise _refused("this login was not begun here, or too long ago")
        if not hmac.compare_digest(pending.browser, _digest(browser)):
            raise _refused("this login was begun in another browser")
        return self._person(self._claims(code, pending))

    def _claims(self, code: str, pending: _Pending) -> dict[str, Any]:
        """The ID token's claims, checked."""
        metadata = self.described()
        try:
            with self._client() as client:
                given = client.fetch_token(
                    metadata["token_endpoint"], code=code, code_verifier=pending.verifier, timeout=TIMEOUT_S
                )
        except requests.RequestException as error:
            raise _unavailable(self.settings, error) from None
        except AuthlibBaseError as error:
            raise _refused(f"the provider refused the code ({error.error})") from None
        if not isinstance(given.get("id_token"), str):
            raise _refused("the provider gave no ID token")
        try:
            token = self._decoded(given["id_token"])
            claims = CodeIDToken(
                token.claims,
                token.header,
                options={
                    "iss": {"essential": True, "value": self.settings.issuer},
                    "aud": {"essential": True, "value": self.settings.client_id},
                },
                params={
                    "nonce": pending.nonce,
                    "client_id": self.settings.client_id,
                    "access_token": given.get("access_token"),
                },
            )
            claims.validate(leeway=LEEWAY_S)
        except (JoseError, AuthlibBaseError, ValueError) as error:
            raise _refused(f"the ID token is not valid ({error})") from None
        return dict(claims)

    def _decoded(self, text: str) -> jwt.Token:
        """The token, if a key of the provider signed it; keys are fetched again for one that is not known."""
        keys, fetched = self._current_keys()
        try:
            return jwt.decode(text, keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            if time.monotonic() - fetched < KEYS_S:
                raise
        self.keys = None
        return jwt.decode(text, self._current_keys()[0], algorithms=ALGORITHMS)

    def _person(self, claims: dict[str, Any]) -> Person:
        s = self.settings
        name = claims.get(s.name_claim)
        if not isinstance(name, str) or not is_name(name.lower()):
            raise _forbidden(f"the claim {s.name_claim} is no name that an actor can have")
        if s.name_claim == "email" and claims.get("email_verified") is not True:
            raise _forbidden("the provider has not verified this e-mail address")
        said = claims.get(s.roles_claim, [])
        values = said if isinstance(said, list) else [said]
        given = {role for value in ("*", *map(str, values)) for role in s.roles.get(value, ())}
        if not given:
            raise _forbidden(f"{name.lower()} has no role here: the claim {s.roles_claim} gives none")
        return Person(name.lower(), tuple(role for role in ROLES if role in given))

    def described(self) -> dict[str, Any]:
        """The provider's metadata."""
        held = self.metadata
        if held is not None and time.monotonic() < held[1]:
            return held[0]
        found = self._fetched(f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.settings.issuer:
            raise Unavailable(f"the provider at {self.settings.issuer} calls itself {found.get('issuer')!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(found.get(name), str):
                raise Unavailable(f"the provider at {self.settings.issuer} names no {name}")
        self.metadata = (found, time.monotonic() + METADATA_S)
        return found

    def _current_keys(self) -> tuple[KeySet, float]:
        held = self.keys
        if held is None or time.monotonic() - held[1] > METADATA_S:
            try:
                held = (KeySet.import_key_set(self._fetched(self.described()["jwks_uri"])), time.monotonic())  # type: ignore[arg-type]
            except (JoseError, ValueError, KeyError) as error:
                raise Unavailable(f"the keys of {self.settings.issuer} can't be read: {error}") from None
            self.keys = held
        return held

    def _fetched(self, url: str) -> dict[str, Any]:
        try:
            answer = requests.get(url, timeout=TIMEOUT_S, verify=self.settings.ca_file or True, allow_redirects=False)
            found = answer.json() if answer.status_code == 200 else None
        except (requests.RequestException, ValueError) as error:
            raise _unavailable(self.settings, error) from None
        if not isinstance(found, dict):
            raise _unavailable(self.settings, f"status {answer.status_code}")
        return found

    def _client(self) -> OAuth2Session:
        client = OAuth2Session(
            self.settings.client_id,
            self._secret or None,
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
            scope=" ".join(self.settings.scopes),
            redirect_uri=self.settings.redirect_uri,
            code_challenge_method="S256",
        )
        client.verify = self.settings.ca_file or True
        return client


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=32).digest()


def _refused(why: str) -> ProblemError:
    return ProblemError(401, why, reason="not_authenticated", remedy="log in again from the console")


def _forbidden(why: str) -> ProblemError:
    return ProblemError(403, why, reason="not_permitted", remedy="ask an administrator (docs/api.md, single sign-on)")


def _unavailable(settings: OidcSettings, why: object) -> Unavailable:
    return Unavailable(f"the provider {settings.issuer} does not answer ({why})")
