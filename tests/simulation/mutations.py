"""Faults put into the product on purpose, to see that the simulation finds them: each is one line that somebody could
get wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.errors import SentinelError
from core.log.archive import archiver
from ingest import evidence, preparing, snapshots
from ingest.appending import Appending
from ingest.fetching import Fetcher
from ingest.intake import Intake
from ingest.ownership import Ownership
from ingest.partition import Owned, Pending
from ingest.publisher import Publisher
from tests.simulation import runs

Change = tuple[Any, str, Any]


@contextmanager
def _changed(*changes: Change) -> Iterator[None]:
    before = [(of, name, of.__dict__[name]) for of, name, _ in changes]
    for of, name, value in changes:
        setattr(of, name, value)
    try:
        yield
    finally:
        for of, name, value in before:
            setattr(of, name, value)


def _unknown_is_success() -> Change:
    def append_again(self: Any, pending: Pending) -> Any:
        return pending.sealed.head  # type: ignore[union-attr]

    return Appending, "_append_again", append_again


def _published_before_appended() -> Change:
    append = Appending.send

    def early(self: Any, pendings: list[Pending]) -> None:
        for pending in pendings:
            self._publisher.publish(pending.partition, pending)
        append(self, pendings)

    return Appending, "send", early


def _conflict_ignored() -> Change:
    def conflict(self: Any, owned: Owned, error: Exception) -> None:
        owned.head = owned.tip = self._log.head(owned.partition)

    return Appending, "_conflict", conflict


def _taken_is_committed() -> Change:
    def commit(self: Any) -> None:
        from confluent_kafka import TopicPartition

        from ingest.evidence import COMMITTED_BY

        topic = self._settings.transactions_topic
        metadata = COMMITTED_BY + self._settings.log_prefix
        offsets = [TopicPartition(topic, n, o.transactions_end.offset + 1, metadata) for n, o in self._owned.items()]
        if offsets:
            self.transactions.commit(offsets=offsets, asynchronous=True)

    return Fetcher, "commit", commit


def _snapshot_of_any_history() -> Change:
    return snapshots, "_in_log", lambda log, partition, head: True


def _empty_is_new() -> Change:
    return evidence, "of_earlier_log", lambda log, settings, topic: []


def _message_in_hand() -> Change:
    def wait(self: Any, first_s: float, until: float) -> None:
        messages = self.transactions.consume(1, first_s)
        if messages:
            messages += self.transactions.consume(self._settings.batch_size, 0.001)
        self._take(messages, self._settings.transactions_topic)

    return Fetcher, "_await", wait


def _unsettled_state_kept() -> Change:
    return Owned, "settled", property(lambda self: True)


def _state_kept_at_reload() -> Change:
    def reload(self: Any, owned: Owned, control: Any) -> Owned:
        owned.head = self._log.head(owned.partition)
        return self.begin_again(owned, control)  # type: ignore[no-any-return]

    return Ownership, "reload", reload


def _not_published_again() -> Change:
    return Publisher, "republish", lambda self, log, owned: None


def _no_waiting_for_the_other_topic() -> Change:
    take = Intake.take

    def hasty(self: Intake, limit: int) -> Any:
        self.transactions.at_end = self.feedback.at_end = True
        return take(self, limit)

    return Intake, "take", hasty


def _trimmed_before_archived() -> Change:
    def trim(log: Any, archive: Any, partition: int, up_to: Any, now: int) -> int:
        try:
            return int(log.trim(partition, log.head(partition)))
        except SentinelError:
            return 0

    return archiver, "trim", trim


def _prepared_too_early() -> Change:
    return (
        preparing._Folding,
        "is_caught_up",
        property(lambda self: bool(self.at.sequence or not self.owned.head.sequence)),
    )


MUTATIONS: dict[str, Callable[[], Change]] = {
    "an append of unknown outcome counts as done": _unknown_is_success,
    "decisions are published before they are appended": _published_before_appended,
    "after a refused append, work goes on with the state as it is": _conflict_ignored,
    "offsets are committed before the append": _taken_is_committed,
    "a snapshot is used without its seal being in the log": _snapshot_of_any_history,
    "an empty log is taken for a new one": _empty_is_new,
    "a message in hand survives a rebalance": _message_in_hand,
    "a state ahead of the log is kept": _unsettled_state_kept,
    "a partition is loaded again with the state that it had": _state_kept_at_reload,
    "a new owner does not publish what its predecessor left": _not_published_again,
    "one topic is not waited for": _no_waiting_for_the_other_topic,
    "the log is trimmed before it is archived": _trimmed_before_archived,
    "a state prepared for a program lacks the batch in flight": _prepared_too_early,
}
"""The faults, in words."""


def found_after(mutation: str, schedules: int, first: int = 0) -> tuple[int, str]:
    """How many schedules it takes to find the fault, and what is wrong then; (0, "") if these do not find it."""
    with _changed(MUTATIONS[mutation]()):
        for number in range(schedules):
            try:
                wrong = runs.run(first + number).wrong
            except AssertionError as error:  # the undisturbed run fails, too
                wrong = [f"undisturbed: {error}"]
            if wrong:
                return number + 1, wrong[0]
    return 0, ""
