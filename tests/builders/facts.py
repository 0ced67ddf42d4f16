"""Facts as projections fold them, without a log: decisions and verdicts."""

from __future__ import annotations

from typing import Any

from core.events import AlertRaised, Position, TransactionReceived, TransactionScored
from core.program.codes import ENGINE
from core.program.shipped import DEFAULT_PROGRAM
from core.times import DAY_MS
from projections.engine.base import DecidedTransaction, Fact
from tests.builders.events import T0, verdict


def paid(transaction: str = "t1", at: int = T0, account: str = "a1", number: int = 1) -> Fact:
    """A decision without an alert."""
    transaction_ = TransactionReceived(
        recorded_at=at, transaction_id=transaction, account_id=account, amount=9.0, occurred_at=at
    )
    score = TransactionScored(
        feedback_position="0-0",
        control_position=1,
        model="m",
        digest="",
        spec=1,
        engine=ENGINE,
        program=DEFAULT_PROGRAM[:16],
        margin=0.0,
        probability=0.1,
        decision="approve",
        features=b"",
    )
    return Fact(0, Position(1, number), at, DecidedTransaction(transaction_, score, None))


def told(
    word: Any = "fraud", at: int = T0 + DAY_MS, recorded_at: int | None = None, account: str = "a1", **changes: Any
) -> Fact:
    """A verdict, recorded when it was given unless told otherwise."""
    event = verdict(account, word, at, **changes)
    return Fact(0, Position(1, 1), at if recorded_at is None else recorded_at, event)


def decided(number: int, severity: Any = "high", recorded_at: int = T0, account: str = "a1") -> Fact:
    """A transaction with an alert."""
    transaction = TransactionReceived(
        recorded_at=recorded_at, transaction_id=f"t{number}", account_id=account, amount=9.0, occurred_at=recorded_at
    )
    score = TransactionScored(
        feedback_position="0-0",
        control_position=1,
        model="m",
        digest="",
        spec=1,
        engine=ENGINE,
        program=DEFAULT_PROGRAM[:16],
        margin=0.0,
        probability=0.5,
        decision="decline",
        features=b"",
        severity=severity,
    )
    alert = AlertRaised(
        alert_id=f"00:1-{number}",
        timestamp=recorded_at,
        account_id=account,
        fraud_score=0.5,
        decision="decline",
        severity=severity,
        reason_codes=(),
        values={},
        recommended_actions=(),
        transaction={},
    )
    return Fact(0, Position(1, number), recorded_at, DecidedTransaction(transaction, score, alert))
