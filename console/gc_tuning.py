"""Garbage-collector settings for processes that create many tuples and few cycles: collect less often."""

from __future__ import annotations

import gc
import threading
import time

COLLECT_S = 60.0


def tune_for_reading() -> None:
    """For processes that read the log; with Python's defaults, collection takes up to two thirds of their time."""
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def tune_for_serving() -> None:
    """For the API: an answer about all labels makes a hundred thousand objects, all of which die with it, and looking
    through them for cycles takes as long as the answer. So the counts of objects lead to no collection; those of the
    last minute are looked at once a minute, by a thread.
    """
    gc.freeze()
    gc.set_threshold(10_000_000, 20, 100)
    threading.Thread(target=_collect_young, name="collector", daemon=True).start()


def _collect_young() -> None:
    while True:
        time.sleep(COLLECT_S)
        gc.collect(0)


def keep_what_is_held() -> None:
    """No collection looks any more at what exists now: read models and indices, which only grow."""
    gc.freeze()


def tune_for_deciding() -> None:
    """For the worker, whose batches create thousands of short-lived tuples; saves a quarter of its CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
