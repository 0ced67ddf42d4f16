"""A log of the synthetic stream decided by the shipped baseline, for tests of what reads decisions."""

from __future__ import annotations

import hashlib
from typing import Any

from console.wiring import load_scorer
from core import control_stream
from core.context import Resolver
from core.errors import BadInput
from core.events import (
    ActionSucceeded,
    CaseOpened,
    CaseResolved,
    ListChanged,
    ModelDeployed,
    ModelRegistered,
    ReferencePublished,
    RulesChanged,
    ThresholdsChanged,
)
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.replay import Timeline
from ingest.offline import OfflineIngest
from models.shipped import shipped_baseline
from sources.catalogue import open_source
from sources.synthetic import SyntheticConfig

PARTITIONS = 3
NEVER_STORED = hashlib.sha256(b"never stored").hexdigest()


def fill(log: EventLog, transactions: int = 5000, accounts: int = 60) -> EventLog:
    """Decide the stream into `log`: thresholds, rules and lists change on the way, then a table goes missing."""
    content, card = shipped_baseline()
    model: dict[str, Any] = {
        "occurred_at": 5,
        "actor": "ann",
        "name": "baseline",
        "version": "1.0.0",
        "digest": log.put_blob(content),
    }
    start = [
        ModelRegistered(**model, spec=1, metrics=card["metrics"]),
        ModelDeployed(**model, reason="passed the checks"),
        ThresholdsChanged(occurred_at=5, actor="ann", review=0.3, decline=0.7),
    ]
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=PARTITIONS, start=start)
    config = SyntheticConfig(transactions=transactions, days=20.0, accounts=accounts, fraud_rate=0.04, seed=3)
    source = open_source("synthetic", labels="all", flush_feedback=True, synthetic=config)
    records = [record for chunk in source.records() for record in chunk]
    changes: dict[int, list[Any]] = {
        len(records) // 3: [
            RulesChanged(occurred_at=6, actor="bob", parameters={"velocity_10m": 4.0}, disabled=("UNUSUAL_HOUR",)),
            ListChanged(occurred_at=6, actor="bob", kind="country", effect="watch", add=("FR",)),
        ],
        len(records) // 2: [ThresholdsChanged(occurred_at=7, actor="bob", reason="too many", review=0.5, decline=0.9)],
        11 * len(records) // 20: [
            ReferencePublished(occurred_at=8, actor="x", kind="merchant", digest=NEVER_STORED, as_of=1, rows=1)
        ],
    }
    for number, record in enumerate(records):
        if number in changes:
            ingest.flush()
            ingest.change(changes[number])
        ingest.feed([record])
    ingest.flush()
    return log


def decided() -> MemoryLog:
    log = MemoryLog()
    fill(log)
    return log


def timeline(log: EventLog) -> Timeline:
    try:
        log.get_blob(NEVER_STORED)
    except BadInput:
        return Timeline(control_stream.history(log), Resolver(log.get_blob, load_scorer))
    raise AssertionError("the log holds a blob that it should not")


def follow_up(account_id: str, transaction_id: str, alert_id: str) -> list[Any]:
    """What analysts and responders do about an alert."""
    return [
        CaseOpened(account_id=account_id, case_id="c1", occurred_at=10, actor="ann", alert_id=alert_id),
        ActionSucceeded(
            account_id=account_id, action="notify_customer", occurred_at=11, actor="sentinel", causation_id=alert_id
        ),
        ActionSucceeded(
            account_id=account_id, action="notify_customer", occurred_at=11, actor="sentinel", causation_id="07:1-1"
        ),
        CaseResolved(account_id=account_id, case_id="c1", occurred_at=12, actor="ann", verdict="fraud"),
    ]
