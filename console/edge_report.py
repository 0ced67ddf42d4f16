"""What `sentinel doctor` says about a log's identity, its bounds, and messages in partitions that their keys don't
map to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from core.codec import decode_reject, decode_seal
from core.control import ControlState
from core.errors import BadInput
from core.events import Position
from core.identity import required
from core.log.base import EventLog
from core.log.paging import read
from core.settings import Settings, environment_name
from ingest.snapshots import SnapshotStore

BATCHES = 10_000
READ_MAX = 2_000
"""How far back, and how many, rejects are read in each partition."""
MISPLACED_SHARE = 0.01
"""Up to this share of the messages, anybody may have sent them; beyond it, the producers are configured differently."""

Said = tuple[str, Literal["ok", "warn", "fail"], str, str]
"""A doctor's finding: check, status, message, remedy."""

_OTHER_CLIENTS = {
    "murmur2": "Java's default; in librdkafka clients (confluent-kafka, node-rdkafka, …) partitioner=murmur2_random",
    "crc32": "the default of librdkafka clients; in Java a partitioner of that kind",
}


def identity_findings(s: Settings, log: EventLog, state: ControlState) -> Iterator[Said]:
    """Whether the log has an identity that fits the settings, and whether producers follow its partitioner."""
    try:
        identity = required(state.identity)
    except BadInput as error:
        yield "log", "fail", str(error), "see docs/decisions/0021-log-identity.md"
        return
    if identity.partitioner != s.partitioner:
        yield (
            "partitioner",
            "fail",
            f"the log was created for {identity.partitioner}, but the setting is {s.partitioner}",
            f"set {environment_name('partitioner')}={identity.partitioner}, or use a new log prefix",
        )
    for partition in range(identity.partitions):
        misplaced, messages = _misplaced(log, partition)
        if misplaced:
            many = misplaced > MISPLACED_SHARE * messages
            who = "producers do" if many else "some producer does"
            yield (
                f"partition {partition}",
                "fail" if many else "warn",
                f"{misplaced:,} of its last {messages:,} messages were rejected as wrong_partition: {who} not use"
                f" {identity.partitioner}",
                f"have all producers of both topics choose the partition by {identity.partitioner} of the account ID"
                f" ({_OTHER_CLIENTS[identity.partitioner]})",
            )


def bound_findings(s: Settings, state: ControlState) -> Iterator[Said]:
    """Whether partitions had to forget accounts or payments, as their snapshots say."""
    if state.identity is None:
        return
    store = SnapshotStore(Path(s.snapshot_directory), s.log_prefix)
    for partition, found in store.forgotten(state.identity).items():
        if found is None:
            yield (
                f"partition {partition}",
                "warn",
                f"its snapshot in {s.snapshot_directory} belongs to another log, comes from an earlier build, or"
                " was changed: it is not used",
                "if it is still there after a worker's next snapshot, find out who writes into this folder",
            )
            continue
        if found.evicted:
            protected = f", {found.evicted_protected:,} of them blocked or defrauded" if found.evicted_protected else ""
            yield (
                f"partition {partition}",
                "warn",
                f"is full ({found.accounts:,} accounts): {found.evicted:,} were evicted so far{protected}",
                "they begin anew when they return; for more room, set SENTINEL_ACCOUNTS_MAX and use a new log prefix",
            )
        if found.payments:
            yield (
                f"partition {partition}",
                "warn",
                f"{found.payments:,} payments were forgotten within a day: repetitions of them would be decided again",
                "spread busy accounts over more partitions (a new log), see docs/bad-input.md",
            )


def _misplaced(log: EventLog, partition: int) -> tuple[int, int]:
    """(how many of the partition's last messages came in a wrong partition, how many messages these were)."""
    begin = max(log.head(partition).sequence - BATCHES, 0)
    page = read(log, partition, "rejects", Position(begin, 0), READ_MAX)
    misplaced = sum(decode_reject(entry.payload).reason == "wrong_partition" for entry in page)
    decided = 0
    if misplaced:
        seals = read(log, partition, "seals", Position(begin, 0), BATCHES)
        decided = sum(decode_seal(entry.payload).counts[0] for entry in seals)
    return misplaced, decided + len(page)
