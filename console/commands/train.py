"""`sentinel train`: trains a candidate from the log, or the shipped baseline from the synthetic stream."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from console import wiring
from console.acts import act_of
from console.gc_tuning import tune_for_reading
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort, moment
from console.plots.training import write_plots
from console.tables import print_json
from console.terminal import console
from core import control_stream
from core.context import Resolver
from core.errors import BadInput
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.partitions import partitions_of
from core.replay import Timeline
from core.settings import Settings
from core.text import listed
from core.times import DAY_MS, minute_text
from ingest.offline import OfflineIngest
from learners.governance import models
from learners.governance.control_events import Artifact
from learners.training import reading, training
from learners.training.boosting import MISSING_TABLES_SHARE, ReportProgress
from learners.training.card import model_card
from learners.training.columns import OWN, STANDARD, Selection, deployed_plan, select
from learners.training.dataset import Clock, TrainingSet
from learners.training.splits import Split, last_split
from learners.training.training import Naming, Recipe
from sources.catalogue import open_source
from sources.synthetic import SyntheticConfig

OFFLINE_PARTITIONS = 4
SEMANTIC = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
"""https://semver.org/spec/v2.0.0.html"""


Synthetic = Annotated[
    int | None,
    typer.Option(
        metavar="TRANSACTIONS", help="Train on this many synthetic transactions instead of the log.", min=10_000
    ),
]
Accounts = Annotated[int, typer.Option(help="With --synthetic: number of accounts.")]
Seed = Annotated[int, typer.Option(help="Random seed of the stream, the training and the search.")]
Output = Annotated[Path, typer.Option(help="Directory for model.txt, card.json, card.md and plots.")]
Name = Annotated[str, typer.Option(help="Name of the model.")]
Version = Annotated[str, typer.Option(help="Semantic version of the model.")]
From = Annotated[
    str | None, typer.Option("--from", help="Use payments from this time on (UTC). Default: after the warm-up.")
]
Until = Annotated[
    str | None, typer.Option("--until", help="Use payments before this time. Default: all mature payments.")
]
KnownUntil = Annotated[str | None, typer.Option(help="Use verdicts known by this time. Default: all in the log.")]
KnownBy = Annotated[
    str,
    typer.Option(
        help="When a verdict counts as known: when the log recorded it (log), or when it was given (event: for history"
        " loaded in bulk). auto: event if payments were a day old or more when recorded, otherwise log."
    ),
]
GapDays = Annotated[float, typer.Option(help="Days between training and test: the label maturity.", min=0)]
MaturityDays = Annotated[
    float | None,
    typer.Option(help="Days after which a payment without a verdict is presumed legitimate. Default: the gap.", min=0),
]
WarmUpDays = Annotated[
    float, typer.Option(help="Without --from: days to skip at the start, while accounts have no history.", min=0)
]
TestShare = Annotated[float, typer.Option(help="Share of the time span used as the test.", min=0.05, max=0.5)]
TestDays = Annotated[float | None, typer.Option(help="Length of the test in days; replaces --test-share.", min=0.01)]
ExcludeKnown = Annotated[
    bool, typer.Option(help="Exclude accounts from the test whose fraud was known by the first test day.")
]
Trials = Annotated[
    int, typer.Option(help="Number of hyperparameter trials, on later days of the training period; 0: none.", min=0)
]
ClassWeight = Annotated[
    str, typer.Option(help="Weight of a fraud: a number, or balanced. Calibration removes it from the probabilities.")
]
Calibrate = Annotated[bool, typer.Option(help="Calibrate the probabilities.")]
MissingTables = Annotated[float, typer.Option(help="Share of rows to repeat without reference tables.", min=0, max=1)]
Plots = Annotated[bool, typer.Option(help="Draw the model card's plots.")]
Features = Annotated[
    str,
    typer.Option(
        help="What the model reads, with commas: standard (the features of standard@1), own (the deployed program's"
        " stored features, and its fields that are no personal data), or single features and fields by name."
    ),
]
Without = Annotated[str, typer.Option(help="Features and fields to leave out, with commas.")]
Register = Annotated[bool, typer.Option("--register", help="Store the model in the log and register it.")]
Parent = Annotated[str | None, typer.Option(help="Label of the model it succeeds. Default: the champion in the log.")]
Actor = Annotated[str | None, typer.Option(help="With --register: who is acting. Default: your login name.")]
Reason = Annotated[str, typer.Option(help="With --register: why.")]


class Window(NamedTuple):
    """Which payments to use, and how to split them into training and test. Times: epoch ms, None: not given."""

    start: int | None
    until: int | None
    known_until: int | None
    gap_days: float
    maturity_days: float
    warm_up_days: float
    test_share: float
    test_days: float | None


class Data(NamedTuple):
    """The source of the decisions: a log, its partitions, and a description of it."""

    log: EventLog
    partitions: list[int]
    words: str


def train(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    synthetic: Synthetic = None,
    accounts: Accounts = 4_000,
    seed: Seed = 11,
    output: Output = Path("model"),
    name: Name = training.MODEL_NAME,
    version: Version = "1.0.0",
    start: From = None,
    until: Until = None,
    known_until: KnownUntil = None,
    known_by: KnownBy = "auto",
    gap_days: GapDays = 7.0,
    maturity_days: MaturityDays = None,
    warm_up_days: WarmUpDays = 7.0,
    test_share: TestShare = 0.25,
    test_days: TestDays = None,
    exclude_known: ExcludeKnown = True,
    trials: Trials = 0,
    class_weight: ClassWeight = "1",
    calibrate: Calibrate = True,
    missing_tables: MissingTables = MISSING_TABLES_SHARE,
    features: Features = f"{STANDARD},{OWN}",
    without: Without = "",
    plots: Plots = True,
    register: Register = False,
    parent: Parent = None,
    actor: Actor = None,
    reason: Reason = "trained by hand",
    as_json: Json = False,
) -> None:
    """Train LightGBM on logged decisions and known labels, split by time; write the calibrated model and its card.

    Training rows carry the labels known at the start of the test; test rows carry the labels known now. The same log
    and seed give the same bytes. Registering a model does not deploy it.
    """
    _check_names(name, version)
    if register and synthetic is not None:
        raise BadInput("--register can't be combined with --synthetic; use `sentinel model register`")
    window = Window(
        start=moment("--from", start),
        until=moment("--until", until),
        known_until=moment("--known-until", known_until),
        gap_days=gap_days,
        maturity_days=_maturity(maturity_days, gap_days),
        warm_up_days=warm_up_days,
        test_share=test_share,
        test_days=test_days,
    )
    recipe = Recipe(
        trials=trials,
        class_weight=_class_weight(class_weight),
        calibrate=calibrate,
        missing_tables_share=missing_tables,
        exclude_known=exclude_known,
    )
    clock = _clock(known_by)
    if synthetic is not None:
        source = _synthetic_log(synthetic, accounts, seed)
    else:
        source = _log(wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix))
    naming = Naming(name, version, _champion(source.log) if parent is None else parent, source.words)
    tune_for_reading()
    selection = _selection(source.log, features, without)
    with _progress(as_json) as report:
        data = _read(source, window, clock, selection, report)
        trained = training.train(data, _split(data, window), seed=seed, naming=naming, recipe=recipe, report=report)
    _write(trained, output, plots)
    position = None
    if register:
        artifact = Artifact.of_card(trained.content, trained.card)
        position = models.register(source.log, artifact, act_of(actor or "", reason, source.log)).position
    if as_json:
        print_json({**trained.card, "registered_at": position})
        return
    print(model_card(trained.card))
    if position is not None:
        print(f"registered {name}-{version} at c{position}; to deploy it: sentinel model promote {name}-{version}")


def _check_names(name: str, version: str) -> None:
    if not SEMANTIC.fullmatch(version):
        raise BadInput(f"--version {version!r} is not a semantic version such as 1.2.0")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise BadInput(
            f"--name {name!r} is not valid: use up to 64 letters, digits, _ . -, and begin with a letter or digit"
        )


def _maturity(days: float | None, gap_days: float) -> float:
    if days is not None and days > gap_days:
        raise BadInput(
            f"--maturity-days {days:g} must not exceed --gap-days {gap_days:g}: the last training days would only keep"
            " payments with a verdict, nearly all of them fraud"
        )
    return gap_days if days is None else days


def _log(s: Settings) -> Data:
    log = wiring.open_log(s)
    return Data(log, partitions_of(log), f"the decisions of log {s.log_prefix!r}")


def _selection(log: EventLog, features: str, without: str) -> Selection:
    """The columns that the options name, of the program that decides now; says on stderr what is set aside."""
    found = select(*deployed_plan(log), _names(features), _names(without))
    if found.set_aside:
        print(
            f"left out, because the program calls them personal data: {listed(found.set_aside)}; to use them, name them"
            " in --features",
            file=sys.stderr,
        )
    return found


def _names(text: str) -> list[str]:
    return [name for name in (each.strip() for each in text.split(",")) if name]


def _read(
    source: Data, window: Window, clock: Clock | None, selection: Selection, report: ReportProgress
) -> TrainingSet:
    total = (2 if selection.is_standard else 3) * sum(source.log.length(p, "scores") for p in source.partitions)
    done = 0

    def rows(count: int) -> None:
        nonlocal done
        done += count
        report("reading", done, total)

    return reading.read(
        source.log,
        source.partitions,
        window.known_until,
        maturity_ms=int(window.maturity_days * DAY_MS),
        clock=clock,
        start=0 if window.start is None else window.start,
        end=reading.ALWAYS if window.until is None else window.until,
        report=rows,
        selection=selection,
        timeline=lambda: Timeline(control_stream.history(source.log), wiring.open_resolver(source.log)),
    )


def _class_weight(text: str) -> float | Literal["balanced"]:
    if text == "balanced":
        return "balanced"
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"--class-weight must be a number or balanced, not {text!r}") from None


def _clock(text: str) -> Clock | None:
    clocks: dict[str, Clock | None] = {"log": "log", "event": "event", "auto": None}
    if text not in clocks:
        raise BadInput(f"--known-by must be one of {', '.join(clocks)}, not {text!r}")
    return clocks[text]


def _split(data: TrainingSet, window: Window) -> Split:
    """The last mature part is the test; without --from, the first days are skipped as a warm-up. Raises BadInput if the
    log is too short.
    """
    assert data.known is not None  # reading.read sets it
    first, last = int(data.times[0]), int(data.times[-1]) + 1
    last = min(last, data.known.until - data.known.maturity_ms + 1)
    if last <= first:
        covered = " … ".join(minute_text(int(at)) for at in (data.times[0], data.times[-1]))
        raise BadInput(
            f"too little data: the payments read are from {covered} UTC; none of them is mature at"
            f" {minute_text(data.known.until)} (label maturity {data.known.maturity_ms / DAY_MS:g} days);"
            " use more data, or a shorter --gap-days"
        )
    days = window.test_days
    test_ms = int((last - first) * window.test_share) if days is None else int(days * DAY_MS)
    start = first + int(window.warm_up_days * DAY_MS) if window.start is None else window.start
    return last_split(start, last, window.gap_days, test_ms)


def _champion(log: EventLog) -> str:
    champion = control_stream.current(log).champion
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
def _progress(quiet: bool) -> Iterator[ReportProgress]:
    """One progress bar per stage on stderr; nothing if stderr is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), disable=quiet or not sys.stderr.isatty()) as progress:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report


def _synthetic_log(transactions: int, accounts: int, seed: int) -> Data:
    """The synthetic stream, decided offline without a model into an in-memory log; features as a worker logs them."""
    source_config = SyntheticConfig(transactions=transactions, accounts=accounts, seed=seed)
    source = open_source("synthetic", flush_feedback=True, synthetic=source_config)
    log = MemoryLog()
    offline = OfflineIngest(log, Resolver(log.get_blob, wiring.load_scorer), partitions=OFFLINE_PARTITIONS)
    for chunk in source.records():
        offline.feed(chunk)
    offline.flush()
    days = source_config.span_ms / DAY_MS
    words = f"{transactions:,} synthetic transactions of {accounts:,} accounts over {days:.0f} days, seed {seed}"
    return Data(log, list(range(OFFLINE_PARTITIONS)), words)
