"""One partition of a live log in memory: messages are admitted, decided and appended at a given time of the clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from core import control_stream, pipeline, replay, verification
from core.codec import decode_reject, decode_score, decode_transaction, encode
from core.context import Resolver
from core.events import Control, SourceGenerationStarted, Transaction, TransactionReceived, TransactionScored
from core.features import packing, spec
from core.identity import FIXED
from core.log.base import Head
from core.log.memory import MemoryLog
from core.replay import Timeline
from core.roster import Roster
from core.verification import Verification
from ingest.admission import admit
from ingest.intake import Message
from ingest.partition import Owned, finish
from ingest.screening import screen
from tests.builders.events import Item
from tests.builders.logs import entries
from tests.builders.models import ARTIFACT, deployed, load_tiny

NOW = 1_790_000_000_000
"""2026-09-21, when live tests begin."""


_GENERATIONS = [
    SourceGenerationStarted(
        occurred_at=0, actor="test", topic=role, topic_name=role, generation=1, topic_id="", partitions=1
    )
    for role in ("transactions", "feedback")
]


class Decided(NamedTuple):
    """A logged decision."""

    transaction: TransactionReceived
    score: TransactionScored

    def feature(self, name: str) -> float:
        vector = packing.vector(self.score.features)
        return float(vector[spec.index(name)])


class Live:
    """Partition 0 of a log that begins with `events`. `restart` continues as another owner would."""

    def __init__(self, *events: Control) -> None:
        self.log = MemoryLog()
        self.log.put_blob(ARTIFACT)
        control_stream.append(self.log, lambda known: [FIXED.event("worker"), *_GENERATIONS, deployed(), *events])
        self._offsets = [0, 0]
        self.owned = Owned(0, Head(), replay.rebuild(self.log, 0, Head(), FIXED), (1, 1))

    def change(self, *events: Control) -> None:
        """Append control events."""
        control_stream.append(self.log, lambda known: events)

    def send(
        self,
        items: Sequence[Item],
        now: int = NOW,
        appended_at: int = 0,
        batch: int = 10**6,
        roster: Roster | None = None,
    ) -> None:
        """Send items in this order at time `now`, with the broker's LogAppendTime if there is one, and decide them.
        roster: that of a worker which does not go by the log's.
        """
        intake = self.owned.intake
        for number, item in enumerate(items):
            which = 0 if isinstance(item, Transaction) else 1
            side = intake.feedback if which else intake.transactions
            message = Message(
                self._offsets[which], now + number, item.account_id.encode(), encode(item), now, appended_at
            )
            side.records.append(message)
            self._offsets[which] += 1
        intake.transactions.at_end = intake.feedback.at_end = True
        control = control_stream.ControlStream()
        control.advance(self.log)
        context = Resolver(self.log.get_blob, load_tiny).context(control.state)
        while (pending := self.owned.take(batch, now)) is not None:
            screen([pending])
            admit(pending, context.histories, roster=control.state.governance.roster if roster is None else roster)
            finish([pending], pipeline.decide(context, [pending.work]), context.position, control.digest)
            sealed = pending.sealed
            assert sealed is not None
            self.owned.head = self.log.append(0, sealed.batch, sealed.expected)

    def restart(self) -> None:
        """Load the partition from the log."""
        head = self.log.head(0)
        self.owned = Owned(0, head, replay.rebuild(self.log, 0, head, FIXED), (1, 1))

    @property
    def decided(self) -> list[Decided]:
        """All decisions, in order."""
        pairs = zip(entries(self.log, 0, "transactions"), entries(self.log, 0, "scores"), strict=True)
        return [Decided(decode_transaction(t.payload), decode_score(s.payload)) for t, s in pairs]

    @property
    def received(self) -> list[int]:
        """The receive times of all decisions, in order."""
        return [each.transaction.received_at for each in self.decided]

    @property
    def reasons(self) -> list[str]:
        """The rejects' reason codes, in order."""
        return [decode_reject(entry.payload).reason for entry in entries(self.log, 0, "rejects")]

    def verify(self) -> Verification:
        """The log verified with a new resolver."""
        timeline = Timeline(control_stream.history(self.log), Resolver(self.log.get_blob, load_tiny))
        return verification.verify(self.log, 0, self.log.head(0), timeline)

    def tamper(self, row: int, **changes: object) -> None:
        """Change fields of a logged transaction, as somebody who may write into the log can."""
        entry = entries(self.log, 0, "transactions")[row]
        changed = msgspec.structs.replace(decode_transaction(entry.payload), **changes)
        self.log.tamper(0, "transactions", entry.id, encode(changed))
