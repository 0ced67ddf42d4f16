"""The lower bound of a worker's latency: a process that only consumes messages and appends two entries for each.

    python -m console.bench.floor STATS_FILE

It reads the configured transactions topic with the product's consumer. For every message it appends an entry of a
transaction's size and one of a score's size, all messages of a loop in one MULTI. It does not decode, decide, seal or
check a condition: what remains is the cost of the servers, the client libraries and the disk. Latency is measured as
for the worker (Kafka timestamp → append returned); the statistics file has the fields that the bench reads.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

from console import wiring
from console.bench.cpu import log_client
from console.gc_tuning import tune_for_reading
from core.errors import Unavailable
from core.files import write_atomic
from core.settings import Settings
from ingest import kafka_client
from ingest.stats import IDLE_S, WRITE_S
from ingest.telemetry import Histogram

TRANSACTION_BYTES = 260
SCORE_BYTES = 360


class Floor:
    """Consumes and appends until `stop` is called."""

    def __init__(self, settings: Settings, stats_file: Path) -> None:
        """Raises Unavailable if a server does not answer. Needs a single server: in a Redis Cluster, no MULTI spans all
        partitions.
        """
        self._settings = settings
        self._stats_file = stats_file
        self._latency = Histogram()
        self._transactions = 0
        self._bursts: list[tuple[float, int]] = []
        self._last_at = 0.0
        self._written = 0.0
        self._stopping = False
        self._client = log_client(settings)
        self._connection = self._client.connection_pool.get_connection()
        keys = [f"{settings.log_prefix}:p{p:02d}" for p in range(settings.partitions)]
        self._pairs = [
            self._packed("XADD", f"{key}:transactions", "*", "e", "t" * TRANSACTION_BYTES)
            + self._packed("XADD", f"{key}:scores", "*", "e", "s" * SCORE_BYTES)
            for key in keys
        ]
        self._begin, self._end = self._packed("MULTI"), self._packed("EXEC")

    def stop(self) -> None:
        """Ask `run` to return. Safe from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Consume from the start of the topic and append, until stopped."""
        consumer = kafka_client.transactions_consumer(self._settings)
        topic = self._settings.transactions_topic
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(self._settings.partitions)])
        timeout = self._settings.linger_ms / 1000
        while not self._stopping:
            pairs, times = [], []
            for message in consumer.consume(self._settings.batch_size, timeout):
                error = message.error()
                if error is None:
                    pairs.append(self._pairs[message.partition() or 0])
                    times.append(message.timestamp()[1])
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise Unavailable(f"{topic}: {error.str()}")
            if pairs:
                self._append(pairs)
                self._record(times)
            self._write()
        consumer.close()
        self._client.close()

    def _append(self, pairs: list[bytes]) -> None:
        self._connection.send_packed_command([b"".join([self._begin, *pairs, self._end])])
        for _ in range(2 + 2 * len(pairs)):
            self._connection.read_response()

    def _record(self, times: list[int]) -> None:
        now = time.time()
        if now - self._last_at > IDLE_S:
            self._bursts.append((now, self._transactions))
        self._last_at = now
        self._transactions += len(times)
        self._latency.record(now * 1000.0 - np.array(times, dtype=np.float64))

    def _write(self) -> None:
        now = time.monotonic()
        if now - self._written < WRITE_S:
            return
        self._written = now
        content = {
            "pid": os.getpid(),
            "at": time.time(),
            "transactions": self._transactions,
            "latency_counts": self._latency.counts(),
            "bursts": self._bursts,
            "last_decided_at": self._last_at,
            "cpu_s": time.process_time(),
            "partitions": list(range(self._settings.partitions)),
        }
        write_atomic(self._stats_file, msgspec.json.encode(content), durable=False)

    def _packed(self, *arguments: str) -> bytes:
        return b"".join(self._connection.pack_command(*arguments))


def main() -> None:
    floor = Floor(wiring.settings(), Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: floor.stop())
    tune_for_reading()
    floor.run()


if __name__ == "__main__":
    main()
