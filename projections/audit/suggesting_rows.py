"""What a search for rules reads of a log: missed frauds, and a sample of the other approved payments. Reads only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.features import spec
from core.hashing import hash_strings
from core.identity import LogIdentity
from core.log.archive.columns import feature_column
from core.log.base import EventLog, Head
from core.program.codes import ENGINE
from core.program.language import identity
from core.program.leaves import forms_of
from core.program.library import kernel
from core.program.loading import Loaded
from core.times import HOUR_MS
from projections.audit.row_labels import RowLabels
from projections.audit.stored_batch import coded, decisions_of
from projections.audit.stored_tables import THREADS, Part, Rows, in_order, parts, rows_in_range
from projections.audit.suggesting import Side
from projections.audit.whatif import Scope
from projections.labelling.view import FRAUD, LabelView

SAMPLE = 200_000
"""About so many approved payments are kept."""
TEXTS = ("merchant_category", "country", "channel", "currency")
_COLUMNS = (
    "generation",
    "offset",
    "amount",
    "rate",
    "occurred_at",
    "account_id",
    "decision",
    "width",
    "engine",
    *TEXTS,
)


class Read(NamedTuple):
    """Payments, in order. times: epoch ms, int64 (n,). share: of the approved payments that were kept. Texts are not
    indices into distinct values yet.
    """

    numbers: dict[str, NDArray[np.float64]]
    texts: dict[str, list[str]]
    accounts: NDArray[np.int64]
    times: NDArray[np.int64]
    is_fraud: NDArray[np.bool_]
    share: float

    def side(self, wanted: NDArray[np.bool_]) -> Side:
        """Some of them, for the search."""
        texts = {}
        for name, values in self.texts.items():
            known: dict[str, int] = {}
            codes = np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
            texts[name] = (codes[wanted], list(known))
        numbers = {name: values[wanted] for name, values in self.numbers.items()}
        return Side(numbers, texts, self.accounts[wanted], self.is_fraud[wanted], 1.0 / self.share)


def columns_of(library: Loaded) -> tuple[dict[str, int], frozenset[str]]:
    """A library's features that every score stores, by the place of their column, and those that are truth values."""
    known = kernel()
    found = {each.name: known.get(identity(each.expression)) for each in library.checked.features}
    places = {name: spec.index(column) for name, column in found.items() if column is not None}
    flags = (each.name for each in library.checked.features if each.expression.type == "bool")
    return places, frozenset(flags)


def read(
    log: EventLog,
    heads: dict[int, Head],
    scope: Scope,
    labels: LabelView,
    identity_: LogIdentity,
    places: dict[str, int],
    progress: Callable[[int], None] = lambda n: None,
) -> Read:
    """The payments in range. The sample is by a hash of the position, so that it is always the same."""
    total = sum(log.length(partition, "scores") for partition in heads)
    share = min(1.0, SAMPLE / max(total, 1))
    row_labels = RowLabels(labels, identity_.key)
    found: list[Read] = []
    learned: dict[str, None] = dict.fromkeys(map(feature_column, places.values()))
    lock = threading.Lock()
    for partition, head in heads.items():
        end = head.transactions if scope.last is None else min(scope.last, head.transactions)
        after = scope.after
        calls = (
            partial(_part, part, scope, row_labels, identity_, places, share, learned, lock)
            for part in parts(log, partition, after, end, scope)
        )
        for part, count in in_order(calls, THREADS):
            found.append(part)
            progress(count)
    return _joined(found, places, share)


def _part(
    part: Part,
    scope: Scope,
    labels: RowLabels,
    log: LogIdentity,
    places: dict[str, int],
    share: float,
    learned: dict[str, None],
    lock: threading.Lock,
) -> tuple[Read, int]:
    whole = Rows.of(part, _COLUMNS, learned)
    kept, _ = rows_in_range(whole, scope)
    rows = whole if kept is None else whole.only(kept)
    decisions = decisions_of(rows.column("decision"))
    passed = (decisions == 0) & (rows.column("engine").to_numpy() == ENGINE)
    times = rows.column("occurred_at").cast(pa.int64()).to_numpy()
    is_fraud = passed & (labels.of(rows, times) == FRAUD)
    spread = (rows.column("offset").to_numpy() ^ rows.column("generation").to_numpy()) * np.uint64(0x9E3779B97F4A7C15)
    sampled = passed & ((spread >> np.uint64(32)) < np.uint64(round(share * 2**32)))
    at = np.flatnonzero(is_fraud | sampled)
    chosen = rows.only(at)
    codes, names = coded(chosen.column("account_id"))
    numbers = {name: _number(chosen, feature_column(place)) for name, place in places.items()}
    numbers["amount"] = chosen.column("amount").to_numpy() * chosen.column("rate").to_numpy()
    numbers["hour"] = ((times[at] // HOUR_MS) % 24).astype(np.float64)
    texts = {name: _texts(chosen, name) for name in TEXTS}
    accounts = hash_strings(names, log.key)[codes].view(np.int64) if len(at) else np.zeros(0, dtype=np.int64)
    return Read(numbers, texts, accounts, times[at], is_fraud[at], share), len(whole)


def _number(rows: Rows, column: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = rows.column(column).to_numpy().astype(np.float64)
    return values


def _texts(rows: Rows, name: str) -> list[str]:
    codes, values = coded(rows.column(name))
    forms = forms_of(name, values)
    return [forms[code] for code in codes.tolist()]


def _joined(found: Sequence[Read], places: dict[str, int], share: float) -> Read:
    names = dict.fromkeys([*places, "amount", "hour"])
    none = np.zeros(0, dtype=np.int64)
    return Read(
        {name: np.concatenate([none.astype(np.float64), *(each.numbers[name] for each in found)]) for name in names},
        {name: [value for each in found for value in each.texts[name]] for name in TEXTS},
        np.concatenate([none, *(each.accounts for each in found)]),
        np.concatenate([none, *(each.times for each in found)]),
        np.concatenate([none.astype(np.bool_), *(each.is_fraud for each in found)]),
        share,
    )
