"""`sentinel`: the command line. An error that the user can fix is one line on stderr and an exit code, no traceback.

Exit codes are those of the errors (`console.command_page`).

A command's module is loaded only when that command runs, and libraries that few calls need (Optuna, River, matplotlib)
on first use: a rollback must not wait for training libraries. Only the program's own --help loads every module.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from console.command_group import Group
from console.command_page import INTERRUPTED, epilogue
from console.completing import VARIABLE, answer
from console.terminal import harmless_output
from core.errors import BadInput, SentinelError
from core.files import FULL_DISK
from core.text import clipped, visible

PATH_FAULTS = frozenset((errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG))
"""What is wrong with a path as given; looking whether there is something raises these."""
HELP_COLUMNS = range(60, 161)
"""Help is as wide as the terminal, within these bounds."""

SECTIONS: dict[str, dict[str, str]] = {
    "Begin": {
        "demo": "demo.demo",
        "run": "run.run",
        "up": "up.up",
        "down": "up.down",
        "status": "up.status",
        "logs": "up.logs",
        "sample": "sample.sample",
        "doctor": "doctor.doctor",
        "bench": "bench.app",
        "completion": "completion.completion",
    },
    "Bring in payments and verdicts": {
        "map": "map.map_file",
        "analyze": "analyze.analyze",
        "produce": "produce.produce",
        "history": "history.app",
        "feedback": "feedback.feedback",
        "schema": "schema.schema",
    },
    "Work on fraud": {
        "alerts": "alerts.alerts",
        "case": "case.app",
        "block": "block.block",
        "unblock": "block.unblock",
        "list": "lists.app",
        "query": "query.app",
        "sql": "sql.sql",
        "export": "export.export",
    },
    "Set what decides": {
        "program": "program.app",
        "rule": "rule.app",
        "threshold": "threshold.app",
        "rates": "rates.app",
        "proposal": "proposal.app",
    },
    "Train and compare models": {
        "train": "train.train",
        "model": "model.app",
        "experiment": "experiment.app",
        "learn": "learn.learn",
        "drift": "drift.drift",
        "reference": "reference.reference",
    },
    "Answer for decisions": {
        "decisions": "decisions.decisions",
        "audit": "audit.audit",
        "replay": "replay.replay",
        "whatif": "whatif.whatif",
        "prove": "prove.prove",
        "verify": "verify.verify",
    },
    "Run it": {
        "ingest": "ingest.ingest",
        "respond": "respond.app",
        "serve": "serve.serve",
        "project": "project.project",
        "archive": "archive.archive",
        "restore": "restore.restore",
        "anchor": "anchor.anchor",
        "partition": "partition.app",
        "capacity": "capacity.capacity",
    },
    "People and privacy": {
        "user": "user.app",
        "identity": "identity.app",
        "erase": "erase.erase",
        "unseal": "unseal.unseal_payment",
        "vault": "vault.app",
    },
}
"""Every command in the order and under the headings of --help, with its function or group in `console.commands`."""

COMMANDS = {name: where for section in SECTIONS.values() for name, where in section.items()}


class _Program(TyperGroup):
    """The program, whose help shows its commands under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        indent = max(map(len, self.commands)) + 6
        for title, names in SECTIONS.items():
            shown = [(name, self.commands[name]) for name in names if name in self.commands]
            if shown:
                with formatter.section(title):
                    rows = [(name, command.get_short_help_str(formatter.width - indent)) for name, command in shown]
                    formatter.write_dl(
                        rows, col_max=indent, col_spacing=indent - 4 - max(len(name) for name, _ in rows)
                    )


def application(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The program with the given commands; loads their modules."""
    app = typer.Typer(
        name="sentinel",
        cls=_Program,
        help="Real-time payment-fraud detection; every decision can be replayed, bit for bit, from an append-only log.",
        epilog=epilogue(),
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], **_width()},
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for name in names:
        module, _, attribute = COMMANDS[name].partition(".")
        command = getattr(import_module(f"console.commands.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, cls=Group)
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


def _width() -> dict[str, int]:
    """How wide to print help: options of the command line's context."""
    columns = shutil.get_terminal_size().columns
    return {"terminal_width": min(max(columns, HELP_COLUMNS.start), HELP_COLUMNS.stop - 1)}


def main() -> None:
    """Entry point of the `sentinel` script. Nothing that it prints can drive a terminal, whoever chose the name."""
    if VARIABLE in os.environ:
        print(answer())
        return
    with harmless_output():
        _run()


def end_as_first_process() -> None:
    """As the first process of a container, end on SIGTERM: the kernel gives it a signal only if it handles it, and all
    commands but those that end in order, which replace this, would be killed when the platform loses patience.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _run() -> None:
    end_as_first_process()
    arguments = sys.argv[1:]
    first = next((argument for argument in arguments if not argument.startswith("-")), "")
    try:
        app = application([first] if first in COMMANDS else COMMANDS)
        code = app(arguments or ["--help"], prog_name="sentinel", standalone_mode=False)
        if code == INTERRUPTED:  # typer's answer to KeyboardInterrupt
            _fail("interrupted", INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)
    except SentinelError as error:
        _fail(_without_card_data(str(error)), error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", INTERRUPTED)
    except OSError as error:
        if error.errno in PATH_FAULTS and isinstance(error.filename, str):
            _fail(f"{error.filename}: {error.strerror}", BadInput.exit_code)
        if error.errno not in FULL_DISK:
            raise
        _fail(f"output can't be written: {error.strerror}", SentinelError.exit_code)
    except Exception as error:
        # A usage error found by the command-line parser. Anything else is a bug and keeps its traceback.
        show, message = getattr(error, "show", None), getattr(error, "format_message", None)
        if show is None or message is None:
            raise
        context, code = getattr(error, "ctx", None), getattr(error, "exit_code", 2)
        if context is None or type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its help
            show()
            sys.exit(code)
        said = " ".join(message().split()).removesuffix(".")
        _fail(f"{said} ({context.command_path} --help)", code)


def _without_card_data(message: str) -> str:
    if sum(c.isdigit() for c in message) < 13:
        return message
    from core.hiding import masked  # loads the compiled search

    return masked(message)


def _fail(message: str, code: int) -> None:
    print(f"sentinel: {visible(clipped(message))}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
