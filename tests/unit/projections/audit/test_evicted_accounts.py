"""Audits where the partition had to evict accounts: an account's state then depends on the others'."""

from __future__ import annotations

import pytest

from core import control_stream
from core.codec import decode_score, encode
from core.context import Resolver
from core.events import Position
from core.features import packing, spec
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.replay import Timeline, rebuild
from core.verification import verify
from ingest.offline import OfflineIngest
from projections.audit import redecide
from tests.builders.events import T0, transaction, verdict
from tests.builders.logs import Record, entries
from tests.builders.models import load_tiny


def test_decisions_on_evicted_accounts_are_recomputed_identically() -> None:
    """An account that was evicted and came again is audited, replayed and rebuilt as it was decided."""
    log = MemoryLog()
    identity = FIXED._replace(accounts_max=20)
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=1, reference=False, identity=identity)
    for number in range(600):
        account = f"a{number % 3 if number % 50 < 6 else number % 90}"
        payment = transaction(number, occurred_at=T0 + number * 1_000, account_id=account)
        records = [Record("transactions", account, T0 + number * 1_000, encode(payment))]
        if number % 11 == 0:
            word = verdict(account, "legitimate", T0 + number * 1_000, transaction_id=payment.transaction_id)
            records.append(Record("feedback", account, T0 + number * 1_000, encode(word)))
        ingest.feed(records)
        if number % 37 == 0:
            ingest.flush()
    ingest.flush()
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, load_tiny))
    state = rebuild(log, 0, log.head(0), timeline.identity)
    assert state.evicted > 200 and state.digest() == verify(log, 0, log.head(0), timeline).state_digest
    lives = [decode_score(e.payload) for e in entries(log, 0, "scores")]
    totals = [packing.vector(s.features)[spec.index("transactions_total")] for s in lives]
    assert totals.count(0.0) > 200
    for row in range(0, 600, 23):  # alone: checked together, they would nearly be all accounts
        found = redecide.check(log, 0, [row], timeline)
        assert found.audited == found.identical == 1, found.differences


class _Known:
    """Knows how many accounts a partition has, and counts how often it is asked."""

    def __init__(self, accounts: int) -> None:
        self.accounts, self.asked = accounts, 0

    def places(self, partition: int, account: str, until: Position) -> None:
        """Unknown."""

    def accounts_at_most(self, partition: int) -> int:
        """As told."""
        self.asked += 1
        return self.accounts


@pytest.mark.parametrize(
    ("accounts_max", "known", "asked", "reads"),
    [(40, 9, 0, []), (20, 9, 1, []), (20, 30, 1, ["transactions", "feedback"])],
)
def test_whether_a_partition_evicts_is_answered_at_the_least_cost(
    accounts_max: int, known: int, asked: int, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody counts accounts where the partition has few entries, and nobody reads it where its accounts are known."""
    log = MemoryLog()
    identity = FIXED._replace(accounts_max=accounts_max)
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=1, reference=False, identity=identity)
    payments = [transaction(number, occurred_at=T0 + number, account_id=f"a{number % 9}") for number in range(30)]
    ingest.feed([Record("transactions", each.account_id, each.occurred_at, encode(each)) for each in payments])
    ingest.flush()
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, load_tiny))
    last = log.head(0).transactions
    read: list[str] = []
    monkeypatch.setattr(redecide, "entries", lambda log, p, stream: read.append(stream) or entries(log, p, stream))
    knows = _Known(known)
    account = payments[-1].account_id
    now = [*redecide.recompute(log, 0, [last], [account], timeline, [], known=knows)]
    assert [each.identical for each in now] == [True]
    assert (knows.asked, read) == (asked, reads)
