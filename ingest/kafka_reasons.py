"""Why a Kafka client could not connect, in words that name the setting: librdkafka says it only in its log."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from confluent_kafka.admin import AdminClient

from core.settings import Settings

_KEPT = 8
_DETAIL_MAX = 300


class _Heard(logging.Handler):
    """Keeps the last failures that a client logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line.startswith(("FAIL", "ERROR")):
            self.lines.append(line.partition("]: ")[2].partition("]: ")[2] or line)


class Admin(AdminClient):
    """An admin client that knows why its connections failed."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._heard = _Heard()
        logger = logging.Logger("stream_sentinel.librdkafka.admin")
        logger.addHandler(self._heard)
        mine: dict[str, Any] = {**properties, "logger": logger}
        super().__init__(mine)

    def why(self, settings: Settings) -> str:
        """What to do about the last failure, and the failure itself; "" if nothing is known of one."""
        self.poll(0)
        lines = [line for line in self._heard.lines if "Connection refused" not in line]
        return _remedy(lines[-1], settings) if lines else ""


def _remedy(line: str, s: Settings) -> str:
    detail = f" ({line[:_DETAIL_MAX]})"
    if "Authentication failed" in line:
        return f"it refused the user name or password: check kafka_username and kafka_password_file{detail}"
    if "Unsupported SASL mechanism" in line:
        return f"it does not take kafka_sasl = {s.kafka_sasl!r}{detail}"
    if "certificate verify failed" in line or "could not be verified" in line:
        return f"its certificate is not trusted: check kafka_ca_file, and that kafka_servers has names in it{detail}"
    if any(word in line for word in ("certificate required", "bad certificate", "unknown ca")):
        return f"it asks for a client certificate: set kafka_certificate_file and kafka_key_file{detail}"
    if "wrong version number" in line or ("SSL_HANDSHAKE" in line and "isconnect" in line):
        return f"it does not speak TLS at this port: check kafka_tls and kafka_servers{detail}"
    if "SSL connection closed by peer" in line and not s.kafka_sasl:
        return f"it may expect a login: set kafka_sasl and kafka_username{detail}"
    if "connection closed by peer" in line and "APIVERSION_QUERY" in line and not s.kafka_tls:
        return f"it may expect TLS: set kafka_tls = true{detail}"
    return ""
