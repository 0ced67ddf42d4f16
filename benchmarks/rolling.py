"""Workers restarted one after the other under load: for how long does a partition stand still?

    python -m benchmarks.rolling --directory DIR [--variants cooperative,static,…] [--rate 5000] [--json]

Three workers as real processes share twelve partitions, on Valkey with fsync always and on Apache Kafka (one node); an
open loop sends `--rate` payments a second. Each worker is stopped and started again, one after the other, as soon as
the one before owns partitions again and SETTLE_S have passed. Variants:

    eager             assignment_strategy = range: every rebalance takes all partitions from everybody
    cooperative       the default
    killed            likewise, by kill -9: the group notices after session_timeout_ms
    release           likewise, and the process that comes is of another release: other version, other snapshot format
    static            with a group_instance_id: a worker keeps its partitions while it is away
    static-overlap    likewise, but the new process starts first and takes the place of the old one
    kip848            group.protocol = consumer, heartbeats as the broker has them (5 s)
    kip848-fast       likewise, with heartbeats every 500 ms (a setting of the broker)

A partition's pause is the time between two of its seals, by their log times, without the usual one (the median). It is
*stopped* during a pause of more than STOPPED_MS. In the end all that was sent must be in the log once, and `--replay`
partitions are decided again. Exits 1 if a payment is lost, doubled or decided differently.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.running import answer_of, print_figures, wait_for
from console import wiring
from console.service import ROOT, Service, read_stats
from console.stack import Valkey
from core.codec import decode_seal
from core.events import START
from core.log.paging import pages
from core.settings import Settings
from core.times import DAY_MS
from ingest import kafka_client
from ingest.history import loading
from ingest.producer import PublishReport, publish
from sources.catalogue import open_source
from sources.record import Record
from sources.synthetic import PER_ACCOUNT_DAY, SyntheticConfig
from tests.builders.releases import another_release
from tests.integration.apache_kafka import ApacheKafka

PARTITIONS = 12
WORKERS = 3
ACCOUNTS = 20_000
SETTLE_S = 6.0
QUIET_S = 10.0
"""Traffic before the first restart, for the usual gap."""
STOPPED_MS = 500.0
STALLED_S = 30.0
TRANSACTIONS_MAX = 5_000_000


class Variant(NamedTuple):
    """strategy, tables: settings of the workers. broker: lines of its properties. The rest: how one is replaced."""

    strategy: str = "cooperative-sticky"
    tables: str = ""
    broker: str = ""
    is_static: bool = False
    is_killed: bool = False
    is_overlapping: bool = False
    is_other_release: bool = False


_KIP848 = '[kafka]\n"group.protocol" = "consumer"\n'
VARIANTS = {
    "eager": Variant("range"),
    "cooperative": Variant(),
    "killed": Variant(is_killed=True),
    "release": Variant(is_other_release=True),
    "static": Variant(is_static=True),
    "static-overlap": Variant(is_static=True, is_overlapping=True),
    "kip848": Variant(tables=_KIP848),
    "kip848-fast": Variant(
        tables=_KIP848,
        broker="group.consumer.min.heartbeat.interval.ms=500\ngroup.consumer.heartbeat.interval.ms=500\n",
    ),
}


class _Kafka(ApacheKafka):
    """With lines of a variant."""

    lines = ""

    def more_properties(self, controller: int) -> str:
        return self.lines


class Traffic:
    """A synthetic bank's payments and verdicts at a steady rate, in a thread, until `stop`."""

    def __init__(self, settings: Settings, rate: float) -> None:
        self._settings, self._rate = settings, rate
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self.report: PublishReport | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what ended it, if it has ended by itself."""
        if self._error is not None:
            raise self._error

    def stop(self) -> PublishReport:
        """Send no more; returns once everything sent is acknowledged."""
        self._ended.set()
        self._thread.join()
        self.check()
        assert self.report is not None
        return self.report

    def _run(self) -> None:
        try:
            span_ms = int(TRANSACTIONS_MAX / (ACCOUNTS * PER_ACCOUNT_DAY) * DAY_MS)
            start = int(time.time() * 1000) - span_ms - 30 * DAY_MS
            config = SyntheticConfig(transactions=TRANSACTIONS_MAX, accounts=ACCOUNTS, start=start)
            source = open_source("synthetic", flush_feedback=False, synthetic=config)
            last = start + span_ms + 40 * DAY_MS
            log = self._settings
            with loading(lambda: wiring.open_log(log), log, source.records(500), "rolling", last) as chunks:
                self.report = publish(self._until_stopped(chunks), self._settings, rate=self._rate, linger_ms=2.0)
        except BaseException as error:  # noqa: BLE001 - `check` raises it
            self._error = error

    def _until_stopped(self, chunks: Iterable[list[Record]]) -> Iterator[list[Record]]:
        for chunk in chunks:
            if self._ended.is_set():
                return
            yield chunk


class House:
    """Servers and workers of one variant. Used as soon as `start` has returned."""

    def __init__(self, directory: Path, variant: Variant, stack: ExitStack) -> None:
        directory.mkdir(parents=True)
        self.directory, self.variant, self._stack = directory, variant, stack
        _Kafka.lines = variant.broker
        kafka = _Kafka(directory / "kafka")
        kafka.start()
        stack.callback(kafka.stop)
        valkey = stack.enter_context(Valkey(directory / "valkey"))
        self.settings = Settings(
            kafka_servers=kafka.bootstrap,
            redis_port=valkey.port,
            partitions=PARTITIONS,
            snapshot_directory=str(directory / "snapshots"),
            dead_letter_topic="",
            assignment_strategy=variant.strategy,
        )
        kafka_client.create_topics(self.settings, ["transactions", "feedback"])
        self._config = directory / "worker.toml"
        self._config.write_text(variant.tables)
        self._config.chmod(0o600)
        self._newer = another_release(directory / "release") if variant.is_other_release else ROOT
        self.workers: dict[int, Service] = {}
        self._started = 0

    def start(self) -> None:
        """Start all workers; returns once they own all partitions."""
        for number in range(WORKERS):
            self.workers[number] = self._begun(number, ROOT)
            if not number:
                wait_for(lambda: self._owned(0) > 0, "the first worker")  # it begins the log
        wait_for(self.is_shared, "the workers")
        time.sleep(SETTLE_S)

    def replace(self, number: int) -> float:
        """Stop a worker and start it again; returns once all partitions have owners, with the seconds that took."""
        began = time.monotonic()
        former = self.workers[number]
        if self.variant.is_overlapping:
            self.workers[number] = self._begun(number, self._newer)
            wait_for(lambda: self._owned(number) > 0, "the new worker", 60.0)
            wait_for(lambda: not former.running, "the former worker's end", 60.0)
        else:
            if self.variant.is_killed:
                former.kill()
            else:
                former.stop()
            self.workers[number] = self._begun(number, self._newer)
        wait_for(self.is_shared, "the partitions", 120.0)
        return time.monotonic() - began

    def check(self) -> None:
        """Raise Unavailable if a worker has ended with an error."""
        for worker in self.workers.values():
            worker.check()

    def is_shared(self) -> bool:
        """Whether all partitions are owned, and each worker has some, as the workers say."""
        self.check()
        owned = [self._owned(number) for number in self.workers]
        return sum(owned) == PARTITIONS and all(owned)

    def _begun(self, number: int, root: Path) -> Service:
        self._started += 1
        name = f"worker-{number}-{self._started}"
        identity = ["--instance-id", f"worker-{number}"] if self.variant.is_static else []
        arguments = ["ingest", "--config", str(self._config), "--stats-file", str(self._stats(name)), *identity]
        service = Service(name, arguments, self.settings, self.directory, root=root)
        return self._stack.enter_context(service)

    def _stats(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _owned(self, number: int) -> int:
        stats = read_stats(self._stats(self.workers[number].name))
        return len(stats["partitions"]) if stats is not None else 0


class Pauses(NamedTuple):
    """Gaps between a partition's seals, without the usual one: from (epoch ms) and for how long (ms), float64 (n,)."""

    begins: NDArray[np.float64]
    lengths: NDArray[np.float64]

    @classmethod
    def of(cls, settings: Settings, partition: int) -> Pauses:
        """Of a whole partition."""
        with closing(wiring.open_log(settings)) as log:
            times = [
                decode_seal(entry.payload).recorded_at
                for page in pages(log, partition, "seals", START)
                for entry in page
            ]
        at = np.sort(np.array(times, np.float64))
        gaps = np.diff(at)
        return cls(at[:-1], np.maximum(gaps - np.median(gaps), 0.0))

    def between(self, first: float, last: float) -> Pauses:
        """Those that end after `first` and begin before `last`, epoch ms."""
        inside = (self.begins < last) & (self.begins + self.lengths > first)
        return Pauses(self.begins[inside], self.lengths[inside])

    def longest(self) -> float:
        """ms; 0 if there is none."""
        return float(self.lengths.max(initial=0.0))

    def stops(self) -> list[tuple[float, float]]:
        """The stretches, epoch ms, in which the partition was stopped."""
        long = self.lengths > STOPPED_MS
        return [(float(b), float(b + n)) for b, n in zip(self.begins[long], self.lengths[long], strict=True)]


def stopped_ms(stops: Sequence[list[tuple[float, float]]], count: int) -> tuple[float, float]:
    """For how long at least `count` of these partitions were stopped at once: in total, and at a stretch, ms."""
    edges = sorted(edge for each in stops for a, b in each for edge in ((a, 1), (b, -1)))
    total = longest = since = 0.0
    now = 0
    for at, change in edges:
        before, now = now, now + change
        if before < count <= now:
            since = at
        elif before >= count > now:
            total, longest = total + at - since, max(longest, at - since)
    return total, longest


def run(name: str, directory: Path, rate: float, replayed: int) -> dict[str, Any]:
    """All figures of a variant. Leaves no process running."""
    with ExitStack() as stack:
        house = House(directory / name, VARIANTS[name], stack)
        house.start()
        traffic = Traffic(house.settings, rate)
        with closing(wiring.open_log(house.settings)) as log:
            wait_for(lambda: _decided(log) > 2 * rate, "the first decisions")
        time.sleep(QUIET_S)
        first = time.time() * 1000
        taken = []
        for number in range(WORKERS):
            taken.append(house.replace(number))
            time.sleep(SETTLE_S)
            traffic.check()
        last = time.time() * 1000
        report = traffic.stop()
        sent = report.sent["transactions"]
        with closing(wiring.open_log(house.settings)) as log:
            _wait_for_the_rest(log, sent)
            seconds_to_end = time.time() - last / 1000
            ids = _ids(log)
        house.check()
        whole = [Pauses.of(house.settings, partition) for partition in range(PARTITIONS)]
        quiet = [each.between(first - 1000 * QUIET_S, first - 500) for each in whole]
        pauses = [each.between(first, last) for each in whole]
        stops = [each.stops() for each in pauses]
        longest = [each.longest() for each in pauses]
        any_ms, _ = stopped_ms(stops, 1)
        _, all_ms = stopped_ms(stops, PARTITIONS)
        only = [part for number in range(replayed) for part in ("--partition", str(number))]
        again = answer_of(house.settings, "replay", "--verify", "--json", "--jobs", "1", "--max-late", "100", *only)
        return {
            "variant": name,
            "payments": sent,
            "per_s": sent / report.seconds,
            "seconds": (last - first) / 1000,
            "longest_pause_ms": max(longest),
            "longest_pause_ms_by_partition": [round(each) for each in longest],
            "median_of_longest_ms": float(np.median(longest)),
            "undisturbed_ms": max(each.longest() for each in quiet),
            "undisturbed_all_stopped_ms": stopped_ms([each.stops() for each in quiet], PARTITIONS)[1],
            "share_any_stopped": any_ms / (last - first),
            "all_stopped_ms": all_ms,
            "restart_s": [round(each, 1) for each in taken],
            "caught_up_s": seconds_to_end,
            "lost": sent - len(set(ids)),
            "twice": len(ids) - len(set(ids)),
            "decided_again": again["decisions"],
            "identical": again["identical"],
        }


def _wait_for_the_rest(log: Any, sent: int) -> None:
    """Until all are decided, or none has been for STALLED_S."""
    decided, since = 0, time.monotonic()
    while decided < sent and time.monotonic() - since < STALLED_S:
        if (now := _decided(log)) > decided:
            decided, since = now, time.monotonic()
        time.sleep(0.1)


def _decided(log: Any) -> int:
    return sum(log.length(partition, "transactions") for partition in range(PARTITIONS))


class _Named(msgspec.Struct):
    transaction_id: str


def _ids(log: Any) -> list[str]:
    """The IDs of all payments in the log."""
    decode = msgspec.json.Decoder(_Named).decode
    return [
        decode(entry.payload).transaction_id
        for partition in range(PARTITIONS)
        for page in pages(log, partition, "transactions", START)
        for entry in page
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="a new folder for servers and logs")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="some of them, separated by commas")
    parser.add_argument("--rate", type=float, default=5_000.0, help="payments per second")
    parser.add_argument("--replay", type=int, default=3, help=f"partitions, of {PARTITIONS}, that are decided again")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    names = arguments.variants.split(",")
    if unknown := set(names) - VARIANTS.keys():
        parser.error(f"unknown variant {min(unknown)}; known: {', '.join(VARIANTS)}")
    os.environ.pop("SENTINEL_CONFIG", None)
    bad = False
    for name in names:
        found = run(name, arguments.directory, arguments.rate, arguments.replay)
        print_figures(found, as_json=arguments.json, digits=3)
        sys.stdout.flush()
        bad |= bool(found["lost"] or found["twice"]) or found["identical"] != found["decided_again"]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
