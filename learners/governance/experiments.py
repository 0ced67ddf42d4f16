"""What people and services do to experiments: start, ramp, stop, conclude; each one a conditional append.

    start      registered models → ExperimentStarted; the first arm is the control and must be the champion
    ramp       another share of accounts takes part
    stop       no conclusion; the champion decides for everybody again
    conclude   a verdict with its evidence; a winner is then deployed as champion (or proposed, with four eyes)

Repeating an act whose result is already so, or was until somebody undid it, appends nothing. `conclude` is two appends,
conclusion and deployment; one that was killed between them goes on when it is repeated. Errors are BadInput and
ConcurrencyError, nothing half done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from core.assignment import WHOLE
from core.control_stream import history
from core.errors import BadInput
from core.events import (
    Arm,
    Control,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
)
from core.governance import CHAMPION
from core.log.base import EventLog
from learners.experiments.report import Report, criteria_of
from learners.governance.models import Act, Done, append, deploy, find
from projections.engine.base import control_fact, fold
from projections.views.experiments import EXPERIMENTS, Experiments
from projections.views.registry import Registry, registry_of

Conclusion = Literal["promote", "keep", "rollback"]
GUARDRAILS = ("false_positive", "value_lost")


class ArmPlan(NamedTuple):
    """An arm to be: its name, a registered model (`name-version`), and its share (of 10,000)."""

    name: str
    model: str
    share: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An experiment to be; see `ExperimentStarted`. salt "": the experiment's ID."""

    experiment_id: str
    arms: Sequence[ArmPlan]
    salt: str = ""
    traffic: int = WHOLE
    window_ms: int = 604_800_000
    maturity_ms: int = 604_800_000
    alpha: float = 0.05
    primary: str = "fraud_caught"
    guardrails: tuple[str, ...] = GUARDRAILS
    accounts_min: int = 1000
    duration_max_ms: int = 7_776_000_000


class Started(NamedTuple):
    """What an act came to: the control position after it and what happened."""

    position: int
    outcome: Literal["started", "ramped", "stopped", "concluded", "unchanged"]
    experiment_id: str
    deployment: Done | None = None


def known(log: EventLog) -> Experiments:
    """All experiments, and what may follow: the control side of the read model, now."""
    return fold(EXPERIMENTS, map(control_fact, history(log)))


def start(log: EventLog, plan: Plan, act: Act) -> Started:
    """Start it. Raises BadInput: an unknown model, metric or allocation, an ID that was used, one that still runs."""
    if plan.experiment_id in known(log).experiments:
        raise BadInput(f"there was an experiment {plan.experiment_id} already: give this one another name")

    def decide(registry: Registry) -> list[Control]:
        models = [find(registry, arm.model) for arm in plan.arms]
        event = ExperimentStarted(
            occurred_at=act.now_ms,
            actor=act.actor,
            reason=act.reason,
            causation_id=act.causation_id,
            experiment_id=plan.experiment_id,
            arms=tuple(
                Arm(arm.name, model.name, model.version, model.digest, arm.share)
                for arm, model in zip(plan.arms, models, strict=True)
            ),
            salt=plan.salt or plan.experiment_id,
            traffic=plan.traffic,
            window_ms=plan.window_ms,
            maturity_ms=plan.maturity_ms,
            alpha=plan.alpha,
            primary=plan.primary,
            guardrails=plan.guardrails,
            accounts_min=plan.accounts_min,
            duration_max_ms=plan.duration_max_ms,
        )
        criteria_of(event)
        return [event]

    position, _ = append(log, decide)
    return Started(position, "started", plan.experiment_id)


def ramp(log: EventLog, traffic: int, act: Act, experiment_id: str | None = None) -> Started:
    """Let `traffic` accounts of 10,000 take part. Raises BadInput if it does not run."""
    chosen = _running(known(log), experiment_id)
    if known(log).experiments[chosen].changes[-1].traffic == traffic:
        position, _ = append(log, lambda registry: [])
        return Started(position, "unchanged", chosen)

    def decide(registry: Registry) -> list[Control]:
        return [
            ExperimentRamped(
                occurred_at=act.now_ms,
                actor=act.actor,
                reason=act.reason,
                causation_id=act.causation_id,
                experiment_id=chosen,
                traffic=traffic,
            )
        ]

    position, _ = append(log, decide)
    return Started(position, "ramped", chosen)


def stop(log: EventLog, act: Act, experiment_id: str | None = None) -> Started:
    """End it without a conclusion."""
    held = known(log)
    if experiment_id in held.experiments and held.experiments[experiment_id].end == "stopped":
        position, _ = append(log, lambda registry: [])
        return Started(position, "unchanged", experiment_id)
    chosen = _running(held, experiment_id)

    def decide(registry: Registry) -> list[Control]:
        return [
            ExperimentStopped(
                occurred_at=act.now_ms,
                actor=act.actor,
                reason=act.reason,
                causation_id=act.causation_id,
                experiment_id=chosen,
            )
        ]

    position, _ = append(log, decide)
    return Started(position, "stopped", chosen)


def conclude(log: EventLog, report: Report, act: Act, verdict: Conclusion | None = None, winner: str = "") -> Started:
    """End it by what `report` says (promote, or keep for a stop, or rollback), or by `verdict` and `winner` if given.

    A winner other than the control becomes champion, caused by this experiment. Raises BadInput if the data say
    "continue" and no verdict is given, or if the winner is no arm.
    """
    verdict, winner = _conclusion(report, verdict, winner)
    model = next((arm for arm in report.definition.arms if arm.name == winner), None)
    if (verdict == "promote") != (model is not None):
        raise BadInput(
            f"{winner!r} is no arm that can win: there are {', '.join(a.name for a in report.definition.arms)}"
        )
    held = known(log).experiments.get(report.experiment_id)
    is_concluded = held is not None and held.conclusion is not None and held.conclusion.winner == winner

    def decide(registry: Registry) -> list[Control]:
        if is_concluded:
            return []
        if model is not None and find(registry, f"{model.model}-{model.version}").digest != model.digest:
            raise BadInput(
                f"{model.model}-{model.version} is not the artifact that was tested, so it can't be promoted"
            )
        return [
            ExperimentConcluded(
                occurred_at=act.now_ms,
                actor=act.actor,
                reason=act.reason or "; ".join(report.verdict.reasons),
                causation_id=act.causation_id,
                experiment_id=report.experiment_id,
                verdict=verdict,
                winner=winner,
                evidence=evidence(report),
            )
        ]

    position, events = append(log, decide)
    outcome: Literal["concluded", "unchanged"] = "concluded" if events else "unchanged"
    if held is not None and is_concluded and model is not None and _was_deployed(log, model, held.ended):
        return Started(position, outcome, report.experiment_id)  # and may have been rolled back since
    if model is None or winner == report.definition.arms[0].name:
        return Started(position, outcome, report.experiment_id)
    caused = Act(act.actor, act.reason, act.now_ms, act.causation_id or report.experiment_id)
    done = deploy(log, f"{model.model}-{model.version}", caused)
    return Started(done.position, outcome, report.experiment_id, done)


def _was_deployed(log: EventLog, arm: Arm, since: int) -> bool:
    """Whether the arm's model became champion after control position `since`."""
    registry = registry_of(history(log))
    return any(d.position > since and (d.alias, d.digest) == (CHAMPION, arm.digest) for d in registry.deployments)


def evidence(report: Report) -> dict[str, float]:
    """What a conclusion rests on, by name: accounts, sample ratio, and gain and log e by arm and metric."""
    found: dict[str, float] = {"srm_p": report.sample_ratio.p_anytime}
    for row in report.arms:
        found[f"{row.name}.accounts"] = float(row.mature)
    for each in report.findings:
        if each.gain == each.gain:
            name = f"{each.arm}.{each.metric}"
            found |= {f"{name}.gain": each.gain, f"{name}.low": each.interval.low, f"{name}.high": each.interval.high}
            found |= {f"{name}.log_e_better": each.log_e_better, f"{name}.log_e_worse": each.log_e_worse}
    return found


def _conclusion(report: Report, verdict: Conclusion | None, winner: str) -> tuple[Conclusion, str]:
    if verdict is not None:
        return verdict, winner
    match report.verdict.action:
        case "promote":
            return "promote", report.verdict.arm
        case "rollback":
            return "rollback", ""
        case "stop":
            return "keep", ""
        case "continue":
            why = "; ".join(report.verdict.reasons)
            raise BadInput(f"the data don't say yet ({why}): wait, stop it, or name --winner or --keep yourself")


def _running(held: Experiments, experiment_id: str | None) -> str:
    running = held.running
    if not running:
        raise BadInput("no experiment is running")
    if experiment_id not in (None, running):
        raise BadInput(f"experiment {experiment_id} is not running ({running} is)")
    return running
