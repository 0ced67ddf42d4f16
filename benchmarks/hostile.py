"""A worker under hostile messages: does it go on, is every message accounted for, and how much memory does it take?

    python -m benchmarks.hostile [--messages 1000000] [--seed 1] [--json]

One real worker on the local stack reads what `benchmarks.hostile_messages` makes, on both topics, and 1,000 honest
payments after them. It must decide all of these, never park a partition, and record every message exactly once: as a
payment with its score, as feedback, or as a reject. Then the log is verified and every decision made again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Producer

from benchmarks.hostile_messages import messages
from benchmarks.running import answer_of, print_figures
from console import wiring
from console.service import Service, wait_for_partitions
from console.stack import LocalStack
from core import control_stream
from core.codec import decode_seal, encode
from core.events import START, Transaction, TransactionRejected
from core.log.base import EventLog
from core.log.paging import pages
from core.settings import Settings
from ingest import kafka_client
from ingest.producer import publish
from sources.record import Record

PARTITIONS = 4
ANY = -1
"""The partition that a message's key maps to."""
HONEST = 1_000
STALLED_S = 180.0


def run(count: int, seed: int) -> dict[str, Any]:
    """All figures. Leaves nothing running. Raises SystemExit if anything was lost, doubled or stopped."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))
        servers = stack.enter_context(LocalStack(directory / "stack"))
        settings = Settings(
            kafka_servers=servers.kafka_servers,
            redis_port=servers.redis_port,
            partitions=PARTITIONS,
            snapshot_directory=str(directory / "snapshots"),
        )
        kafka_client.create_topics(settings, ["transactions", "feedback", "transactions.rejects"])
        stats = directory / "stats.json"
        worker = stack.enter_context(Service("worker", ["ingest", "--stats-file", str(stats)], settings, directory))
        wait_for_partitions(worker, stats, PARTITIONS, 60.0)
        idle = _memory(worker, "VmRSS")
        log = wiring.open_log(settings)
        stack.callback(log.close)
        began = time.monotonic()
        sent = _send(settings, count, seed)
        recorded = Recorded(log)
        _wait_for(recorded, worker, sent)
        seconds = time.monotonic() - began
        publish(_honest(), settings, timestamps="now")
        _wait_for(recorded, worker, sent + HONEST)
        peak = _memory(worker, "VmHWM")
        events = control_stream.history(log)
        stops = sum(type(each.event).__name__ == "PartitionParked" for each in events)
        skipped = sum(type(each.event).__name__ == "MessagesSkipped" for each in events)
        rejects = _reasons(log)
        decided_of_honest = _decided(log)
        verified = answer_of(settings, "verify", "--json")
        replayed = answer_of(settings, "replay", "--verify", "--json")
        worker.check()
    payments, feedback, rejected = recorded.counts
    lost = payments + feedback + rejected - sent - HONEST
    if decided_of_honest != HONEST or lost:
        raise SystemExit(f"{decided_of_honest} of {HONEST} honest payments decided; {lost:+} messages recorded")
    return {
        "messages": sent,
        "seed": seed,
        "seconds": seconds,
        "payments": payments,
        "feedback": feedback,
        "rejects": rejected,
        "rejects_by_reason": dict(rejects.most_common()),
        "lost_or_doubled": lost,
        "stops": stops + skipped,
        "honest_decided": decided_of_honest,
        "memory_idle_mb": idle / 1e6,
        "memory_peak_mb": peak / 1e6,
        "verify_ok": verified["ok"],
        "decisions": replayed["decisions"],
        "identical": replayed["identical"],
    }


def _send(settings: Settings, count: int, seed: int) -> int:
    """How many messages the broker took: all of those that a client can send."""
    failed: Counter[str] = Counter()

    def delivered(error: Any, _: Any) -> None:
        if error is not None:
            failed[str(error)] += 1

    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_servers,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",  # the local broker keeps what it got in memory
            "linger.ms": 5,
            "queue.buffering.max.kbytes": 200_000,
            "on_delivery": delivered,
        }
    )
    for each in messages(count, seed, int(time.time() * 1000), PARTITIONS):
        partition = ANY if each.partition is None else each.partition
        while True:
            try:
                producer.produce(each.topic, each.value, each.key, partition)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(120.0)
    if failed:
        raise SystemExit(f"the broker refused {failed.most_common(3)}")
    return count


def _honest() -> Any:
    now = int(time.time() * 1000)
    for number in range(HONEST):
        name = f"honest{number}"
        payment = Transaction(transaction_id=name, account_id=name, amount=10.0, occurred_at=now, merchant_id="shop")
        yield [Record("transactions", name, now, encode(payment))]


class Recorded:
    """What the seals count, read on from where it was left: payments, feedback, rejects."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._read = [START] * PARTITIONS
        self.counts = [0, 0, 0]

    def total(self) -> int:
        """All messages recorded by now."""
        for partition in range(PARTITIONS):
            for page in pages(self._log, partition, "seals", self._read[partition]):
                self._read[partition] = page[-1].id
                for entry in page:
                    transactions, _, feedback, rejects = decode_seal(entry.payload).counts
                    for place, more in enumerate((transactions, feedback, rejects)):
                        self.counts[place] += more
        return sum(self.counts)


def _reasons(log: EventLog) -> Counter[str]:
    found: Counter[str] = Counter()
    for partition in range(PARTITIONS):
        for page in pages(log, partition, "rejects", START):
            found.update(msgspec.json.decode(entry.payload, type=TransactionRejected).reason for entry in page)
    return found


def _decided(log: EventLog) -> int:
    """Honest payments in the log; each has its score beside it, or `verify` fails."""
    return sum(
        b'"honest' in entry.payload
        for partition in range(PARTITIONS)
        for page in pages(log, partition, "transactions", START)
        for entry in page
    )


def _wait_for(recorded: Recorded, worker: Service, total: int) -> None:
    """Until the seals count `total` messages. Raises SystemExit if nothing happens for STALLED_S."""
    known, since = -1, time.monotonic()
    while True:
        worker.check()
        done = recorded.total()
        if done >= total:
            return
        if done > known:
            known, since = done, time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            raise SystemExit(f"stopped at {done:,} of {total:,} messages")
        time.sleep(1.0)


def _memory(worker: Service, name: str) -> int:
    """A figure of the worker's process, bytes."""
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run(arguments.messages, arguments.seed)
    print_figures(found, as_json=arguments.json)


if __name__ == "__main__":
    main()
