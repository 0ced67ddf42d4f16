"""Webhooks against a real receiver and the library of Standard Webhooks; services; secrets; settings."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from standardwebhooks.webhooks import WebhookVerificationError

from core.errors import BadInput
from responders.channels.base import Message
from responders.channels.service import Service
from responders.channels.webhook import Webhook
from responders.secrets import open_channels
from responders.settings import respond_settings
from tests.builders.receiver import HttpReceiver

OLD, NEW = (bytes(range(n, n + 32)) for n in (1, 100))
SECRETS = ["whsec_" + base64.b64encode(secret).decode() for secret in (OLD, NEW)]


def a_message(at: int | None = None) -> Message:
    body = json.dumps({"type": "alert.notify_customer", "data": {"account_id": "a·1"}}).encode()
    return Message("abc:00:1-7:notify_customer", "alert.notify_customer", at or int(time.time()), body, "title", "text")


def test_the_library_of_standard_webhooks_verifies_what_is_sent() -> None:
    """With either secret while they are exchanged; not with another one, an altered body or an old timestamp."""
    with HttpReceiver() as receiver:
        assert Webhook(receiver.url, [OLD, NEW], 5.0).send(a_message()).fate == "delivered"
        assert Webhook(receiver.url, [OLD], 5.0).send(a_message(int(time.time()) - 3600)).fate == "delivered"
    headers, body = receiver.requests[0]
    for secret in SECRETS:
        assert standardwebhooks.Webhook(secret).verify(body, headers)["data"] == {"account_id": "a·1"}
    other = standardwebhooks.Webhook("whsec_" + base64.b64encode(b"x" * 32).decode())
    for verifier, sent in ((other, body), (standardwebhooks.Webhook(SECRETS[0]), body + b" ")):
        with pytest.raises(WebhookVerificationError):
            verifier.verify(sent, headers)
    with pytest.raises(WebhookVerificationError):
        standardwebhooks.Webhook(SECRETS[0]).verify(receiver.requests[1][1], receiver.requests[1][0])
    assert headers["webhook-id"] == "abc:00:1-7:notify_customer"


@pytest.mark.parametrize(
    ("status", "headers", "fate", "wait_s"),
    [
        (200, {}, "delivered", 0.0),
        (202, {}, "delivered", 0.0),
        (301, {"location": "http://127.0.0.1:1/elsewhere"}, "refused", 0.0),
        (400, {}, "refused", 0.0),
        (410, {}, "refused", 0.0),
        (408, {}, "unavailable", 0.0),
        (429, {"retry-after": "17"}, "unavailable", 17.0),
        (429, {"retry-after": "999999"}, "unavailable", 3600.0),
        (503, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, "unavailable", 0.0),
    ],
)
def test_an_answer_decides_whether_it_is_tried_again(status: int, headers: Any, fate: str, wait_s: float) -> None:
    """2xx is delivered, what may pass is tried again, the rest is refused; a redirect is never followed."""
    with HttpReceiver([(status, headers)]) as receiver:
        result = Webhook(receiver.url, [OLD], 5.0).send(a_message())
    assert (result.fate, result.wait_s) == (fate, wait_s)
    assert len(receiver.requests) == 1


def test_a_receiver_that_is_away_or_silent_may_come_back() -> None:
    """Nobody listens; nobody answers in time: unavailable, with a word why."""
    with HttpReceiver(delay_s=1.0) as receiver:
        silent = Webhook(receiver.url, [OLD], 0.1).send(a_message())
        url = receiver.url
    assert (silent.fate, silent.error) == ("unavailable", "no answer in time")
    assert Webhook(url, [OLD], 1.0).send(a_message()).fate == "unavailable"


def test_a_service_gets_title_and_text() -> None:
    """Apprise's JSON service stands for all of them; a URL that it does not know is refused without being repeated."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request, daemon=True)
    thread.start()
    result = Service("c", f"json://127.0.0.1:{server.server_address[1]}", 5.0).send(a_message())
    thread.join(5.0)
    server.server_close()
    assert result.fate == "delivered"
    assert (got[0]["title"], got[0]["message"]) == ("title", "text")
    assert Service("c", "json://127.0.0.1:1", 1.0).send(a_message()).fate == "unavailable"
    with pytest.raises(BadInput) as refused:
        Service("c", "slak://token-of-ours", 5.0)
    assert "token-of-ours" not in str(refused.value)


def test_secrets_come_from_a_file_or_the_environment_only(tmp_path: Path) -> None:
    """Both ways give the same key; a literal one, a missing, empty, weak or readable one is refused and never
    shown.
    """
    file = tmp_path / "secret"
    file.write_text(f"{SECRETS[0]}\n{SECRETS[1]}\n")
    file.chmod(0o600)
    shown = tmp_path / "shown"
    shown.write_text(SECRETS[0])
    shown.chmod(0o644)
    hook = {"kind": "webhook", "url": "https://soc.example/hook"}

    def opened(environ: dict[str, str], **channel: str) -> Any:
        return open_channels(respond_settings({"channels": {"soc": {**hook, **channel}}}), environ)["soc"]

    assert opened({}, secret_file=str(file)).secrets == (OLD, NEW)
    assert opened({"S": SECRETS[0]}, secret_env="S").secrets == (OLD,)
    for environ, channel in (
        ({}, {"secret_env": "S"}),
        ({"S": " "}, {"secret_env": "S"}),
        ({"S": "whsec_c2hvcnQ="}, {"secret_env": "S"}),
        ({"S": "hunter2!"}, {"secret_env": "S"}),
        ({}, {"secret_file": str(tmp_path / "missing")}),
        ({}, {"secret_file": str(shown)}),
        ({}, {"secret": SECRETS[0]}),
        ({}, {}),
    ):
        with pytest.raises(BadInput) as refused:
            opened(environ, **channel)
        assert "soc" in str(refused.value)
        assert not any(secret in str(refused.value) for secret in ("c2hvcnQ", "hunter2", SECRETS[0]))


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"chanels": {}}, "did you mean channels?"),
        ({"actions": {"block_acount": {}}}, "did you mean block_account?"),
        ({"actions": {"notify_customer": {"channels": ["soc"]}}}, "unknown setting 'soc'"),
        ({"actions": {"notify_customer": {}}}, "name at least one channel"),
        ({"actions": {"block_account": {"delay_s": [30, 10]}}}, "ascending"),
        ({"actions": {"block_account": {"delay_s": 30}}}, "delay_s"),
        ({"blocks_per_hour": -1}, "blocks_per_hour"),
        ({"block_hours": float("nan")}, "block_hours"),
        ({"sla_s": {"critical": 5}}, "sla_s"),
        ({"routes": [{"queue": " "}]}, "queue of route 1"),
        ({"channels": {"soc": {"kind": "webhook", "url": "ftp://x/", "secret_env": "S"}}}, "http:// or https://"),
        ({"channels": {"soc": {"kind": "webhook", "url": "https://u:p@x/", "secret_env": "S"}}}, "password"),
        ({"channels": {"soc": {"kind": "apprise", "url": "slack://token"}}}, "url_file"),
        ({"channels": {"soc": {"kind": "apprise", "url_env": "U", "secret_env": "S"}}}, "only webhooks are signed"),
        ({"channels": {"soc": {"kind": "carrier"}}}, "kind"),
    ],
)
def test_a_bad_setting_is_named(table: dict[str, Any], named: str) -> None:
    """Each is refused at the start, in one line that says where and what to do."""
    with pytest.raises(BadInput) as refused:
        respond_settings(table)
    assert named.replace("unknown setting ", "") in str(refused.value)
    assert str(refused.value).startswith("responders") and "\n" not in str(refused.value)
