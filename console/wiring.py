"""Builds the log and the resolver from the settings. Every command starts here; tests call the same functions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from core.context import Resolver
from core.errors import BadInput
from core.features import spec
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.archiver import trimmed
from core.log.base import EventLog
from core.log.redis_streams import connect
from core.scoring import Scorer
from core.settings import DEFAULT_FILE, Settings, load
from models import artifacts


def settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from file, environment and flags (None: not given), tables included. Raises BadInput."""
    found = load(os.environ, config, overrides)
    try:
        if found.kafka:
            from ingest.kafka_client import check_properties

            check_properties(found.kafka)
        if found.learn:
            from learners.loop.settings import learn_settings

            learn_settings(found.learn)
        if found.cases:
            from responders.cases.settings import case_settings

            case_settings(found.cases)
        if found.oidc:
            from console.api.oidc_settings import oidc_settings

            oidc_settings(found.oidc)
        if found.responders:
            from responders.settings import respond_settings

            respond_settings(found.responders)
    except BadInput as error:
        raise BadInput(f"{config or DEFAULT_FILE}: {error}") from None
    return found


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
        "password": s.redis_password or None,
        "tls": s.redis_tls,
        "ca_file": s.redis_ca_file or None,
    }


def open_hot(s: Settings) -> EventLog:
    """The hot log alone, for archiving and verification. Raises Unavailable if its server does not answer."""
    log = connect(**server(s), prefix=s.log_prefix)
    log.control_head()  # a wrong address fails here, in one line
    return log


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
