"""`sentinel bench`: figures measured on this machine, printed as a table or as one JSON object."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from benchmarks import pipeline as pipeline_bench
from console.options import Json

app = typer.Typer(help="Measure this machine.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Measure this machine."""


@app.command("pipeline")
def pipeline(
    short: Annotated[bool, typer.Option("--short", help="Finish within 60 s.")] = False,
    latency_rate: Annotated[float, typer.Option(help="Rate at which latency is measured, transactions/s.")] = 5_000.0,
    external: Annotated[
        bool, typer.Option("--external", help="Use the servers of the settings instead of a fresh local stack.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Kafka → worker → durable log, end to end, open loop: producer, broker, one worker and Valkey share this machine.

    sustained: the highest offered rate at which the worker falls no further behind. Latency: from the message's Kafka
    timestamp to the return of the durable append (fsync always), at a fixed rate.
    """
    result = pipeline_bench.run(short=short, latency_rate=latency_rate, external=external)
    if as_json:
        print(msgspec.json.encode(result.summary()).decode())
    else:
        print(result.table())
