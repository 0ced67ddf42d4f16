"""Acts on experiments: start, ramp, stop, conclude; each one conditional append to the control stream.

    start      registered models and programs → ExperimentStarted; the first arm is the control and must be the champion
               under the deployed program
    ramp       change the share of accounts that take part
    stop       end without a conclusion; the champion under the deployed program decides for all accounts again
    conclude   end with a verdict and its evidence; a winner's program and model are deployed (with four eyes, a model
               is proposed, and its program waits)

Under four eyes a start, and a ramp to more traffic, are only proposed (`learners.governance.proposals`).

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
from core.events import (
    Arm,
    Control,
    DeploymentProposed,
    ExperimentConcluded,
    ModelDeployed,
    ModelWithdrawn,
    ProgramDeployed,
    ProgramRolledBack,
)
from core.governance import CHAMPION
from core.identity import required
from core.log.base import EventLog
from core.program import library, loading
from core.program.plan import plan as plan_of
from core.signing import intended
from learners.experiments.report import Report
from learners.governance import control_events, programs, proposals
from learners.governance.control_events import Act, Conclusion, Plan
from learners.governance.models import ModelAct, deployed
from projections.engine.base import control_fact, fold
from projections.views.experiments import EXPERIMENTS, Experiments
from projections.views.programs import find as find_program
from projections.views.programs import in_force, label_of, programs_of
from projections.views.registry import Registry, registry_of

Outcome = Literal["started", "ramped", "stopped", "concluded", "proposed", "unchanged"]


class ExperimentAct(NamedTuple):
    """The result of an act on an experiment: the control position after it, and what happened."""

    position: int
    outcome: Outcome
    experiment_id: str
    deployment: ModelAct | None = None
    program: str = ""
    """The program (name@version) that the conclusion let decide; "" for none."""
    proposals: tuple[str, ...] = ()
    """IDs of what waits for a second person."""


def known(log: EventLog) -> Experiments:
    """All experiments and the running one: the control stream's part of the read model, now."""
    return _experiments(history(log))


def start(log: EventLog, plan: Plan, act: Act) -> ExperimentAct:
    """Start an experiment. Raises BadInput for an unknown model, program or metric, a program that can't be loaded or
    requires fields that the deployed one does not, an invalid allocation, an ID that was used before, or if another
    experiment is running.
    """
    _check_programs(log, plan)

    done = proposals.append(log, lambda known: control_events.start(registry_of(known.entries), plan, act))
    return _done(done, "started", plan.experiment_id)


def _done(done: proposals.Appended, outcome: Outcome, experiment_id: str) -> ExperimentAct:
    happened: Outcome = "proposed" if done.proposals else outcome if done.events else "unchanged"
    return ExperimentAct(done.position, happened, experiment_id, proposals=tuple(done.proposals))


def to_start(log: EventLog, plan: Plan, act: Act) -> dict[str, list[int]]:
    """The programs (SHA-256) of the arms, each with the partitions that no worker has prepared for it. They are
    proposed if they are not. Raises BadInput as `start`, before anybody waits.
    """
    _check_programs(log, plan)
    entries = history(log)
    state = control_stream.fold(entries)
    wanted = control_events.start(registry_of(entries), plan, act)
    events = proposals.or_proposed(wanted, state.governance, state.position)
    control_stream.check_sequence(intended(events, log.signer), state.governance)
    return {digest: programs.prepare(log, digest, act) for digest in _tried(plan, state.program)}


def arm_program(log: EventLog, name: str) -> str:
    """The SHA-256 of the program that an arm names, "" for the deployed one. Raises BadInput for an unknown one, and
    for the log's default, which decides in an arm only while it is deployed.
    """
    registry = programs_of(history(log))
    digest = find_program(registry, name)
    if not digest and in_force(registry):
        raise BadInput("the log's default program can't be an arm's while another is deployed: roll back to it first")
    return "" if digest == in_force(registry) else digest


def account_bytes(log: EventLog, digests: Iterable[str]) -> int:
    """The state that the aggregates of these programs (SHA-256) need for each account, in bytes."""
    layouts = [plan_of(loading.load(digest, log.get_blob).checked, library.kernel()).layout for digest in digests]
    return sum(layout.bytes_account for layout in layouts if layout.aggregates)


def _tried(plan: Plan, deployed: str) -> list[str]:
    return [digest for digest in dict.fromkeys(arm.program for arm in plan.arms) if digest not in ("", deployed)]


def _check_programs(log: EventLog, plan: Plan) -> None:
    """Messages are rejected at the edge by what the deployed program requires, before anybody knows their arm."""
    deployed = control_stream.current(log).program
    tried = _tried(plan, deployed)
    if not tried:
        return
    given = loading.load(deployed or required(control_stream.current(log).identity).program, log.get_blob).checked
    for digest in tried:
        programs.check_stored(log, digest)
        wanted = loading.load(digest, log.get_blob).checked
        for name, field in wanted.fields.items():
            if field.is_required and not any(each.is_required and each == field for each in given.fields.values()):
                raise BadInput(
                    f"program {digest[:16]} requires the field {name}, and the deployed one does not: in an arm, a"
                    " payment without it could not be rejected. Make it optional, or deploy a program that requires it"
                )


def ramp(log: EventLog, traffic: int, act: Act, experiment_id: str | None = None) -> ExperimentAct:
    """Set the share of accounts that take part to `traffic` in 1/10,000. Raises BadInput if it is not running."""
    chosen: list[str] = []

    def decide(known: Known) -> list[Control]:
        held = _experiments(known.entries)
        chosen.append(_running(held, experiment_id))
        is_so = held.experiments[chosen[-1]].changes[-1].traffic == traffic
        return [] if is_so else control_events.ramp(chosen[-1], traffic, act)

    return _done(proposals.append(log, decide), "ramped", chosen[-1])


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
        over = arm is not None and _was_promoted(known.entries, registry, arm, held.ended)
        return [] if over else control_events.promotion(registry, report, winning, act)

    position, events = control_stream.append(log, decide)
    is_new = any(isinstance(event, ExperimentConcluded) for event in events)
    done, program = None, ""
    if arm is not None and not over:
        deployment: list[Control] = [e for e in events if isinstance(e, ModelDeployed | ModelWithdrawn)]
        deployment += [e for e in events if isinstance(e, DeploymentProposed)]
        done = deployed(Appended(position, deployment), registry, f"{arm.model}-{arm.version}", CHAMPION)
        if any(isinstance(event, ProgramDeployed | ProgramRolledBack) for event in events):
            program = label_of(programs_of(history(log)), arm.program)
    return ExperimentAct(position, "concluded" if is_new else "unchanged", report.experiment_id, done, program)


def _was_promoted(entries: Iterable[ControlEntry], registry: Registry, arm: Arm, ended: int) -> bool:
    """Whether the arm's model has been champion, or its program deployed, since the experiment ended."""
    services = programs_of(entries).services
    return any(
        d.position > ended and (d.alias, d.digest) == (CHAMPION, arm.digest) for d in registry.deployments
    ) or any(s.began.position > ended and s.digest == arm.program for s in services if arm.program)


def _experiments(entries: Iterable[ControlEntry]) -> Experiments:
    return fold(EXPERIMENTS, map(control_fact, entries))


def _running(held: Experiments, experiment_id: str | None) -> str:
    if not held.running:
        raise BadInput("no experiment is running")
    if experiment_id not in (None, held.running):
        raise BadInput(f"experiment {experiment_id} is not running ({held.running} is)")
    return held.running
