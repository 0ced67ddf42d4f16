"""The context follows from the seal and the control stream (I12): a decision made under another one is found by every
reader, however well the forger computed all digests again; only what the worker reported excuses a degraded decision.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from console.commands.verify import run as verify_log
from core import control_stream
from core.codec import decode_score, decode_seal, decode_transaction, encode
from core.context import Resolver
from core.errors import Corrupt, SentinelError
from core.events import DegradationEnded, DegradationStarted, ListChanged, Position, Seal, ThresholdsChanged
from core.identity import FIXED
from core.lateness import LATE_MS, Pace, late
from core.log.anchored import Anchors
from core.log.base import Batch
from core.log.checkpoints import Checkpoint
from core.log.memory import MemoryLog
from core.replay import Timeline, rebuild
from core.settings import Settings
from ingest.offline import OfflineIngest
from projections.audit import redecide, whatif
from projections.engine.feed import batches as fact_batches
from tests.builders.anchors import checkpoint_of
from tests.builders.decisions import append_unchecked
from tests.builders.events import T0
from tests.builders.forging import (
    control_changed,
    decided_under,
    rechained,
    scores_replaced,
    without_model,
)
from tests.builders.logs import (
    PARTITIONS,
    assert_identical,
    entries,
    filled,
    records,
    scores_of,
    tiny_timeline,
    verified,
)
from tests.builders.models import ARTIFACT, deployed, load_tiny

ANN = {"occurred_at": T0, "actor": "ann"}
SETTINGS = Settings(log_prefix="ss", snapshot_directory="/nonexistent")
SHA = deployed().digest


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """A log with a block list that declines from record 300 on, and other changes after it."""
    return filled(
        4,
        900,
        changes={
            300: [ListChanged(**ANN, kind="merchant", effect="block", add=("m0", "m1"))],
            600: [ThresholdsChanged(**ANN, review=0.3, decline=0.7)],
        },
    )


def faults(log: MemoryLog, signed: Checkpoint | None = None) -> list[str]:
    """What `sentinel verify` prints."""
    return verify_log(SETTINGS, log, None, anchors=Anchors([signed] if signed is not None else [])).faults


def some(log: MemoryLog, p: int, wanted: Callable[[Any], bool], count: int = 1) -> dict[Position, str]:
    """The first decisions of the partition whose score is wanted: position → account."""
    found = {
        t.id: decode_transaction(t.payload).account_id
        for t, s in zip(entries(log, p, "transactions"), entries(log, p, "scores"), strict=True)
        if wanted(decode_score(s.payload))
    }
    return dict(list(found.items())[:count])


def readers(log: MemoryLog, p: int, place: Position, account: str) -> dict[str, Callable[[], Any]]:
    """Everything that reads a decision, as calls that must fail on a corrupt one."""
    timeline = tiny_timeline(log)
    head = log.head(p)

    def audit() -> None:
        feedback = redecide.account_events(log, p, [account])
        list(redecide.recompute(log, p, [place], [account], timeline, feedback))

    def sample() -> None:
        redecide.check(log, p, range(log.length(p, "scores")), timeline)

    return {
        "replay": lambda: verified(log),
        "rebuild": lambda: rebuild(log, p, head, FIXED),
        "audit": audit,
        "audit --sample": sample,
        "what-if": lambda: whatif.run(log, p, head, timeline, whatif.Changes(), whatif.Scope(), {}),
        "projections": lambda: list(fact_batches(log, p, 0, head.sequence)),
    }


# --- c and f follow from the seal -----------------------------------------------------------------------------------


def test_a_declined_payment_decided_again_under_an_earlier_context_is_corrupt_to_every_reader(log: MemoryLog) -> None:
    """Declined by a block list; decided again as of a position before it, score, alert and all digests exact for that
    position: verify names it with and without a checkpoint, and no other reader accepts it.
    """
    targets = some(log, 1, lambda s: s.decision == "decline" and "LIST_BLOCK" in s.rules)
    ((place, account),) = targets.items()
    forged = scores_replaced(log, 1, decided_under(log, 1, targets, lambda timeline, c, p: timeline.at(2, p)))
    score = decode_score(forged.get(1, "scores", place) or b"")
    assert score.control_position == 2 and score.decision != "decline"
    assert forged.head(1).digest != log.head(1).digest
    words = rf"the score at {place} names control position 2, but seal \d+, which covers it, names \d+"
    for signed in (None, checkpoint_of(forged)):
        (named,) = faults(forged, signed)
        assert named.startswith("partition 1: ")
        with pytest.raises(Corrupt, match=words):
            raise Corrupt(named)
    assert len(faults(forged, checkpoint_of(log))) == 1
    for name, read in readers(forged, 1, place, account).items():
        with pytest.raises(Corrupt, match=rf"{place} names control position 2"):
            read()
        assert name
    assert faults(log) == [] == faults(log, checkpoint_of(log))


@pytest.mark.parametrize("control", [0, 2])
def test_a_batch_whose_seal_goes_back_is_corrupt(log: MemoryLog, control: int) -> None:
    """The seal of the batch names the earlier position, too: control positions of a partition never decrease."""
    ((place, account),) = some(log, 1, lambda s: s.decision == "decline" and s.control_position > 8).items()

    def change(batch: Batch, seal: Seal) -> Seal:
        if all(entry.id != place for entry in batch.scores):
            return seal
        batch.scores[:] = [
            e._replace(payload=encode(msgspec.structs.replace(decode_score(e.payload), control_position=control)))
            for e in batch.scores
        ]
        batch.control_digest = ""
        return msgspec.structs.replace(seal, control=control, control_digest="")

    forged = rechained(log, 1, change)
    (named,) = [fault for fault in faults(forged) if fault.startswith("partition 1")]
    assert "goes back from control position" in named
    for read in readers(forged, 1, place, account).values():
        with pytest.raises(SentinelError):
            read()


def test_feedback_that_a_score_did_not_see_or_saw_too_early_is_corrupt(log: MemoryLog) -> None:
    """A score's f before the feedback end of the seal before, or behind that of its own, with all digests exact."""
    spans = [decode_score(e.payload).feedback_position for e in entries(log, 0, "scores")]
    middle = entries(log, 0, "scores")[len(spans) // 2].id
    for moved in ("0-0", f"1-{10**6}", "1-x"):

        def change(batch: Batch, seal: Seal, moved: str = moved) -> Seal:
            batch.scores[:] = [
                e._replace(payload=encode(msgspec.structs.replace(decode_score(e.payload), feedback_position=moved)))
                if e.id == middle
                else e
                for e in batch.scores
            ]
            return seal

        forged = rechained(log, 0, change)
        assert "feedback position" in faults(forged)[0], moved
        with pytest.raises(Corrupt, match="feedback position"):
            verified(forged)


def test_one_batch_has_one_context(log: MemoryLog) -> None:
    """Every score of every batch names the position of its seal, and positions never decrease: the fixture is fair."""
    for p in range(PARTITIONS):
        held = fact_batches(log, p, 0, log.head(p).sequence)
        controls = [batch.facts[-1].event.control for batch in held]  # type: ignore[union-attr]
        assert controls == sorted(controls) and len(set(controls)) > 3


# --- degraded decisions need evidence -------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["model_error", "model_unavailable", "reference_unavailable", "no_model", "nonsense"])
def test_degradation_that_nobody_reported_is_a_difference(log: MemoryLog, word: str) -> None:
    """70 decisions decided again by rules alone, with a reason that excuses it and all digests exact: each of them is
    found by replay, and by an audit.
    """
    targets = some(log, 2, lambda s: s.probability > 0.0, 70)
    forged = scores_replaced(log, 2, decided_under(log, 2, targets, without_model(word)))
    result = verified(forged)[2]
    assert result.decisions - result.identical == len(targets) == 70
    assert f"degraded: logged '{word}', recomputed None" in str(result.first_difference)
    place, account = next(iter(targets.items()))
    feedback = redecide.account_events(forged, 2, [account])
    (audited,) = redecide.recompute(forged, 2, [place], [account], tiny_timeline(forged), feedback)
    assert any("degraded" in line for line in audited.differences)


def _ingest(log: MemoryLog, broken: set[str], load: Any = load_tiny) -> OfflineIngest:
    """Ingest into `log` with a worker to which the artifacts in `broken` (it may change) are out of reach."""

    def load_blob(digest: str) -> bytes:
        if digest in broken:
            raise Corrupt(f"{digest[:8]} is out of reach")
        return log.get_blob(digest)

    log.put_blob(ARTIFACT)
    return OfflineIngest(log, Resolver(load_blob, load), partitions=PARTITIONS, reference=False, start=[deployed()])


def test_a_reported_degradation_is_demanded_in_both_directions() -> None:
    """Decided by rules while the report stands and by the model otherwise, it replays. The report removed, or one
    invented over decisions that the model made, it does not: the control stream and the decisions must agree.
    """
    log, broken = MemoryLog(), {SHA}
    ingest = _ingest(log, broken)
    stream = records(7, 600)
    ingest.feed(stream[:300])
    ingest.flush()
    broken.clear()
    ingest.feed(stream[300:])
    ingest.flush()
    events = [event for _, event in control_stream.accepted(log)]
    assert [type(e) for e in events[-2:]] == [DegradationStarted, DegradationEnded]
    assert {s.degraded for s in scores_of(log)} == {"model_unavailable", None}
    found = assert_identical(log)
    assert sum(r.degraded for r in found) == sum(s.degraded is not None for s in scores_of(log)) > 50
    number = next(i for i, e in enumerate(events, 1) if isinstance(e, DegradationStarted))
    for change in (
        lambda e: msgspec.structs.replace(e, artifacts=("f" * 64,)),
        lambda e: msgspec.structs.replace(e, partitions=(0, 1)),
    ):
        forged = control_changed(log, number, change)
        assert any(r.first_difference for r in verified(forged))
        assert faults(forged)
    invented = filled(7, 300)
    assert all(r.first_difference is None for r in verified(invented))
    report = DegradationStarted(**ANN, partitions=(0, 1, 2), artifacts=(SHA,))
    invented.tamper_control(2, encode(report))
    assert all("recomputed 'model_unavailable'" in str(r.first_difference) for r in verified(invented))


def test_a_replay_does_not_excuse_itself() -> None:
    """Decisions of a model that is gone when the log is replayed can't be made again, and the reason names it; it never
    makes a decision by rules the expected one.
    """
    log = filled(7, 200)
    log.tamper_blob(SHA, None)
    found = verified(log)
    assert sum(r.identical for r in found) == 0 and not any(r.first_difference for r in found)
    reasons = {why for r in found for why in r.undecidable}
    assert all("does not report it as unavailable" in why and SHA in why for why in reasons)
    assert sum(sum(r.undecidable.values()) for r in found) == sum(r.decisions for r in found) > 100


def test_no_model_follows_from_the_control_stream_alone() -> None:
    """Before the first deployment a decision lacks a model without any report; "no_model" later is a difference."""
    log = MemoryLog()
    log.put_blob(ARTIFACT)
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=PARTITIONS, reference=False)
    stream = records(9, 400)
    ingest.feed(stream[:200])
    ingest.flush()
    ingest.change([deployed()])
    ingest.feed(stream[200:])
    ingest.flush()
    assert {s.degraded for s in scores_of(log)} == {"no_model", None}
    assert not any(isinstance(e, DegradationStarted) for _, e in control_stream.accepted(log))
    assert_identical(log)


# --- late decisions -------------------------------------------------------------------------------------------------


def pace(*batches: tuple[int, int, int]) -> Pace:
    """(control, recorded_at in s, decisions)."""
    made = Pace()
    for control, seconds, decisions in batches:
        made.add(control, seconds * 1000, decisions)
    return made


def test_a_context_that_another_partition_left_long_ago_is_late() -> None:
    """Late means: more than LATE_MS after a seal of any partition named a newer position; at the limit it is not."""
    limit = LATE_MS // 1000
    other = pace((5, 0, 1), (6, 100, 1), (9, 200, 1))
    assert late([other, pace((5, 99, 7), (5, 100 + limit, 7))]) == 0
    assert late([other, pace((5, 101 + limit, 7), (6, 201 + limit, 4), (9, 10**6, 9))]) == 11
    assert late([other]) == late([]) == 0
    assert late([pace((5, 0, 3), (5, 10**6, 3))]) == 0


def test_lateness_is_what_plain_counting_finds() -> None:
    """Against the definition, on random paces."""
    rng = random.Random(3)
    for _ in range(50):
        paces = [
            pace(*[(c, rng.randrange(600), rng.randrange(9)) for c in sorted(rng.choices(range(12), k=30))])
            for _ in range(3)
        ]
        rows = [row for each in paces for row in zip(each.control, each.recorded_at, each.decisions, strict=True)]
        expected = sum(
            decisions for c, at, decisions in rows if any(d > c and seen + LATE_MS < at for d, seen, _ in rows)
        )
        assert late(paces) == expected


def test_replay_and_verify_count_late_and_degraded_decisions(log: MemoryLog) -> None:
    """A partition that stays at a position for hours after the others have left it, exact in every digest: its
    decisions are counted as late by both.
    """
    assert late([r.pace for r in verified(log)]) == verify_log(SETTINGS, log, None).late == 0
    controls = [decode_seal(e.payload).control for e in entries(log, 1, "seals")]
    before = sorted(set(controls))[3]

    def change(batch: Batch, seal: Seal) -> Seal:
        if seal.control <= before:
            return seal
        batch.scores[:] = [
            e._replace(payload=encode(msgspec.structs.replace(decode_score(e.payload), control_position=before)))
            for e in batch.scores
        ]
        batch.control_digest = ""
        at = seal.recorded_at + 10**8
        return msgspec.structs.replace(seal, control=before, control_digest="", recorded_at=at)

    forged = rechained(log, 1, change)
    found = verify_log(SETTINGS, forged, None)
    moved = sum(decode_score(e.payload).control_position > before for e in entries(log, 1, "scores"))
    assert found.faults == [] and found.late == moved > 5
    assert found.decisions == sum(forged.length(p, "scores") for p in range(PARTITIONS))
    assert late([r.pace for r in verified(forged)]) == moved


def test_an_absurd_position_or_time_is_corrupt(log: MemoryLog) -> None:
    """A seal whose numbers no machine has is named, without a traceback."""
    for field, value in (("recorded_at", 2**70), ("recorded_at", -(2**70))):
        forged = rechained(log, 0, lambda batch, seal, f=field, v=value: msgspec.structs.replace(seal, **{f: v}))
        assert "absurd" in faults(forged)[0]


def test_a_timeline_serves_partitions_in_any_order(log: MemoryLog) -> None:
    """One timeline asked for positions of several partitions, back and forth, answers as a new one does each time."""
    append = MemoryLog()
    append_unchecked(
        append,
        FIXED.event("worker"),
        deployed(),
        DegradationStarted(**ANN, partitions=(1,), artifacts=(SHA,)),
        ThresholdsChanged(**ANN, review=0.2, decline=0.9),
        DegradationEnded(**ANN, partitions=(1,)),
    )
    append.put_blob(ARTIFACT)
    shared = tiny_timeline(append)
    rng = random.Random(5)
    for _ in range(60):
        position, partition = rng.randrange(1, 6), rng.randrange(3)
        fresh: Timeline = tiny_timeline(append)
        a, b = shared.at(position, partition), fresh.at(position, partition)
        assert (a.position, a.degraded, a.thresholds) == (b.position, b.degraded, b.thresholds)
        assert (a.degraded == "model_unavailable") == (partition == 1 and position in (3, 4))
