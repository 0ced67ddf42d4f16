"""Replay of an in-memory log: the same bits again, every tampering found and named, rebuilds equal from anywhere (I3,
I5).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from core import control_stream
from core.codec import encode
from core.context import Resolver
from core.errors import BadInput
from core.events import DegradationStarted, ListChanged, ModelRolledBack, RulesChanged, ThresholdsChanged
from core.features import spec
from core.features.state import AccountState
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.replay import Timeline, rebuild
from core.times import DAY_MS
from core.verification import verify
from ingest.offline import OfflineIngest
from tests.builders.events import T0, transaction
from tests.builders.logs import (
    PARTITIONS,
    SECOND,
    Record,
    assert_identical,
    filled,
    heads,
    records,
    scores_of,
    verified,
)
from tests.builders.models import ARTIFACT, FailingScorer, deployed, load_tiny


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
        assert r.state_digest == rebuild(log, r.partition, log.head(r.partition), FIXED).digest()


@pytest.mark.parametrize("seed", [2, 3])
def test_replay_is_identical_for_other_streams(seed: int) -> None:
    """Other seeds replay identically too."""
    assert_identical(filled(seed, 600))


def test_rebuild_from_any_cut_equals_rebuild_from_nothing(log: MemoryLog) -> None:
    """A snapshot at any batch border, brought forward, is the state rebuilt from nothing, at the end and in between."""
    rng = random.Random(1)
    for p in range(PARTITIONS):
        every = heads(log, p)
        for _ in range(6):
            first, last = sorted(
                (rng.choice(every), rng.choice([every[-1], rng.choice(every)])), key=lambda h: h.sequence
            )
            early = AccountState.from_bytes(rebuild(log, p, first, FIXED).to_bytes(), FIXED)
            assert rebuild(log, p, last, FIXED, early, first).digest() == rebuild(log, p, last, FIXED).digest()


def test_verifying_a_prefix(log: MemoryLog) -> None:
    """Verification up to an earlier head covers exactly the decisions up to it."""
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, load_tiny))
    middle = heads(log, 0)[len(heads(log, 0)) // 2]
    result = verify(log, 0, middle, timeline)
    assert (
        result.identical == result.decisions == len(log.read(0, "scores", count=10**6, until=middle.transactions)) > 50
    )


# --- control changes and degraded decisions -----------------------------------------------------------------------


def test_control_changes_are_replayed_where_they_happened() -> None:
    """Thresholds, rules, lists and models changed in mid-stream replay identically, and each shows in the decisions."""
    base = {"occurred_at": T0, "actor": "ann"}
    changes: dict[int, list[Any]] = {
        200: [ThresholdsChanged(**base, review=0.05, decline=0.99)],
        300: [ThresholdsChanged(**base, review=0.05, decline=0.99, review_loss=2.0, decline_loss=150.0)],
        350: [ThresholdsChanged(**base, review=0.05, decline=0.99)],
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
    swapped = changed.clone()
    for sequence, payload in changed.read_control():
        swapped.tamper_control(sequence, payload.replace(b'"review":0.05', b'"review":0.5'))
    assert any(r.first_difference for r in verified(swapped))


class Flaky(FailingScorer):
    """Yields NaN for some amounts, and raises on a batch that holds a very small one."""

    def margins(self, features: np.ndarray) -> np.ndarray:
        if (features[:, spec.index("amount")] < np.float32(8.0)).any():
            raise RuntimeError("model broke")
        return super().margins(features)


def _flaky(content: bytes, label: str, digest: str) -> Flaky:
    load_tiny(content, label, digest)
    return Flaky(content)


def test_model_errors_are_found_out_again_and_not_believed() -> None:
    """Rows that a model fails on replay identically with that model, whatever batches they come in; a model that does
    not fail, or a log that says so of rows on which it does not, is a difference.
    """
    log = filled(6, 900, load=_flaky)
    kinds = [s.degraded for s in scores_of(log)]
    assert kinds.count("model_error") > 50 and kinds.count(None) > 100
    assert all(s.margin == s.probability == 0.0 for s in scores_of(log) if s.degraded)
    found = assert_identical(log, _flaky)
    assert sum(r.degraded for r in found) == kinds.count("model_error")
    assert all(r.first_difference is not None for r in verified(log))


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
    """Decisions made without the model or the tables say so, and replay identically once the blobs are back, because
    the control stream reports which artifacts were missing from when on.
    """
    log = filled(7, 500, load_blob=_without(*missing))
    assert {s.degraded for s in scores_of(log)} <= {word, "model_unavailable", None}
    assert word in {s.degraded for s in scores_of(log)}
    assert any(isinstance(event, DegradationStarted) for _, event in control_stream.accepted(log))
    assert_identical(log)


def test_tables_missing_and_model_failing_at_once_replay_identically() -> None:
    """Two handicaps on one row are both recorded and both replayed."""
    log = filled(8, 700, load=_flaky, load_blob=_without(b"sentinel-reference"))
    assert "reference_unavailable+model_error" in {s.degraded for s in scores_of(log)}
    assert_identical(log, _flaky)


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
        ingest.feed([Record("transactions", "a1", at, encode(transaction(i, occurred_at=at)))])
    ingest.flush()
    published = [e for _, e in control_stream.accepted(log) if type(e).__name__ == "ReferencePublished"]
    assert [(e.kind, e.as_of, e.rows) for e in published] == [
        ("merchant", start + 40 * DAY_MS, 1),
        ("device", start + 40 * DAY_MS, 1),
    ]
    assert_identical(log)
