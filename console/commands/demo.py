"""`sentinel demo`: the whole system on this machine, or the adaptive loop's month, each verified by replay."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer

from console import demo_run, wiring
from console.commands.produce import synthetic_config
from console.dataset_options import Dataset, Limit, choose
from console.options import Json
from core.errors import BadInput
from core.text import listed

TRANSACTIONS = 60_000
RATE = 3_000.0
_OF_A_STREAM = ("dataset", "limit", "mapping", "transactions", "rate", "seed")


def demo(
    context: typer.Context,
    dataset: Dataset = None,
    limit: Limit = None,
    mapping: Annotated[
        Path | None, typer.Option(help="With --dataset custom: TOML file that maps the columns.")
    ] = None,
    transactions: Annotated[int, typer.Option(help="Number of synthetic transactions.", min=1_000)] = TRANSACTIONS,
    rate: Annotated[
        float | None,
        typer.Option(help=f"Transactions per second. Default: {RATE:g}; for a dataset, as fast as possible."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic stream.")] = 7,
    loop: Annotated[
        bool,
        typer.Option(
            "--loop",
            help="Show the adaptive loop instead: a month in which fraud changes, a model is trained, tested and"
            " promoted, and a poisoned one is rolled back.",
        ),
    ] = False,
    browse: Annotated[
        bool, typer.Option("--console", help="With --loop: then show the month in the web console until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a local Valkey and a Kafka-compatible broker, decide a stream with known fraud, then replay it bit for bit.

    Exit code 0 only if every produced message is accounted for and every decision is identical on replay; with --loop,
    if the change is detected, the new model promoted, the poisoned one rolled back, and every decision identical.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if browse and not loop:
        raise BadInput("--console goes with --loop; sentinel run --sample shows the console with a living bank")
    if loop:
        given = [name for name in _OF_A_STREAM if _is_given(context, name)]
        if given:
            raise BadInput(f"--loop tells a month of its own: leave {listed([f'--{name}' for name in given])} out")
        _loop(browse, as_json)
        return
    if dataset is None:
        config = synthetic_config(transactions=transactions, accounts=1_000, merchants=1_000, seed=seed)
        source = choose(None, synthetic=config)
        rate = rate or RATE
    else:
        source = choose(dataset, limit=limit, mapping=mapping)
    settings = wiring.settings()
    result = demo_run.run(
        source, settings, rate=rate, malformed=dataset is None, jobs=min(2, os.cpu_count() or 1), quiet=as_json
    )
    demo_run.first_differences(result)
    if as_json:
        at = result.evaluation.at
        print(
            msgspec.json.encode(
                {
                    "produced": result.produced,
                    "transactions": result.transactions,
                    "rejects": result.rejects,
                    "decisions": result.decisions,
                    "identical": result.identical,
                    "precision": at.precision,
                    "recall": at.recall,
                    "value_detection_rate": at.value_detection_rate,
                    "alert_rate": at.alert_rate,
                    "seconds": round(result.seconds, 1),
                    "latency_ms": result.latency_ms,
                }
            ).decode()
        )
    else:
        print(demo_run.summary(result))
    if not result.ok:
        raise typer.Exit(1)


def _loop(browse: bool, as_json: bool) -> None:
    from console import loop_demo  # the training libraries

    def out(text: str) -> None:
        print(text, file=sys.stderr if as_json else sys.stdout, flush=True)

    def say(day: float, text: str) -> None:
        out(f"day {day:4.1f}  {text}")

    def told(result: loop_demo.LoopDemoResult) -> None:
        print(msgspec.json.encode(result).decode() if as_json else loop_demo.summary(result), flush=True)

    result = loop_demo.run(say=say, told=told, jobs=min(2, os.cpu_count() or 1), browse=out if browse else None)
    if not result.ok:
        raise typer.Exit(1)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Handle SIGTERM like Ctrl-C, so that no child process is left running."""
    raise KeyboardInterrupt


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, with its default value or another."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
