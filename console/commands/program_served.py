"""`sentinel program served`: which programs decided at a time, and who let them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from console.log_options import opened_states
from console.options import Json
from console.tables import print_fields, print_json, print_table, time_text
from projections.views.experiments import EXPERIMENTS
from projections.views.programs import PROGRAMS, ProgramRegistry, Said, Service, Trial, label_of


def served(
    context: typer.Context,
    at: Annotated[
        str | None, typer.Option("--at", help="A time (2026-03-01T12:00Z), p07:1-533 or c12. Default: now.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell which programs decide, or decided at a time, also in an experiment's arms, and who let them, and why."""
    with opened_states(context, at) as states:
        registry, moment = states.of_control(PROGRAMS), states.as_of
        held = states.of_control(EXPERIMENTS)
    service = registry.services[-1] if registry.services else None
    digest = service.digest if service is not None else ""
    origin = _origin(registry, digest)
    proposal = origin.proposal if origin is not None else None
    found = {
        "program": label_of(registry, digest),
        "digest": digest or registry.default,
        "since": service.began if service is not None else None,
        "action": service.action if service is not None else "the log's default",
        "proposed": proposal.proposed if proposal is not None else None,
        "approved": proposal.approved if proposal is not None else None,
        "deployed": origin.began if origin is not None else None,
    }
    arms = [_arm(registry, each) for each in registry.trials if each.experiment == held.running]
    traffic = held.experiments[held.running].changes[-1].traffic if arms else 0
    if as_json:
        tried = {"experiment": held.running if arms else "", "traffic": traffic, "arms": arms}
        print_json({"as_of": moment, **found, **tried})
        return
    print_fields({key: told(value) if isinstance(value, Said) else value or "" for key, value in found.items()})
    if arms:
        print_fields({"experiment": f"{held.running}, {traffic / 100:g} % of accounts"})
        columns = ("arm", "share", "program", "model", "proposed", "approved", "started")
        shown = [{k: told(v) if isinstance(v, Said) else v or "" for k, v in each.items()} for each in arms]
        print_table(columns, [{**each, "share": f"{int(each['share']) / 100:g} %"} for each in shown])
    print_fields({"as_of": moment})


def _arm(registry: ProgramRegistry, trial: Trial) -> dict[str, Any]:
    """What an arm decides by, and who proposed, approved and started it. An earlier deployment's proposal counts."""
    origin = _origin(registry, trial.digest)
    proposal = trial.proposal or (origin.proposal if origin is not None else None)
    return {
        "arm": trial.arm,
        "share": trial.share,
        "program": label_of(registry, trial.digest),
        "digest": trial.digest or registry.default,
        "model": trial.model,
        "proposed": proposal.proposed if proposal is not None else None,
        "approved": proposal.approved if proposal is not None else None,
        "started": trial.began,
    }


def _origin(registry: ProgramRegistry, digest: str) -> Service | None:
    """The newest deployment of the program, also if a rollback returned to it."""
    return next((s for s in reversed(registry.services) if (s.digest, s.action) == (digest, "deploy")), None)


def told(said: Said) -> str:
    """Who said something, when and why, in words."""
    return f"{time_text(said.occurred_at)} by {said.actor} at c{said.position}: {said.reason}"
