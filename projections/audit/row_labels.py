"""The labels of logged payments that are read as columns: only rows at the time of a labelled payment are looked up."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.hashing import HashKey, hash_strings
from projections.audit.stored_batch import coded
from projections.audit.stored_tables import Rows, Times
from projections.labelling.view import UNJUDGED, LabelView


class RowLabels:
    """Labels by account and transaction. key: the log's. Safe in several threads."""

    def __init__(self, labels: LabelView, key: HashKey) -> None:
        self._labels, self._key = labels, key
        self._times = Times.of(labels)

    def of(self, rows: Rows, times: NDArray[np.int64]) -> NDArray[np.int8]:
        """Codes of `projections.labelling.view`, int8 (n,). times: the rows' event times, epoch ms."""
        out = np.full(len(rows), UNJUDGED, dtype=np.int8)
        at = self._times.may_hold(times) if self._times is not None else ()
        if len(at):
            rows.read(("account_id", "transaction_id"))
            chosen = pa.array(at)
            accounts, names = coded(rows.column("account_id").take(chosen))
            ids = rows.column("transaction_id").take(chosen).to_pylist()
            out[at] = self._labels.of_rows(hash_strings(names, self._key)[accounts], hash_strings(ids, self._key))
        return out
