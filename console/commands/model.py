"""`sentinel model`: which models exist, which one decides, and every change that people make to them.

Every change is one control event with an actor and a reason; workers switch at their next batch, without a pause.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from console import wiring
from console.acts import Actor, Reason, act_of, print_proposal
from console.answer_text import print_models
from console.log_options import AsOf, opened_log, opened_states, options, settings_of
from console.options import Json
from console.tables import print_fields, print_json, print_table, time_text
from console.timing import seconds_of
from core.control_stream import history
from core.errors import UNDECODABLE, BadInput, Corrupt
from core.features import spec
from core.files import open_private
from core.governance import CHAMPION
from core.log.base import EventLog
from core.partitions import partitions_of
from core.replay import Timeline
from core.text import csv_cell
from learners.governance import models as acts
from learners.governance.control_events import Artifact, find
from learners.governance.models import ALIASES, Alias, ModelAct
from learners.training.columns import deployed_plan
from models import rules_only
from models.naming import named
from models.shipped import shipped_baseline
from projections.audit import blast_radius
from projections.labelling.view import view
from projections.views.labels import LABELS
from projections.views.registry import champions, registry_of
from projections.views.registry_answers import RegistryAnswer, registry_answer

app = typer.Typer(
    help="Models: list, show, register, promote, approve, roll back; four-eyes rule; blast radius of a bad model.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Label = Annotated[str, typer.Argument(metavar="NAME-VERSION", help="A registered model, e.g. baseline-1.0.0.")]

app.callback()(options)


def _print_done(done: ModelAct, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    outcome = "decides again (rolled back)" if done.outcome == "rolled back" else done.outcome
    print(f"{done.model} {outcome} at c{done.position}".strip())
    print_proposal(done)


@app.command("list")
def list_models(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """List models with their stage, proposals, and when four eyes were turned on and off; with --as-of, as then."""
    with opened_states(context, as_of) as states:
        answer = registry_answer(states)
    if as_json:
        print_json(answer)
        return
    print_models(answer.models)
    state = answer.registry
    print_table(
        ("proposal", "model", "alias", "actor", "reason"),
        [
            {"proposal": p.proposal_id, "model": p.model, "alias": p.alias, "actor": p.actor, "reason": p.reason}
            for p in state.proposals.values()
        ],
    )
    print_table(
        ("at", "when", "four eyes", "actor", "reason", "cause"),
        [
            {
                "at": f"c{each.position}",
                "when": time_text(each.occurred_at),
                "four eyes": "on" if each.four_eyes else "off",
                "actor": each.actor,
                "reason": each.reason,
                "cause": each.causation_id,
            }
            for each in state.switches
        ],
    )
    print_fields({"four_eyes": "on" if state.governance.four_eyes else "off", "as_of": answer.as_of})


@app.command()
def show(context: typer.Context, label: Label, as_of: AsOf = None, as_json: Json = False) -> None:
    """Show one model: stage, lineage, metrics, training, and all its deployments."""
    with opened_states(context, as_of) as states:
        answer = registry_answer(states)
    found = _row(answer, label)
    if as_json:
        print_json(found)
        return
    print_fields({k: v for k, v in found.items() if k not in ("deployments", "training")})
    if found["training"]:
        print_fields({f"training.{k}": v for k, v in found["training"].items()})
    print_table(("at", "when", "action", "alias", "actor", "reason"), found["deployments"])


def _row(answer: RegistryAnswer, label: str) -> dict[str, Any]:
    state = answer.registry
    model = find(state, label)
    row = next(r for r in answer.models if r.model.label == label)
    training = next((t for t in state.trainings.values() if t.model == label), None)
    return {
        "model": label,
        "stage": row.stage,
        "digest": model.digest,
        "spec": model.spec,
        "registered": time_text(model.registered_at),
        "by": model.registered_by,
        "reason": model.reason,
        "lineage": row.lineage,
        "metrics": model.metrics,
        "training": msgspec.to_builtins(training) if training else None,
        "champion_before": [d.model for d in champions(state)],
        "deployments": [
            {**msgspec.to_builtins(d), "at": f"c{d.position}", "when": time_text(d.occurred_at)}
            for d in state.deployments
            if d.model == label
        ],
        "as_of": answer.as_of,
    }


@app.command()
def register(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="Model artifact; docs/training.md lists the kinds. Default: the baseline.")
    ] = None,
    name: Annotated[str, typer.Option(help="The model's name. Default: from the card.")] = "",
    version: Annotated[str, typer.Option(help="Its semantic version. Default: from the card.")] = "",
    parent: Annotated[str, typer.Option(help="The model it was derived from, NAME-VERSION.")] = "",
    card: Annotated[
        Path | None,
        typer.Option(
            help="card.json as written by `sentinel train`, for name, version and metrics. Default: the one"
            " beside the artifact."
        ),
    ] = None,
    without_model: Annotated[
        bool, typer.Option("--rules-only", help="Instead of a model, the choice that rules alone decide.")
    ] = False,
    actor: Actor = "",
    reason: Reason = "registered by hand",
    as_json: Json = False,
) -> None:
    """Store an artifact in the log under its SHA-256 and register it. It decides nothing until it is promoted.

    LightGBM's text, XGBoost's and CatBoost's JSON, ONNX tree ensembles and linear models are told apart by content. A
    model whose columns have the names of features and fields of the deployed program reads these, by definition.
    """
    found: dict[str, Any]
    if without_model:
        if file is not None or card is not None:
            raise BadInput("--rules-only takes neither a model's file nor a card")
        content, found = rules_only.CONTENT, {"name": rules_only.NAME, "version": rules_only.VERSION}
    elif file is None:
        content, found = shipped_baseline()
    else:
        content, found = _read(file), _card(file, card)
    try:
        with opened_log(context) as log:
            content = named(content, spec.NAMES, lambda: deployed_plan(log)[1])
    except Corrupt as error:  # a bad file from the user, not corrupt data in the log
        raise BadInput(f"{file}: {error}") from None
    artifact = Artifact(
        content,
        name or found.get("name", ""),
        version or found.get("version", ""),
        spec.SPEC_VERSION,
        found.get("metrics", {}),
        parent or found.get("parent", ""),
    )
    if not artifact.name or not artifact.version:
        raise BadInput("missing model name or version: give --name and --version, or --card")
    try:
        wiring.load_scorer(content, artifact.label, hashlib.sha256(content).hexdigest())
    except Corrupt as error:  # a bad file from the user, not corrupt data in the log
        raise BadInput(f"{file}: {error}") from None
    with opened_log(context) as log:
        done = acts.register(log, artifact, act_of(actor, reason, log))
    _print_done(done, as_json)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None


def _card(file: Path, card: Path | None) -> dict[str, Any]:
    beside = file.with_name("card.json")
    if card is None and not beside.is_file():
        return {}
    try:
        return msgspec.json.decode(_read(card or beside), type=dict[str, Any])
    except UNDECODABLE as error:
        raise BadInput(f"{card or beside} is not a model card: {error}") from None


@app.command()
def promote(
    context: typer.Context,
    label: Label,
    reason: Reason,
    alias: Annotated[str, typer.Option("--as", help="champion or shadow.")] = "champion",
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Warn if a new champion would not pass the gate (docs/incremental.md)."
        ),
    ] = True,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Make a registered model the champion (it decides) or the shadow (it only scores beside the champion).

    With four eyes on, a new champion is only proposed. A new champion ends a running experiment. If it would not pass
    the gate on the newest decisions with mature labels, a warning says why; it is promoted all the same.
    """
    with opened_log(context) as log:
        if check and alias == CHAMPION:
            _warn_of_gate(context, log, label)
        done = acts.deploy(log, label, act_of(actor, reason, log), _alias(alias))
    _print_done(done, as_json)


def _warn_of_gate(context: typer.Context, log: EventLog, label: str) -> None:
    """Say on stderr why the model would not pass the gate against the champion, or why that can't be judged."""
    from learners.loop.examination import examine
    from learners.loop.settings import learn_settings

    registry = registry_of(history(log))
    model = find(registry, label)
    settings = learn_settings(settings_of(context).learn)
    try:
        found = examine(
            log,
            partitions_of(log),
            registry,
            model,
            settings,
            wiring.load_scorer,
            seconds_of,
            lambda: Timeline(history(log), wiring.open_resolver(log)),
        )
    except BadInput as error:
        if registry.aliases.get(CHAMPION):
            print(f"warning: the gate can't judge {label}: {error}", file=sys.stderr)
        return
    if found is not None and not found.accepted:
        champion, rows = registry.aliases[CHAMPION], found.metrics["rows"]
        print(
            f"warning: {label} does not pass the gate against {champion} on {rows:,.0f} decisions: {found.reason}",
            file=sys.stderr,
        )


def _alias(text: str) -> Alias:
    if text not in ALIASES:
        raise BadInput(f"{text!r} is not a valid alias; choose {' or '.join(ALIASES)}")
    return text


@app.command()
def approve(
    context: typer.Context,
    proposal: Annotated[str, typer.Argument(help="The proposal, as `sentinel model list` shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="What you checked.")],
    check: Annotated[bool, typer.Option("--check/--no-check", help="Warn if it would not pass the gate.")] = True,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Approve another person's proposal; this deploys the model."""
    with opened_log(context) as log:
        proposed = registry_of(history(log)).proposals.get(proposal)
        if check and proposed is not None:
            _warn_of_gate(context, log, proposed.model)
        done = acts.approve(log, proposal, act_of(actor, reason, log))
    _print_done(done, as_json)


@app.command()
def rollback(
    context: typer.Context,
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="An earlier champion. Default: the previous one.")] = None,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Make the previous champion decide again, from the next batch on. Never needs a second person."""
    with opened_log(context) as log:
        done = acts.roll_back(log, act_of(actor, reason, log), to)
    _print_done(done, as_json)


@app.command()
def withdraw(
    context: typer.Context,
    what: Annotated[str, typer.Argument(metavar="shadow|ID", help="The shadow model, or an open proposal.")],
    reason: Reason,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Remove the shadow model, or take back an open proposal: it can't be approved any more."""
    with opened_log(context) as log:
        if ":" in what:
            done = acts.withdraw_proposal(log, what, act_of(actor, reason, log))
        else:
            done = acts.withdraw(log, _alias(what), act_of(actor, reason, log))
    if done.proposal_id and not as_json:
        print(f"proposal {done.proposal_id} of {done.model} withdrawn at c{done.position}")
        return
    _print_done(done, as_json)


@app.command("four-eyes")
def four_eyes(
    context: typer.Context,
    state: Annotated[str, typer.Argument(help="on or off.")],
    reason: Reason,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Require a second person for whatever changes what decides, or stop requiring one, which itself takes two. Every
    reader of the log ignores what violates the rule.
    """
    if state not in ("on", "off"):
        raise BadInput(f"four-eyes must be on or off, not {state!r}")
    with opened_log(context) as log:
        done = acts.set_four_eyes(log, state == "on", act_of(actor, reason, log))
    if as_json:
        print_json(done)
    else:
        print(f"four eyes {state if done.outcome != 'proposed' else 'off proposed'} at c{done.position}")
        print_proposal(done)


@app.command()
def radius(
    context: typer.Context,
    label: Label,
    rows: Annotated[int, typer.Option(help="Number of decisions to show; 0: only the summary.", min=0)] = 20,
    csv: Annotated[Path | None, typer.Option(help="Write every decision to this CSV file.")] = None,
    as_json: Json = False,
) -> None:
    """Show a model's blast radius: every decision it made, and which of them have turned out wrong."""
    with opened_states(context) as states:
        log, partitions = states.log, states.partitions
        model = find(registry_answer(states).registry, label)
        labels = cache(lambda: view(states.by_partition(LABELS)))
        every = partial(blast_radius.affected, log, partitions, model.digest, labels)
        found = blast_radius.summary(_written(every(), csv))
        shown = list(islice(every(), rows))
    if as_json:
        print_json({"model": label, "summary": found, "decisions": shown})
        return
    fields = ("partition", "position", "transaction_id", "account_id", "amount", "decision", "arm", "fraud")
    print_table(fields, [msgspec.to_builtins(row) for row in shown])
    print_fields(
        {
            "model": label,
            "decisions": found.decisions,
            "arms": found.arms,
            "accounts": found.accounts,
            "from": time_text(found.first_ms),
            "to": time_text(found.last_ms),
            "missed_frauds": f"{found.missed_frauds:,} ({found.missed_amount:,.2f})",
            "false_positives": found.false_positives,
        }
    )


def _written(rows: Iterator[blast_radius.Affected], path: Path | None) -> Iterator[blast_radius.Affected]:
    if path is None:
        yield from rows
        return
    import csv

    try:
        with open_private(path, newline="") as file:
            writer = csv.writer(file)
            writer.writerow(blast_radius.Affected.__struct_fields__)
            for row in rows:
                writer.writerow(map(csv_cell, msgspec.structs.astuple(row)))
                yield row
    except OSError as error:
        raise BadInput(f"can't write {path}: {error.strerror}") from None
