"""`sentinel experiment`: A/B tests of programs and models, randomised by account; results are valid at any time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from console.acts import Actor, Reason, act_of, print_proposal, print_proposed
from console.experiment_plan import ArmSaid, arm_plans, days_ms, parts, with_programs
from console.experiment_report import print_report
from console.log_options import AsOf, opened_states, options
from console.options import Json
from console.plots.experiment import write_plots
from console.preparing import Now, Wait, await_prepared
from console.tables import print_json
from core import control_stream
from core.errors import BadInput
from core.identity import required
from core.log.base import EventLog
from core.times import DAY_MS
from learners.experiments.design import USUAL, Design, usual_guardrails
from learners.experiments.report import report
from learners.experiments.verdict import METRICS
from learners.governance import experiments as acts
from learners.governance.control_events import ArmPlan, Conclusion, Plan
from learners.governance.experiments import ExperimentAct
from projections.views.experiments_answers import experiment_answer

_USUAL_WINDOW, _USUAL_MATURITY, _USUAL_DURATION = (
    ms / DAY_MS for ms in (USUAL.window_ms, USUAL.maturity_ms, USUAL.duration_max_ms)
)

app = typer.Typer(
    help="A/B tests: start, show, ramp, stop, conclude. Accounts are assigned by hash; looking early is safe.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Which = Annotated[str | None, typer.Argument(metavar="[ID]", help="The experiment. Default: the newest.")]
Percent = Annotated[float, typer.Option(help="Percentage of all accounts that take part.", min=0.0, max=100.0)]

app.callback()(options)


def _print_done(done: ExperimentAct, as_json: bool) -> None:
    if as_json:
        print_json(done._asdict())
        return
    print(f"experiment {done.experiment_id} {done.outcome} at c{done.position}")
    print_proposed(done.proposals)
    if done.deployment is not None:
        print(f"{done.deployment.model} {done.deployment.outcome}")
        print_proposal(done.deployment)
    if done.program:
        print(f"{done.program} decides")


@app.command()
def start(
    context: typer.Context,
    experiment_id: Annotated[str, typer.Argument(metavar="ID", help="A new name, without spaces or slashes.")],
    arm: Annotated[
        list[str],
        typer.Option(
            help="NAME=MODEL-VERSION[,PROGRAM@VERSION][:PERCENT], or without the model for the champion; two or more."
            " The first is the control: the champion under the deployed program."
        ),
    ],
    reason: Reason,
    traffic: Percent = 100.0,
    primary: Annotated[str, typer.Option(help=f"Primary metric: {', '.join(METRICS)}.")] = USUAL.primary,
    guardrail: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A metric that must not get worse; may be repeated. Default: {' and '.join(USUAL.guardrails)}.",
            show_default=False,
        ),
    ] = None,
    guardrail_margin: Annotated[
        float, typer.Option(help="How much worse a guardrail may get, as a share of accounts.", min=0.0, max=1.0)
    ] = USUAL.guardrail_margin,
    worthwhile: Annotated[
        float, typer.Option(help="Smallest worthwhile gain on the primary metric, as a share of accounts.")
    ] = USUAL.worthwhile,
    window_days: Annotated[float, typer.Option(help="Observation window per account, in days.")] = _USUAL_WINDOW,
    maturity_days: Annotated[
        float, typer.Option(help="Days after the window until an account's labels are final.")
    ] = _USUAL_MATURITY,
    days_max: Annotated[
        float, typer.Option(help="Maximum duration in days; then it ends without a winner.")
    ] = _USUAL_DURATION,
    accounts_min: Annotated[
        int, typer.Option(help="Mature accounts required in each arm before a promotion.")
    ] = USUAL.accounts_min,
    alpha: Annotated[
        float, typer.Option(help="Error level over all promotions, and separately over all rollbacks.")
    ] = USUAL.alpha,
    salt: Annotated[str, typer.Option(help="Salt of the assignment hash. Default: the ID.", show_default=False)] = "",
    wait: Wait = 600.0,
    now: Now = False,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Start an A/B test. From the next batch on, each participating account is decided by its arm's program and model.

    sentinel experiment start spring --arm control=baseline-1.0.0 --arm new=baseline-1.1.0 --traffic 10 --reason "less
    friction"

    sentinel experiment start rules --arm control=baseline-1.0.0 --arm fewer=cards@1.1.0 --reason "fewer rules"
    """
    plan = Plan(
        experiment_id=experiment_id,
        arms=_arms(arm),
        salt=salt,
        traffic=parts(traffic),
        design=Design(
            window_ms=days_ms(window_days),
            maturity_ms=days_ms(maturity_days),
            alpha=alpha,
            primary=primary,
            guardrails=tuple(guardrail) if guardrail else usual_guardrails(primary),
            guardrail_margin=guardrail_margin,
            worthwhile=worthwhile,
            accounts_min=accounts_min,
            duration_max_ms=days_ms(days_max),
        ),
    )
    with opened_states(context) as states:
        plan = with_programs(states.log, plan)
        act = act_of(actor, reason, states.log)
        if any(each.program for each in plan.arms):
            _tell_memory(states.log, plan)
            if not now:
                await_prepared(states.log, acts.to_start(states.log, plan, act), wait, "started")
        done = acts.start(states.log, plan, act)
    _print_done(done, as_json)


def _tell_memory(log: EventLog, plan: Plan) -> None:
    identity = required(control_stream.current(log).identity)
    size = acts.account_bytes(log, {arm.program for arm in plan.arms if arm.program})
    if not size:
        return
    most = size * identity.accounts_max / 1e6
    print(
        f"the arms' programs keep {size:,} bytes more for each account, in the experiment or not, as long as it runs:"
        f" at most {most:,.0f} MB a partition ({identity.accounts_max:,} accounts)",
        file=sys.stderr,
    )


def _arms(texts: list[str]) -> tuple[ArmPlan, ...]:
    """Arms from NAME=MODEL-VERSION[,PROGRAM@VERSION][:PERCENT]; without percentages, equal shares. Raises BadInput."""
    found: list[ArmSaid] = []
    for text in texts:
        name, equals, rest = text.partition("=")
        decider, _, percent = rest.partition(":")
        model, comma, program = decider.partition(",")
        if not comma and "@" in model:
            model, program = "", model
        if not (equals and name and (model or program)) or (comma and not program):
            raise BadInput(
                f"--arm {text!r} is not valid; write it as NAME=MODEL-VERSION[,PROGRAM@VERSION][:PERCENT], or as"
                " NAME=PROGRAM@VERSION for the champion under another program"
            )
        found.append(ArmSaid(name, model, program, _percent(percent)))
    return arm_plans(found)


def _percent(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise BadInput(f"the percentage of an arm is not a number: {text}") from None


@app.command()
def show(
    context: typer.Context,
    experiment_id: Which = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", help="Directory for PNG plots of exposure and confidence sequences.")
    ] = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Show exposure, sample ratio, each metric's gain with its confidence sequence, and the verdict so far."""
    with opened_states(context, as_of) as states:
        answer = experiment_answer(states, experiment_id)
    found = report(answer.experiment, answer.seen, answer.as_of)
    drawn = write_plots(answer, plots) if plots is not None else []
    if as_json:
        print_json(found)
        return
    print_report(found)
    for name in drawn:
        print(f"{'plot':<20} {name}")


@app.command()
def ramp(
    context: typer.Context,
    percent: Annotated[float, typer.Argument(help="Percentage of all accounts, from now on.", min=0.0, max=100.0)],
    reason: Reason,
    experiment_id: Annotated[str | None, typer.Option("--id", help="The experiment. Default: the running one.")] = None,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Change the share of accounts that take part. When it rises, every account keeps its arm."""
    with opened_states(context) as states:
        done = acts.ramp(states.log, parts(percent), act_of(actor, reason, states.log), experiment_id)
    _print_done(done, as_json)


@app.command()
def stop(
    context: typer.Context,
    reason: Reason,
    experiment_id: Annotated[str | None, typer.Option("--id", help="The experiment. Default: the running one.")] = None,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Stop the running experiment without a conclusion; the deployed program and the champion decide for all again."""
    with opened_states(context) as states:
        done = acts.stop(states.log, act_of(actor, reason, states.log), experiment_id)
    _print_done(done, as_json)


@app.command()
def conclude(
    context: typer.Context,
    reason: Reason,
    experiment_id: Annotated[str | None, typer.Option("--id", help="The experiment. Default: the newest.")] = None,
    winner: Annotated[str | None, typer.Option(help="Promote this arm, whatever the data say.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the champion, whatever the data say.")] = False,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """End an experiment and record the verdict with its evidence: the data's verdict, or yours.

    A winner decides at once, its program and its model; with four eyes on, a model is only proposed.
    """
    if winner is not None and keep:
        raise BadInput("--winner and --keep can't be combined")
    verdict: Conclusion | None = "promote" if winner is not None else "keep" if keep else None
    with opened_states(context) as states:
        answer = experiment_answer(states, experiment_id)
        found = report(answer.experiment, answer.seen, answer.as_of)
        done = acts.conclude(states.log, found, act_of(actor, reason, states.log), verdict, winner or "")
    _print_done(done, as_json)
