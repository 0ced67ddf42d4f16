"""`sentinel bench`: figures measured on this machine, printed as a table or as one JSON object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console.bench import pipeline as pipeline_bench
from console.options import Json

app = typer.Typer(help="Measure this machine.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Measure this machine."""


@app.command("pipeline")
def pipeline(
    short: Annotated[bool, typer.Option("--short", help="Phases of 6 s instead of 15, and fewer.")] = False,
    latency_rate: Annotated[float, typer.Option(help="Rate at which latency is measured, transactions/s.")] = 5_000.0,
    external: Annotated[
        bool, typer.Option("--external", help="Use the servers of the settings instead of a fresh local stack.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Kafka → worker → durable log, end to end, open loop; all servers, the producer and one worker share the machine.

    Sustained: the highest offered rate at which the worker falls no further behind. Latency: from the message's Kafka
    timestamp to the return of the durable append (fsync always), at a fixed rate. CPU: of worker, log server and
    broker, per transaction. The floor is a process in the worker's place that only consumes and appends.
    """
    result = pipeline_bench.run(pipeline_bench.planned(short=short, latency_rate=latency_rate), external=external)
    if as_json:
        print(msgspec.json.encode(result.summary()).decode())
    else:
        print(result.table())


@app.command("handbook")
def handbook(
    path: Annotated[Path, typer.Argument(help="The Handbook's payments as one Parquet file (docs/datasets.md).")],
    as_json: Json = False,
) -> None:
    """The Fraud Detection Handbook's protocol: train on a week, labels 7 days late, test on the week of 2018-08-08.

    Decides the whole file through the product's stream, trains on the log as it stood on the first day of the test,
    deploys, and measures what the deployed models said: AUC ROC, average precision and card precision@100, for 7 days
    of training and for all history, each with its share of the ceiling that the data's own rules allow
    (docs/handbook.md). Takes some minutes and 4 GB.
    """
    from console.bench import handbook as handbook_bench  # with the libraries of training

    result = handbook_bench.run(path, report=lambda text: typer.echo(text, err=True))
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        print(handbook_bench.table(result))
