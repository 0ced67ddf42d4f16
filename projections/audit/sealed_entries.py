"""Entries of a partition with the seals over them, as proofs hold them: a seal's place in the tree that a checkpoint
signs, and an entry's place in its batch. Reads only.

Cost: the seals of the partition are read and hashed once, about 10 µs each, and the batches of the entries asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from core.errors import BadInput, Corrupt
from core.events import Position
from core.log import batch_tree, merkle, seals
from core.log.base import Entry, EventLog, Head
from core.log.checkpoints import Checkpoint
from core.log.notes import Note
from core.log.paging import entries

Json = dict[str, Any]


class NotAnchored(BadInput):
    """The checkpoint does not cover the decision yet."""


class Anchor(NamedTuple):
    """A checkpoint to prove against, and the note that it was read from."""

    checkpoint: Checkpoint
    note: Note


class Sealed(NamedTuple):
    """A seal: its payload, and the heads around it."""

    payload: bytes
    before: Head
    after: Head

    @property
    def json(self) -> Json:
        """As a proof holds it."""
        return {
            "sequence": self.after.sequence,
            "payload": self.payload.decode(),
            "previous": self.before.digest,
        }


class Seals(NamedTuple):
    """The seals over some entries, ascending; and the hashes of the leaves of the tree that was signed, of which there
    are none without a checkpoint.
    """

    found: list[Sealed]
    hashes: list[bytes]


def read_seals(
    log: EventLog, partition: int, payments: Sequence[Position], feedback: Sequence[Position], anchor: Anchor | None
) -> Seals:
    """The seals over these payments and this feedback; positions must ascend.

    Raises NotAnchored if the checkpoint covers not all of them, Corrupt if a payment has no seal, or the log is not
    what the checkpoint signs.
    """
    head = None if anchor is None else anchor.checkpoint.state.partitions[partition]
    hashes: list[bytes] = []
    found: list[Sealed] = []
    before = Head()
    paid = said = 0
    for entry in entries(log, partition, "seals"):
        if head is not None and len(hashes) < head.size:
            hashes.append(merkle.leaf(entry.payload))
        after = seals.head_from_entry(entry)
        passed = paid + said
        while paid < len(payments) and payments[paid] <= after.transactions:
            paid += 1
        while said < len(feedback) and feedback[said] <= after.feedback:
            said += 1
        if paid + said > passed:
            found.append(Sealed(entry.payload, before, after))
        before = after
        if paid == len(payments) and said == len(feedback) and (head is None or len(hashes) >= head.size):
            break
    if paid < len(payments) or said < len(feedback):
        missing = payments[paid] if paid < len(payments) else feedback[said]
        raise Corrupt(f"partition {partition}: no seal covers the entry at {missing}")
    if head is None or anchor is None:
        return Seals(found, [])
    number = anchor.checkpoint.number
    if found and found[-1].after.sequence > head.size:
        raise NotAnchored(
            f"checkpoint {number} ends at seal {head.size} of partition {partition}, and the decision is under seal"
            f" {found[-1].after.sequence}: sign a later one (sentinel anchor)"
        )
    if len(hashes) != head.size or merkle.root(hashes) != head.root:
        raise Corrupt(f"partition {partition}: differs from checkpoint {number}: the log was rewritten; see verify")
    return Seals(found, hashes)


class BatchHashes:
    """The hashes of a batch's entries, and where each stands among them."""

    def __init__(self, log: EventLog, partition: int, seal: Sealed) -> None:
        """Raises Corrupt if the entries are not those that the seal covers."""
        self.places: dict[tuple[str, Position], int] = {}
        self._hashes: list[bytes] = []
        before, after = seal.before, seal.after
        span = before.transactions, after.transactions
        scores = {entry.id: entry.payload for entry in entries(log, partition, "scores", *span)}
        for entry in entries(log, partition, "transactions", *span):
            self._add("decision", entry, scores.get(entry.id, b""))
        for entry in entries(log, partition, "alerts", *span):
            self._add("alert", entry)
        for entry in entries(log, partition, "feedback", before.feedback, after.feedback):
            self._add("feedback", entry)
        for entry in entries(log, partition, "rejects", *(seals.covered(head)["rejects"] for head in (before, after))):
            self._add("reject", entry)
        header = seal.payload.removesuffix(b'%b"}' % after.digest.encode()) + b'"}'
        root = batch_tree.root(self._hashes)
        if hashlib.sha256(bytes.fromhex(before.digest) + root + header).hexdigest() != after.digest:
            raise Corrupt(f"partition {partition}: seal {after.sequence} does not match its entries; see verify")

    def _add(self, kind: batch_tree.Kind, entry: Entry, *more: bytes) -> None:
        self.places[kind, entry.id] = len(self._hashes)
        self._hashes.append(batch_tree.leaf(kind, str(entry.id), entry.payload, *more))

    def proof(self, kind: str, position: Position) -> Json:
        """The entry's place and path."""
        place = self.places[kind, position]
        levels = batch_tree.path(self._hashes, place)
        return {"index": place, "path": [[in_hex(left), in_hex(right)] for left, right in levels]}


def in_hex(hashes: Sequence[bytes]) -> list[str]:
    """Hashes as a proof holds them."""
    return [each.hex() for each in hashes]
