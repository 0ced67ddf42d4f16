"""`sentinel threshold`: from where on payments are reviewed and declined, who changed it, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer

from console import wiring
from console.acts import Actor, Reason, act_of, print_proposed
from console.log_options import AsOf, opened_log, opened_states, options
from console.options import Json, moment
from console.plots.costs import write_plot
from console.tables import print_fields, print_json, print_table, time_text
from core import control_stream
from core.errors import BadInput
from core.numeric import sigmoid
from core.partitions import partitions_of
from core.policy import threshold_words
from core.replay import Timeline
from core.times import DAY_MS
from learners.governance import business
from learners.training.columns import deployed_plan, selection_of
from learners.training.costs import CostCurve, Payments, compare
from learners.training.dataset import labelled
from learners.training.levels import columns_for
from learners.training.reading import ALWAYS, read
from projections.views.registry import REGISTRY
from projections.views.registry_answers import PolicyEdit, policy_history

POINTS_MAX = 1_000

app = typer.Typer(
    help="Thresholds of review and decline: show, set, history, costs.", no_args_is_help=True, rich_markup_mode=None
)
app.callback()(options)


@app.command()
def show(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Show the thresholds in force, and who set them."""
    with opened_states(context, as_of) as states:
        registry, moment = states.of_control(REGISTRY), states.as_of
    last = next((edit for edit in reversed(policy_history(registry, "thresholds")) if not edit.refused), None)
    if as_json:
        print_json({"as_of": moment, **registry.thresholds._asdict(), "set": last})
        return
    print_fields(
        {
            "thresholds": threshold_words(registry.thresholds),
            "since": time_text(last.occurred_at) if last else "",
            "actor": last.actor if last else "default",
            "reason": last.reason if last else "",
            "as_of": moment,
        }
    )


@app.command("set")
def set_thresholds(
    context: typer.Context,
    reason: Reason,
    review: Annotated[float | None, typer.Option(help="Review from this probability on.")] = None,
    decline: Annotated[float | None, typer.Option(help="Decline from this probability on.")] = None,
    review_loss: Annotated[
        float | None, typer.Option(help="Review from this expected loss on: probability × amount in the base currency.")
    ] = None,
    decline_loss: Annotated[float | None, typer.Option(help="Decline from this expected loss on.")] = None,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Set thresholds, from the workers' next batch on. Those not given stay as they are.

    An expected loss takes the place of that decision's probability; setting the probability ends that.

    sentinel threshold set --decline 0.9 --reason "too many complaints"
    """
    with opened_log(context) as log:
        done = business.set_thresholds(
            log, act_of(actor, reason, log), review, decline, review_loss=review_loss, decline_loss=decline_loss
        )
    state = done.state
    if as_json:
        print_json(
            {"position": done.position, "changed": done.changed, "proposals": done.proposals}
            | state.thresholds._asdict()
        )
        return
    print(f"{threshold_words(state.thresholds)} at c{done.position}{'' if done.changed else ': unchanged'}")
    print_proposed(done.proposals)


@app.command()
def history(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Show every change, oldest first: who made it, when and why. Refused changes too."""
    with opened_states(context, as_of) as states:
        edits, moment = policy_history(states.of_control(REGISTRY), "thresholds"), states.as_of
    if as_json:
        print_json({"as_of": moment, "history": edits})
        return
    print_policy(edits)
    print_fields({"changes": len(edits), "as_of": moment})


@app.command()
def costs(
    context: typer.Context,
    review_cost: Annotated[float, typer.Option(help="What a review costs, in the base currency.")],
    start: Annotated[str | None, typer.Option("--from", help="Only payments from this time on.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Only payments before this time.")] = None,
    maturity_days: Annotated[
        float, typer.Option(help="Presume payments without a verdict legitimate after so many days.", min=0.0)
    ] = 35.0,
    plot: Annotated[Path | None, typer.Option(help="Write a PNG plot of the curves to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Compare what thresholds would have cost.

    The cost is that of reviews plus that of frauds not reviewed, with scores by today's champion. Both kinds of
    threshold are chosen on the earlier half of the labelled payments and measured on the later half. --json has both
    curves. Reads only.

    sentinel threshold costs --review-cost 15
    """
    if plot is not None and not plot.parent.is_dir():
        raise BadInput(f"--plot {plot}: the directory {plot.parent} does not exist")
    with opened_log(context) as log:
        state = control_stream.current(log)
        resolver = wiring.open_resolver(log)
        champion = resolver.context(state, resolver.unavailable(state)).scorer
        if champion is None:
            raise BadInput("no champion can be loaded: see `sentinel doctor`")
        data = labelled(
            read(
                log,
                partitions_of(log),
                maturity_ms=int(maturity_days * DAY_MS),
                start=moment("--from", start) or 0,
                end=moment("--to", end) or ALWAYS,
                selection=selection_of(deployed_plan(log)[1], champion.inputs),
                timeline=lambda: Timeline(control_stream.history(log), resolver),
            )
        )
    margins = champion.margins(columns_for(data, champion.inputs))
    found = compare(
        Payments(data.labels, sigmoid(margins, 1.0), data.amounts, data.accounts),
        review_cost,
        ("expected_loss", state.review_loss) if state.review_loss else ("probability", state.review),
    )
    if plot is not None:
        write_plot(found, review_cost, plot)
    if as_json:
        names = ("in_force", "probability", "expected_loss", "saving")
        figures = {name: getattr(found, name)._asdict() for name in names}
        curves = [_points(one) for one in found.curves]
        about = {
            "review_cost": review_cost,
            "payments": found.payments,
            "frauds": found.frauds,
            "left_out": data.left_out,
        }
        print_json({**about, **figures, "curves": curves})
        return
    chosen = {"in force": found.in_force, "cheapest": found.probability, "cheapest by loss": found.expected_loss}
    print_table(
        ("which", "by", "threshold", "reviews", "frauds", "value", "cost"),
        [
            {"which": which, **cost._asdict(), "threshold": f"{cost.threshold:.4g}"}
            | {name: f"{getattr(cost, name):,.0f}" for name in ("reviews", "frauds", "value", "cost")}
            for which, cost in chosen.items()
        ],
    )
    saving = found.saving
    print_fields(
        {
            "measured on": f"{found.payments:,} later payments, {found.frauds:,} of them fraud",
            "expected loss saves": f"{saving.value:.1%} ({saving.low:.1%} to {saving.high:.1%}) of the cheapest"
            " probability's cost",
            **({"left out": f"{data.left_out:,} of another engine or feature spec"} if data.left_out else {}),
        }
    )


def _points(one: CostCurve) -> dict[str, object]:
    """The curve at POINTS_MAX thresholds at most, as JSON."""
    some = np.unique(np.linspace(0, len(one.cost) - 1, min(len(one.cost), POINTS_MAX)).astype(np.int64))
    columns = {name: getattr(one, name)[some].tolist() for name in ("thresholds", "reviews", "frauds", "value", "cost")}
    columns["thresholds"] = [None if value == np.inf else value for value in columns["thresholds"]]
    return {"by": one.by, **columns}


def print_policy(edits: list[PolicyEdit]) -> None:
    """One change per line."""
    rows = [
        {**msgspec.to_builtins(edit), "when": time_text(edit.occurred_at), "at": f"c{edit.position}"} for edit in edits
    ]
    print_table(("at", "when", "actor", "change", "reason", "refused"), rows)
