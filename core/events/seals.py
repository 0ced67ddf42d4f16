"""The entry that ends every appended batch of a partition."""

from __future__ import annotations

from core.events.base import Event


class Seal(Event, tag="seal.v1", tag_field="type", frozen=True, kw_only=True):
    """One per appended batch (I8): the partition's positions, and the digest that chains it. ID: `<sequence>-1`.

    transactions, feedback: the last source position consumed, accepted or rejected. control: the position under
    which the batch was decided. counts: entries appended to (transactions, alerts, feedback, rejects); every
    transaction also has a score. published: the last transaction position whose decision is known to be delivered.
    """

    transactions: str
    feedback: str
    control: int
    counts: tuple[int, int, int, int]
    recorded_at: int
    published: str
    digest: str
