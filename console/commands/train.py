"""`sentinel train`: a champion candidate from the log, or the shipped baseline from the synthetic stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console import wiring
from console.commands.replay import partition_heads
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core.control import Resolver
from core.log.base import EventLog
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest
from ingest.producers.registry import open_source
from ingest.producers.synthetic import SyntheticConfig
from learners import training
from learners.card import model_card

OFFLINE_PARTITIONS = 4


def train(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    synthetic: Annotated[
        int | None,
        typer.Option(
            metavar="TRANSACTIONS", help="Train on this many synthetic transactions instead of the log.", min=10_000
        ),
    ] = None,
    accounts: Annotated[int, typer.Option(help="With --synthetic: accounts.")] = 4_000,
    seed: Annotated[int, typer.Option(help="Seed of the stream and of the training.")] = 11,
    output: Annotated[Path, typer.Option(help="Folder for model.txt, card.json and card.md.")] = Path("model"),
    version: Annotated[str, typer.Option(help="Semantic version of the model.")] = "1.0.0",
    gap_days: Annotated[float, typer.Option(help="Days between training and test: the label delay.")] = 7.0,
    warm_up_days: Annotated[float, typer.Option(help="First days left out: accounts have no history yet.")] = 7.0,
    test_share: Annotated[
        float, typer.Option(help="Share of the time span that is the test.", min=0.05, max=0.5)
    ] = 0.25,
    as_json: Json = False,
) -> None:
    """Fit LightGBM on decisions as logged, labels as known, split by time; write the model as text with its card.

    Deterministic: the same log and seed give the same bytes.
    """
    if synthetic is not None:
        log, partitions, description = _synthetic_log(synthetic, accounts, seed)
    else:
        s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
        log = wiring.open_log(s)
        partitions = sorted(partition_heads(log))
        description = f"the decisions of log {s.log_prefix!r}"
    data = training.read(log, partitions)
    split = training.split_by_time(data.times, test_share, gap_days, warm_up_days)
    trained = training.train(data, split, seed=seed, version=version, data_description=description)
    output.mkdir(parents=True, exist_ok=True)
    (output / "model.txt").write_bytes(trained.content)
    (output / "card.json").write_bytes(msgspec.json.format(msgspec.json.encode(trained.card), indent=2) + b"\n")
    (output / "card.md").write_text(model_card(trained.card), encoding="utf-8")
    if as_json:
        print(msgspec.json.encode(trained.card).decode())
    else:
        print(model_card(trained.card))


def _synthetic_log(transactions: int, accounts: int, seed: int) -> tuple[EventLog, list[int], str]:
    """The synthetic stream decided offline, without a model, into a log in memory: every feature as the worker would
    log it.
    """
    source_config = SyntheticConfig(transactions=transactions, accounts=accounts, seed=seed)
    source = open_source("synthetic", flush_feedback=True, synthetic=source_config)
    log = MemoryLog()
    offline = OfflineIngest(log, Resolver(log.get_blob, wiring.load_scorer), partitions=OFFLINE_PARTITIONS)
    for chunk in source.records():
        offline.feed(chunk)
    offline.flush()
    days = source_config.span_ms / 86_400_000
    return (
        log,
        list(range(OFFLINE_PARTITIONS)),
        f"{transactions:,} synthetic transactions of {accounts:,} accounts over {days:.0f} days, seed {seed}",
    )
