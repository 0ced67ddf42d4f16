"""Logs whose program is deployed and rolled back in mid-stream."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from core.context import Resolver
from core.control_stream import history
from core.events import (
    ProgramRolledBack,
    ThresholdsChanged,
)
from core.log.memory import MemoryLog
from ingest import offline
from ingest.offline import OfflineIngest
from models.artifacts import load_scorer
from sources.record import Record
from sources.synthetic import SyntheticConfig, SyntheticStream
from tests.builders.programs import deployed, stored

PARTITIONS = 3


def stream(transactions: int = 1500) -> list[Record]:
    config = SyntheticConfig(
        transactions=transactions, days=20.0, accounts=40, fraud_rate=0.05, label_delay_days=1.0, seed=5
    )
    return [r for chunk in SyntheticStream(config, flush_feedback=True, labels="all").records() for r in chunk]


def decided(
    monkeypatch: pytest.MonkeyPatch, records: list[Record], batch: int, switches: Mapping[float, str]
) -> MemoryLog:
    """The stream's log. switches: what happens to the program at a share of the stream: "deploy" or "rollback"."""
    monkeypatch.setattr(offline, "BATCH", batch)
    log = MemoryLog()
    loaded = stored(log)
    thresholds = ThresholdsChanged(occurred_at=5, actor="ann", review=0.3, decline=0.7)
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=PARTITIONS, start=[thresholds])
    places = {int(share * len(records)): act for share, act in switches.items()}
    for number, record in enumerate(records):
        if number in places:
            ingest.flush()
            if places[number] == "deploy":
                ingest.change(
                    deployed(loaded) if not any("Registered" in name for name in kinds(log)) else deployed(loaded)[1:]
                )
            else:
                ingest.change([ProgramRolledBack(occurred_at=7, actor="ann", digest="")])
        ingest.feed([record])
    ingest.flush()
    return log


def kinds(log: MemoryLog) -> list[str]:
    return [type(entry.event).__name__ for entry in history(log) if "Program" in type(entry.event).__name__]
