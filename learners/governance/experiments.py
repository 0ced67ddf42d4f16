"""Acts on experiments: start, ramp, stop, conclude; each one conditional append to the control stream.

    start      registered models → ExperimentStarted; the first arm is the control and must be the champion
    ramp       change the share of accounts that take part
    stop       end without a conclusion; the champion decides for all accounts again
    conclude   end with a verdict and its evidence; a winner is deployed as champion (or proposed, with four eyes)

Repeating an act that already has its result, or had it until somebody undid it, appends nothing. Raises BadInput or
ConcurrencyError, and then has appended nothing. Events are built by `learners.governance.control_events`; the design of
a test is in `learners.experiments.design`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from core import control_stream
from core.control_stream import Appended, ControlEntry, Known, history
from core.errors import BadInput
from core.events import Control, ExperimentConcluded
from core.governance import CHAMPION
from core.log.base import EventLog
from learners.experiments.report import Report
from learners.governance import control_events
from learners.governance.control_events import Act, Conclusion, Plan
from learners.governance.models import ModelAct, deployed
from projections.engine.base import control_fact, fold
from projections.views.experiments import EXPERIMENTS, Experiments
from projections.views.registry import Registry, registry_of

Outcome = Literal["started", "ramped", "stopped", "concluded", "unchanged"]


class ExperimentAct(NamedTuple):
    """The result of an act on an experiment: the control position after it, and what happened."""

    position: int
    outcome: Outcome
    experiment_id: str
    deployment: ModelAct | None = None


def known(log: EventLog) -> Experiments:
    """All experiments and the running one: the control stream's part of the read model, now."""
    return _experiments(history(log))


def start(log: EventLog, plan: Plan, act: Act) -> ExperimentAct:
    """Start an experiment. Raises BadInput for an unknown model or metric, an invalid allocation, an ID that was used
    before, or if another experiment is running.
    """
    appended = control_stream.append(log, lambda known: control_events.start(registry_of(known.entries), plan, act))
    return ExperimentAct(appended.position, "started", plan.experiment_id)


def ramp(log: EventLog, traffic: int, act: Act, experiment_id: str | None = None) -> ExperimentAct:
    """Set the share of accounts that take part to `traffic` in 1/10,000. Raises BadInput if it is not running."""
    chosen: list[str] = []

    def decide(known: Known) -> list[Control]:
        held = _experiments(known.entries)
        chosen.append(_running(held, experiment_id))
        is_so = held.experiments[chosen[-1]].changes[-1].traffic == traffic
        return [] if is_so else control_events.ramp(chosen[-1], traffic, act)

    appended = control_stream.append(log, decide)
    return ExperimentAct(appended.position, "ramped" if appended.events else "unchanged", chosen[-1])


def stop(log: EventLog, act: Act, experiment_id: str | None = None) -> ExperimentAct:
    """End the experiment without a conclusion."""
    chosen: list[str] = []

    def decide(known: Known) -> list[Control]:
        held = _experiments(known.entries)
        named = held.experiments.get(experiment_id or "")
        is_so = named is not None and named.end == "stopped"
        chosen.append(experiment_id or "" if is_so else _running(held, experiment_id))
        return [] if is_so else control_events.stop(chosen[-1], act)

    appended = control_stream.append(log, decide)
    return ExperimentAct(appended.position, "stopped" if appended.events else "unchanged", chosen[-1])


def conclude(
    log: EventLog, report: Report, act: Act, verdict: Conclusion | None = None, winner: str = ""
) -> ExperimentAct:
    """End the experiment with the report's verdict (promote, keep for "stop", or rollback), or with `verdict` and
    `winner` if given.

    A winner other than the control becomes champion in the same append, with this experiment as its cause. If the log
    has only the conclusion, the missing deployment is appended, unless the winner has been champion since. Raises
    BadInput as `control_events.conclusion`.
    """
    _, winning = control_events.concluded(report, verdict, winner)
    arm = next((arm for arm in report.definition.arms[1:] if arm.name == winning), None)
    registry, over = Registry(), False

    def decide(known: Known) -> list[Control]:
        nonlocal registry, over
        registry, over = registry_of(known.entries), False
        held = _experiments(known.entries).experiments.get(report.experiment_id)
        if held is None or held.conclusion is None or held.conclusion.winner != winning:
            return control_events.conclusion(registry, report, act, verdict, winner)
        over = arm is not None and any(
            d.position > held.ended and (d.alias, d.digest) == (CHAMPION, arm.digest) for d in registry.deployments
        )
        return [] if over else control_events.promotion(registry, report, winning, act)

    position, events = control_stream.append(log, decide)
    is_new = any(isinstance(event, ExperimentConcluded) for event in events)
    done = None
    if arm is not None and not over:
        deployment: list[Control] = [event for event in events if not isinstance(event, ExperimentConcluded)]
        done = deployed(Appended(position, deployment), registry, f"{arm.model}-{arm.version}", CHAMPION)
    return ExperimentAct(position, "concluded" if is_new else "unchanged", report.experiment_id, done)


def _experiments(entries: Iterable[ControlEntry]) -> Experiments:
    return fold(EXPERIMENTS, map(control_fact, entries))


def _running(held: Experiments, experiment_id: str | None) -> str:
    if not held.running:
        raise BadInput("no experiment is running")
    if experiment_id not in (None, held.running):
        raise BadInput(f"experiment {experiment_id} is not running ({held.running} is)")
    return held.running
