"""`sentinel demo`: the whole system on this machine, in about a minute, verified by replay."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer

from console import demo_run, wiring
from console.commands.produce import synthetic_config
from console.dataset_options import Dataset, Limit, choose
from console.options import Json

TRANSACTIONS = 60_000
RATE = 3_000.0


def demo(
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
    as_json: Json = False,
) -> None:
    """Start a local Valkey and a Kafka-compatible broker, decide a stream with known fraud, then replay it bit for bit.

    Exit code 0 only if every produced message is accounted for and every decision is identical on replay.
    """
    if dataset is None:
        config = synthetic_config(transactions=transactions, accounts=1_000, merchants=1_000, seed=seed)
        source = choose(None, synthetic=config)
        rate = rate or RATE
    else:
        source = choose(dataset, limit=limit, mapping=mapping)
    signal.signal(signal.SIGTERM, _interrupt)
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


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Handle SIGTERM like Ctrl-C, so that no child process is left running."""
    raise KeyboardInterrupt
