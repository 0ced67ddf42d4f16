"""A batch that the live path has just decided, beside what was logged of it: for a tally."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core import policy
from core.codec import ScoreKey
from core.currency import base_amount
from core.hashing import HashKey, hash_strings
from core.work import Decided
from projections.audit.tally import Judged
from projections.labelling.view import LabelView


def judged_batch(
    partition: int, decided: Decided, logged: Sequence[ScoreKey], wanted: Sequence[int], labels: LabelView, key: HashKey
) -> Judged:
    """The wanted decisions of a batch. logged: of all its transactions; wanted: indices into it, ascending. key: of the
    log's identity.
    """
    rows, at = decided.rows, np.array(wanted, dtype=np.int64) + decided.start
    transactions = [rows.transactions[i] for i in at.tolist()]
    mine = [logged[i] for i in wanted]
    joined = [",".join(each.rules) for each in mine]
    names = list(dict.fromkeys(joined))
    numbers = {name: k for k, name in enumerate(names)}
    grades: dict[str, int] = {name: k for k, name in enumerate(policy.SEVERITIES)}
    positions = np.array([rows.positions[i] for i in at.tolist()], dtype=np.uint64).reshape(-1, 2)
    return Judged(
        partition,
        positions[:, 0],
        positions[:, 1],
        np.array([t.occurred_at for t in transactions], dtype=np.int64),
        np.array([base_amount(t) for t in transactions], dtype=np.float64),
        labels.of_rows(
            hash_strings([t.account_id for t in transactions], key),
            hash_strings([t.transaction_id for t in transactions], key),
        ),
        np.array([policy.DECISIONS.index(each.decision) for each in mine], dtype=np.uint8),
        rows.decisions[at],
        np.array([grades.get(each.severity or "none", -1) for each in mine], dtype=np.int8),
        rows.severities[at],
        *_patterns(rows.hits[at], rows.shadow_hits[at]),
        np.array([numbers[name] for name in joined], dtype=np.int64),
        names,
    )


def _patterns(
    live: NDArray[np.uint8], shadow: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
    """Combinations of hits: index (n,), and live and shadow (K, R)."""
    found, inverse = np.unique(np.concatenate([live, shadow], axis=1), axis=0, return_inverse=True)
    return inverse.ravel().astype(np.int64), found[:, : live.shape[1]], found[:, live.shape[1] :]
