"""Webhooks, signed as Standard Webhooks 1.0 defines (https://www.standardwebhooks.com): a POST of JSON with the headers

    webhook-id          the idempotency key
    webhook-timestamp   epoch seconds; receivers refuse what is more than five minutes old, so nothing can be replayed
    webhook-signature   "v1," + base64(HMAC-SHA256(secret, id + "." + timestamp + "." + body)), one per secret

and `traceparent`, if the payment came with a trace (docs/tracing.md). It is not signed: nothing is decided by it.

Any 2xx is delivered. 408, 425, 429, 5xx and whatever the network does may pass; every other status is refused, a
redirect too: following it would send the alert to an address that nobody configured.

Cost: a connection per message.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from responders.channels.base import DELIVERED, Message, Result

PASSING = frozenset({408, 425, 429})
WAIT_S_MAX = 3_600.0
ANSWER_BYTES_MAX = 65_536


def signature(secret: bytes, key: str, at: int, body: bytes) -> str:
    """One entry of the header webhook-signature."""
    digest = hmac.new(secret, b"%s.%d.%s" % (key.encode(), at, body), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class Webhook:
    """A channel to one URL. secrets: the message is signed with each of them, so that one can be exchanged."""

    def __init__(self, url: str, secrets: Sequence[bytes], timeout_s: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.secrets = tuple(secrets)
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None

    def send(self, message: Message) -> Result:
        """See `responders.channels.base`."""
        signed = " ".join(signature(secret, message.key, message.at, message.body) for secret in self.secrets)
        headers = {
            "content-type": "application/json",
            "user-agent": "stream-sentinel",
            "webhook-id": message.key,
            "webhook-timestamp": str(message.at),
            "webhook-signature": signed,
            **({"traceparent": message.trace} if message.trace else {}),
        }
        connection = self._connection()
        try:
            connection.request("POST", self._path, message.body, headers)
            response = connection.getresponse()
            response.read(ANSWER_BYTES_MAX)
            return _judged(response.status, response.getheader("retry-after", ""))
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                return Result("refused", f"its certificate is not valid: {error.verify_message}")
            return Result("unavailable", _told(error))
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or "" if isinstance(error, OSError) else str(error)) or type(error).__name__


def _judged(status: int, retry_after: str) -> Result:
    if 200 <= status < 300:
        return DELIVERED
    if status in PASSING or status >= 500:
        wait_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return Result("unavailable", f"HTTP {status}", min(wait_s, WAIT_S_MAX))
    return Result("refused", f"HTTP {status}" + (" (a redirect is not followed)" if 300 <= status < 400 else ""))
