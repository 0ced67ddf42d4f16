"""Models that read features and own fields by definition: live, in any batches, on replay, and if something lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core import verification
from core.codec import decode_score, decode_transaction
from core.context import Resolver
from core.control_stream import append, current, history
from core.errors import BadInput
from core.events import START, Control, ProgramDeployed, ProgramRegistered, ProgramRolledBack
from core.features import packing, spec
from core.log.memory import MemoryLog
from core.program.loading import Loaded
from core.replay import Timeline
from ingest import offline
from ingest.offline import OfflineIngest
from models import artifacts
from tests.builders.decisions import append_unchecked
from tests.builders.own_columns import (
    PROGRAM,
    READS,
    deployment,
    inputs,
    plain_row,
    stored,
    stream,
    trained,
)
from tests.builders.programs import deployed
from tests.builders.programs import stored as stored_program

PARTITIONS = 2


def load(content: bytes, label: str, digest: str) -> Any:
    return artifacts.load_scorer(
        content, version=label, expected_digest=digest, spec=spec.SPEC_VERSION, columns=spec.NAMES
    )


def ingest_of(log: MemoryLog, *start: Control) -> OfflineIngest:
    return OfflineIngest(log, Resolver(log.get_blob, load), partitions=PARTITIONS, start=list(start))


def own(log: MemoryLog, text: str = PROGRAM) -> tuple[Loaded, list[Control]]:
    loaded = stored_program(log, text.encode())
    return loaded, deployed(loaded)


def decided(monkeypatch: pytest.MonkeyPatch, batch: int) -> tuple[MemoryLog, Any]:
    monkeypatch.setattr(offline, "BATCH", batch)
    log = MemoryLog()
    loaded, events = own(log)
    content, booster = trained(inputs(loaded))
    registered = stored(log, content, inputs(loaded))
    ingest = ingest_of(log, *events, *registered, deployment(registered[0]))
    ingest.feed(stream())
    ingest.flush()
    return log, booster


def scores(log: MemoryLog) -> list[list[bytes]]:
    return [[entry.payload for entry in log.read(p, "scores", START, 10**6)] for p in range(PARTITIONS)]


def verified(log: MemoryLog) -> int:
    timeline = Timeline(history(log), Resolver(log.get_blob, load))
    found = [verification.verify(log, p, log.head(p), timeline) for p in range(PARTITIONS)]
    assert [each.first_difference for each in found] == [None] * PARTITIONS
    assert sum(each.decisions for each in found) == sum(each.identical for each in found)
    return sum(each.identical for each in found)


def test_margins_are_lightgbms_own_and_replay_is_identical(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of kernel columns, stored and unstored features, numeric, bool and categorical fields with gaps, values
    of other types and unknown levels: its margins are the bits of LightGBM's prediction on rows made by plain Python;
    the same in batches of 7 and 500, and on replay.
    """
    log, booster = decided(monkeypatch, 500)
    other, _ = decided(monkeypatch, 7)
    assert scores(log) == scores(other)
    assert verified(log) == sum(map(len, scores(log))) > 1000
    rows, margins = [], []
    for p in range(PARTITIONS):
        pairs = zip(log.read(p, "transactions", START, 10**6), log.read(p, "scores", START, 10**6), strict=True)
        for sent, made in pairs:
            t, score = decode_transaction(sent.payload), decode_score(made.payload)
            vector = packing.vector(score.features)
            distance = t.attributes.get("dist1")
            number = float(distance) if isinstance(distance, float | int) else float("nan")
            kept_out = np.float32(number + float(vector[spec.index("count_24h")]))
            rows.append(plain_row(t.attributes, t.country, vector, float(kept_out)))
            margins.append(score.margin)
    x = np.array(rows, dtype=np.float32)
    expected = booster.predict(x.astype(np.float64), raw_score=True, num_threads=1)
    assert np.array(margins).tobytes() == np.asarray(expected).tobytes()
    assert len(set(margins)) > 300
    for k, name in enumerate(READS):
        assert np.isnan(x[:, k]).any() or name in ("count_24h", "amount", "visas", "brand", "country"), name
    assert {0.0, 1.0, 2.0, 3.0} <= set(x[:, READS.index("email")].tolist())


def refused(log: MemoryLog, *events: Control) -> str:
    """Why the events may not be appended; and that no reader's fold takes them, if they were appended elsehow."""
    with pytest.raises(BadInput) as error:
        append(log, lambda known: events)
    before = current(log)
    append_unchecked(log, *events)
    after = current(log)
    assert after.position in after.refused and str(error.value) == after.refused[after.position]
    assert (after.program, after.champion, after.shadow) == (before.program, before.champion, before.shadow)
    return str(error.value)


def test_neither_is_deployed_without_the_other() -> None:
    """A model whose columns the program lacks, a program that lacks the champion's or the shadow's columns, and a
    rollback of either are refused before they are appended and by the fold; a program that only adds is not.
    """
    log = MemoryLog()
    ingest_of(log)
    loaded, events = own(log)
    reads = inputs(loaded)
    registered = stored(log, trained(reads)[0], reads)
    append(log, lambda known: registered)
    assert "model named-1.0.0 reads far, kept_out, visas, distance_km, present, brand, email, which the" in refused(
        log, deployment(registered[0])
    )
    append(log, lambda known: [*events, deployment(registered[0], "shadow")])
    without, lacking = own(log, PROGRAM.replace('"own"', '"less"').replace("/ 10.0", "/ 9.0"))
    assert "reads far, which less@1.0.0 does not define" in refused(log, *lacking)
    assert "the log's default program does not define" in refused(
        log, ProgramRolledBack(occurred_at=9, actor="ann", digest="")
    )
    _, adding = own(log, PROGRAM.replace('"own"', '"more"').replace("far =", "added = '1.0 - distance_km'\nfar ="))
    append(log, lambda known: [*adding, deployment(registered[0])])
    assert current(log).champion is not None
    append(log, lambda known: [ProgramRolledBack(occurred_at=9, actor="ann", digest=loaded.digest)])
    assert without.digest != current(log).program == loaded.digest


def test_a_lost_program_takes_its_models_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default program decides by rules alone, the report names only the program, and replay is identical, while
    it lacks and after.
    """
    monkeypatch.setattr(offline, "BATCH", 100)
    log = MemoryLog()
    loaded, events = own(log)
    reads = inputs(loaded)
    registered = stored(log, trained(reads)[0], reads)
    lost = [loaded.digest]

    def load_blob(digest: str) -> bytes:
        if digest in lost:
            raise BadInput("gone")
        return log.get_blob(digest)

    events = [*events, *registered, deployment(registered[0])]
    ingest = OfflineIngest(log, Resolver(load_blob, load), partitions=PARTITIONS, start=events)
    records = stream(600)
    ingest.feed(records[:200])
    ingest.flush()
    lost.clear()
    for start in range(200, len(records), 100):
        ingest.feed(records[start : start + 100])
        ingest.flush()
    reasons = {decode_score(s).degraded for part in scores(log) for s in part}
    assert reasons == {None, "program_unavailable+model_unavailable"}
    assert verified(log) == sum(map(len, scores(log)))


def test_a_model_that_lies_about_what_it_reads_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered as if it read nothing of its own, it is deployed; the worker can't bind it, says so, and decides by
    rules until a program that it fits decides.
    """
    monkeypatch.setattr(offline, "BATCH", 100)
    log = MemoryLog()
    loaded, events = own(log)
    reads = inputs(loaded)
    content, _ = trained(reads)
    registered = stored(log, content, ())
    ingest = ingest_of(log, *registered, deployment(registered[0]))
    records = stream(300)
    ingest.feed(records[:150])
    ingest.flush()
    assert list(current(log).missing.values()) == [(registered[0].digest,)] * PARTITIONS
    ingest.change(events)
    for start in range(150, len(records), 50):
        ingest.feed(records[start : start + 50])
        ingest.flush()
    kinds = [decode_score(s).degraded for part in scores(log) for s in part]
    assert set(kinds) == {"model_unavailable", None}
    assert verified(log) == len(kinds)


def test_registering_twice_says_the_same_of_a_program() -> None:
    """`offers` stands in the registration: a program without any is one that offers nothing of its own."""
    log = MemoryLog()
    ingest_of(log)
    loaded, events = own(log)
    silent = ProgramRegistered(occurred_at=6, actor="ann", name="own", version="1.0.0", digest=loaded.digest)
    reads = inputs(loaded)
    registered = stored(log, trained(reads)[0], reads)
    append(log, lambda known: [silent, *registered, ProgramDeployed(occurred_at=6, actor="a", digest=loaded.digest)])
    assert "reads far" in refused(log, deployment(registered[0]))
    append(log, lambda known: [events[0], deployment(registered[0])])
    assert current(log).champion is not None
