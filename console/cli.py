"""`sentinel`: the command line. Errors a user can mend are one line on stderr and an exit code, never a traceback.

Exit codes: 0 done · 1 a check did not hold · 2 bad input or configuration · 3 stored bytes are corrupt · 4 a server
can't be reached · 5 somebody else wrote first · 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from console.commands import (
    archive,
    audit,
    bench,
    demo,
    doctor,
    drift,
    experiment,
    feedback,
    ingest,
    learn,
    model,
    produce,
    project,
    query,
    reference,
    replay,
    train,
    verify,
    whatif,
)
from core.errors import SentinelError

app = typer.Typer(
    name="sentinel",
    help="Real-time payment-fraud detection; every decision can be replayed, bit for bit, from an append-only log.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command("demo")(demo.demo)
app.command("ingest")(ingest.ingest)
app.command("feedback")(feedback.feedback)
app.command("produce")(produce.produce)
app.command("analyze")(produce.analyze)
app.command("replay")(replay.replay)
app.command("audit")(audit.audit)
app.command("whatif")(whatif.whatif)
app.command("reference")(reference.reference)
app.command("train")(train.train)
app.command("learn")(learn.learn)
app.command("drift")(drift.drift)
app.add_typer(model.app, name="model")
app.add_typer(experiment.app, name="experiment")
app.command("archive")(archive.archive)
app.command("verify")(verify.verify)
app.command("project")(project.project)
app.add_typer(query.app, name="query")
app.command("doctor")(doctor.doctor)
app.add_typer(bench.app, name="bench")


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if show:
        typer.echo("stream-sentinel 0.1.0")
        raise typer.Exit


def main() -> None:
    """Entry point of the `sentinel` script."""
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except SentinelError as error:
        _fail(str(error), error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except Exception as error:
        # click's own usage errors know how to show themselves; anything else is a bug and keeps its traceback.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))


def _fail(message: str, code: int) -> None:
    print(f"sentinel: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
