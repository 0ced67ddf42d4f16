"""Programs that decide: own features and rules, own decisions as features, roll-outs, shadow rules, and switches in
mid-stream; the same bytes in any batches, and again on replay.
"""

from __future__ import annotations

import json
from collections import Counter

import msgspec
import numpy as np
import pytest

from core import replay, verification
from core.codec import decode_alert, decode_reject, decode_score, decode_transaction, encode
from core.context import Resolver
from core.control_stream import history
from core.differences import explain_difference
from core.errors import Corrupt
from core.events import (
    START,
    ProgramRegistered,
    RulesChanged,
    Transaction,
    TransactionReceived,
    TransactionScored,
)
from core.features import packing, spec
from core.features.state import AccountState
from core.log.memory import MemoryLog
from core.program.codes import ENGINE
from core.replay import Timeline
from core.times import DAY_MS, HOUR_MS
from ingest import offline
from ingest.offline import OfflineIngest
from models.artifacts import load_scorer
from projections.audit import redecide
from sources.record import Record
from sources.synthetic import START_MS
from tests.builders.programs import deployed, stored
from tests.builders.switches import PARTITIONS, decided, stream

Rows = list[tuple[TransactionReceived, TransactionScored]]


def payloads(log: MemoryLog, stream: str = "scores") -> list[list[bytes]]:
    return [[entry.payload for entry in log.read(p, stream, START, 10**6)] for p in range(PARTITIONS)]  # type: ignore[arg-type]


def rows_of(log: MemoryLog, partition: int) -> Rows:
    transactions = log.read(partition, "transactions", START, 10**6)
    scores = log.read(partition, "scores", START, 10**6)
    return [(decode_transaction(t.payload), decode_score(s.payload)) for t, s in zip(transactions, scores, strict=True)]


def verified(log: MemoryLog) -> tuple[int, int]:
    timeline = Timeline(history(log), Resolver(log.get_blob, load_scorer))
    found = [verification.verify(log, p, log.head(p), timeline) for p in range(PARTITIONS)]
    assert [v.first_difference for v in found] == [None] * PARTITIONS
    return sum(v.decisions for v in found), sum(v.identical for v in found)


def test_a_program_decides_the_same_in_any_batches_and_on_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deployed, rolled back and deployed again in mid-stream, with aggregates of its own decisions: batches of 7, 300
    and 2,000 give the same bytes, and a replay gives them again.
    """
    records = stream()
    switches = {0.3: "deploy", 0.6: "rollback", 0.75: "deploy"}
    logs = [decided(monkeypatch, records, batch, switches) for batch in (7, 300, 2000)]
    assert payloads(logs[0]) == payloads(logs[1]) == payloads(logs[2])
    assert payloads(logs[0], "alerts") == payloads(logs[1], "alerts") == payloads(logs[2], "alerts")
    decisions, identical = verified(logs[1])
    assert decisions == identical == sum(map(len, payloads(logs[1])))
    scores = [score for p in range(PARTITIONS) for _, score in rows_of(logs[0], p)]
    programs = Counter(score.program for score in scores)
    assert len(programs) == 2 and min(programs.values()) > 300
    assert {score.engine for score in scores} == {ENGINE}
    hits = Counter(code for score in scores for code in score.rules)
    quiet = Counter(code for score in scores for code in score.shadow_rules)
    assert hits["AGAIN"] > 10 and hits["PARTLY"] > 5, hits
    assert quiet["QUIET"] > 3 and quiet["PARTLY"] > hits["PARTLY"] and "QUIET" not in hits, quiet


def test_state_folded_at_a_late_deployment_is_that_of_an_early_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aggregates that read no decision have the same values from a deployment on, whenever that was."""
    records = stream(900)
    early = decided(monkeypatch, records, 100, {0.0: "deploy"})
    late = decided(monkeypatch, records, 100, {0.5: "deploy"})
    same = 0
    for p in range(PARTITIONS):
        for (_, first), (_, second) in zip(rows_of(early, p), rows_of(late, p), strict=True):
            if first.program == second.program:
                a, b = packing.vector(first.features), packing.vector(second.features)
                for name in ("big_30d", "country_changed", "spread", "frauds_30d", "at_merchant"):
                    column = column_of(name)
                    assert a[column : column + 1].tobytes() == b[column : column + 1].tobytes(), name
                same += 1
    assert same > 300


OWN = ("again_30d", "alerts_7d", "at_merchant", "big_30d", "big_share", "country_changed", "frauds_30d", "reviews_1d",
       "spread")  # fmt: skip


def column_of(name: str) -> int:
    return spec.WIDTH + OWN.index(name)


def test_own_decisions_are_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of reviews, alerts and hits before each payment equal a plain count over the account's earlier scores."""
    log = decided(monkeypatch, stream(), 500, {0.0: "deploy"})
    checked = 0
    for p in range(PARTITIONS):
        earlier: dict[str, list[tuple[int, TransactionScored]]] = {}
        for transaction, score in rows_of(log, p):
            now, before = transaction.received_at, earlier.setdefault(transaction.account_id, [])
            vector = packing.vector(score.features)
            expected = {
                "reviews_1d": sum(
                    s.decision == "review" and 0 <= now // HOUR_MS - t // HOUR_MS < 24 for t, s in before
                ),
                "alerts_7d": sum(
                    s.severity is not None and 0 <= now // (6 * HOUR_MS) - t // (6 * HOUR_MS) < 28 for t, s in before
                ),
                "again_30d": sum("AGAIN" in s.rules and 0 <= now // DAY_MS - t // DAY_MS < 30 for t, s in before),
            }
            for name, count in expected.items():
                assert vector[column_of(name)] == count, (name, transaction.transaction_id)
                checked += count > 0
            before.append((now, score))
    assert checked > 100


def test_a_derived_feature_reads_stored_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ratio(big_30d, sum_30d)` follows from the two stored float32 values alone; missing where the sum is 0."""
    log = decided(monkeypatch, stream(400), 100, {0.0: "deploy"})
    seen = 0
    for p in range(PARTITIONS):
        for _, score in rows_of(log, p):
            vector = packing.vector(score.features)
            big, total = float(vector[column_of("big_30d")]), float(vector[spec.index("sum_30d")])
            share = vector[column_of("big_share")]
            if total > 0.0:
                assert share == np.float32(big / total)
                seen += 1
            else:
                assert vector[column_of("big_share") :][:1].view(np.uint32)[0] == 0x7FC00000
    assert seen > 100


def test_a_rollout_takes_a_fixed_share_of_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule with a roll-out of 20 % is live for the same accounts throughout, and a shadow rule for the others."""
    log = decided(monkeypatch, stream(), 300, {0.0: "deploy"})
    live: set[str] = set()
    quiet: set[str] = set()
    for p in range(PARTITIONS):
        for transaction, score in rows_of(log, p):
            live |= {transaction.account_id} if "PARTLY" in score.rules else set()
            quiet |= {transaction.account_id} if "PARTLY" in score.shadow_rules else set()
    assert live and quiet and not live & quiet
    assert 0.02 < len(live) / len(live | quiet) < 0.45


def test_a_snapshot_keeps_the_aggregates_of_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that is saved and loaded decides on as one that was not; one saved without the aggregates lacks them."""
    log = decided(monkeypatch, stream(400), 100, {0.0: "deploy"})
    timeline = Timeline(history(log), Resolver(log.get_blob, load_scorer))
    steps = list(timeline.new_state().ring_steps.values())
    assert len(steps) == 1
    state = replay.rebuild(log, 0, log.head(0), timeline.identity, steps=steps)
    content = state.to_bytes()
    again = AccountState.from_bytes(content, timeline.identity, steps)
    assert again.digest() == state.digest() and again.to_bytes() == content
    assert steps[0].digest in again.rings
    bare = replay.rebuild(log, 0, log.head(0), timeline.identity)
    assert not AccountState.from_bytes(bare.to_bytes(), timeline.identity, steps).rings


def test_another_engine_is_not_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions of an engine that this release does not run are neither identical nor different, and are counted."""
    log = decided(monkeypatch, stream(200), 100, {})
    monkeypatch.setattr(replay, "ENGINE", ENGINE + 1)
    timeline = Timeline(history(log), Resolver(log.get_blob, load_scorer))
    found = [verification.verify(log, p, log.head(p), timeline) for p in range(PARTITIONS)]
    assert sum(v.decisions for v in found) == sum(map(len, payloads(log))) > 0
    assert sum(v.identical for v in found) == 0 and not any(v.first_difference for v in found)
    assert sum(sum(v.undecidable.values()) for v in found) == sum(v.decisions for v in found)


def test_a_lost_program_is_not_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the blob of a program is lost, its decisions can't be made again; those of others can, before and after."""
    log = decided(monkeypatch, stream(600), 100, {0.3: "deploy", 0.6: "rollback"})
    digest = next(entry.event.digest for entry in history(log) if isinstance(entry.event, ProgramRegistered))

    def load_blob(wanted: str) -> bytes:
        if wanted == digest:
            raise Corrupt("no blob")
        return log.get_blob(wanted)

    timeline = Timeline(history(log), Resolver(load_blob, load_scorer))
    found = [verification.verify(log, p, log.head(p), timeline) for p in range(PARTITIONS)]
    by_program = Counter(score.program == digest[:16] for p in range(PARTITIONS) for _, score in rows_of(log, p))
    assert not any(v.first_difference for v in found)
    assert sum(sum(v.undecidable.values()) for v in found) == by_program[True] > 100
    assert sum(v.identical for v in found) == by_program[False] > 100


FIELDS = b"""
[program]
name = "fields"
version = "1.0.0"
uses = ["standard@1"]

[fields]
distance = { from = "attributes.dist1", type = "number", required = true }
domain = { from = "attributes.domain", type = "string", default = "none" }

[features]
far_30d = "count(account, '30d', distance > 100)"
same_domain = "count(mail, '30d')"

[entities]
mail = ["account_id", "domain"]

[[rules]]
code = "FAR"
when = "distance > 100 && domain.endsWith('.test')"
effect = "review"
words = "{distance:.0f} km away, from {domain}"

[decision.actions]
low = ["notify_customer"]
"""


def test_own_fields_are_read_counted_and_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes become fields: in rules, in aggregates and as keys of entities; a payment without a required one is
    rejected; the program's own actions are recommended.
    """
    monkeypatch.setattr(offline, "BATCH", 5)
    log = MemoryLog()
    loaded = stored(log, FIELDS)
    ingest = OfflineIngest(
        log, Resolver(log.get_blob, load_scorer), partitions=1, reference=False, start=deployed(loaded)
    )
    given: list[dict[str, float | str]] = [
        {"dist1": 500.0, "domain": "shop.test"},
        {"dist1": 20.0},
        {"domain": "shop.test"},
        {"dist1": "far", "domain": "shop.test"},
        {"dist1": 101.0, "domain": "shop.test"},
        {"dist1": 101.0, "domain": "shop.example"},
    ]
    for number, attributes in enumerate(given):
        time = START_MS + number * HOUR_MS
        payment = Transaction(
            transaction_id=f"t{number}", account_id="a", amount=5.0, occurred_at=time, attributes=attributes
        )
        ingest.feed([Record("transactions", "a", time, encode(payment))])
    ingest.flush()
    rejected = [decode_reject(entry.payload) for entry in log.read(0, "rejects", START, 100)]
    assert [r.reason for r in rejected] == ["missing_field"] * 2
    assert all("attributes.dist1" in r.detail for r in rejected)
    found = [(s.rules, *packing.vector(s.features)[spec.WIDTH :].tolist()) for _, s in rows_of(log, 0)]
    assert found == [(("FAR",), 0.0, 0.0), ((), 1.0, 0.0), (("FAR",), 1.0, 1.0), ((), 2.0, 0.0)]
    alerts = [decode_alert(entry.payload) for entry in log.read(0, "alerts", START, 100)]
    assert [alert.recommended_actions for alert in alerts] == [("notify_customer",)] * 2
    timeline = Timeline(history(log), Resolver(log.get_blob, load_scorer))
    assert verification.verify(log, 0, log.head(0), timeline).identical == 4


HOSTILE = b"""
[program]
name = "hostile"
version = "1.0.0"
uses = ["standard@1"]

[fields]
shop = { from = "merchant_id" }
note = { from = "attributes.note", type = "string" }
level = { from = "attributes.level", type = "number" }

[parameters]
bound = 1

[entities]
at_shop = ["account_id", "shop"]
at_merchant = ["account_id", "merchant_id"]
of_level = ["account_id", "level"]

[features]
own_name = "count(at_shop, '30d')"
standard_name = "count(at_merchant, '30d') + 0"
noted = "distinct(account, '30d', note)"
same_level = "count(of_level, '30d')"

[[rules]]
code = "POSITIVE"
when = "amount / bound > 0"
"""


def _noted(records: list[Record]) -> list[Record]:
    """The records with own fields as a hostile customer could send them: separators of our own hashing, both zeros."""
    found = []
    for number, record in enumerate(records):
        if record.topic == "transactions":
            content = json.loads(record.value)
            note = "\x1f" * (1 + number % 3000) + "n"
            content["attributes"] = {"note": note, "level": -0.0 if number % 2 else 0.0}
            found.append(record._replace(value=json.dumps(content).encode()))
        else:
            found.append(record)
    return found


def test_hostile_own_fields_and_names_decide_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Separators in texts stay in them, an entity may name a standard field by an own name, and both zeros are one."""
    monkeypatch.setattr(offline, "BATCH", 100)
    log = MemoryLog()
    loaded = stored(log, HOSTILE)
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=PARTITIONS, start=deployed(loaded))
    ingest.feed(_noted(stream(300)))
    ingest.flush()
    decisions, identical = verified(log)
    assert decisions == identical > 250
    names = ("noted", "own_name", "same_level", "standard_name")
    earlier: Counter[str] = Counter()
    for p in range(PARTITIONS):
        for transaction, score in rows_of(log, p):
            vector = dict(zip(names, packing.vector(score.features)[spec.WIDTH :].tolist(), strict=True))
            assert vector["own_name"] == vector["standard_name"]
            assert vector["same_level"] == earlier[transaction.account_id]
            earlier[transaction.account_id] += 1


def test_a_parameter_of_either_zero_is_one_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    """`amount / bound` under −0.0 is what it is under 0.0: whichever was in force first, an audit of one decision alone
    finds the same.
    """
    log = MemoryLog()
    loaded = stored(log, HOSTILE)
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=PARTITIONS, start=deployed(loaded))
    records = stream(60)
    for part, bound in ((records[:30], 0.0), (records[30:], -0.0)):
        ingest.change([RulesChanged(occurred_at=7, actor="ann", parameters={"bound": bound}, disabled=())])
        ingest.feed(part)
        ingest.flush()
    for p in range(PARTITIONS):
        rows = rows_of(log, p)
        assert all("POSITIVE" in score.rules for _, score in rows)
        alone = Timeline(history(log), Resolver(log.get_blob, load_scorer))
        assert redecide.check(log, p, [len(rows) - 1], alone).differences == []


def test_a_difference_of_an_own_feature_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An own feature that differs is named, not a failure of the comparison."""
    log = decided(monkeypatch, stream(60), 100, {0.0: "deploy"})
    (_, score), *_ = rows_of(log, 0)
    vector = packing.vector(score.features).copy()
    vector[spec.WIDTH] += 1.0
    changed = msgspec.structs.replace(score, features=packing.pack(vector.reshape(1, -1))[0])
    (line,) = explain_difference(encode(score), encode(changed))
    assert line.startswith(f"feature column {spec.WIDTH}: logged ")
