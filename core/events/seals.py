"""The entry that ends every appended batch of a partition."""

from __future__ import annotations

from core.events.base import Event


class Seal(Event, tag="seal.v1", tag_field="type", frozen=True, kw_only=True):
    """One per appended batch (I8): where the partition stands, and the digest that chains it. ID: `<sequence>-1`.

    transactions, feedback: the last source position consumed, accepted or rejected. control: the position that
    the batch's decisions saw. counts: entries appended to (transactions, alerts, feedback, rejects); a score
    goes with every transaction. published: the last transaction position whose decision is known delivered.
    """

    transactions: str
    feedback: str
    control: int
    counts: tuple[int, int, int, int]
    recorded_at: int
    published: str
    digest: str
