"""What servers say of themselves, for `GET /v1/system`: asked for in a thread of its own, and kept for a while, because
Kafka and `sentinel doctor`'s checks take seconds.

    facts      Kafka's ends, the workers' group, the log's servers: at most FACTS_S old
    findings   `console.findings`: at most FINDINGS_S old

Nobody asks while nobody looks. A question that can't be answered is told as such, and is asked again after its time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from confluent_kafka import KafkaException
from redis import RedisError

from console.findings import findings
from console.server_findings import Finding, ServerFacts, log_servers
from core.errors import SentinelError
from core.settings import Settings
from ingest import backlog
from ingest.backlog import Group

FACTS_S = 5.0
FINDINGS_S = 60.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Facts:
    """ends: of the topics' partitions, by role, those that Kafka told. group: None if the broker did not describe it.
    problems: what could not be asked, by server.
    """

    ends: dict[str, dict[int, int]]
    group: Group | None
    servers: list[ServerFacts]
    problems: dict[str, str]


@dataclass(frozen=True, slots=True)
class Looked(Generic[T]):
    """What was found. at: epoch ms."""

    found: T
    at: int


class _Kept(Generic[T]):
    """The newest result of a question that takes long; asked again, in a thread, by whoever finds it old."""

    def __init__(self, name: str, ask: Callable[[], T], old_s: float) -> None:
        self._name, self._ask, self._old_s = name, ask, old_s
        self._lock = threading.Lock()
        self._done = threading.Condition(self._lock)
        self._is_asking = False
        self._asked = -old_s
        self._last: Looked[T] | None = None

    def get(self, wait_s: float) -> Looked[T] | None:
        """The newest result; None if there is none yet after wait_s."""
        with self._done:
            if not self._is_asking and time.monotonic() - self._asked >= self._old_s:
                self._is_asking = True
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            if self._last is None:
                self._done.wait_for(lambda: not self._is_asking, wait_s)
            return self._last

    def _run(self) -> None:
        found: T | None = None
        try:
            found = self._ask()
        except (SentinelError, KafkaException, RedisError, OSError) as error:  # asked again after its time
            structlog.get_logger().error("api.inspection_failed", about=self._name, error=str(error))
        finally:  # also after a fault of ours, or nobody would ever ask again
            with self._done:
                if found is not None:
                    self._last = Looked(found, int(time.time() * 1000))
                self._is_asking, self._asked = False, time.monotonic()
                self._done.notify_all()


class Inspector:
    """See the module's docstring. Thread-safe."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._facts = _Kept("facts", lambda: facts(settings, partitions), FACTS_S)
        self._findings = _Kept("findings", lambda: findings(settings), FINDINGS_S)

    def facts(self, wait_s: float) -> Looked[Facts] | None:
        """Of Kafka, the workers and the log's servers; None if nobody has answered yet."""
        return self._facts.get(wait_s)

    def findings(self, wait_s: float = 0.0) -> Looked[list[Finding]] | None:
        """What `sentinel doctor` finds; None if it is still looking for the first time."""
        return self._findings.get(wait_s)


def facts(s: Settings, partitions: int) -> Facts:
    """What Kafka and the log's servers say now."""
    problems: dict[str, str] = {}
    ends: dict[str, dict[int, int]] = {}
    servers: list[ServerFacts] = []
    group: Group | None = None
    try:
        for role, topic in (("transactions", s.transactions_topic), ("feedback", s.feedback_topic)):
            ends[role] = backlog.ends(s, topic, range(partitions))
        group = backlog.group_of(s)
        if not any(ends.values()):
            problems["kafka"] = f"Kafka at {s.kafka_servers} told no partition's end"
        elif group is None:
            problems["kafka"] = f"the broker does not describe the group {s.consumer_group}"
    except SentinelError as error:
        problems["kafka"] = str(error)
    try:
        servers = log_servers(s)
    except SentinelError as error:
        problems["log server"] = str(error)
    return Facts(ends, group, servers, problems)
