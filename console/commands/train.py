"""`sentinel train`: a champion candidate from the log, or the shipped baseline from the synthetic stream."""

from __future__ import annotations

import getpass
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from console import wiring
from console.commands.replay import partition_heads
from console.gc_tuning import fewer_collections
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core.control import Resolver, fold
from core.errors import BadInput
from core.features.spec import DAY_MS
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.replay import read_control_events
from ingest.offline import OfflineIngest
from learners.governance import models
from learners.training import reading, training
from learners.training.boosting import MISSING_TABLES_SHARE, Report
from learners.training.card import model_card
from learners.training.dataset import TrainingSet
from learners.training.plots import write_plots
from learners.training.splits import Split, last_split
from projections.engine.as_of import parse_time
from sources.catalogue import open_source
from sources.synthetic import SyntheticConfig

OFFLINE_PARTITIONS = 4
SEMANTIC = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
"""https://semver.org/spec/v2.0.0.html"""


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
    seed: Annotated[int, typer.Option(help="Seed of the stream, of the training and of the search.")] = 11,
    output: Annotated[Path, typer.Option(help="Folder for model.txt, card.json, card.md and pictures.")] = Path(
        "model"
    ),
    name: Annotated[str, typer.Option(help="Name of the model.")] = training.MODEL_NAME,
    version: Annotated[str, typer.Option(help="Semantic version of the model.")] = "1.0.0",
    start: Annotated[
        str | None,
        typer.Option("--from", help="Payments from this time on (UTC). Default: the log's, after the warm-up."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Payments before this time. Default: all that are mature.")
    ] = None,
    known_until: Annotated[
        str | None, typer.Option(help="Only verdicts known by this time. Default: all in the log.")
    ] = None,
    known_by: Annotated[
        str,
        typer.Option(
            help="A verdict is known when the log took it (log), or when it happened (event: history loaded in bulk)."
            " auto: event if payments were a day old or more when the log took them, else log."
        ),
    ] = "auto",
    gap_days: Annotated[float, typer.Option(help="Days between training and test: the label delay.", min=0)] = 7.0,
    maturity_days: Annotated[
        float | None,
        typer.Option(
            help="Days without a verdict after which a payment is presumed legitimate. Default: the gap.", min=0
        ),
    ] = None,
    warm_up_days: Annotated[
        float, typer.Option(help="Without --from: first days left out, accounts have no history yet.", min=0)
    ] = 7.0,
    test_share: Annotated[
        float, typer.Option(help="Share of the time span that is the test.", min=0.05, max=0.5)
    ] = 0.25,
    test_days: Annotated[
        float | None, typer.Option(help="Days of the test, instead of --test-share.", min=0.01)
    ] = None,
    exclude_known: Annotated[
        bool, typer.Option(help="Leave accounts out of the test whose fraud was known by the test day.")
    ] = True,
    trials: Annotated[
        int, typer.Option(help="Hyperparameter settings to try on later days of the training period; 0: none.", min=0)
    ] = 0,
    class_weight: Annotated[
        str, typer.Option(help="How much more a fraud weighs: a number, or balanced. Calibration takes it back out.")
    ] = "1",
    calibrate: Annotated[bool, typer.Option(help="Make probabilities mean what they say.")] = True,
    missing_tables: Annotated[
        float, typer.Option(help="Share of rows learnt a second time without reference tables.", min=0, max=1)
    ] = MISSING_TABLES_SHARE,
    plots: Annotated[bool, typer.Option(help="Draw the card's pictures.")] = True,
    register: Annotated[bool, typer.Option("--register", help="Put the model into the log and its registry.")] = False,
    parent: Annotated[
        str | None, typer.Option(help="Label of the model it succeeds. Default: the champion in the log.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="With --register: who does this. Default: the user.")] = None,
    reason: Annotated[str, typer.Option(help="With --register: why.")] = "a new training",
    as_json: Json = False,
) -> None:
    """Fit LightGBM on decisions as logged and labels as known, split by time; write the calibrated model with its card.

    Training rows are labelled as they were known at the start of the test, test rows as they are known now. The same
    log and seed give the same bytes. Registering deploys nothing.
    """
    if not SEMANTIC.fullmatch(version):
        raise BadInput(f"{version!r} is not a semantic version like 1.2.0")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise BadInput(f"{name!r} can't name a model: letters, digits, and _ . - inside, at most 64")
    if register and synthetic is not None:
        raise BadInput("--register needs a log: a model of --synthetic data is not registered from here")
    moments = [
        _moment(flag, text) for flag, text in (("--from", start), ("--until", until), ("--known-until", known_until))
    ]
    weight, clock = _class_weight(class_weight), _clock(known_by)
    maturity = gap_days if maturity_days is None else maturity_days
    if maturity > gap_days:
        raise BadInput(
            f"a maturity of {maturity:g} days is longer than the gap of {gap_days:g}: of the last training days only"
            " payments with a verdict would be left, nearly all of them frauds"
        )
    log, partitions, description = _source(config, redis_host, redis_port, log_prefix, synthetic, accounts, seed)
    fewer_collections()
    with _progress(as_json) as report:
        total = 2 * sum(log.length(p, "scores") for p in partitions)
        done = 0

        def rows(count: int) -> None:
            nonlocal done
            done += count
            report("reading", done, total)

        data = reading.read(
            log,
            partitions,
            moments[2],
            maturity_ms=int(maturity * DAY_MS),
            clock=clock,
            start=0 if moments[0] is None else moments[0],
            end=reading.ALWAYS if moments[1] is None else moments[1],
            report=rows,
        )
        split = _split(data, moments[0], gap_days, warm_up_days, test_share, test_days)
        trained = training.train(
            data,
            split,
            seed=seed,
            version=version,
            data_description=description,
            name=name,
            parent=_champion(log) if parent is None else parent,
            trials=trials,
            class_weight=weight,
            calibrate=calibrate,
            missing_tables_share=missing_tables,
            exclude_known=exclude_known,
            report=report,
        )
    _write(trained, output, plots)
    position = None
    if register:
        position = models.register(log, trained, actor or getpass.getuser(), reason, int(time.time() * 1000))
    if as_json:
        print(msgspec.json.encode({**trained.card, "registered_at": position}).decode())
    else:
        print(model_card(trained.card))
        if position is not None:
            print(
                f"registered {name} {version} at control position {position}; it decides nothing until it is deployed"
            )


def _source(
    config: Path | None,
    redis_host: str | None,
    redis_port: int | None,
    log_prefix: str | None,
    synthetic: int | None,
    accounts: int,
    seed: int,
) -> tuple[EventLog, list[int], str]:
    """(log, its partitions, what it holds in words)."""
    if synthetic is not None:
        return _synthetic_log(synthetic, accounts, seed)
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    log = wiring.open_log(s)
    return log, sorted(partition_heads(log)), f"the decisions of log {s.log_prefix!r}"


def _moment(flag: str, text: str | None) -> int | None:
    if text is None:
        return None
    found = parse_time(text)
    if found is None:
        raise BadInput(f"{flag}: {text!r} is no time; write 2026-03-01, 2026-03-01T12:00Z or epoch milliseconds")
    return found


def _class_weight(text: str) -> float | Literal["balanced"]:
    if text == "balanced":
        return "balanced"
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"--class-weight: {text!r} is neither a number nor balanced") from None


def _clock(text: str) -> Literal["log", "event"] | None:
    clocks: dict[str, Literal["log", "event"] | None] = {"log": "log", "event": "event", "auto": None}
    if text not in clocks:
        raise BadInput(f"--known-by: {text!r} is none of {', '.join(clocks)}")
    return clocks[text]


def _split(
    data: TrainingSet, start: int | None, gap_days: float, warm_up_days: float, share: float, test_days: float | None
) -> Split:
    """The last part that is mature is the test; without --from the first days are left to warm up."""
    assert data.known is not None  # reading.read sets it
    first, last = int(data.times[0]), int(data.times[-1]) + 1
    last = min(last, data.known.until - data.known.maturity_ms + 1)
    test_ms = int((last - first) * share) if test_days is None else int(test_days * DAY_MS)
    return last_split(first + int(warm_up_days * DAY_MS) if start is None else start, last, gap_days, test_ms)


def _champion(log: EventLog) -> str:
    champion = fold(list(read_control_events(log))).champion
    return champion.label if champion is not None else ""


def _write(trained: training.Trained, output: Path, plots: bool) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "model.txt").write_bytes(trained.content)
        (output / "card.json").write_bytes(msgspec.json.format(msgspec.json.encode(trained.card), indent=2) + b"\n")
        pictures = write_plots(trained, output) if plots else []
        (output / "card.md").write_text(model_card(trained.card, pictures), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"can't write to {error.filename or output}: {error.strerror}") from error


@contextmanager
def _progress(quiet: bool) -> Iterator[Report]:
    """A bar a stage, on stderr; nothing where stderr is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as progress:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report


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
    days = source_config.span_ms / DAY_MS
    return (
        log,
        list(range(OFFLINE_PARTITIONS)),
        f"{transactions:,} synthetic transactions of {accounts:,} accounts over {days:.0f} days, seed {seed}",
    )
