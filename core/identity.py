"""A log's identity: what is chosen once, when the log is created, and holds for as long as it exists. Pure.

The first worker appends `LogCreated` before anything else. Nothing is decided without it, because the hashes and bounds
of every account's state depend on it: a log with topics but without identity was written by a release before 0.3.0.
"""

from __future__ import annotations

import hmac
from typing import NamedTuple

from core.errors import BadInput
from core.events import LogCreated, Partitioner
from core.hashing import HashKey
from core.program.shipped import DEFAULT_PROGRAM

ACCOUNTS_MAX = 100_000
"""Accounts that a partition holds in memory by default."""
ACCOUNTS_MAX_RANGE = (16, 50_000_000)


class LogIdentity(NamedTuple):
    """See LogCreated. `key` is that of all hashes in features, tables and state."""

    log_id: str
    key: HashKey
    partitioner: Partitioner
    partitions: int
    accounts_max: int
    program: str
    tokens: str = ""

    def event(self, actor: str, occurred_at: int = 0) -> LogCreated:
        """The event that creates a log with this identity."""
        return LogCreated(
            occurred_at=occurred_at,
            actor=actor,
            log_id=self.log_id,
            hash_key=self.key.text,
            partitioner=self.partitioner,
            partitions=self.partitions,
            accounts_max=self.accounts_max,
            program=self.program,
            tokens=self.tokens,
        )

    def mac_key(self, purpose: str) -> bytes:
        """The key under which one kind of cache of this log is authenticated (I17): 32 bytes, HMAC-SHA256 of purpose
        and log ID under the log's key. Who can't read the log can't make a cache that is believed.
        """
        return hmac.digest(bytes.fromhex(self.key.text), f"{purpose}\x1f{self.log_id}".encode(), "sha256")

    @classmethod
    def of(cls, event: LogCreated) -> LogIdentity:
        """The identity that a valid event gives."""
        key = HashKey.of(event.hash_key)
        chosen = event.partitioner, event.partitions, event.accounts_max, event.program, event.tokens
        return cls(event.log_id, key, *chosen)


FIXED = LogIdentity(
    "0" * 32, HashKey.of("000102030405060708090a0b0c0d0e0f"), "crc32", 1, 10 * ACCOUNTS_MAX, DEFAULT_PROGRAM
)
"""The identity of logs in this process's memory, which no outsider feeds: with a fixed key, what is trained and
measured on them is reproducible.
"""


def check(event: LogCreated) -> None:
    """Raise BadInput if the event is invalid in itself."""
    try:
        HashKey.of(event.hash_key)
    except ValueError as error:
        raise BadInput(f"a log can't be created: {error}") from None
    if not event.log_id:
        raise BadInput("a log can't be created without an ID")
    if event.partitions < 1:
        raise BadInput(f"a log has at least one partition, not {event.partitions}")
    if not event.program:
        raise BadInput("a log can't be created without a program")
    low, high = ACCOUNTS_MAX_RANGE
    if not low <= event.accounts_max <= high:
        raise BadInput(f"accounts_max must be between {low:,} and {high:,}, not {event.accounts_max:,}")


def required(identity: LogIdentity | None) -> LogIdentity:
    """The identity. Raises BadInput if there is none."""
    if identity is None:
        raise BadInput(
            "the control stream has no LogCreated event: either no worker has started on this log yet (then start one),"
            " or a release before 0.3.0 wrote it (then use another log prefix, SENTINEL_LOG_PREFIX, and send its"
            " transactions again)"
        )
    return identity
