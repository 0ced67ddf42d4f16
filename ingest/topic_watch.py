"""Watches whether the source topics are still those that the log's generations name.

A topic that was deleted and made again has the same name and the same offsets, with other messages under them, and the
client goes on at the old offset without an error. Only its ID tells. It is asked for at every assignment, whenever a
partition can't be read, and here, once a second beside the worker; the worker then begins a new generation at once and
reads the new topic from its beginning.

What the worker read from the new topic within that second has been decided under the old generation. It is read again
under the new one: nothing is lost, and a payment that its account remembers (`core.features.remembered`: the last 32
and 24 hours of receive time) is recognised as duplicate. Where history is loaded, or an account paid more often within
that second, one that is no longer remembered is decided again, under its new position.

A topic that got more partitions is noticed likewise, and the worker ends (`ingest.bootstrap`): from then on producers
send accounts elsewhere, and what lies there must not be decided without what the accounts did before.

Cost: one request a second, in a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from core.control import Generation
from core.errors import SentinelError
from core.settings import Settings
from ingest import kafka_client
from ingest.kafka_client import Topic

INTERVAL_S = 1.0


class TopicWatch:
    """A context manager; the thread ends with it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names = {"transactions": settings.transactions_topic, "feedback": settings.feedback_topic}
        self._seen: dict[str, Topic] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="topic-watch", daemon=True)

    def __enter__(self) -> TopicWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()

    def differs(self, generations: Mapping[str, Generation]) -> bool:
        """Whether both topics exist and one is not the topic that the log's newest generation read, or has another
        number of partitions by now.
        """
        seen = self._seen
        return len(seen) == len(self._names) and any(
            (generations[role].topic_id, generations[role].partitions) != (seen[role].topic_id, seen[role].partitions)
            for role in self._names
            if role in generations
        )

    def _run(self) -> None:
        client = kafka_client.admin(self._settings)
        while not self._stop.wait(INTERVAL_S):
            try:
                found = kafka_client.describe(self._settings, list(self._names.values()), client)
            except SentinelError:
                continue  # not reachable now: the worker's own clients notice
            topics = {role: found[name] for role, name in self._names.items()}
            self._seen = {role: topic for role, topic in topics.items() if topic is not None}
