"""Acts on experiments: start, ramp, stop, conclude, as `sentinel experiment`. The actor is the authenticated user.

Repeating an act that already has its result appends nothing.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, post
from litestar.params import JSONBody

from console.api.desk import Desk
from console.api.problems import not_found
from console.api.requests import Asked, Name, desk, json
from console.api.routes.acting import Text, Why, act_of
from console.experiment_plan import DAYS_MAX, ArmSaid, arm_plans, days_ms, parts, with_programs
from core.errors import Unavailable
from core.times import DAY_MS
from learners.experiments.design import USUAL, Design, usual_guardrails
from learners.experiments.report import Report, report
from learners.governance import experiments
from learners.governance.control_events import Act, Conclusion, Plan
from learners.governance.experiments import ExperimentAct
from learners.governance.models import ModelAct
from projections.engine.states import States
from projections.views.experiments_answers import experiment_answer

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Days = Annotated[float, msgspec.Meta(ge=0, le=DAYS_MAX)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class NewArm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An arm. model: a registered `name-version`, "" for the champion; program: a `name@version`, "" for the deployed
    one. percent: of the accounts that take part; for every arm, or for none, which is equal shares.
    """

    name: str
    model: str = ""
    program: str = ""
    percent: Percent | None = None


class NewExperiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An A/B test (docs/experiments.md). arms: the first is the control, the champion under the deployed program.
    traffic: percentage of all accounts that take part. guardrails: metrics that must not get worse; none: the usual
    ones. guardrail_margin, worthwhile: as shares of accounts. days_max: then it ends without a winner.
    """

    experiment_id: str
    arms: Annotated[list[NewArm], msgspec.Meta(min_length=2, max_length=20)]
    reason: Text
    traffic: Percent = 100.0
    primary: str = USUAL.primary
    guardrails: list[str] = []
    guardrail_margin: Share = USUAL.guardrail_margin
    worthwhile: Share = USUAL.worthwhile
    window_days: Days = USUAL.window_ms / DAY_MS
    maturity_days: Days = USUAL.maturity_ms / DAY_MS
    days_max: Days = USUAL.duration_max_ms / DAY_MS
    accounts_min: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = USUAL.accounts_min
    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = USUAL.alpha
    salt: Annotated[str, msgspec.Meta(max_length=128)] = ""


class Ramp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The percentage of all accounts that take part from now on."""

    traffic: Percent
    reason: Text


class Conclude(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """verdict: whatever the data say; None for what they say. winner: the arm to promote, with the verdict
    "promote".
    """

    reason: Text
    verdict: Conclusion | None = None
    winner: str = ""


class ExperimentDone(msgspec.Struct, frozen=True):
    """What an act on an experiment did. deployment: of the winner's model, which four eyes only propose; program: the
    one that decides from now on, "" for no change. proposals: IDs of what waits for a second person.
    """

    position: int
    outcome: str
    experiment_id: str
    deployment: ModelAct | None
    program: str
    proposals: tuple[str, ...] = ()


@post("/v1/experiments", tags=["models"], summary="Start an experiment", status_code=201)
async def start(request: Asked, data: JSONBody[NewExperiment]) -> Response[ExperimentDone]:
    """From the workers' next batch on, each participating account is decided by its arm's program and model. 503 while
    workers still fold the state of an arm's program: ask again.
    """
    here, act = desk(request), act_of(request, data.reason)
    return json(_done(await here.run_heavy(_started, here, data, act)), 201)


@post("/v1/experiments/{id:str}/ramp", tags=["models"], summary="Change the share of accounts", status_code=200)
async def ramp(request: Asked, id: Name, data: JSONBody[Ramp]) -> Response[ExperimentDone]:
    """When it rises, every account keeps its arm."""
    here, act = desk(request), act_of(request, data.reason)
    return json(_done(await here.run(lambda: experiments.ramp(here.log, parts(data.traffic), act, _known(here, id)))))


@post("/v1/experiments/{id:str}/stop", tags=["models"], summary="Stop without a conclusion", status_code=200)
async def stop(request: Asked, id: Name, data: JSONBody[Why]) -> Response[ExperimentDone]:
    """The deployed program and the champion decide for all accounts again."""
    here, act = desk(request), act_of(request, data.reason)
    return json(_done(await here.run(lambda: experiments.stop(here.log, act, _known(here, id)))))


@post("/v1/experiments/{id:str}/conclude", tags=["models"], summary="End with a verdict", status_code=200)
async def conclude(request: Asked, id: Name, data: JSONBody[Conclude]) -> Response[ExperimentDone]:
    """The data's verdict or yours, recorded with its evidence. A winner decides at once, its program and its model;
    with four eyes on, a model is only proposed.
    """
    here, act = desk(request), act_of(request, data.reason)

    def question(states: States) -> Report:
        _known(here, id)
        answer = experiment_answer(states, id)
        return report(answer.experiment, answer.seen, answer.as_of)

    def answer() -> ExperimentAct:
        return experiments.conclude(here.log, here.views.apart(question), act, data.verdict, data.winner)

    return json(_done(await here.run_heavy(answer)))


def _started(here: Desk, data: NewExperiment, act: Act) -> ExperimentAct:
    design = Design(
        window_ms=days_ms(data.window_days),
        maturity_ms=days_ms(data.maturity_days),
        alpha=data.alpha,
        primary=data.primary,
        guardrails=tuple(data.guardrails) or usual_guardrails(data.primary),
        guardrail_margin=data.guardrail_margin,
        worthwhile=data.worthwhile,
        accounts_min=data.accounts_min,
        duration_max_ms=days_ms(data.days_max),
    )
    arms = arm_plans([ArmSaid(arm.name, arm.model, arm.program, arm.percent) for arm in data.arms])
    plan = Plan(experiment_id=data.experiment_id, arms=arms, salt=data.salt, traffic=parts(data.traffic), design=design)
    plan = with_programs(here.log, plan)
    lacking = {p for each in experiments.to_start(here.log, plan, act).values() for p in each}
    if lacking:
        waiting = ", ".join(map(str, sorted(lacking)))
        raise Unavailable(f"workers still prepare partitions {waiting} for the arms' programs; nothing is started")
    return experiments.start(here.log, plan, act)


def _known(here: Desk, name: str) -> str:
    """The experiment's ID. Raises ProblemError (404) if there never was one."""
    if name not in experiments.known(here.log).experiments:
        raise not_found(f"experiment {name}", "see /v1/experiments for those that there are")
    return name


def _done(act: ExperimentAct) -> ExperimentDone:
    return ExperimentDone(*act)


HANDLERS = [start, ramp, stop, conclude]
