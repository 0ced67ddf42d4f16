"""Replay of an in-memory log: the same bits again, every tampering found and named, rebuilds equal from anywhere (I3,
I5).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from core.codec import decode_alert, decode_score, decode_transaction, encode
from core.control import Resolver
from core.errors import BadInput, Corrupt
from core.events import ListChanged, ModelRolledBack, RulesChanged, ThresholdsChanged, Transaction
from core.features import spec
from core.features.spec import DAY_MS, HOUR_MS
from core.features.state import AccountState
from core.log.base import Entry, Head, Stream
from core.log.memory import MemoryLog
from core.log.seals import head_from_entry
from core.replay import Timeline, Verification, read_control_events, rebuild, verify
from ingest.offline import OfflineIngest
from tests.unit.core import builders
from tests.unit.core.builders import ARTIFACT, T0, Shape, deployed, load_tiny, stream

PARTITIONS = 3
SECOND = ARTIFACT + b" "


class Record(NamedTuple):
    topic: str
    key: str
    timestamp: int
    value: bytes


def records(seed: int, size: int, shape: Shape | None = None) -> list[Record]:
    """A random stream as Kafka would bring it, with late events, duplicates and one bad message in twenty."""
    steps = (0, 1_000, 60_000, HOUR_MS, 5 * HOUR_MS)
    shape = shape or Shape(accounts=12, late=0.1, duplicates=0.08, steps=steps, weights=(2, 4, 6, 3, 1), feedback=0.15)
    rng = random.Random(seed)
    out: list[Record] = []
    now = 0
    for item in stream(seed, size, shape):
        now = max(now, item.occurred_at)
        topic = "transactions" if isinstance(item, Transaction) else "feedback"
        value = encode(item)
        if rng.random() < 0.05:
            value = rng.choice([b"", b"{}", b"\xff", value[:-1], value.replace(b'"account_id"', b'"account"')])
        out.append(Record(topic, item.account_id, now, value))
    return out


def filled(
    seed: int = 1,
    size: int = 1500,
    load: Callable[[bytes, str, str], Any] = load_tiny,
    load_blob: Callable[[MemoryLog], Callable[[str], bytes]] = lambda log: log.get_blob,
    changes: dict[int, list[Any]] | None = None,
) -> MemoryLog:
    """A log with the stream decided in batches of random size; `changes` are control events by record number."""
    log = MemoryLog()
    log.put_blob(ARTIFACT)
    log.put_blob(SECOND)
    ingest = OfflineIngest(log, Resolver(load_blob(log), load), partitions=PARTITIONS, start=[deployed()])
    rng = random.Random(seed)
    for number, record in enumerate(records(seed, size)):
        if changes and number in changes:
            ingest.flush()
            ingest._append_control(changes[number])
        ingest.feed([record])
        if rng.random() < 0.03:
            ingest.flush()
    ingest.flush()
    return log


def copy_of(log: MemoryLog) -> MemoryLog:
    """A log of its own with the same content."""
    other = MemoryLog()
    other._heads = dict(log._heads)
    other._streams = {name: list(entries) for name, entries in log._streams.items()}
    other._control, other._blobs = list(log._control), dict(log._blobs)
    return other


def verified(log: MemoryLog, load: Callable[[bytes, str, str], Any] = load_tiny) -> list[Verification]:
    """Every partition verified with a new resolver."""
    timeline = Timeline(list(read_control_events(log)), Resolver(log.get_blob, load))
    return [verify(log, p, log.head(p), timeline) for p in range(PARTITIONS)]


def assert_identical(log: MemoryLog, load: Callable[[bytes, str, str], Any] = load_tiny) -> list[Verification]:
    results = verified(log, load)
    assert [str(r.first_difference) for r in results if r.first_difference] == []
    assert all(r.identical == r.decisions == log.length(r.partition, "scores") for r in results)
    assert all(r.alerts == log.length(r.partition, "alerts") for r in results)
    return results


def scores_of(log: MemoryLog) -> Iterable[Any]:
    return (decode_score(e.payload) for p in range(PARTITIONS) for e in log._streams[p, "scores"])


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return filled()


def test_replay_is_identical(log: MemoryLog) -> None:
    """A stream with feedback, bad messages, duplicates and reference tables replays bit for bit, and ends in the live
    state.
    """
    results = assert_identical(log)
    assert sum(r.decisions for r in results) > 800 and sum(r.alerts for r in results) > 50
    assert all(log.length(p, "rejects") > 20 and log.length(p, "feedback") > 20 for p in range(PARTITIONS))
    assert len({s.control_position for s in scores_of(log)}) > 5
    for r in results:
        assert r.state_digest == rebuild(log, r.partition, log.head(r.partition)).digest()


@pytest.mark.parametrize("seed", [2, 3])
def test_replay_is_identical_for_other_streams(seed: int) -> None:
    """Other seeds replay identically too."""
    assert_identical(filled(seed, 600))


def heads(log: MemoryLog, partition: int) -> list[Head]:
    return [Head(), *(head_from_entry(e) for e in log._streams[partition, "seals"])]


def test_rebuild_from_any_cut_equals_rebuild_from_nothing(log: MemoryLog) -> None:
    """A snapshot at any batch border, brought forward, is the state rebuilt from nothing, at the end and in between."""
    rng = random.Random(1)
    for p in range(PARTITIONS):
        every = heads(log, p)
        for _ in range(6):
            first, last = sorted(
                (rng.choice(every), rng.choice([every[-1], rng.choice(every)])), key=lambda h: h.sequence
            )
            early = AccountState.from_bytes(rebuild(log, p, first).to_bytes())
            assert rebuild(log, p, last, early, first).digest() == rebuild(log, p, last).digest()


def test_verifying_a_prefix(log: MemoryLog) -> None:
    """Verification up to an earlier head covers exactly the decisions up to it."""
    timeline = Timeline(list(read_control_events(log)), Resolver(log.get_blob, load_tiny))
    middle = heads(log, 0)[len(heads(log, 0)) // 2]
    result = verify(log, 0, middle, timeline)
    assert (
        result.identical == result.decisions == len(log.read(0, "scores", count=10**6, until=middle.transactions)) > 50
    )


# --- tampering ---------------------------------------------------------------------------------------------------


def tampered(log: MemoryLog, which: Stream, row: int, change: Callable[[bytes], bytes]) -> tuple[MemoryLog, Entry]:
    """A copy of the log with partition 0's entry changed, and the entry."""
    other = copy_of(log)
    entries = other._streams[0, which]
    before = entries[row]
    entries[row] = Entry(before.id, change(before.payload))
    assert entries[row] != before
    return other, before


def _score(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda payload: encode(msgspec.structs.replace(decode_score(payload), **changes))


def _flip_feature(name: str) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        score = decode_score(payload)
        vector = bytearray(score.features)
        vector[4 * spec.index(name)] ^= 1
        return encode(msgspec.structs.replace(score, features=bytes(vector)))

    return change


def _other_severity(payload: bytes) -> bytes:
    score = decode_score(payload)
    return encode(msgspec.structs.replace(score, severity="low" if score.severity == "critical" else "critical"))


def _nudge(field: str) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        score = decode_score(payload)
        return encode(msgspec.structs.replace(score, **{field: float(np.nextafter(getattr(score, field), 2.0))}))

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        *(
            (_flip_feature(name), f"feature {name}: ")
            for name in ("amount", "hour_share", "merchant_count_1d", "device_reports_30d")
        ),
        (_nudge("margin"), "margin: "),
        (_nudge("probability"), "probability: "),
        (_other_severity, "severity: "),
        (_score(rules=("LIST_ALLOW",)), "rules: "),
        (_score(model="other-9"), "model: "),
        (_score(digest="ff"), "digest: "),
        (_score(arm="challenger"), "arm: "),
        (_score(features=b"\0" * 8), "features: "),
        (lambda payload: payload[:-1] + b" }", "same fields, other bytes"),
    ],
)
@pytest.mark.parametrize("row", [0, 77, -1])
def test_a_tampered_score_is_found(log: MemoryLog, change: Callable[[bytes], bytes], word: str, row: int) -> None:
    """One changed field of one score, down to its last bit, is found, and the difference names the field."""
    other, entry = tampered(log, "scores", row, change)
    found = verified(other)[0].first_difference
    assert found is not None and found.position == entry.id
    assert word in str(found) and str(entry.id) in str(found)


def test_a_tampered_decision_names_both_values(log: MemoryLog) -> None:
    """The difference of a decision shows what was logged and what came."""
    row = next(i for i, e in enumerate(log._streams[0, "scores"]) if decode_score(e.payload).decision == "approve")
    found = verified(tampered(log, "scores", row, _score(decision="review"))[0])[0].first_difference
    assert found is not None and "decision: logged 'review', recomputed 'approve'" in str(found)


@pytest.mark.parametrize("row", [0, 33])
def test_a_tampered_amount_is_found(log: MemoryLog, row: int) -> None:
    """A changed transaction amount shows as a difference of its amount feature."""

    def change(payload: bytes) -> bytes:
        t = decode_transaction(payload)
        return encode(msgspec.structs.replace(t, amount=t.amount + 1.0))

    other, entry = tampered(log, "transactions", row, change)
    found = verified(other)[0].first_difference
    assert found is not None and found.position == entry.id and "feature amount: " in str(found)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda p: encode(msgspec.structs.replace(decode_alert(p), reasons=("nothing to see",))), "alert reasons: "),
        (lambda p: encode(msgspec.structs.replace(decode_alert(p), fraud_score=0.0)), "alert fraud_score: "),
        (lambda p: p[:-1] + b" }", "alert: same fields, other bytes"),
    ],
)
def test_a_tampered_alert_is_found(log: MemoryLog, change: Callable[[bytes], bytes], word: str) -> None:
    """A changed alert is found and the difference says which field, even if only its bytes differ."""
    other, entry = tampered(log, "alerts", 5, change)
    found = verified(other)[0].first_difference
    assert found is not None and found.position == entry.id and word in str(found)


def test_a_removed_and_an_invented_alert_are_found(log: MemoryLog) -> None:
    """An alert that is missing, or stands where none is raised or where there is no transaction, is a difference."""
    alerted = {e.id for e in log._streams[0, "alerts"]}
    removed = copy_of(log)
    gone = removed._streams[0, "alerts"].pop(3)
    found = verified(removed)[0].first_difference
    assert found is not None and found.position == gone.id and "raised, but not in the log" in str(found)
    accepted = {e.id for e in log._streams[0, "scores"]}
    quiet = min(accepted - alerted)
    nowhere = next(gone.id._replace(offset=n) for n in range(1, 10**4) if gone.id._replace(offset=n) not in accepted)
    for position, words in ((quiet, "logged, not raised again"), (nowhere, "no decision raises")):
        invented = copy_of(log)
        invented._streams[0, "alerts"] = sorted([*invented._streams[0, "alerts"], Entry(position, gone.payload)])
        found = verified(invented)[0].first_difference
        assert found is not None and found.position == position and words in str(found)


def test_broken_logs_are_corrupt(log: MemoryLog) -> None:
    """A missing score, bytes that don't decode, or a control position beyond the stream raise Corrupt."""
    missing = copy_of(log)
    del missing._streams[0, "scores"][10]
    beyond, _ = tampered(log, "scores", 10, _score(control_position=10**6))
    garbled, _ = tampered(log, "scores", 10, lambda payload: payload[5:])
    for broken in (missing, beyond, garbled):
        with pytest.raises(Corrupt):
            verified(broken)


def test_a_changed_feedback_event_is_found(log: MemoryLog) -> None:
    """A verdict turned round in the log shows as a difference in a later decision of its account."""
    row, before = next(
        (i, e.payload)
        for i, e in enumerate(log._streams[0, "feedback"])
        if b'"verdict":"fraud"' in e.payload and b"only" not in e.payload
    )
    other, _ = tampered(log, "feedback", row, lambda p: p.replace(b'"fraud"', b'"legitimate"'))
    found = verified(other)[0].first_difference
    assert found is not None and "feature fraud_verdicts: " in str(found), before


# --- control changes and degraded decisions -----------------------------------------------------------------------


def test_control_changes_are_replayed_where_they_happened() -> None:
    """Thresholds, rules, lists and models changed in mid-stream replay identically, and each shows in the decisions."""
    base = {"occurred_at": T0, "actor": "ann"}
    changes: dict[int, list[Any]] = {
        200: [ThresholdsChanged(**base, review=0.05, decline=0.99)],
        400: [RulesChanged(**base, parameters={"amount_high": 1.0}, disabled=("RECENT_FRAUD",))],
        600: [deployed(SECOND, "2.0.0"), ListChanged(**base, kind="merchant", effect="block", add=("m0", "m1"))],
        800: [ListChanged(**base, kind="merchant", effect="block", remove=("m0",), add=("m2",))],
        900: [ModelRolledBack(**base, name="tiny", version="1.0.0", digest=deployed().digest)],
    }
    changed, plain = filled(5, 1100, changes=changes), filled(5, 1100)
    assert_identical(changed)
    assert [s.model for s in scores_of(changed)].count("tiny-2.0.0") > 50
    assert sum("LIST_BLOCK" in s.rules for s in scores_of(changed)) > 10
    assert sum("AMOUNT_HIGH" in s.rules for s in scores_of(changed)) > sum(
        "AMOUNT_HIGH" in s.rules for s in scores_of(plain)
    )
    swapped = copy_of(changed)
    swapped._control[:] = [p.replace(b'"review":0.05', b'"review":0.5') for p in changed._control]
    assert any(r.first_difference for r in verified(swapped))


class Flaky(builders.FailingScorer):
    """Yields NaN for some amounts, and raises on every third batch."""

    calls = 0

    def margins(self, features: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls % 3 == 0:
            raise RuntimeError("model broke")
        return super().margins(features)


def _flaky(content: bytes, label: str, digest: str) -> Flaky:
    load_tiny(content, label, digest)
    return Flaky(content)


def test_model_errors_replay_identically() -> None:
    """Rows that the model failed on, in part or whole batches, replay identically with a model that has recovered."""
    log = filled(6, 900, load=_flaky)
    kinds = [s.degraded for s in scores_of(log)]
    assert kinds.count("model_error") > 100 and kinds.count(None) > 100
    assert all(s.margin == s.probability == 0.0 for s in scores_of(log) if s.degraded)
    assert_identical(log)


def _without(*kinds: bytes) -> Callable[[MemoryLog], Callable[[str], bytes]]:
    def factory(log: MemoryLog) -> Callable[[str], bytes]:
        def load(digest: str) -> bytes:
            content = log.get_blob(digest)
            if content.startswith(kinds):
                raise BadInput(f"no blob {digest}")
            return content

        return load

    return factory


@pytest.mark.parametrize(
    ("missing", "word"),
    [
        ((b"sentinel-reference",), "reference_unavailable"),
        ((ARTIFACT,), "model_unavailable"),
        ((ARTIFACT, b"sentinel-reference"), "reference_unavailable+model_unavailable"),
    ],
)
def test_missing_blobs_replay_identically(missing: tuple[bytes, ...], word: str) -> None:
    """Decisions made without the model or the tables say so, and replay identically once the blobs are back."""
    log = filled(7, 500, load_blob=_without(*missing))
    assert {s.degraded for s in scores_of(log)} <= {word, "model_unavailable", None}
    assert word in {s.degraded for s in scores_of(log)}
    assert_identical(log)


def test_tables_missing_and_model_failing_at_once_replay_identically() -> None:
    """Two handicaps on one row are both recorded and both replayed."""
    log = filled(8, 700, load=_flaky, load_blob=_without(b"sentinel-reference"))
    assert "reference_unavailable+model_error" in {s.degraded for s in scores_of(log)}
    assert_identical(log)


def test_no_model_at_all_replays_identically() -> None:
    """Without a champion every decision is by rules alone."""
    log = MemoryLog()
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=PARTITIONS)
    ingest.feed(records(9, 300))
    ingest.flush()
    assert {s.degraded for s in scores_of(log)} == {"no_model"}
    assert_identical(log)


def test_days_between_events_publish_tables_once() -> None:
    """Two tables are published at the first record of a new day, whatever the gap, as of that day."""
    log = MemoryLog()
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=PARTITIONS)
    start = T0 // DAY_MS * DAY_MS
    for i, at in enumerate((start, start + 5, start + 40 * DAY_MS + 3)):
        ingest.feed([Record("transactions", "a1", at, encode(builders.transaction(i, occurred_at=at)))])
    ingest.flush()
    published = [e for _, e in read_control_events(log) if type(e).__name__ == "ReferencePublished"]
    assert [(e.kind, e.as_of, e.rows) for e in published] == [
        ("merchant", start + 40 * DAY_MS, 1),
        ("device", start + 40 * DAY_MS, 1),
    ]
    assert_identical(log)
