"""Audits of decisions by a model that reads own fields and features: shares and words name what it read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from console.wiring import load_scorer
from core.codec import decode_score, decode_transaction
from core.context import Resolver
from core.control_stream import history
from core.events import START, ThresholdsChanged
from core.log.memory import MemoryLog
from core.replay import Timeline
from ingest.offline import OfflineIngest
from projections.audit import redecide
from projections.audit.reasons import AlertReader
from projections.audit.redecide import DecisionPlace
from projections.audit.story import Story, tell
from tests.builders.own_columns import LEVELS, PROGRAM, READS, deployment, inputs, stored, stream, trained
from tests.builders.own_columns import program as own_program
from tests.builders.programs import deployed
from tests.builders.programs import stored as stored_program

STORED = tuple(name for name in READS if name != "kept_out")


def log_of(names: Sequence[str]) -> MemoryLog:
    log = MemoryLog()
    loaded = own_program()
    stored_program(log, PROGRAM.encode())
    reads = inputs(loaded, names)
    registered = stored(log, trained(reads)[0], reads)
    low = ThresholdsChanged(occurred_at=6, actor="ann", review=0.3, decline=0.6)
    events = [*deployed(loaded), *registered, deployment(registered[0]), low]
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=1, start=events)
    ingest.feed(stream(500))
    ingest.flush()
    return log


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return log_of(READS)


def story(log: MemoryLog, row: int) -> Story:
    entry = log.read(0, "transactions", START, 10**6)[row]
    found = redecide.at_place(log, DecisionPlace(0, entry.id))
    assert found is not None
    control = history(log)
    return tell(log, found, control, Timeline(control, Resolver(log.get_blob, load_scorer)))


def test_shares_of_named_inputs_make_the_margin(log: MemoryLog) -> None:
    """Kernel columns, own features and fields, stored or not, have their shares; with the bias these are the margin."""
    seen: set[str] = set()
    for row in (3, 77, 240, 499):
        found = story(log, row)
        assert found.recomputed.identical and found.bias is not None
        shares = {each.name: each.share for each in found.features if each.share is not None}
        assert set(shares) == set(READS)
        assert found.bias + sum(shares.values()) == pytest.approx(found.margin, abs=1e-9)
        lines = {each.name: each for each in found.features}
        sent = decode_transaction(log.read(0, "transactions", START, 10**6)[row].payload)
        brand = sent.attributes.get("card4") or "none"
        assert lines["brand"].meaning == (
            repr(brand) if brand in LEVELS["brand"] else "another value than the model knows"
        )
        distance = sent.attributes.get("dist1")
        assert lines["distance_km"].value == (distance if isinstance(distance, float | int) else None)
        seen.add(lines["brand"].meaning)
    assert len(seen) > 1


def alerts(log: MemoryLog) -> list[tuple[str, ...]]:
    reader = AlertReader(log, load_scorer)
    found = []
    for entry in log.read(0, "alerts", START, 10**6):
        reasons = reader.reasons(0, entry.id)
        assert reasons is not None
        found.append((*reasons.words, reasons.missing))
    return found


def test_alerts_name_what_moved_the_model() -> None:
    """Own inputs by name and value, a category by its level; a feature that is not stored can't be told."""
    words = alerts(log_of(STORED))
    assert len(words) > 20
    joined = " | ".join(word for each in words for word in each)
    assert "brand: 'visa'" in joined and "distance_km: " in joined and "email: " in joined
    assert all(each[-1] == "" for each in words)


def test_an_alert_says_if_its_model_cannot_be_explained(log: MemoryLog) -> None:
    """From the alert alone, without a fold: the reader says why the model's reasons are missing."""
    missing = {each[-1] for each in alerts(log)}
    assert any("can't explain itself (BadInput: it reads features that scores don't store)" in each for each in missing)
    assert decode_score(log.read(0, "scores", START, 1)[0].payload).model == "named-1.0.0"
