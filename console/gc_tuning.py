"""Garbage-collector settings for processes that create many tuples and few cycles: collect less often."""

from __future__ import annotations

import gc


def tune_for_reading() -> None:
    """For processes that read the log; with Python's defaults, collection takes up to two thirds of their time."""
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def tune_for_serving() -> None:
    """For the API: an answer about all labels makes a hundred thousand objects, all of which die with it. Looking
    through them for cycles would take as long as the answer, so only a million objects that stay lead to a collection.
    """
    gc.freeze()
    gc.set_threshold(1_000_000, 20, 100)


def keep_what_is_held() -> None:
    """No collection looks any more at what exists now: read models and indices, which only grow."""
    gc.freeze()


def tune_for_deciding() -> None:
    """For the worker, whose batches create thousands of short-lived tuples; saves a quarter of its CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
