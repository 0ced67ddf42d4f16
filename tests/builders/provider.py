"""An OpenID Connect provider on loopback, and a person who logs in there: `oidc-provider-mock`, watched.

It demands PKCE, which the mock leaves to its clients, and can be told to sign or claim wrongly.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from werkzeug.serving import make_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the mock uses what its own dependency calls deprecated
    import oidc_provider_mock

Environ = dict[str, Any]


class Provider:
    """A running provider. challenges: of the authorisations begun; exchanged: the forms sent for tokens."""

    def __init__(self) -> None:
        self._app: Any = oidc_provider_mock.app()
        self.server = make_server("127.0.0.1", 0, self, threaded=True)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        self.challenges: list[str] = []
        self.exchanged: list[dict[str, str]] = []
        self.authorizations: list[str] = []
        self.changed: Callable[[bytes], bytes] = lambda body: body
        """What becomes of the answer to an exchange."""

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/oauth2/authorize":
            query = parse_qs(environ["QUERY_STRING"])
            assert query["code_challenge_method"] == ["S256"] and query["response_type"] == ["code"]
            self.challenges += query["code_challenge"]
        if environ["PATH_INFO"] != "/oauth2/token":
            found: Iterable[bytes] = self._app(environ, start_response)
            return found
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.exchanged.append(form)
        self.authorizations.append(environ.get("HTTP_AUTHORIZATION", ""))
        given = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if given.decode().rstrip("=") not in self.challenges:
            start_response("400 Bad Request", [("content-type", "application/json")])
            return [b'{"error": "invalid_grant"}']
        answer = b"".join(self._app({**environ, "wsgi.input": BytesIO(body)}, lambda *given: None))
        answer = self.changed(answer)
        start_response("200 OK", [("content-type", "application/json")])
        return [answer]

    def person(self, sub: str, **claims: Any) -> None:
        """Let somebody exist."""
        requests.put(f"{self.issuer}/users/{sub}", json=claims, timeout=5).raise_for_status()

    def visit(self, url: str, sub: str) -> str:
        """Log in there as somebody; where the browser is sent then."""
        answer = requests.post(url, data={"sub": sub}, allow_redirects=False, timeout=5)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def path_of(self, location: str) -> str:
        """Path and query of an address of the console."""
        parts = urlsplit(location)
        return f"{parts.path}?{parts.query}"


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider, until the context ends."""
    found = Provider()
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join(5.0)
