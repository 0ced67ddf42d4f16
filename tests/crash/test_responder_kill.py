"""Responders killed with SIGKILL in mid-action, on the local stack."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from console.stack import Broker, Valkey
from tests import worker_harness as h
from tests.responder_harness import assert_kills_harm_nothing

KILLS = int(os.environ.get("SENTINEL_TEST_KILLS", "8"))


def test_killed_responders_lose_nothing_and_repeat_nothing(
    valkey_server: Valkey, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No action is lost, no effect comes twice, and every outcome is in the log once."""
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, history=False)
    assert_kills_harm_nothing(on, KILLS, monkeypatch)
