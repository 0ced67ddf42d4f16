"""Responders on Apache Kafka and Redis: its consumer group gives a dead one's partitions to the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import worker_harness as h
from tests.integration.apache_kafka import ApacheKafka
from tests.integration.servers import RedisServer
from tests.responder_harness import assert_kills_harm_nothing


def test_killed_responders_lose_nothing_and_repeat_nothing(
    apache_kafka: ApacheKafka, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No action is lost, no effect comes twice, and every outcome is in the log once."""
    on = h.stage(
        apache_kafka.bootstrap, "127.0.0.1", redis_server.port, tmp_path, history=False, session_timeout_ms=6_000
    )
    assert_kills_harm_nothing(on, 5, monkeypatch)
