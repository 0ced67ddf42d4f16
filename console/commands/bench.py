"""`sentinel bench`: measurements of this machine, printed as a table or as one JSON object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console.bench import pipeline as pipeline_bench
from console.options import Json
from console.tables import print_fields

app = typer.Typer(help="Benchmark this machine.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Benchmark this machine."""


@app.command("pipeline")
def pipeline(
    short: Annotated[bool, typer.Option("--short", help="Fewer phases, of 6 s instead of 15 s.")] = False,
    latency_rate: Annotated[float, typer.Option(help="Rate for the latency measurement, transactions/s.")] = 5_000.0,
    external: Annotated[
        bool, typer.Option("--external", help="Use the configured servers instead of a fresh local stack.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure Kafka → worker → durable log, end to end and open loop; everything runs on this machine.

    Sustained: the highest offered rate at which the worker's lag does not grow. Latency: from the message's Kafka
    timestamp to the return of the durable append (fsync always), at a fixed rate. CPU: of worker, log server and
    broker, per transaction. Floor: the same for a process that only consumes and appends.
    """
    result = pipeline_bench.run(pipeline_bench.planned(short=short, latency_rate=latency_rate), external=external)
    if as_json:
        print(msgspec.json.encode(result.summary()).decode())
    else:
        print(result.table())


@app.command("handbook")
def handbook(
    path: Annotated[Path, typer.Argument(help="The Handbook's transactions as one Parquet file (docs/datasets.md).")],
    as_json: Json = False,
) -> None:
    """Run the Fraud Detection Handbook's protocol: train on a week, labels 7 days late, test on the week of 2018-08-08.

    Decides the whole file, trains on the log as of the first test day, deploys the models, and measures their live
    scores: AUC ROC, average precision and card precision@100, for 7 days of training and for all history, each also as
    a share of the ceiling that the data allows (docs/handbook.md). Takes a few minutes and 4 GB of memory.
    """
    from console.bench import handbook as handbook_bench  # with the libraries of training

    result = handbook_bench.run(path, report=lambda text: typer.echo(text, err=True))
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        print(handbook_bench.table(result))


@app.command("backtest")
def backtest(
    decisions: Annotated[int, typer.Option(help="Decisions in the archive.", min=100_000)] = 10_000_000,
    threads: Annotated[int, typer.Option(help="Threads that read.", min=1)] = 2,
    as_json: Json = False,
) -> None:
    """Measure backtests over an archive: of one changed rule, with and without labels, and of new features.

    Decides 100,000 payments, repeats their columns into an archive in a temporary directory,
    and judges it five times each. Takes about a minute.
    """
    from console.bench import backtest as backtest_bench  # with the decision path

    result = backtest_bench.run(decisions, threads, lambda text: typer.echo(text, err=True))
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        print_fields(msgspec.to_builtins(result))


@app.command("api")
def api(
    rate: Annotated[float, typer.Option(help="Requests per second.", min=1.0)] = 300.0,
    seconds: Annotated[float, typer.Option(help="How long to send, with 3 s of warm-up.", min=5.0)] = 30.0,
    as_json: Json = False,
) -> None:
    """Measure `POST /v1/decisions`, open loop, from when each request is due to its durable decision.

    Broker, log server (fsync always), worker, API and client all run on this machine.
    """
    from console.bench import api as api_bench

    result = api_bench.run(rate, seconds)
    if as_json:
        print(msgspec.json.encode(result.summary()).decode())
    else:
        print_fields(result.summary())
