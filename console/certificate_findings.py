"""Certificates that expire soon: of this process, of its authorities, and of the servers that it talks to."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cryptography import x509

from console.server_findings import Finding, Status
from core.settings import Settings
from core.times import DAY_MS, utc

SOON_MS = 30 * DAY_MS
CONNECT_S = 3.0


def certificate_findings(s: Settings) -> Iterator[Finding]:
    """Those that have expired or will within SOON_MS. A file or server that can't be read has a finding elsewhere."""
    from ingest.kafka_properties import is_encrypted, secured

    kafka = secured(s)
    files = {
        "redis_ca_file": s.redis_ca_file,
        "redis_certificate_file": s.redis_certificate_file,
        "kafka_ca_file": str(kafka.get("ssl.ca.location", "")),
        "kafka_certificate_file": str(kafka.get("ssl.certificate.location", "")),
        "schema_registry_ca_file": s.schema_registry_ca_file,
    }
    for setting, name in files.items():
        if name:
            yield from _of_file(setting, Path(name))
    if s.redis_tls:
        own = (s.redis_certificate_file, s.redis_key_file)
        yield from _of_server("log server", s.redis_host, s.redis_port, own)
    if is_encrypted(s):
        own = (files["kafka_certificate_file"], str(kafka.get("ssl.key.location", "")))
        for server in s.kafka_servers.split(","):
            host, _, port = server.strip().rpartition(":")
            if port.isdigit():
                yield from _of_server("broker", host.strip("[]"), int(port), own)


def _of_file(setting: str, file: Path) -> Iterator[Finding]:
    found: list[x509.Certificate] = []
    with suppress(OSError, ValueError):
        found = x509.load_pem_x509_certificates(file.read_bytes())
    if not found:
        return
    # A chain is as good as its first certificate, the client's own; a list of authorities as its last valid one.
    ends = [_end_ms(each) for each in found]
    end = max(ends) if setting.endswith("ca_file") else ends[0]
    yield from _judged(f"certificate {setting}", str(file), end, f"renew it, and put the new one at {file}")


def _of_server(what: str, host: str, port: int, own: tuple[str, str]) -> Iterator[Finding]:
    """own: the client's certificate and key, "" for none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only its date is wanted
    content: bytes | None = None
    with suppress(OSError, ValueError):
        if all(own):
            context.load_cert_chain(*own)
        with (
            socket.create_connection((host, port), CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            content = wrapped.getpeercert(binary_form=True)
    if content:
        end = _end_ms(x509.load_der_x509_certificate(content))
        remedy = "renew it on the server; clients refuse it afterwards"
        yield from _judged(f"certificate of {what} {host}:{port}", "it", end, remedy)


def _end_ms(certificate: x509.Certificate) -> int:
    return int(certificate.not_valid_after_utc.timestamp() * 1000)


def _judged(check: str, what: str, end_ms: int, remedy: str) -> Iterator[Finding]:
    left = end_ms - int(time.time() * 1000)
    if left > SOON_MS:
        return
    status: Status = "fail" if left <= 0 else "warn"
    verb = "expired" if left <= 0 else "expires"
    yield Finding(check, status, f"{what} {verb} on {utc(end_ms):%Y-%m-%d} ({left / DAY_MS:+.0f} days)", remedy)
