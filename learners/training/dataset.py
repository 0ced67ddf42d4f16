"""Training sets: what was decided, the features it was decided on, and what was known of it at any time T. Pure.

A set holds every decision of a stretch of the log (`learners.training.reading` makes it) with all verdicts, each with
the time it became known. `as_known` labels the same rows as of any T without reading again, so that a model that would
have been trained on a day is trained on what was known on that day, and is judged by what is known now.

A row's status at T is what `sentinel query labels --as-of T` says (projections.labelling): verdicts that pass quality
control, weighed by reliabilities learned from all verdicts known at T:

    fraud, legitimate      the consensus of all sources
    review                 they conflict, or nobody is sure             left out by `labelled`
    pending                no verdict, and younger than the maturity    left out by `labelled`
    presumed_legitimate    no verdict, and old enough

Known at T: the log had taken it by T (clock "log", the default and the only one without hindsight), or it had happened
by T (clock "event": for history that was loaded in bulk, where log time says only when somebody loaded it; log time
then counts as event time everywhere). By either clock nothing that became known after T changes a row, and a payment
after T is pending. The read model forgets which payments an account had after half a year; a set reads them all.

Cost: 4 × WIDTH bytes a row for the features and about 70 beside them; labelling takes some 10 µs a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.verdicts import Said
from projections.labelling.consensus import Status
from projections.labelling.verdicts import Claims
from projections.labelling.view import view_of

Clock = Literal["log", "event"]
Mask = NDArray[np.bool_]

STATUSES: tuple[Status, ...] = get_args(Status)
FRAUD, LEGITIMATE, REVIEW, PENDING, PRESUMED = range(5)
"""Codes of a row's status: places in STATUSES."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where n rows come from. partitions int32, generations and offsets uint64 (n,): their positions in the log;
    recorded_at int64 (n,): log time, epoch ms; models, arms int16 (n,): places in the names that decided.
    """

    partitions: NDArray[np.int32]
    generations: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    recorded_at: NDArray[np.int64]
    models: NDArray[np.int16]
    arms: NDArray[np.int16]
    model_names: tuple[str, ...]
    arm_names: tuple[str, ...]

    def rows(self, chosen: Mask | slice) -> Origin:
        """Those of the chosen rows."""
        return Origin(
            self.partitions[chosen],
            self.generations[chosen],
            self.offsets[chosen],
            self.recorded_at[chosen],
            self.models[chosen],
            self.arms[chosen],
            self.model_names,
            self.arm_names,
        )


@dataclass(frozen=True, slots=True)
class Verdicts:
    """m verdicts in log order, whatever rows they are on: times int64 (m,) epoch ms; partitions int32 (m,); account and
    transaction IDs. payments, payments_recorded_at: when the payment was and the log took it, 0 if it holds none.
    newest_recorded_at, newest int64 (k,), ascending: from that log time on the log held a payment of a day that ends
    then.

    rows, events int64 (l,): verdict `events[i]` is on row `rows[i]` of the set.
    """

    said: Sequence[Said]
    recorded_at: NDArray[np.int64]
    occurred_at: NDArray[np.int64]
    partitions: NDArray[np.int32]
    accounts: Sequence[str]
    transactions: Sequence[str]
    payments: NDArray[np.int64]
    payments_recorded_at: NDArray[np.int64]
    rows: NDArray[np.int64]
    events: NDArray[np.int64]
    newest_recorded_at: NDArray[np.int64]
    newest: NDArray[np.int64]

    def known_at(self, clock: Clock) -> NDArray[np.int64]:
        """When each became known, epoch ms."""
        return self.recorded_at if clock == "log" else self.occurred_at

    def of(self, chosen: Mask) -> Verdicts:
        """On the chosen rows (bool, one per row of the set), which are numbered anew. All verdicts stay: the others'
        reliability is learned from them too.
        """
        kept = chosen[self.rows]
        return replace(self, rows=(np.cumsum(chosen) - 1)[self.rows[kept]], events=self.events[kept])


@dataclass(frozen=True, slots=True)
class Known:
    """As of when a set is labelled (epoch ms), by which clock, and after how long silence means legitimate."""

    until: int
    maturity_ms: int
    clock: Clock


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Rows in order of event time: features float32 (n, WIDTH), labels bool (n,), times epoch ms, amounts in
    currency, accounts int64 (n,) the hash of the account's ID.

    statuses int8 (n,): see the module's head; a label is True where the status is fraud. Sets that are put together by
    hand may lack what comes after `accounts`: then every row is labelled, and they can't be labelled anew.
    """

    features: NDArray[np.float32]
    labels: Mask
    times: NDArray[np.int64]
    amounts: NDArray[np.float64]
    accounts: NDArray[np.int64]
    statuses: NDArray[np.int8] | None = None
    origin: Origin | None = None
    verdicts: Verdicts | None = None
    known: Known | None = None

    def __len__(self) -> int:
        return len(self.times)

    def rows(self, mask: Mask) -> TrainingSet:
        """The rows where the mask is True. A copy, unless they stand together."""
        found = np.flatnonzero(mask)
        together = len(found) > 0 and found[-1] - found[0] + 1 == len(found)
        chosen: Mask | slice = slice(int(found[0]), int(found[-1]) + 1) if together else mask
        return TrainingSet(
            self.features[chosen],
            self.labels[chosen],
            self.times[chosen],
            self.amounts[chosen],
            self.accounts[chosen],
            None if self.statuses is None else self.statuses[chosen],
            None if self.origin is None else self.origin.rows(chosen),
            None if self.verdicts is None else self.verdicts.of(mask),
            self.known,
        )

    def between(self, start: int, end: int) -> TrainingSet:
        """The rows with start ≤ event time < end (epoch ms), without copying their features."""
        mask = np.zeros(len(self), dtype=np.bool_)
        mask[np.searchsorted(self.times, start, "left") : np.searchsorted(self.times, end, "left")] = True
        return self.rows(mask)

    def counts(self) -> dict[str, int]:
        """Rows by status; of a set without statuses {}."""
        if self.statuses is None:
            return {}
        found = np.bincount(self.statuses, minlength=len(STATUSES)).tolist()
        return dict(zip(STATUSES, found, strict=True))


def as_known(data: TrainingSet, until: int, maturity_ms: int | None = None, clock: Clock | None = None) -> TrainingSet:
    """The same rows with the labels that were known at `until` (epoch ms); features are shared, not copied.

    maturity_ms, clock: default, the set's own. Raises BadInput if the set came without verdicts.
    """
    if data.verdicts is None or data.origin is None or data.known is None:
        raise BadInput("this training set holds labels only, not the verdicts they come from")
    maturity_ms = data.known.maturity_ms if maturity_ms is None else maturity_ms
    clock = data.known.clock if clock is None else clock
    statuses = np.where(data.times <= until - maturity_ms, PRESUMED, PENDING).astype(np.int8)
    verdicts = data.verdicts
    held = _agreed(verdicts, until, clock)
    for row, event in zip(verdicts.rows.tolist(), verdicts.events.tolist(), strict=True):
        label = held.get((int(verdicts.partitions[event]), verdicts.accounts[event], verdicts.transactions[event]))
        if label is not None:
            statuses[row] = STATUSES.index(label)
    unseen = data.times > until if clock == "event" else (data.times > until) | (data.origin.recorded_at > until)
    statuses[unseen] = PENDING
    return replace(data, statuses=statuses, labels=statuses == FRAUD, known=Known(until, maturity_ms, clock))


def _agreed(verdicts: Verdicts, until: int, clock: Clock) -> dict[tuple[int, str, str], Status]:
    """What was agreed at `until` on each payment with a verdict that counts, by partition, account and transaction."""
    at = verdicts.known_at(clock)
    paid = verdicts.payments_recorded_at if clock == "log" else verdicts.payments
    said: dict[tuple[int, str, str], list[Said]] = {}
    payments: dict[tuple[int, str, str], int] = {}
    for i in np.flatnonzero(at <= until).tolist():
        word = verdicts.said[i] if clock == "log" else msgspec.structs.replace(verdicts.said[i], recorded_at=int(at[i]))
        key = (int(verdicts.partitions[i]), verdicts.accounts[i], verdicts.transactions[i])
        said.setdefault(key, []).append(word)
        if verdicts.payments[i] and paid[i] <= until:
            payments[key] = int(verdicts.payments[i]) // 1000 * 1000
    steps = int(np.searchsorted(verdicts.newest_recorded_at, until, "right"))
    newest = int(verdicts.newest[steps - 1]) if steps else 0
    claims = [Claims(*key, payments.get(key, 0), 0, words) for key, words in said.items()]
    return {
        (each.judged.partition, each.judged.account_id, each.judged.transaction_id): each.consensus.label
        for each in view_of(claims, newest).transactions
        if each.consensus is not None
    }


def labelled(data: TrainingSet) -> TrainingSet:
    """The rows that may be trained on or judged by: neither in review nor pending."""
    if data.statuses is None:
        return data
    mask = (data.statuses != REVIEW) & (data.statuses != PENDING)
    return data if mask.all() else data.rows(mask)
