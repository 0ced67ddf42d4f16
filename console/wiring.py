"""Builds the log and the resolver from the settings. Every command starts here; tests call the same functions."""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from console import identity_keys
from core.context import Resolver
from core.errors import BadInput, Unavailable
from core.features import spec
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.archiver import trimmed
from core.log.base import EventLog
from core.log.redis_streams import connect
from core.private_files import check_tls_files, read_secret
from core.scoring import Scorer
from core.settings import FILE_VARIABLE, UNREAD, Settings, load, settings_file
from models import artifacts


def settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from file, environment and flags (None: not given), tables included. Raises BadInput."""
    file = settings_file(os.environ, config)
    if file is None and UNREAD.exists():
        _tell_unread(UNREAD.resolve())
    found = load(os.environ, config, overrides)
    _check_log_server(found)
    try:
        if found.kafka or found.kafka_tls or found.kafka_sasl:
            from ingest.kafka_properties import check_properties, check_secured

            check_properties(found.kafka)
            check_secured(found)
        if found.learn:
            from learners.loop.settings import learn_settings

            learn_settings(found.learn)
        if found.cases:
            from responders.cases.settings import case_settings

            case_settings(found.cases)
        if found.oidc:
            from console.api.oidc_settings import oidc_settings

            oidc_settings(found.oidc)
        if found.anchors:
            from console.anchoring.settings import anchor_settings

            anchor_settings(found.anchors)
        if found.responders:
            from responders.settings import respond_settings

            respond_settings(found.responders)
    except BadInput as error:
        raise BadInput(f"{file}: {error}" if file is not None else str(error)) from None
    return found


@cache
def _tell_unread(file: Path) -> None:
    print(
        f"sentinel: {UNREAD} in this folder is not read, because nobody asked for it: give --config {UNREAD}, or set"
        f" {FILE_VARIABLE}={file}",
        file=sys.stderr,
    )


def _check_log_server(s: Settings) -> None:
    """Raise BadInput, naming the setting, if a file or a secret of the log server can't be used."""
    if s.redis_tls:
        check_tls_files("redis", s.redis_ca_file, s.redis_certificate_file, s.redis_key_file)
    redis_password(s)


def redis_password(s: Settings) -> str:
    """The password for the log server, from `redis_password` or the file; "" for none. Raises BadInput."""
    if s.redis_password_file:
        return read_secret(Path(s.redis_password_file), "redis_password_file")
    return s.redis_password


def open_log(s: Settings) -> EventLog:
    """The event log of the settings, with its archive if one is configured. Raises Unavailable if its server does not
    answer, BadInput if the log was trimmed and no archive is configured.
    """
    hot = open_hot(s)
    if s.archive:
        return ArchivedLog(hot, open_archive(s.archive, s.archive_cold))
    if trimmed(hot):
        hot.close()
        raise BadInput("this log was trimmed; set `archive` (SENTINEL_ARCHIVE) to the location of its archive")
    return hot


def server(s: Settings) -> dict[str, Any]:
    """Connection parameters of the log server: the arguments of `core.log.redis_streams.connect`."""
    return {
        "host": s.redis_host,
        "port": s.redis_port,
        "cluster": s.redis_cluster,
        "username": s.redis_username or None,
        "password": redis_password(s) or None,
        "tls": s.redis_tls,
        "ca_file": s.redis_ca_file or None,
        "certificate_file": s.redis_certificate_file or None,
        "key_file": s.redis_key_file or None,
    }


def open_hot(s: Settings) -> EventLog:
    """The hot log alone, for archiving and verification. What is appended to its control stream is signed with the
    settings' key, if they name one. Raises Unavailable if its server does not answer, BadInput for a faulty key.
    """
    try:
        log = connect(**server(s), prefix=s.log_prefix)
        if s.identity_key:
            log.signer = identity_keys.read(Path(s.identity_key), os.environ)
        log.control_head()  # a wrong address fails here, in one line
    except Unavailable as error:
        hint = remedy(str(error), s)
        raise type(error)(f"{error}: {hint}") if hint else error from None
    return log


_REFUSES_CLIENT = re.compile(
    r"EOF occurred|ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_|ACCESS_DENIED|HANDSHAKE_FAIL)"
    "|reset by peer|Broken pipe|Connection closed",
)
"""How a client learns that a server does not accept its certificate, or wants one. It depends on who is faster: the
server's alert arrives, or its end of the connection is gone before the client reads it.
"""


def remedy(text: str, s: Settings) -> str:
    """The settings to look at when the log server can't be reached; "" if the text does not tell."""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        if "mismatch" in text:
            return "its certificate is for another name: check redis_host"
        return "its certificate is not trusted: check redis_ca_file"
    if "refused the user name or password" in text:
        return "check redis_username and redis_password_file"
    if s.redis_tls and ("WRONG_VERSION_NUMBER" in text or "Timeout connecting" in text):
        return "does it speak TLS at this port? check redis_tls and redis_port"
    if s.redis_tls and _REFUSES_CLIENT.search(text):
        return "it may ask for a client certificate of its authority: check redis_certificate_file and redis_key_file"
    if not s.redis_tls and any(word in text for word in ("reset by peer", "Connection closed")):
        return "it may expect TLS: set redis_tls = true"
    return ""


def load_scorer(content: bytes, version: str, digest: str) -> Scorer:
    """A model artifact as a scorer. Raises Corrupt if its SHA-256 differs, BadInput if its columns are not the feature
    spec's.
    """
    return artifacts.load_scorer(
        content, version=version, expected_digest=digest, spec=spec.SPEC_VERSION, columns=spec.NAMES
    )


def open_resolver(log: EventLog) -> Resolver:
    """A resolver that loads models and reference tables from the log's blobs."""
    return Resolver(log.get_blob, load_scorer)
