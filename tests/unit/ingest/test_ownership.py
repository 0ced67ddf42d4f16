"""Loading a partition: what is said about its state."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from core import control_stream
from core.context import Resolver
from core.settings import Settings
from core.times import DAY_MS
from ingest.ownership import Ownership
from tests.builders.events import transaction
from tests.builders.live import Live
from tests.builders.models import load_tiny


@pytest.mark.parametrize("ahead_days", [0, 3650])
def test_a_partition_received_in_the_future_is_told(
    ahead_days: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log that a worker with a clock ten years ahead wrote warns the next owner; any other says nothing."""
    live = Live()
    at = int(time.time() * 1000) + ahead_days * DAY_MS
    live.send([transaction(1, occurred_at=at)], at)
    ownership = Ownership(Settings(snapshot_directory=str(tmp_path)), live.log, Resolver(live.log.get_blob, load_tiny))
    owned = ownership.take([0], control_stream.current(live.log))
    assert owned[0].state.received_at == at
    printed = capsys.readouterr()
    assert ("ingest.clock_behind" in printed.out + printed.err) == (ahead_days > 0)
