"""`sentinel produce`: send a stream to Kafka."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, cast

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from console import wiring
from console.command_page import INTERRUPTED
from console.dataset_options import BadRowsOption, Dataset, Limit, Mapping, RejectsOption, choose
from console.options import Config, Json, KafkaServers
from console.terminal import console
from core.errors import BadInput, Unavailable
from core.settings import Settings
from ingest.held import missing
from ingest.history import loading
from ingest.producer import LINGER_MS, PublishReport, prepare_topics, publish
from projections.engine.as_of import parse_time
from sources.record import Record
from sources.rehearsal import accepted, rehearse
from sources.synthetic import START_MS, Drift, SyntheticConfig

COUNT_MAX = 10**10
"""Transactions of one run."""
LabelsOption = Annotated[str, typer.Option(help="Which transactions get a verdict: fraud or all.")]
DelayDays = Annotated[float, typer.Option(help="Days of event time from a transaction to its verdict.", min=0.0)]
Flush = Annotated[bool, typer.Option(help="At the end of the stream, also send verdicts that are not yet due.")]
Transactions = Annotated[int | None, typer.Option(help="Synthetic: number of transactions.", min=1)]
Days = Annotated[float | None, typer.Option(help="Synthetic: length in days of event time.")]
Start = Annotated[
    str | None, typer.Option(help="Synthetic: event time of the start (2026-03-06). Default: 2026-01-05.")
]
Accounts = Annotated[int, typer.Option(help="Synthetic: number of accounts.")]
Merchants = Annotated[int, typer.Option(help="Synthetic: number of merchants.")]
FraudRate = Annotated[float, typer.Option(help="Synthetic: share of fraudulent transactions.")]
Scenario = Annotated[
    list[str] | None,
    typer.Option(help="Synthetic: scenario NAME=SHARE of the frauds; may be repeated (docs/synthetic.md)."),
]
DriftAt = Annotated[float | None, typer.Option(help="Synthetic: share of the time after which drift sets in.")]
DriftOption = Annotated[str, typer.Option(help="Synthetic: what drifts: amount, hours, mix, behaviour or all.")]
Seed = Annotated[int, typer.Option(help="Synthetic: random seed; the same seed gives the same bytes.")]
Rate = Annotated[
    float | None,
    typer.Option("--rate", "--tps", help="Transactions per second of wall time. Default: as fast as possible."),
]
Duration = Annotated[
    float | None, typer.Option(help="With --tps: send for so many seconds of wall time, that is tps × seconds.")
]
Now = Annotated[bool, typer.Option("--now", help="Stamp messages with the time they are sent, not event time.")]
Preload = Annotated[
    bool, typer.Option("--preload", help="Generate all messages before sending the first one, for even pacing.")
]
Check = Annotated[
    bool,
    typer.Option(
        "--check", help="Send nothing: say what the edge would do with the stream. Exit code 1 if it rejects."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Leave out what the topics already hold: continue a run that was interrupted.")
]
LingerMs = Annotated[
    float, typer.Option(help="Maximum wait of the Kafka client to fill a batch, in ms.", min=0.0, max=10_000.0)
]
HistoryOption = Annotated[
    bool,
    typer.Option(help="Send a stream of the past as history; otherwise the event log is not needed (docs/history.md)."),
]


def produce(
    config: Config = None,
    kafka_servers: KafkaServers = None,
    dataset: Dataset = None,
    mapping: Mapping = None,
    limit: Limit = None,
    bad_rows: BadRowsOption = "stop",
    rejects_file: RejectsOption = None,
    feedback_delay_days: DelayDays = 7.0,
    labels: LabelsOption = "fraud",
    flush_feedback: Flush = False,
    transactions: Transactions = None,
    days: Days = None,
    start: Start = None,
    accounts: Accounts = 2_000,
    merchants: Merchants = 2_000,
    fraud_rate: FraudRate = 0.01,
    scenario: Scenario = None,
    drift_at: DriftAt = None,
    drift: DriftOption = "all",
    seed: Seed = 7,
    rate: Rate = None,
    duration: Duration = None,
    now: Now = False,
    preload: Preload = False,
    linger_ms: LingerMs = LINGER_MS,
    check: Check = False,
    resume: Resume = False,
    history: HistoryOption = True,
    as_json: Json = False,
) -> None:
    """Send transactions, and later their verdicts, to Kafka, keyed by account; every delivery is confirmed.

    Without --dataset, the stream is synthetic and seeded, with known fraud. Missing topics are created. A dataset is
    run through the edge first: if it would reject a message, nothing is sent, unless --bad-rows reject leaves it out.
    A stream that does not begin now is sent as history: the event log says so, and workers take it as received when it
    was dated.
    """
    s = wiring.settings(config, kafka_servers=kafka_servers)
    if duration is not None:
        if (transactions, days, limit) != (None, None, None):
            raise BadInput("--duration can't be combined with --transactions, --days or --limit")
        count = _count(rate, duration)
        transactions, limit = (None, count) if dataset else (count, None)
    source = choose(
        dataset,
        mapping=mapping,
        limit=limit,
        bad_rows=bad_rows,
        rejects_file=rejects_file,
        feedback_delay_days=feedback_delay_days,
        labels=labels,
        flush_feedback=flush_feedback,
        synthetic=None
        if dataset
        else synthetic_config(
            transactions=transactions,
            days=days,
            start=_start(start),
            accounts=accounts,
            merchants=merchants,
            fraud_rate=fraud_rate,
            mix=_mix(scenario),
            drift_at=drift_at,
            drift=cast(Drift, drift),
            label_delay_days=feedback_delay_days,
            seed=seed,
        ),
    )
    if resume and now:
        raise BadInput("--resume can't be combined with --now")
    if check or dataset:
        edge = rehearse(source)
        if check:
            print(msgspec.json.encode(edge).decode() if as_json else "\n".join(edge.lines()))
            raise typer.Exit(1 if edge.rejected else 0)
        if edge.rejected and bad_rows == "stop":
            raise BadInput(f"nothing was sent: {edge.refusal()}; mend them, or leave them out with --bad-rows reject")
        if edge.rejected:
            print(f"sentinel: left out: {edge.refusal()}", file=sys.stderr)
    quiet = as_json or not sys.stderr.isatty()
    columns = (TextColumn("producing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("producing", total=source.total)
        records = source.records()
        if dataset:
            records = accepted(records)
        if resume:
            records = missing(records, s)
        try:
            with _sent_as(list(records) if preload else records, s, history, source.last) as chunks:
                report = publish(
                    chunks,
                    s,
                    rate=rate,
                    timestamps="now" if now else "event",
                    linger_ms=linger_ms,
                    on_progress=lambda sent, verdicts: progress.update(task, completed=sent),
                )
        except Unavailable as error:
            raise Unavailable(f"{error}. The same command with --resume sends the rest") from None
    _report(report, as_json)
    if report.interrupted:
        print("sentinel: interrupted; the same command with --resume sends the rest", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _sent_as(
    records: Iterable[list[Record]], s: Settings, history: bool, last: int | None
) -> AbstractContextManager[Iterable[list[Record]]]:
    if not history:
        return nullcontext(records)
    prepare_topics(s)
    return loading(lambda: wiring.open_log(s), s, records, "a stream of the past", last)


def _report(report: PublishReport, as_json: bool) -> None:
    if as_json:
        summary = {
            "produced": report.sent["transactions"],
            "feedback": report.sent["feedback"],
            "failed": report.failed,
            "seconds": round(report.seconds, 3),
            "interrupted": report.interrupted,
        }
        print(msgspec.json.encode(summary).decode())
    else:
        print(
            f"{report.sent['transactions']:,} transactions and {report.sent['feedback']:,} verdicts delivered"
            f" ({report.seconds:.1f} s, {report.transactions_per_s:,.0f} transactions/s)"
        )


def _count(rate: float | None, duration_s: float) -> int:
    """How many transactions a rate and a duration are. Raises BadInput."""
    if rate is None:
        raise BadInput("--duration needs --tps: without a rate, nothing says how much is sent in a second")
    if not (rate > 0 and duration_s > 0 and 1 <= rate * duration_s <= COUNT_MAX):
        raise BadInput(f"--tps × --duration must be from 1 to {COUNT_MAX:,} transactions, not {rate * duration_s:,.6g}")
    return round(rate * duration_s)


def synthetic_config(**values: Any) -> SyntheticConfig:
    """A validated configuration of the synthetic stream. Raises BadInput."""
    return SyntheticConfig(**values)


def _start(text: str | None) -> int:
    if text is None:
        return START_MS
    moment = parse_time(text)
    if moment is None:
        raise BadInput(f"--start {text!r} is not a valid time; write 2026-03-06, 2026-03-06T12:00Z or epoch ms")
    return moment


def _mix(scenarios: list[str] | None) -> dict[str, float] | None:
    if not scenarios:
        return None
    mix: dict[str, float] = {}
    for text in scenarios:
        name, _, share = text.partition("=")
        try:
            mix[name] = float(share)
        except ValueError:
            raise BadInput(f"--scenario {text!r} is not valid; write NAME=SHARE, e.g. card_testing=0.3") from None
    return mix
