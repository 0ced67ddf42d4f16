"""The limit on automatic blocks, shared by all responders without a word between them. Pure.

Each partition has a part of the limit, and a responder may use the parts of its partitions together. The parts add up
to the limit, and what was used is counted in the log, so no number of responders, takeover or restart exceeds it. An
item above the limit waits until a block is an hour old.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.times import HOUR_MS


def part_of(limit: int, partition: int, partitions: int) -> int:
    """A partition's part of the limit; the parts of all partitions add up to it."""
    return limit * (partition + 1) // partitions - limit * partition // partitions


def free_from(limit: int, blocked_at: Iterable[int], unseen: int, now_ms: int) -> int:
    """From when on (epoch ms) another block is allowed; `now_ms` for at once.

    blocked_at: when blocks were recorded, epoch ms; unseen: blocks that were sent and are not in the log yet.
    """
    recent = sorted(at for at in blocked_at if at > now_ms - HOUR_MS)
    excess = len(recent) + unseen - limit
    if excess < 0:
        return now_ms
    if limit <= 0 or excess >= len(recent):
        return now_ms + HOUR_MS
    return max(recent[excess] + HOUR_MS, now_ms + 1)
