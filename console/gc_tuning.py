"""Python's garbage collector in processes that read the log: many tuples, no cycles."""

from __future__ import annotations

import gc


def fewer_collections() -> None:
    """Collecting takes up to two thirds of the time by default, when a log is read."""
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
