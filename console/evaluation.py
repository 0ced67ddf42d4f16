"""Compares decisions in a log with the known labels: how much fraud was stopped, and at what cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import polars as pl

from core.codec import decode_score, decode_transaction
from core.currency import base_amount
from core.log.base import EventLog
from core.log.paging import decision_pages
from learners.metrics import AtThreshold, at_threshold


class Evaluation(NamedTuple):
    """Counts beside the measures. unlabelled: decided transactions without a known label."""

    at: AtThreshold
    frauds: int
    decided: int
    unlabelled: int


def evaluate(log: EventLog, partitions: Iterable[int], truth: pl.DataFrame) -> Evaluation:
    """Compare every decision with `truth` (transaction_id, is_fraud, amount)."""
    known = dict(zip(truth["transaction_id"].to_list(), truth["is_fraud"].to_list(), strict=True))
    labels: list[bool] = []
    alerted: list[bool] = []
    amounts: list[float] = []
    unlabelled = 0
    for partition in partitions:
        for entries, scores in decision_pages(log, partition):
            for entry, score in zip(entries, scores, strict=True):
                transaction = decode_transaction(entry.payload)
                is_fraud = known.get(transaction.transaction_id)
                if is_fraud is None:
                    unlabelled += 1
                    continue
                labels.append(bool(is_fraud))
                amounts.append(base_amount(transaction))
                alerted.append(decode_score(score.payload).decision != "approve")
    y = np.array(labels, dtype=np.bool_)
    result = at_threshold(y, np.array(alerted, dtype=np.bool_), np.array(amounts, dtype=np.float64))
    return Evaluation(result, int(y.sum()), len(y) + unlabelled, unlabelled)
