"""`sentinel program`: the document that decides: checked, compared, proposed, approved, deployed, rolled back.

A FILE is a TOML document (docs/programs.md); a PROGRAM is `name@version`, the first digits of its SHA-256, `default`,
or a file.
"""

from __future__ import annotations

from os.path import isfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from console.acts import Actor, Reason, act_of
from console.commands.program_backtest import backtest
from console.commands.program_radius import radius
from console.commands.program_served import served, told
from console.commands.program_suggest import suggest
from console.log_options import AsOf, opened_log, opened_states, options
from console.options import Json
from console.preparing import Now, Wait, await_prepared
from console.program_names import Which, checked_file, file_bytes, program_named, registry_of, stored_program
from console.tables import print_fields, print_json, print_table, time_text
from core import control_stream
from core.errors import BadInput
from core.program import document, examples, library, loading
from core.program.differences import differences
from core.program.document import Program
from core.program.document_writing import reformatted, tables, toml
from core.program.loading import Loaded
from core.program.problems import DocumentError, Problem
from core.program.shipped import LIBRARIES
from core.text import visible
from learners.governance import programs as acts
from learners.governance.programs import ProgramAct
from projections.views.programs import (
    PROGRAMS,
    Said,
    in_force,
    label_of,
)

INVALID = BadInput.exit_code
FAILED = 1

app = typer.Typer(
    help="Decision programs: check, test, show, diff, backtest, suggest, propose, approve, withdraw, deploy, history.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.callback()(options)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A program as a TOML document.")]


# --- documents ----------------------------------------------------------------------------------------------------


@app.command()
def check(file: File, as_json: Json = False) -> None:
    """Check a document and report every fault with its line and what to write instead. Needs no log."""
    try:
        loaded = loading.check(file_bytes(file))
    except DocumentError as error:
        if as_json:
            print_json({"valid": False, "problems": [_problem(each) for each in error.problems]})
        else:
            for each in error.problems:
                print(visible(f"{file}: {each}"))
        raise typer.Exit(INVALID) from None
    if as_json:
        print_json({"valid": True, "digest": loaded.digest, "program": loaded.program.label, **_counts(loaded)})
        return
    counts = _counts(loaded)
    if not counts["costliest"]:
        del counts["costliest"], counts["costliest_bytes"]
    print_fields({"program": loaded.program.label, "digest": loaded.digest, **counts})


def _problem(each: Problem) -> dict[str, Any]:
    return {"line": each.line, "path": each.path, "at": each.at, "place": each.place, "message": each.message}


def _counts(loaded: Loaded) -> dict[str, int | str]:
    """How large the program is. account_bytes: of the state of its aggregates, beside the kernel's."""
    return {
        "fields": len(loaded.program.fields),
        "features": len(loaded.checked.features),
        "rules": len(loaded.checked.rules),
        "examples": len(loaded.program.examples),
        **loading.size_of(loaded.checked)._asdict(),
    }


@app.command("test")
def run_examples(file: File, as_json: Json = False) -> None:
    """Decide a document's examples as a worker would, and report what does not hold. Needs no log."""
    loaded = checked_file(file)
    if not loaded.program.examples:
        raise BadInput(f"{file} has no [[examples]] (docs/programs.md)")
    outcomes = examples.run(loaded.program)
    failed = [each for each in outcomes if each.faults]
    if as_json:
        print_json({"examples": [each._asdict() for each in outcomes], "failed": len(failed)})
    else:
        for each in outcomes:
            print(visible(f"{'FAILED' if each.faults else 'ok':<7}{each.name}"))
            told = (
                (*each.faults, f"decided: {each.decision}; hits: {' '.join(each.hits) or 'none'}")
                if each.faults
                else ()
            )
            for line in told:
                print(visible(f"       {line}"))
        print(f"{len(outcomes)} examples, {len(failed)} failed")
    if failed:
        raise typer.Exit(FAILED)


@app.command()
def fmt(
    file: File,
    write: Annotated[bool, typer.Option("--write", help="Change the file instead of printing the document.")] = False,
    as_json: Json = False,
) -> None:
    """Format a document's expressions; comments, order and expressions of several lines stay. Needs no log."""
    content = file_bytes(file)
    text = reformatted(content)
    changed = text != content.decode("utf-8-sig").replace("\r\n", "\n")
    if write and changed:
        try:
            file.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise BadInput(f"can't write {file}: {error.strerror}") from None
    if as_json:
        print_json({"changed": changed, "text": text})
    elif write:
        print(f"{file} {'formatted' if changed else 'unchanged'}")
    else:
        print(text, end="")


@app.command()
def show(
    context: typer.Context,
    which: Annotated[
        str | None, typer.Argument(metavar="[PROGRAM]", help="As for diff, or a library. Default: what decides now.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a program as TOML, in canonical form: without comments and defaults."""
    if which in LIBRARIES:
        _print_program(library.library(LIBRARIES[which]).program, {"library": which}, as_json)
        return
    with opened_log(context) as log:
        registry = registry_of(log)
        program = program_named(log, registry, which) if which else stored_program(log, registry, in_force(registry))
    found = registry.programs.get(document.digest(program))
    about = {"registered": told(found.registered)} if found is not None else {}
    deciding = in_force(registry) or registry.default
    _print_program(program, {**about, "decides": document.digest(program) == deciding}, as_json)


def _print_program(program: Program, told: dict[str, Any], as_json: bool) -> None:
    digest = document.digest(program)
    if as_json:
        print_json({"digest": digest, **told, "document": tables(program)})
        return
    print(f"# {program.label}, SHA-256 {digest}")
    print(visible(toml(program), lines=True), end="")


@app.command()
def diff(
    context: typer.Context,
    before: Which,
    after: Annotated[
        str | None, typer.Argument(metavar="[PROGRAM]", help="Compared with it. Default: what decides now.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe what changes from one program to another, or from the one that decides now."""
    names = (before, after)
    if all(name is not None and isfile(name) for name in names):
        old, new = (loading.check(file_bytes(Path(str(name)))).program for name in names)
    else:
        with opened_log(context) as log:
            registry = registry_of(log)
            if after is None:
                old, new = stored_program(log, registry, in_force(registry)), program_named(log, registry, before)
            else:
                old, new = program_named(log, registry, before), program_named(log, registry, after)
    found = differences(old, new)
    if as_json:
        print_json({"from": document.digest(old), "to": document.digest(new), "differences": found})
        return
    for line in found or ["the same program"]:
        print(visible(line))


# --- acts ---------------------------------------------------------------------------------------------------------


@app.command()
def propose(context: typer.Context, file: File, reason: Reason, actor: Actor = "", as_json: Json = False) -> None:
    """Check a document, store it in the log and propose it for deployment."""
    loaded = checked_file(file)
    with opened_log(context) as log:
        done = acts.propose(log, loaded.program, act_of(actor, reason, log))
        four_eyes = control_stream.current(log).governance.four_eyes
    if as_json:
        print_json(done)
        return
    print(f"{done.program} {done.outcome} at c{done.position} as {done.proposal_id}")
    if four_eyes:
        print(
            f"four eyes: a second person must run `sentinel program approve {done.proposal_id}` before it is deployed"
        )


@app.command()
def approve(
    context: typer.Context,
    proposal: Annotated[str, typer.Argument(metavar="ID", help="The proposal, as `propose` named it.")],
    reason: Annotated[str, typer.Option("--reason", help="What you checked.")],
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Approve another person's proposal. The program decides once it is deployed."""
    with opened_log(context) as log:
        done = acts.approve(log, proposal, act_of(actor, reason, log))
    _print_done(done, as_json)


@app.command()
def withdraw(
    context: typer.Context,
    proposal: Annotated[str, typer.Argument(metavar="ID", help="The proposal, as `propose` named it.")],
    reason: Reason,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Take back a proposal, yours or another's: it can't be approved or deployed, and workers stop preparing it."""
    with opened_log(context) as log:
        done = acts.withdraw(log, proposal, act_of(actor, reason, log))
    if as_json:
        print_json(done)
        return
    print(f"proposal {done.proposal_id} of {done.program} {done.outcome} at c{done.position}")


@app.command()
def deploy(
    context: typer.Context,
    which: Annotated[
        str, typer.Argument(metavar="ID|PROGRAM", help="A proposal, name@version, or digits of the SHA-256.")
    ],
    reason: Reason,
    wait: Wait = 600.0,
    now: Now = False,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Let a program decide, from the workers' next batch on. With four eyes on, its proposal must be approved.

    If it has aggregates of its own, workers first fold them from the log, beside their work; then it takes over without
    a pause.
    """
    with opened_log(context) as log:
        if not now:
            digest, lacking = acts.to_deploy(log, which, act_of(actor, reason, log))
            await_prepared(log, {digest: lacking}, wait, "deployed")
        done = acts.deploy(log, which, act_of(actor, reason, log))
    _print_done(done, as_json)


@app.command()
def rollback(
    context: typer.Context,
    reason: Reason,
    to: Annotated[
        str | None, typer.Argument(metavar="[PROGRAM]", help="An earlier one, or default. Default: the previous one.")
    ] = None,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Let the previous program decide again, from the next batch on. Never needs a second person."""
    with opened_log(context) as log:
        done = acts.roll_back(log, act_of(actor, reason, log), to)
    _print_done(done, as_json)


def _print_done(done: ProgramAct, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    outcome = "decides again (rolled back)" if done.outcome == "rolled back" else done.outcome
    print(f"{done.program} {outcome} at c{done.position}")
    if done.ended:
        print(f"experiment {done.ended} ended: its control was the program that decided before")


# --- answers ------------------------------------------------------------------------------------------------------


@app.command()
def history(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Show registrations, proposals that are open or withdrawn, deployments, rollbacks, experiments, refused acts."""
    with opened_states(context, as_of) as states:
        registry, moment = states.of_control(PROGRAMS), states.as_of
    if as_json:
        print_json({"as_of": moment, **msgspec.to_builtins(registry)})
        return
    rows = [_row(each.registered, "registered", each.label) for each in registry.programs.values()]
    for proposal in (*registry.proposals.values(), *(each.proposal for each in registry.withdrawn)):
        label = f"{label_of(registry, proposal.digest)} as {proposal.proposal_id}"
        rows.append(_row(proposal.proposed, "proposed", label))
        rows += [_row(proposal.approved, "approved", label)] if proposal.approved else []
    for each in registry.withdrawn:
        label = f"{label_of(registry, each.proposal.digest)} as {each.proposal.proposal_id}"
        rows.append(_row(each.withdrawn, "withdrawn", label))
    for service in registry.services:
        rows.append(_row(service.began, service.action, label_of(registry, service.digest)))
    for trial in registry.trials:
        label = f"{label_of(registry, trial.digest)} in {trial.experiment}/{trial.arm}"
        rows.append(_row(trial.began, "tried", label))
    rows += [_row(each.said, "refused", f"{each.type}: {each.refused}") for each in registry.refused]
    rows.sort(key=lambda row: int(row["at"][1:]))
    print_table(("at", "when", "actor", "act", "program", "reason"), rows)
    print_fields({"decides": label_of(registry, in_force(registry)), "as_of": moment})


def _row(said: Said, act: str, program: str) -> dict[str, Any]:
    return {
        "at": f"c{said.position}",
        "when": time_text(said.occurred_at),
        "actor": said.actor,
        "act": act,
        "program": program,
        "reason": said.reason,
    }


app.command()(backtest)
app.command()(suggest)
app.command()(radius)
app.command()(served)
