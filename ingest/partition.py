"""One owned partition: its intake, account state and head, and how messages become a batch. No network.

States of a partition in a worker: loaded (head read, state rebuilt) → taking → in flight (one batch) → taking … →
released. The state is ahead of the log by at most the batch in flight; if that batch is refused, the partition is
loaded again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
from msgspec.structs import replace

from core.codec import encode, encode_transactions
from core.context import Context
from core.currency import Rates, set_rates
from core.errors import BadInput
from core.events import AccountEvent, FeedbackReceived, Position, Transaction, TransactionRejected
from core.features.state import AccountState
from core.feedback_signing import subject_of
from core.hiding import RAW_BYTES_MAX as CUT_TO
from core.hiding import masked, masked_bytes
from core.log.base import Batch, Entry, Head, Sealed
from core.log.seals import begins, sealed
from core.receipt import advanced
from core.tokens import home
from core.validation import decode_feedback, decode_transaction
from core.work import Decided, Work
from ingest.intake import Intake, Message, Segment
from ingest.vault import AccountKeys

_entry = partial(tuple.__new__, Entry)

OFFSET_BEGINNING = -2
"""Kafka's logical offset for the oldest record still in the topic."""
RAW_BYTES_MAX = 16 * 1024 * 1024
"""A rejected message of up to this many bytes is kept in full. A larger one was hardly sent on purpose (Kafka's default
limit is 1 MiB) but unpacked from a small batch, and the log's server closes the connection on hundreds of megabytes.
"""
RAW_BYTES_KEPT = 65_536
FROM_THE_BEGINNING = (OFFSET_BEGINNING, OFFSET_BEGINNING)


@dataclass(slots=True)
class Rejected:
    """A rejected message, with what its dead-letter copy needs."""

    topic: str
    message: Message
    position: Position
    reason: str
    detail: str


class Decoded(msgspec.Struct):
    """A segment's well-formed messages, in order; item i of `messages` is that of transaction i. feedback_end: the last
    feedback position consumed, f of the transactions.
    """

    feedback: list[tuple[Message, AccountEvent]]
    messages: list[Message]
    transactions: list[Transaction]
    feedback_end: Position


class Pending(msgspec.Struct):
    """A batch: decoded, then screened (`ingest.screening`), then admitted (`ingest.admission`: work, transactions,
    positions, messages, feedback, rejects), then with everything that the append needs. clock: the partition's newest
    receive time before it, epoch ms. segments: the messages as taken. feedback_begin: the feedback position before it.
    card_data: how many messages held card data, by kind (`core.hiding.KINDS`). rejected_as: how the message of a reject
    is kept.
    """

    partition: Owned
    work: Work
    transactions_end: Position
    feedback_end: Position
    recorded_at: int
    clock: int
    segments: list[Segment] = []
    feedback_begin: Position = Position(0, 0)
    decoded: list[Decoded] = []
    malformed: list[Rejected] = []
    transactions: list[Transaction] = []
    positions: list[Position] = []
    messages: list[Message] = []
    feedback: list[tuple[Position, AccountEvent]] = []
    rejects: list[Rejected] = []
    card_data: dict[str, int] = {}
    context: Context | None = None
    decided: Decided | None = None
    sealed: Sealed | None = None
    rejected_as: Callable[[Message], Message] | None = None


@dataclass(slots=True)
class Owned:
    """A partition while this worker owns it. Generations are those of the two source topics (transactions, feedback).

    starts: where each generation began in Kafka. skipped: the offset after the last messages that are never decided.
    """

    partition: int
    head: Head
    state: AccountState
    generations: tuple[int, int]
    intake: Intake = field(default_factory=Intake)
    transactions_end: Position = Position(0, 0)
    feedback_end: Position = Position(0, 0)
    published: Position = Position(0, 0)
    snapshot_sequence: int = 0
    starts: tuple[int, int] = FROM_THE_BEGINNING
    skipped: tuple[int, int] = (0, 0)
    tip: Head = field(default_factory=Head)
    """The head once everything sealed is in the log."""
    names: dict[str, AccountKeys] = field(default_factory=dict)
    """In a log with tokens, the keys of accounts that this worker has seen here, by their raw IDs (`ingest.vault`)."""

    def __post_init__(self) -> None:
        self.tip = self.head
        self.transactions_end, self.feedback_end = self.head.transactions, self.head.feedback
        self.published = self.head.published

    def start_offsets(self) -> tuple[int, int]:
        """Kafka offsets (transactions, feedback) to continue from: that of the last record taken, plus one, or after
        what is skipped.

        If the log holds nothing of the topic's generation yet, the offset where it began, so that an expiry before
        anything was read is seen; OFFSET_BEGINNING if that is unknown.
        """
        return self._offsets(self.transactions_end, self.feedback_end)

    def decided_offsets(self) -> tuple[int, int]:
        """As `start_offsets`, after the last record whose decision is in the log."""
        return self._offsets(self.head.transactions, self.head.feedback)

    def _offsets(self, *ends: Position) -> tuple[int, int]:
        transactions, feedback = (
            max(end.offset if end.generation == generation else start, skipped or OFFSET_BEGINNING)
            for end, generation, start, skipped in zip(ends, self.generations, self.starts, self.skipped, strict=True)
        )
        return transactions, feedback

    @property
    def settled(self) -> bool:
        """Whether the state is exactly the log's: everything taken has been appended."""
        return (self.transactions_end, self.feedback_end) == (self.head.transactions, self.head.feedback)

    def take(self, limit: int, recorded_at: int) -> Pending | None:
        """Decode up to `limit` messages in order, to be screened and admitted next. None if nothing may be taken now.

        recorded_at: log time of the batch, epoch ms. It is set before the batch is decided, because a verdict's hour
        of log time can decide whether it counts.
        """
        segments = self.intake.take(limit)
        if not segments:
            return None
        work = Work(self.partition, self.state, [])
        ends = self.transactions_end, self.feedback_end
        pending = Pending(self, work, *ends, recorded_at, self.state.received_at, segments, self.feedback_end)
        for segment in segments:
            self._decode(segment, pending, is_scanned=True)
        self.transactions_end, self.feedback_end = pending.transactions_end, pending.feedback_end
        return pending

    def _check_partition(self, account_id: str) -> None:
        """Raise BadInput unless an account is this partition's. Those in the state are, so they need no check."""
        identity = self.state.identity
        right = home(account_id, identity.partitioner, identity.partitions)
        if right != self.partition:
            raise BadInput(
                f"by {identity.partitioner} the key maps to partition {right}, but the message came in"
                f" {self.partition}: its producer has another partitioner, or chose the partition itself",
                reason="wrong_partition",
            )

    def decode_again(self, pending: Pending) -> None:
        """Decode the batch once more, now with a look at each message's keys."""
        pending.decoded, pending.malformed = [], []
        pending.card_data.clear()
        pending.feedback_end = pending.feedback_begin  # payments before the batch's first feedback have not seen it
        for segment in pending.segments:
            self._decode(segment, pending, is_scanned=False)

    def _decode(self, segment: Segment, pending: Pending, *, is_scanned: bool) -> None:
        """Add the segment's well-formed messages to `pending`; the others become rejects. is_scanned: as of
        `decode_transaction`.
        """
        generation, feedback_generation = self.generations
        known = self.names or self.state.index
        events: list[tuple[Message, AccountEvent]] = []
        for message in segment.feedback:
            position = Position(feedback_generation, message.offset + 1)
            pending.feedback_end = position
            try:
                event = decode_feedback(message.value, message.key)
                if event.account_id not in known:
                    self._check_partition(event.account_id)
            except BadInput as error:
                pending.malformed.append(_rejected("feedback", message, position, error, pending.card_data))
                continue
            subject = subject_of(event) if event.key else ""  # of the event as it was signed: it may hold tokens soon
            events.append((message, replace(event, recorded_at=pending.recorded_at, subject=subject)))
        accepted, transactions = self._payments(segment.transactions, pending, is_scanned=is_scanned)
        if segment.transactions:
            pending.transactions_end = Position(generation, segment.transactions[-1].offset + 1)
        pending.decoded.append(Decoded(events, accepted, transactions, pending.feedback_end))

    def _payments(
        self, messages: list[Message], pending: Pending, *, is_scanned: bool
    ) -> tuple[list[Message], list[Transaction]]:
        """The well-formed messages and their transactions; the others become rejects. is_scanned: as of
        `decode_transaction`.
        """
        known = self.names or self.state.index
        transactions: list[Transaction] = []
        accepted: list[Message] = []
        for message in messages:
            try:
                transaction = decode_transaction(message.value, message.key, is_scanned=is_scanned)
                if transaction.account_id not in known:
                    self._check_partition(transaction.account_id)
            except BadInput as error:
                position = Position(self.generations[0], message.offset + 1)
                pending.malformed.append(_rejected("transactions", message, position, error, pending.card_data))
                continue
            transactions.append(transaction)
            accepted.append(message)
        return accepted, transactions


def _rejected(topic: str, message: Message, position: Position, error: BadInput, counts: dict[str, int]) -> Rejected:
    """The reject of a message that could not be decoded, without its card data. What its schema says of it counts more
    than the error.
    """
    error = message.fault or error
    kinds: set[str] = set()
    without = message._replace(key=masked_bytes(message.key, kinds), value=masked_bytes(message.value, kinds))
    count_kinds(counts, kinds)
    return Rejected(topic, without, position, error.reason, masked(str(error)) + _cut(message, without))


def count_kinds(counts: dict[str, int], kinds: Iterable[str]) -> None:
    """Count a message by each kind of card data that it held."""
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1


def _cut(message: Message, without: Message) -> str:
    """What to add to the detail if only the beginning was kept, because the rest may hold card data; else "". Such
    bytes have no digest: few that fit it would have to be tried.
    """
    parts = (("key", message.key, without.key), ("value", message.value, without.value))
    return "".join(
        f"; the first {CUT_TO} of the {name}'s {len(content)} bytes are kept, without card data"
        for name, content, kept in parts
        if content is not None and kept is not content and len(content) > CUT_TO
    )


def convert(pending: Pending, rates: Rates) -> None:
    """Set the rates of a batch that is decided next, under the rates' context."""
    if rates.by_code:
        set_rates(rates, pending.transactions)
    set_rates(rates, [event for _, event in pending.feedback if isinstance(event, FeedbackReceived)])


def finish(pendings: Sequence[Pending], decided: Sequence[Decided], control: int, control_digest: str) -> None:
    """Seal batches that were recorded at one time and decided together. control: the position that they were decided
    under; control_digest: the control stream's up to there.
    """
    every = [transaction for pending in pendings for transaction in pending.transactions]
    payloads = encode_transactions(every, pendings[0].recorded_at)  # in one call: twelve cost twice as much
    done = 0
    for pending, result in zip(pendings, decided, strict=True):
        mine = payloads[done : done + len(pending.transactions)]
        done += len(mine)
        _finish(pending, result, mine, control, control_digest)


def _finish(pending: Pending, decided: Decided, payloads: list[bytes], control: int, control_digest: str) -> None:
    """The batch to append after everything the partition has sealed: decisions, and duplicates turned into rejects.
    payloads: the transactions as log bytes.

    It is sealed before the preceding append is known to have succeeded; if that one fails, so does this one.
    """
    owned = pending.partition
    recorded_at = pending.recorded_at
    for row in decided.duplicates:
        transaction, position = pending.transactions[row], pending.positions[row]
        pending.rejects.append(
            Rejected(
                "transactions",
                pending.messages[row],
                position,
                "duplicate_transaction",
                f"account {transaction.account_id} has already sent {transaction.transaction_id} with this content",
            )
        )
    if pending.rejected_as is not None:
        for rejected in pending.rejects:
            rejected.message = pending.rejected_as(rejected.message)
    sequence = owned.tip.sequence + 1
    positions, transactions = pending.positions, pending.transactions
    if decided.duplicates:
        positions, transactions = [positions[i] for i in decided.kept], [transactions[i] for i in decided.kept]
        payloads = [payloads[i] for i in decided.kept]
        newest = max((t.received_at for t in transactions), default=0)
        owned.state.received_at = advanced(pending.clock, newest, recorded_at)  # the log holds no duplicates
    batch = Batch(
        control=control,
        recorded_at=recorded_at,
        transactions_end=pending.transactions_end,
        feedback_end=pending.feedback_end,
        published=owned.published,
        control_digest=control_digest,
        begins="" if owned.tip.sequence else begins(owned.state.identity.log_id, owned.partition),
        transactions=list(map(_entry, zip(positions, payloads, strict=True))),
        scores=decided.scores,
        alerts=decided.alerts,
        feedback=[Entry(p, encode(event)) for p, event in pending.feedback],
        rejects=[
            Entry(Position(sequence, index + 1), encode(_reject_event(rejected, recorded_at)))
            for index, rejected in enumerate(pending.rejects)
        ],
    )
    pending.decided, pending.sealed = decided, sealed(batch, owned.tip)
    owned.tip = pending.sealed.head


def _reject_event(rejected: Rejected, recorded_at: int) -> TransactionRejected:
    return TransactionRejected(
        recorded_at=recorded_at,
        topic="feedback" if rejected.topic == "feedback" else "transactions",
        position=str(rejected.position),
        reason=rejected.reason,
        detail=(rejected.detail[:500] + _shortened(rejected.message)),
        key=_kept(rejected.message.key),
        value=_kept(rejected.message.value),
    )


def _kept(content: bytes | None) -> bytes | None:
    return content if content is None or len(content) <= RAW_BYTES_MAX else content[:RAW_BYTES_KEPT]


def _shortened(message: Message) -> str:
    """What to add to the detail if the message is too large to be kept in full; else ""."""
    parts = [("key", message.key), ("value", message.value)]
    return "".join(
        f"; the first {RAW_BYTES_KEPT} of the {name}'s {len(content)} bytes are kept, SHA-256"
        f" {hashlib.sha256(content).hexdigest()}"
        for name, content in parts
        if content is not None and len(content) > RAW_BYTES_MAX
    )


def reject_counts(pending: Pending) -> Counter[str]:
    """Rejects of a batch by reason code."""
    return Counter(rejected.reason for rejected in pending.rejects)
