"""Logs in memory with an experiment in them, and verdicts on its transactions."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from core.codec import encode
from core.context import Resolver
from core.events import Arm, ExperimentStarted
from core.log.memory import MemoryLog
from core.times import DAY_MS
from ingest.offline import OfflineIngest
from tests.builders.decisions import append_unchecked
from tests.builders.events import T0, transaction, verdict
from tests.builders.logs import PARTITIONS, SECOND, Record
from tests.builders.models import ARTIFACT, deployed, load_tiny

ONE, TWO = hashlib.sha256(ARTIFACT).hexdigest(), hashlib.sha256(SECOND).hexdigest()
ANN: dict[str, Any] = {"actor": "ann", "reason": "try"}
WINDOW, MATURITY = 2 * DAY_MS, 3 * DAY_MS
ARMS = (Arm("control", "tiny", "1.0.0", ONE, 4000), Arm("new", "tiny", "1.1.0", TWO, 6000))
STEP_MS = 20 * 60_000


def started(**changes: Any) -> ExperimentStarted:
    """An experiment `e1` on nine in ten accounts, 40:60."""
    values: dict[str, Any] = {
        "occurred_at": T0,
        "experiment_id": "e1",
        "arms": ARMS,
        "salt": "s",
        "traffic": 9000,
        "window_ms": WINDOW,
        "maturity_ms": MATURITY,
        "accounts_min": 10,
    }
    return ExperimentStarted(**ANN, **(values | changes))


def records(seed: int, size: int, accounts: int, step_ms: int = STEP_MS) -> list[Record]:
    """Transactions every `step_ms`, some late; on a third of them verdicts of one or two sources, days after."""
    rng = random.Random(seed)
    out: list[tuple[int, int, str, str, bytes]] = []
    for number in range(size):
        now = T0 + number * step_ms
        account = f"a{int(rng.random() ** 1.5 * accounts)}"
        at = now - (rng.randrange(8 * DAY_MS) if rng.random() < 0.15 else 0)
        amount = rng.choice((5.0, 40.0, 260.0, 900.0, 4000.0))
        payment = transaction(
            number, account_id=account, occurred_at=at, amount=amount, country=rng.choice(["DE", "US"])
        )
        out.append((now, 2 * number, "transactions", account, encode(payment)))
        for source in ("analyst", "chargeback") if rng.random() < 0.25 else ("analyst",) if rng.random() < 0.3 else ():
            said_at = now + rng.randrange(rng.choice((1, 6)) * DAY_MS)
            word = verdict(
                account,
                rng.choice(("fraud", "fraud", "legitimate")),
                said_at,
                transaction_id=payment.transaction_id,
                source=source,
                transaction_occurred_at=at,
            )
            out.append((said_at, 2 * number + 1, "feedback", account, encode(word)))
    return [Record(topic, key, when, value) for when, _, topic, key, value in sorted(out)]


def experimented(
    seed: int,
    size: int,
    changes: dict[int, list[Any]],
    accounts: int = 150,
    step_ms: int = STEP_MS,
    load: Any = load_tiny,
) -> MemoryLog:
    """The stream decided in batches of random size; `changes` are control events by record number."""
    log = MemoryLog()
    log.put_blob(ARTIFACT)
    log.put_blob(SECOND)
    ingest = OfflineIngest(
        log, Resolver(log.get_blob, load), partitions=PARTITIONS, reference=False, start=[deployed()]
    )
    rng = random.Random(seed)
    for number, record in enumerate(records(seed, size, accounts, step_ms)):
        if number in changes:
            ingest.flush()
            append_unchecked(log, *changes[number])
            ingest.follow_control()
        ingest.feed([record])
        if rng.random() < 0.05:
            ingest.flush()
    ingest.flush()
    return log
