"""What a worker counts of its appends, and when."""

from __future__ import annotations

from collections import Counter

import pytest

from core import pipeline, policy
from core.context import Context
from core.events import Position, Transaction
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import Head
from core.work import Work
from ingest import stats, telemetry
from ingest.intake import Message
from ingest.partition import Owned, Pending
from ingest.stats import Stats
from tests.builders.decisions import context, runs
from tests.builders.events import stream

NOW_MS = 1_700_000_000_000.0


def decided(under: Context, sizes: list[int], seed: int) -> list[Pending]:
    """One batch of so many payments for each of as many partitions, decided together."""
    payments = [item for item in stream(seed, 40 * sum(sizes)) if isinstance(item, Transaction)]
    made = []
    for number, size in enumerate(sizes):
        mine, payments = payments[:size], payments[size:]
        state = AccountState(FIXED)
        owned = Owned(number, Head(), state, (1, 1))
        pending = Pending(owned, Work(number, state, runs(mine)), Position(1, size), Position(0, 0), int(NOW_MS), 0)
        pending.messages = [Message(k, int(NOW_MS) - 5, None, None, NOW_MS - 5) for k in range(size)]
        pending.context = under
        made.append(pending)
    for pending, result in zip(made, pipeline.decide(under, [each.work for each in made]), strict=True):
        pending.decided = result
    return made


def expected(pendings: list[Pending]) -> tuple[Counter[str], Counter[str]]:
    """Decisions and severities, counted one by one."""
    scored = [score for pending in pendings if pending.decided is not None for score in pending.decided.scored]
    return Counter(each.decision for each in scored), Counter(each.severity for each in scored if each.severity)


def exported() -> dict[str, float]:
    """Every counter of this process that `Stats` increments, by name and label."""
    counters: list[tuple[str, str, str]] = [
        *(("sentinel_transactions_total", "decision", each) for each in policy.DECISIONS),
        *(("sentinel_alerts_total", "severity", each) for each in policy.SEVERITIES),
    ]
    found = {value: telemetry.WORKER.get_sample_value(name, {label: value}) or 0.0 for name, label, value in counters}
    return {**found, "degraded": telemetry.WORKER.get_sample_value("sentinel_degraded_total") or 0.0}


@pytest.mark.parametrize("first", [[200, 300], [500]])
def test_batches_of_one_append_are_counted_by_their_own_contexts(first: list[int]) -> None:
    """A partition may be decided as degraded beside another that is not, and part of what was decided together may be
    refused: all that was acknowledged is counted, and nothing else.
    """
    sound, lacking = context(), context(blobs=())
    assert lacking.degraded and not sound.degraded
    acknowledged = [decided(sound, first, 1)[0], *decided(lacking, [300], 2)]
    before = exported()
    held = Stats(None)
    held.record(acknowledged, NOW_MS)
    decisions, severities = expected(acknowledged)
    assert held.decisions == decisions and len(decisions) > 1 and severities
    assert (held.transactions, held.alerts) == (sum(decisions.values()), sum(severities.values()))
    found = {name: count - before[name] for name, count in exported().items()}
    wanted = {**decisions, **severities, "degraded": 300}
    assert {name: count for name, count in found.items() if count} == wanted


def test_few_messages_wait_and_reading_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is counted when it becomes too much, at the next write, and when it is asked for."""
    batch = decided(context(), [30], 3)
    decisions, _ = expected(batch)
    held = Stats(None)
    monkeypatch.setattr(stats, "UNCOUNTED_MAX", 60)
    held.record(batch, NOW_MS)
    before = exported()
    held.write(dict)
    assert sum(exported()[each] - before[each] for each in decisions) == 30
    held.record(batch, NOW_MS)
    assert held.latency.count == 60
    before = exported()
    held.record(batch, NOW_MS)
    assert exported() == before
    held.record(batch, NOW_MS)
    assert sum(exported()[each] - before[each] for each in decisions) == 60
    assert held.decisions == Counter({name: 4 * count for name, count in decisions.items()})
    assert held.transactions == 120
