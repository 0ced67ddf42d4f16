"""`sentinel rule`: the rules with their parameters, and every change of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from console.acts import Actor, Reason, act_of, print_proposed
from console.commands.threshold import print_policy
from console.log_options import AsOf, opened_log, opened_states, options
from console.options import Json
from console.tables import print_fields, print_json, print_table
from core.errors import BadInput
from core.program import loading
from core.program.checked import CheckedProgram, CheckedRule
from core.program.errors import meant
from core.program.language import names_read
from learners.governance import business
from projections.views.programs import PROGRAMS, in_force
from projections.views.registry import REGISTRY, Registry
from projections.views.registry_answers import policy_history

app = typer.Typer(
    help="Rules: show, set and reset parameters, disable, enable, history.", no_args_is_help=True, rich_markup_mode=None
)
app.callback()(options)

Codes = Annotated[list[str], typer.Argument(metavar="CODE...", help="Rules, as `sentinel rule show` names them.")]


@app.command()
def show(
    context: typer.Context,
    code: Annotated[str | None, typer.Argument(help="Only this rule.")] = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Show the rules of the program in force, with their parameters; one in brackets has its default value."""
    with opened_states(context, as_of) as states:
        registry, programs, moment = states.of_control(REGISTRY), states.of_control(PROGRAMS), states.as_of
        program = loading.load(in_force(programs) or programs.default, states.log.get_blob).checked
    codes = [rule.code for rule in program.rules]
    if code is not None and code not in codes:
        raise BadInput(f"unknown rule {code!r}{meant(code, codes)}; known: {', '.join(codes)}")
    rows = [_row(rule, program, registry) for rule in program.rules if code in (None, rule.code)]
    if as_json:
        print_json({"as_of": moment, "rules": rows})
        return
    for row in rows:
        changed = registry.parameters
        row["parameters"] = ", ".join(
            f"{name} {value:g}" if name in changed else f"{name} ({value:g})"
            for name, value in row["parameters"].items()
        )
    print_table(("code", "effect", "state", "parameters", "meaning"), rows)
    print_fields({"as_of": moment})


def _row(rule: CheckedRule, program: CheckedProgram, registry: Registry) -> dict[str, Any]:
    state = "enabled" if rule.mode == "live" else rule.mode
    return {
        "code": rule.code,
        "effect": rule.effect,
        "state": "disabled" if rule.code in registry.disabled else state,
        "parameters": {
            name: registry.parameters.get(name, program.parameters[name]) for name in names_read(rule.when).parameters
        },
        "meaning": rule.words,
    }


@app.command("set")
def set_parameters(
    context: typer.Context,
    settings: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Parameters and their new values.")],
    reason: Reason,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Set parameters of rules, from the workers' next batch on. All others stay as they are.

    sentinel rule set velocity_10m=6 amount_high=2500 --reason "holiday season"
    """
    with opened_log(context) as log:
        _print_done(business.change_rules(log, act_of(actor, reason, log), parameters=_parsed(settings)), as_json)


def _parsed(settings: list[str]) -> dict[str, float]:
    if len(settings) == 2 and "=" not in "".join(settings):  # NAME VALUE
        settings = ["=".join(settings)]
    found: dict[str, float] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            if not equals:
                raise BadInput(f"{text!r} sets nothing; write NAME=VALUE, such as velocity_10m=6") from None
            raise BadInput(f"{name} must be a number, not {value!r}") from None
    return found


@app.command()
def reset(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Parameters.")],
    reason: Reason,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Reset parameters to their defaults."""
    with opened_log(context) as log:
        _print_done(business.change_rules(log, act_of(actor, reason, log), reset=names), as_json)


@app.command()
def disable(context: typer.Context, codes: Codes, reason: Reason, actor: Actor = "", as_json: Json = False) -> None:
    """Disable rules: they no longer hit, from the workers' next batch on."""
    with opened_log(context) as log:
        _print_done(business.change_rules(log, act_of(actor, reason, log), disable=codes), as_json)


@app.command()
def enable(context: typer.Context, codes: Codes, reason: Reason, actor: Actor = "", as_json: Json = False) -> None:
    """Enable disabled rules again."""
    with opened_log(context) as log:
        _print_done(business.change_rules(log, act_of(actor, reason, log), enable=codes), as_json)


@app.command()
def history(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Show every change, oldest first: who made it, when and why. Refused changes too."""
    with opened_states(context, as_of) as states:
        edits, moment = policy_history(states.of_control(REGISTRY), "rules"), states.as_of
    if as_json:
        print_json({"as_of": moment, "history": edits})
        return
    print_policy(edits)
    print_fields({"changes": len(edits), "as_of": moment})


def _print_done(done: business.Done, as_json: bool) -> None:
    state = done.state
    if as_json:
        print_json(
            {
                "position": done.position,
                "changed": done.changed,
                "parameters": state.parameters,
                "disabled": state.disabled,
                "proposals": done.proposals,
            }
        )
        return
    print(f"rules {'changed' if done.changed else 'unchanged'} at c{done.position}")
    differing = ", ".join(f"{name} {value:g}" for name, value in state.parameters.items())
    print_fields({"parameters": differing or "defaults", "disabled": " ".join(state.disabled) or "none"})
    print_proposed(done.proposals)
