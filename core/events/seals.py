"""The entry that ends every appended batch of a partition."""

from __future__ import annotations

from core.events.base import Event


class Seal(Event, tag="seal.v1", tag_field="type", frozen=True, kw_only=True):
    """One per appended batch (I8): the partition's positions, and the digest that chains it. ID: `<sequence>-1`.

    transactions, feedback: the last source position consumed, accepted or rejected. control: the position under
    which the batch was decided; it never decreases, and every score of the batch names it (I12). control_digest: of the
    control stream up to there (`core.log.seals.control_digest`), given when `control` has advanced. begins:
    `<log ID>/<partition>`, given by a partition's first seal. counts: entries appended to (transactions, alerts,
    feedback, rejects); every transaction also has a score. published: the last transaction position whose decision is
    known to be delivered.
    """

    transactions: str
    feedback: str
    control: int
    control_digest: str = ""
    begins: str = ""
    counts: tuple[int, int, int, int]
    recorded_at: int
    published: str
    digest: str
