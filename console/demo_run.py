"""The demo: a local stack, a stream with known fraud, a worker, a live view, and a verification by replay.

Phases: start the stack → the worker owns all partitions → produce and decide → every message is accounted for → stop
the worker → replay the log and compare → compare decisions with the known labels → stop the stack. On any failure, and
on Ctrl-C, everything that was started is stopped.
"""

from __future__ import annotations

import math
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
from confluent_kafka import Producer
from rich.live import Live

from console import wiring
from console.commands import replay
from console.evaluation import Evaluation, evaluate
from console.live_view import View
from console.service import Service, read_stats, wait_for_partitions
from console.stack import LocalStack
from console.terminal import console
from core.codec import decode_alert, decode_reject
from core.errors import SentinelError, Unavailable
from core.events import START, Position
from core.log.base import EventLog
from core.log.paging import entries, read
from core.settings import Settings
from core.verification import Verification
from ingest import kafka_client
from ingest.history import loading
from ingest.producer import publish
from sources.record import Record
from sources.source import Source

MALFORMED = (
    b"not json",
    b'{"amount": "12"}',
    b"\xff\xfe",
    b'{"transaction_id":"x","account_id":"x","amount":-1,"occurred_at":1767600000000}',
)
START_SECONDS_MAX = 300.0
"""The first worker of an installation compiles its code: a minute of a processor, of which it may have half."""
STALLED_SECONDS_MAX = 120.0
REFRESH_S = 0.25


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The demo's result; a success if every message is accounted for and every decision is identical."""

    produced: int
    transactions: int
    rejects: int
    reasons: dict[str, int]
    feedback: int
    seconds: float
    verification: list[Verification]
    evaluation: Evaluation
    latency_ms: dict[str, float]

    @property
    def decisions(self) -> int:
        return sum(v.decisions for v in self.verification)

    @property
    def identical(self) -> int:
        return sum(v.identical for v in self.verification)

    @property
    def ok(self) -> bool:
        differences = any(v.first_difference is not None for v in self.verification)
        accounted = self.transactions + self.rejects == self.produced and self.decisions == self.transactions
        return accounted and self.identical == self.decisions and not differences and self.decisions > 0


def run(
    source: Source, settings: Settings, *, rate: float | None, malformed: bool, jobs: int, quiet: bool
) -> DemoResult:
    """Run the demo on its own stack in a temporary directory. Raises SentinelError; leaves nothing running."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-demo-")))
        servers = stack.enter_context(LocalStack(directory))
        s = wiring.settings(
            None,
            **servers.settings,
            partitions=settings.partitions,
            snapshot_directory=str(directory / "snapshots"),
        )
        kafka_client.create_topics(s, [s.transactions_topic, s.feedback_topic, s.dead_letter_topic])
        stats_file = directory / "worker.json"
        started = time.monotonic()
        worker = stack.enter_context(Service("worker", ["ingest", "--stats-file", str(stats_file)], s, directory))
        view = View(source.total)
        live = stack.enter_context(
            Live(view, console=console(stderr=True), refresh_per_second=4, transient=False)
            if not quiet
            else ExitStack()
        )
        del live
        view.stage = "starting the worker, which compiles its code the first time (about a minute)"
        wait_for_partitions(worker, stats_file, s.partitions, START_SECONDS_MAX)
        log = wiring.open_log(s)
        stack.callback(log.close)
        unwatched = msgspec.structs.replace(s, metrics_port=0)  # the port is the worker's
        reference = stack.enter_context(Service("reference", ["reference", "--follow"], unwatched, directory))
        partitions = range(s.partitions)
        running = _Running(worker, reference, stats_file, log, partitions)
        with _Production(source, s, rate, malformed, view) as production:
            produced, feedback = _watch(production, running, view)
        view.stage = "stopping the worker"
        reference.stop()
        worker.stop()
        worker.check()
        view.update(read_stats(stats_file))
        seconds = time.monotonic() - started
        view.stage = "replaying the log"
        verification = replay.run(s, verify=True, jobs=jobs, quiet=True)
        view.stage = "comparing decisions with the known labels"
        evaluation = evaluate(log, partitions, source.truth())
        transactions, rejects = _accounted(log, partitions)
        reasons = _reasons(log, partitions)
        view.stage = "done"
        latency_ms = view.stats["latency_ms"]
        return DemoResult(
            produced, transactions, rejects, reasons, feedback, seconds, verification, evaluation, latency_ms
        )


class _Production:
    """Publishes a source on its own thread. delivered: (messages, verdicts), None until everything is delivered."""

    def __init__(self, source: Source, s: Settings, rate: float | None, malformed: bool, view: View) -> None:
        self.delivered: tuple[int, int] | None = None
        self._arguments = source, s, rate, malformed, view
        self._error: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="produce", daemon=True)

    def __enter__(self) -> _Production:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stopping.set()
        self._thread.join(10.0)

    def check(self) -> None:
        """Raise the error of publishing, if it failed."""
        if self._error is not None:
            failed = Unavailable(f"producing failed: {self._error!r}")
            raise self._error if isinstance(self._error, SentinelError) else failed

    def _run(self) -> None:
        source, s, rate, malformed, view = self._arguments

        def progress(transactions: int, feedback: int) -> None:
            view.produced = transactions

        try:
            chunks = _until(self._stopping, source)
            with loading(lambda: wiring.open_log(s), s, chunks, "the demo's stream", source.last) as chunks:
                report = publish(chunks, s, rate=rate, on_progress=progress)
            bad = _send_malformed(s) if malformed else 0
            self.delivered = report.sent["transactions"] + bad, report.sent["feedback"]
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self._error = error


class _Running(NamedTuple):
    """The processes that run while the stream is produced. stats_file: the worker's."""

    worker: Service
    reference: Service
    stats_file: Path
    log: EventLog
    partitions: range


def _watch(production: _Production, running: _Running, view: View) -> tuple[int, int]:
    """Update the view until the log holds everything that was produced; returns (messages, verdicts)."""
    worker, log, partitions = running.worker, running.log, running.partitions
    view.stage = "deciding"
    newest: dict[int, Position] = dict.fromkeys(partitions, START)
    last_count, last_change = -1, time.monotonic()
    while True:
        for each in (worker, running.reference, production):
            each.check()
        view.update(read_stats(running.stats_file))
        _read_alerts(log, newest, view)
        transactions, rejects = _accounted(log, partitions)
        if production.delivered is not None:
            produced, feedback = production.delivered
            view.produced = produced
            if transactions + rejects >= produced and _feedback_in(log, partitions) >= feedback:
                return produced, feedback
        if transactions != last_count:
            last_count, last_change = transactions, time.monotonic()
        elif time.monotonic() - last_change > STALLED_SECONDS_MAX:
            raise Unavailable(
                f"the worker is stalled: no decision for {STALLED_SECONDS_MAX:.0f} s; {worker.last_words}"
            )
        time.sleep(REFRESH_S)


def _until(stopping: threading.Event, source: Source) -> Iterator[list[Record]]:
    for chunk in source.records():
        if stopping.is_set():
            return
        yield chunk


def _send_malformed(s: Settings) -> int:
    """Send a few malformed messages, which must become rejects and must not stop the worker."""
    producer: Producer = kafka_client.producer(s)
    for i, value in enumerate(MALFORMED * 5):
        producer.produce(s.transactions_topic, value, key=f"malformed-{i}")
    producer.flush(10)
    return 5 * len(MALFORMED)


def _accounted(log: EventLog, partitions: range) -> tuple[int, int]:
    """Current counts in the log: (transactions, rejected messages of the transactions topic)."""
    transactions = sum(log.length(p, "transactions") for p in partitions)
    rejects = 0
    for p in partitions:
        if log.length(p, "rejects"):
            rejects += sum(decode_reject(e.payload).topic == "transactions" for e in entries(log, p, "rejects"))
    return transactions, rejects


def _reasons(log: EventLog, partitions: range) -> dict[str, int]:
    """Rejected messages of both topics by reason, most frequent first."""
    found = Counter(decode_reject(e.payload).reason for p in partitions for e in entries(log, p, "rejects"))
    return dict(found.most_common())


def _feedback_in(log: EventLog, partitions: range) -> int:
    return sum(log.length(p, "feedback") for p in partitions)


def _read_alerts(log: EventLog, newest: dict[int, Position], view: View) -> None:
    for partition, after in newest.items():
        page = read(log, partition, "alerts", after, 200)
        if page:
            newest[partition] = page[-1].id
            view.alerts.append(decode_alert(page[-1].payload))


def summary(result: DemoResult) -> str:
    """The demo's result as text."""
    e = result.evaluation.at
    mark = "all accounted for" if result.transactions + result.rejects == result.produced else "NOT all accounted for"
    return "\n".join(
        [
            f"{result.produced:,} messages produced = {result.transactions:,} decided"
            f" + {result.rejects:,} rejected ({mark})",
            *_rejected(result),
            f"{result.decisions:,} decisions, {result.identical:,} identical on replay",
            f"fraud: {result.evaluation.frauds:,} of {result.evaluation.decided:,} transactions;"
            f" precision {_share(e.precision)}, recall {_share(e.recall)},"
            f" value detected {_share(e.value_detection_rate)}, alert rate {e.alert_rate:.2%},"
            f" false positives per hit {_share(e.false_positive_ratio, 2)}",
            "go on with: sentinel run --sample (the web console, with alerts that come by themselves), or `make run`",
        ]
    )


def _rejected(result: DemoResult) -> list[str]:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in result.reasons.items())
    return [f"rejected: {reasons}"] if reasons else []


def _share(value: float, digits: int = 3) -> str:
    """A figure, or a dash where it has no meaning: without alerts there is no precision, without frauds no recall."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def first_differences(result: DemoResult) -> None:
    """Print the first difference of every partition that has one."""
    for v in result.verification:
        if v.first_difference is not None:
            print(v.first_difference, file=sys.stderr)
