"""`sentinel threshold`: the probabilities from which payments are reviewed and declined, and every change of them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from console.acts import Actor, Reason, act_of
from console.log_options import AsOf, opened_log, opened_states, options
from console.options import Json
from console.tables import print_fields, print_json, print_table, time_text
from learners.governance import business
from projections.views.registry import REGISTRY
from projections.views.registry_answers import PolicyEdit, policy_history

app = typer.Typer(
    help="Thresholds of review and decline: show, set, history.", no_args_is_help=True, rich_markup_mode=None
)
app.callback()(options)


@app.command()
def show(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Show the thresholds in force, and who set them."""
    with opened_states(context, as_of) as states:
        registry, moment = states.of_control(REGISTRY), states.as_of
    last = next((edit for edit in reversed(policy_history(registry, "thresholds")) if not edit.refused), None)
    if as_json:
        print_json({"as_of": moment, "review": registry.review, "decline": registry.decline, "set": last})
        return
    print_fields(
        {
            "review": f"{registry.review:g}",
            "decline": f"{registry.decline:g}",
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
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Set one or both thresholds, from the workers' next batch on. A threshold that is not given stays.

    sentinel threshold set --decline 0.9 --reason "too many complaints"
    """
    with opened_log(context) as log:
        done = business.set_thresholds(log, act_of(actor, reason), review, decline)
    state = done.state
    if as_json:
        print_json(
            {"position": done.position, "changed": done.changed, "review": state.review, "decline": state.decline}
        )
        return
    print(
        f"review {state.review:g}, decline {state.decline:g} at c{done.position}{'' if done.changed else ': unchanged'}"
    )


@app.command()
def history(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Show every change, oldest first: who, when, why; and changes that were refused."""
    with opened_states(context, as_of) as states:
        edits, moment = policy_history(states.of_control(REGISTRY), "thresholds"), states.as_of
    if as_json:
        print_json({"as_of": moment, "history": edits})
        return
    print_policy(edits)
    print_fields({"changes": len(edits), "as_of": moment})


def print_policy(edits: list[PolicyEdit]) -> None:
    """One change per line."""
    rows = [
        {**msgspec.to_builtins(edit), "when": time_text(edit.occurred_at), "at": f"c{edit.position}"} for edit in edits
    ]
    print_table(("at", "when", "actor", "change", "reason", "refused"), rows)
