"""What `sentinel doctor` says of messages in partitions that their keys don't map to."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from console.edge_report import identity_findings
from core.codec import encode
from core.control import ControlState
from core.events import Position, TransactionRejected
from core.identity import FIXED
from core.log.base import Entry, Head
from core.log.memory import MemoryLog
from core.settings import Settings
from tests.builders.batches import batch_after


@pytest.mark.parametrize(("wrong", "said"), [(0, []), (1, ["warn"]), (30, ["fail"])])
def test_one_message_of_anybody_does_not_fail_the_doctor(wrong: int, said: list[str]) -> None:
    """A few among many are somebody's mistake or malice; a share of them means another partitioner."""
    log, head = MemoryLog(), Head()
    for number in range(20):
        batch = batch_after(head, transactions=50, rejects=0)
        here = range(number, wrong, 20)
        rejects = [
            Entry(
                Position(head.sequence + 1, index + 1),
                encode(
                    TransactionRejected(
                        recorded_at=1,
                        topic="transactions",
                        position="1-1",
                        reason="wrong_partition",
                        detail="",
                        key=b"a",
                        value=b"{}",
                    )
                ),
            )
            for index, _ in enumerate(here)
        ]
        head = log.append(0, replace(batch, rejects=rejects), head)
    state = ControlState(identity=FIXED)
    findings = list(identity_findings(Settings(partitioner="crc32"), log, state))
    assert [status for _, status, _, _ in findings] == said
    if wrong:
        assert f"{wrong} of its last {1_000 + wrong:,} messages" in findings[0][2]
