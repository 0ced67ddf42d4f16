"""The control stream folded and resolved: a position is applied once; what can't be loaded degrades instead of
raising.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from core import context, control, control_stream
from core.context import Resolver
from core.control import ControlState
from core.errors import Corrupt, NotDecidable
from core.events import (
    Arm,
    DegradationEnded,
    DegradationStarted,
    DriftDetected,
    ExperimentStarted,
    ListChanged,
    LogTrimmed,
    ModelDeployed,
    ModelRegistered,
    ReferencePublished,
    RulesChanged,
    SourceGenerationStarted,
    ThresholdsChanged,
)
from core.features import spec
from core.features.reference import COLUMNS, ReferenceTable
from core.identity import FIXED
from core.program import loading
from tests.builders.decisions import control_entries
from tests.builders.events import T0
from tests.builders.models import ARTIFACT, TinyScorer, deployed, load_tiny, no_blob

BASE: dict[str, Any] = {"occurred_at": T0, "actor": "ann"}
TABLE = ReferenceTable(
    "merchant", T0, np.array([7], np.uint64), np.ones((1, COLUMNS["merchant"]), np.float32)
).to_bytes()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def published(content: bytes = TABLE) -> ReferencePublished:
    return ReferencePublished(**BASE, kind="merchant", digest=sha(content), as_of=T0, rows=1)


def resolver(*blobs: bytes, load: Any = load_tiny) -> tuple[Resolver, list[str]]:
    """A resolver over these blobs, and the digests that it asked for."""
    held = {sha(b): b for b in blobs}
    asked: list[str] = []

    def blob(digest: str) -> bytes:
        asked.append(digest)
        return held[digest] if digest in held else no_blob(digest)

    return Resolver(blob, load), asked


def state(*events: Any) -> ControlState:
    found = control_stream.fold(control_entries(*events))
    found.identity = found.identity or FIXED
    return found


def test_fold() -> None:
    """Each kind of event that decides something changes its part of the state, the last one winning."""
    s = state(
        SourceGenerationStarted(**BASE, topic="feedback", topic_name="f", generation=1, topic_id="u1", partitions=4),
        SourceGenerationStarted(**BASE, topic="feedback", topic_name="f", generation=2, topic_id="u2", partitions=4),
        ThresholdsChanged(**BASE, review=0.1, decline=0.2),
        RulesChanged(**BASE, parameters={"amount_high": 5.0}, disabled=("VELOCITY_10M",)),
        ListChanged(**BASE, kind="ip", effect="watch", add=("1", "2")),
        ListChanged(**BASE, kind="ip", effect="watch", remove=("1",)),
        deployed(),
        ModelDeployed(**BASE, name="other", version="9", digest="00", alias="candidate"),
        published(),
        ModelRegistered(**BASE, name="x", version="1", digest="11", spec=1),
        DriftDetected(
            **BASE, feature="amount", statistic="psi", magnitude=1.0, severity="low", window_start=0, window_end=1
        ),
        LogTrimmed(**BASE, partition=0, up_to_sequence=1),
    )
    assert s.position == 12 and s.generations["feedback"].number == 2 and (s.review, s.decline) == (0.1, 0.2)
    assert s.champion is not None and s.champion.label == "tiny-1.0.0"
    assert s.lists == {("ip", "watch"): {"2": None}} and s.references == {"merchant": (sha(TABLE), T0)}
    assert (s.parameters, s.disabled) == ({"amount_high": 5.0}, ("VELOCITY_10M",))


def test_a_position_is_never_applied_twice() -> None:
    """An event at a position that was already applied changes nothing (I5)."""
    s = state(ThresholdsChanged(**BASE, review=0.1, decline=0.2))
    s.apply(1, ThresholdsChanged(**BASE, review=0.3, decline=0.4))
    assert (s.review, s.position) == (0.1, 1)


def test_a_context_is_not_changed_by_later_events() -> None:
    """A resolved context stays as it was when the fold goes on."""
    r, _ = resolver(ARTIFACT)
    s = state(deployed(), ListChanged(**BASE, kind="ip", effect="watch", add=("1",)))
    before = r.context(s)
    s.apply(3, ListChanged(**BASE, kind="ip", effect="watch", add=("2",)))
    assert before.lists == {("ip", "watch"): {"1": None}} and before.position == 2


def test_defaults_without_any_event() -> None:
    """An empty control stream decides by rules alone, at the default thresholds."""
    under = resolver()[0].context(ControlState(identity=FIXED))
    assert (under.scorer, under.model, under.digest, under.degraded) == (None, "none", "", context.NO_MODEL)
    assert (under.thresholds.review, under.thresholds.decline) == (control.DEFAULT_REVIEW, control.DEFAULT_DECLINE)
    assert under.program.digest == FIXED.program[:16] and under.program.disabled == ()
    assert under.program.parameters == loading.default().checked.parameters


@pytest.mark.parametrize(
    ("blobs", "degraded"),
    [
        ((ARTIFACT, TABLE), None),
        ((TABLE,), "model_unavailable"),
        ((ARTIFACT,), "reference_unavailable"),
        ((), "reference_unavailable+model_unavailable"),
    ],
)
def test_what_can_not_be_loaded_degrades(blobs: tuple[bytes, ...], degraded: str | None) -> None:
    """What can't be loaded is named; a context without it says so, and is the same where it can be loaded (I9). A
    context that needs it is refused (I12).
    """
    s = state(deployed(), published())
    r, _ = resolver(*blobs)
    missing = r.unavailable(s)
    assert missing.keys() == {sha(content) for content in {ARTIFACT, TABLE} - set(blobs)}
    for each in (r, resolver(ARTIFACT, TABLE)[0]):
        under = each.context(s, missing)
        assert under.degraded == degraded
        assert (under.scorer is None, under.merchants is None) == (ARTIFACT not in blobs, TABLE not in blobs)
    if missing:
        with pytest.raises(NotDecidable, match="does not report it as unavailable"):
            r.context(s)


def test_a_report_holds_for_its_partitions_and_artifacts_alone() -> None:
    """What is reported as missing degrades only the partitions and artifacts named, from there on until the end; a
    report of something that is not in force has no effect.
    """
    r, asked = resolver(ARTIFACT, TABLE)
    s = state(
        deployed(),
        published(),
        DegradationStarted(**BASE, partitions=(1, 4), artifacts=(sha(ARTIFACT),)),
        DegradationStarted(**BASE, partitions=(4,), artifacts=("f" * 64,)),
        DegradationEnded(**BASE, partitions=(1,)),
        DegradationStarted(**BASE, partitions=(2,), artifacts=(sha(ARTIFACT),)),
    )
    assert s.missing == {4: ("f" * 64,), 2: (sha(ARTIFACT),)}
    degraded = [r.context(s, s.missing.get(p, ())).degraded for p in range(5)]
    assert degraded == [None, None, "model_unavailable", None, None]
    assert len(asked) == 2


@pytest.mark.parametrize(
    "event",
    [
        DegradationStarted(**BASE, partitions=(), artifacts=("a",)),
        DegradationStarted(**BASE, partitions=(1,), artifacts=()),
        DegradationStarted(**BASE, partitions=(2, 1), artifacts=("a",)),
        DegradationStarted(**BASE, partitions=(1,), artifacts=("a", "a")),
        DegradationEnded(**BASE, partitions=(-1,)),
        DegradationEnded(**BASE, partitions=()),
    ],
)
def test_a_report_that_means_nothing_is_refused(event: Any) -> None:
    """Nothing named, named twice or in another order: the event has no effect, so one state has one spelling."""
    s = state(event)
    assert s.missing == {} and 1 in s.refused


def test_damaged_artifacts_degrade() -> None:
    """A table whose bytes don't read, or a model that reads another feature spec, is unavailable."""

    class Other(TinyScorer):
        spec = spec.SPEC_VERSION + 1

    bad = b"sentinel-reference-1\nnonsense"
    r, _ = resolver(ARTIFACT, bad, load=lambda content, label, digest: Other(content))
    s = state(deployed(), published(bad))
    assert r.context(s, r.unavailable(s)).degraded == "reference_unavailable+model_unavailable"


def test_artifacts_are_loaded_once_and_the_cache_is_bounded() -> None:
    """The same digest is fetched once; after many others it is fetched again."""
    versions = [ARTIFACT + b" " * n for n in range(context.SCORERS_HELD + 2)]
    r, asked = resolver(*versions)
    for _ in range(3):
        r.context(state(deployed()))
    assert asked == [sha(ARTIFACT)]
    for content in versions[1:]:
        r.context(state(deployed(content)))
    r.context(state(deployed()))
    assert asked == [sha(v) for v in versions] + [sha(ARTIFACT)]


def test_an_experiment_of_many_arms_is_loaded_once() -> None:
    """With more arms than models are held otherwise, another control event loads none of them again."""
    versions = [ARTIFACT + b" " * n for n in range(40)]
    r, asked = resolver(*versions)
    arms = tuple(Arm(f"a{n}", "tiny", f"{n + 1}.0.0", sha(content), 250) for n, content in enumerate(versions))
    started = ExperimentStarted(**BASE, experiment_id="e", arms=arms, salt="s")
    s = state(FIXED.event("worker"), deployed(), started)
    assert len(r.context(s).arms) == 40 and len(asked) == 40
    s.apply(4, ThresholdsChanged(**BASE, review=0.1, decline=0.2))
    assert len(r.context(s).arms) == 40 and len(asked) == 40


def test_load_tiny_checks_its_digest() -> None:
    """The tests' own loader refuses other bytes, as the real one must."""
    with pytest.raises(Corrupt):
        load_tiny(ARTIFACT, "x", "00")
