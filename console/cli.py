"""`sentinel`: the command line. Errors a user can mend are one line on stderr and an exit code, never a traceback.

Exit codes: 0 done · 1 a check did not hold · 2 bad input or configuration · 3 stored bytes are corrupt · 4 a server
can't be reached · 5 somebody else wrote first · 130 interrupted.

A command's module is loaded when that command is called, and what few of its calls need (Optuna, River, matplotlib) at
the first use: rolling a model back must not wait for libraries of training. The program's own --help loads all modules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

from core.errors import SentinelError

COMMANDS = {
    "demo": "demo.demo",
    "ingest": "ingest.ingest",
    "feedback": "feedback.feedback",
    "produce": "produce.produce",
    "analyze": "produce.analyze",
    "replay": "replay.replay",
    "audit": "audit.audit",
    "whatif": "whatif.whatif",
    "reference": "reference.reference",
    "train": "train.train",
    "learn": "learn.learn",
    "drift": "drift.drift",
    "model": "model.app",
    "experiment": "experiment.app",
    "archive": "archive.archive",
    "verify": "verify.verify",
    "project": "project.project",
    "query": "query.app",
    "doctor": "doctor.doctor",
    "bench": "bench.app",
}
"""Every command, in the order of --help: the function, or the group of commands, in `console.commands`."""


def application(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The program with the commands named, whose modules are loaded now."""
    app = typer.Typer(
        name="sentinel",
        help="Real-time payment-fraud detection; every decision can be replayed, bit for bit, from an append-only log.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for name in names:
        module, _, attribute = COMMANDS[name].partition(".")
        command = getattr(import_module(f"console.commands.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    app.callback(invoke_without_command=True)(_version)
    return app


def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if show:
        typer.echo(f"stream-sentinel {version('stream-sentinel')}")
        raise typer.Exit


def main() -> None:
    """Entry point of the `sentinel` script."""
    first = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    try:
        app = application([first] if first in COMMANDS else COMMANDS)
        code = app(prog_name="sentinel", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except SentinelError as error:
        _fail(str(error), error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except Exception as error:
        # Usage errors of the command line's own; anything else is a bug and keeps its traceback.
        show, message = getattr(error, "show", None), getattr(error, "format_message", None)
        if show is None or message is None:
            raise
        context = getattr(error, "ctx", None)
        if context is None or not message():  # a group without a command: its help
            show()
            sys.exit(getattr(error, "exit_code", 2))
        said = " ".join(message().split()).removesuffix(".")
        _fail(f"{said} ({context.command_path} --help)", getattr(error, "exit_code", 2))


def _fail(message: str, code: int) -> None:
    print(f"sentinel: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
