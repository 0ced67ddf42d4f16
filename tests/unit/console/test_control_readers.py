"""Every reader of the control stream takes the same events to count: what the fold refused has no effect anywhere."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest

from console.commands import whatif
from core import control_stream
from core.codec import encode
from core.context import Resolver
from core.control_stream import ControlStream
from core.events import (
    ExperimentStarted,
    ModelDeployed,
    ModelRegistered,
    RatesChanged,
    RulesChanged,
    ThresholdsChanged,
)
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.replay import Timeline
from learners.drift.look import serving
from learners.governance import experiments, models
from learners.loop.state import loop_state
from projections.engine.base import CONTROL, NOWHERE, Place, fold
from projections.engine.feed import facts_between
from projections.views.experiments import EXPERIMENTS
from projections.views.registry import REGISTRY
from projections.views.shadow import SHADOW
from tests.builders.control_changes import anything
from tests.builders.decisions import append_unchecked
from tests.builders.models import ARTIFACT, TinyScorer


def changed(seed: int) -> MemoryLog:
    """A log whose control stream anybody wrote to, past every check."""
    rng, log = random.Random(seed), MemoryLog()
    append_unchecked(log, FIXED.event("worker"))
    for serial in range(1, 80):
        append_unchecked(log, anything(rng, control_stream.current(log), f"{serial}"))
    return log


@pytest.mark.parametrize("seed", range(25))
def test_readers_agree(seed: int) -> None:
    """Live fold, replay's timeline, followers, read models, the loop and drift: one answer to what counts."""
    log, rng = changed(seed), random.Random(seed)
    live = control_stream.current(log)
    held = control_stream.history(log)
    counts = control_stream.accepted(log)
    assert {entry.position: entry.refused for entry in held if entry.refused} == live.refused != {}
    assert [position for position, _ in counts] == [n for n in range(1, 81) if n not in live.refused]

    stream, followed = ControlStream(), []
    while stream.position < 80:
        followed += stream.advance(log, stream.position + rng.randint(1, 30))
    assert (stream.state, followed) == (live, held)

    context = Timeline(held, Resolver(lambda digest: ARTIFACT, lambda *_: TinyScorer())).at(80, 0)
    assert context.thresholds == (live.review, live.decline, live.review_loss, live.decline_loss)

    cut = Place(rng.randint(0, 80))
    for projection in (REGISTRY, EXPERIMENTS, SHADOW):
        half = fold(projection, facts_between(log, CONTROL, NOWHERE, cut))
        whole: Any = fold(projection, facts_between(log, CONTROL, cut, Place(80)), half)
        assert projection.digest(whole) == projection.digest(
            fold(projection, facts_between(log, CONTROL, NOWHERE, Place(80)))
        )
    registry = loop_state(log).registry
    assert (registry.governance, registry.refused) == (live.governance, live.refused)
    assert (registry.review, registry.parameters, registry.disabled) == (live.review, live.parameters, live.disabled)
    assert (registry.review_loss, registry.decline_loss) == (live.review_loss, live.decline_loss)
    assert (registry.base, registry.rates) == (live.rates.base, live.rates.by_code)
    assert registry.aliases.get("champion") == (live.champion.label if live.champion else None)
    assert models.stages(log).keys() == {f"{e.name}-{e.version}" for _, e in counts if _names_a_model(e)}
    shown = [change for change in registry.policy if not change.refused]
    assert [c.position for c in shown] == [
        n for n, e in counts if isinstance(e, ThresholdsChanged | RulesChanged | RatesChanged)
    ]

    known = experiments.known(log)
    assert list(known.experiments) == [e.experiment_id for _, e in counts if isinstance(e, ExperimentStarted)]
    assert known.running == live.governance.experiment == (live.experiment.experiment_id if live.experiment else "")
    assert serving(counts).review == live.review


def _names_a_model(event: Any) -> bool:
    return type(event).__name__ in ("ModelRegistered", "ModelDeployed", "ModelRolledBack")


def test_a_refused_registration_does_not_win_in_a_what_if() -> None:
    """A name and version given to another artifact since: `whatif --model` takes the one that the name means."""
    log = MemoryLog()
    one, other = log.put_blob(b"one"), log.put_blob(b"other")
    by: dict[str, Any] = {"occurred_at": 1, "actor": "ann", "name": "m", "version": "1.0.0", "spec": 1}
    append_unchecked(log, ModelRegistered(**by, digest=one), ModelRegistered(**by, digest=other))
    assert whatif.artifact_of(log, "m-1.0.0") == (b"one", "m-1.0.0")
    assert "raise the version" in control_stream.current(log).refused[2]


def test_drift_is_measured_from_what_serves() -> None:
    """Refused thresholds and a refused deployment move neither the review threshold nor the reference."""
    log = MemoryLog()
    by: dict[str, Any] = {"occurred_at": 1, "actor": "ann"}
    model = {"name": "m", "version": "1.0.0", "digest": hashlib.sha256(b"one").hexdigest()}
    append_unchecked(log, ModelDeployed(**by, **model), ThresholdsChanged(**by, review=0.3, decline=0.7))
    before = serving(control_stream.accepted(log))
    log.append_control(
        [
            b'{"type":"model_rolled_back.v1","occurred_at":1,"actor":"x","name":"m","version":"9","digest":"0"}',
            encode(ThresholdsChanged(**by, review=0.9, decline=0.1)),
        ],
        2,
    )
    assert serving(control_stream.accepted(log)) == before and list(control_stream.current(log).refused) == [3, 4]
