"""The control events that only the loop appends: the steps of a retraining, and the degradation of a champion. Pure.

Acts that people perform too (register, deploy, test, conclude, roll back) are built by
`learners.governance.control_events`.
"""

from __future__ import annotations

from core.events import Control, DegradationDetected, RetrainingFinished, RetrainingRejected, RetrainingStarted
from core.features import spec
from core.governance import SHADOW
from learners.governance import control_events
from learners.governance.control_events import Act, Artifact
from learners.loop.candidates import Candidate
from learners.loop.policy import Evidence, Step
from learners.loop.state import LoopState
from projections.views.registry_records import Model


def retraining_started(state: LoopState, step: Step, act: Act) -> list[Control]:
    """A retraining begins. It may use what is known now, and nothing later."""
    return [
        RetrainingStarted(
            **act.fields,
            run_id=f"{state.champion}:{state.runs + 1}",
            trigger=step.trigger,
            known_until=act.now_ms,
            parent=state.champion,
        )
    ]


def retraining_rejected(run_id: str, metrics: dict[str, float], act: Act) -> list[Control]:
    """No candidate passed the gate, or none could be made; the reason says why."""
    return [RetrainingRejected(**act.fields, run_id=run_id, metrics=control_events.finite(metrics))]


def retraining_finished(state: LoopState, best: Candidate, version: str, digest: str, act: Act) -> list[Control]:
    """Register the candidate, finish the run and deploy the shadow, in one append: every model has its provenance."""
    assert state.run is not None
    parent = state.champion_model
    model = Model(parent.name, version, digest)
    artifact = Artifact(best.content, parent.name, version, spec.SPEC_VERSION, best.result.metrics, parent.label)
    registered = control_events.registration(state.registry, artifact, digest, act)
    finished = RetrainingFinished(
        **act.fields,
        run_id=state.run.run_id,
        name=model.name,
        version=model.version,
        digest=model.digest,
        metrics=control_events.finite(best.result.metrics),
    )
    return [*registered, finished, *control_events.deployment(state.registry, model, SHADOW, act)]


def degradation(state: LoopState, evidence: Evidence, step: Step, act: Act) -> list[Control]:
    """The breach that the guard found; the rollback is appended together with it."""
    assert step.breach is not None
    metric, value, limit = step.breach
    seen = evidence.guard
    champion = state.champion_model
    return [
        DegradationDetected(
            **act.fields,
            model=champion.label,
            digest=champion.digest,
            metric=metric,
            value=value,
            limit=limit,
            window_start=seen.first if seen is not None else state.champion_at[0],
            window_end=seen.last if seen is not None else act.now_ms,
        )
    ]
