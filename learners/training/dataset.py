"""Training sets: decisions, the features they were made on, and the labels known at any time T. Pure.

A set holds every decision in a range of the log (built by `learners.training.reading`) and all verdicts, each with the
time at which it became known. `as_known` relabels the same rows as of any T without reading the log again. A model can
thus be trained on what was known on a past day and evaluated on what is known now.

A row's status at T is the one that `sentinel query labels --as-of T` reports (projections.labelling): the consensus of
the verdicts that pass quality control, weighted by source reliabilities estimated from all verdicts known at T:

    fraud, legitimate      the consensus of all sources
    review                 the sources conflict or are uncertain        left out by `labelled`
    pending                no verdict, and younger than the maturity    left out by `labelled`
    presumed_legitimate    no verdict, and older than the maturity

"Known at T" means recorded in the log by T (clock "log", the default and the only one without hindsight), or happened
by T (clock "event", for history loaded in bulk: log time there is only the time of loading, so event time takes its
place everywhere). By either clock, nothing that became known after T changes a row, and a payment after T is pending.
The read model forgets an account's payments after half a year; a training set reads them all.

Cost: 4 × WIDTH bytes a row for the features and about 70 for the rest; labelling takes about 10 µs a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.features import spec
from core.scoring import Input
from core.verdicts import VerdictRecord
from projections.labelling.consensus import Status
from projections.labelling.verdicts import Claims
from projections.labelling.view import view_of

Clock = Literal["log", "event"]
Mask = NDArray[np.bool_]

STATUSES: tuple[Status, ...] = get_args(Status)
FRAUD, LEGITIMATE, REVIEW, PENDING, PRESUMED = range(5)
"""Codes of a row's status: indices into STATUSES."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where n rows come from. partitions int32, generations and offsets uint64 (n,): their positions in the log;
    recorded_at int64 (n,): log time, epoch ms; models, arms int16 (n,): indices into `model_names` and `arm_names`;
    keys uint64 (n,): of account and transaction together.
    """

    partitions: NDArray[np.int32]
    generations: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    recorded_at: NDArray[np.int64]
    models: NDArray[np.int16]
    arms: NDArray[np.int16]
    model_names: tuple[str, ...]
    arm_names: tuple[str, ...]
    keys: NDArray[np.uint64]

    def rows(self, chosen: Mask | slice) -> Origin:
        """The origin of the chosen rows."""
        return Origin(
            self.partitions[chosen],
            self.generations[chosen],
            self.offsets[chosen],
            self.recorded_at[chosen],
            self.models[chosen],
            self.arms[chosen],
            self.model_names,
            self.arm_names,
            self.keys[chosen],
        )


@dataclass(frozen=True, slots=True)
class Verdicts:
    """m verdicts in log order, on rows of the set or not: times int64 (m,), epoch ms; partitions int32 (m,); account
    and transaction IDs. payments, payments_recorded_at: the payment's event time and log time, 0 if the log has no
    such payment. newest_recorded_at, newest int64 (k,), ascending: from log time `newest_recorded_at[i]` on, the
    newest payment in the log belonged to the day that ends at `newest[i]`.

    rows, events int64 (l,): verdict `events[i]` is on row `rows[i]` of the set.
    """

    said: Sequence[VerdictRecord]
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
        """Linked to the chosen rows only (bool, one per row of the set), which are renumbered. All verdicts are kept,
        because source reliabilities are estimated from all of them.
        """
        kept = chosen[self.rows]
        return replace(self, rows=(np.cumsum(chosen) - 1)[self.rows[kept]], events=self.events[kept])


@dataclass(frozen=True, slots=True)
class LabelledAsOf:
    """The moment a set is labelled as of (epoch ms), by which clock, and the label maturity."""

    until: int
    maturity_ms: int
    clock: Clock


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Rows in order of event time: features float32 (n, WIDTH), labels bool (n,), times epoch ms, amounts in
    currency, accounts int64 (n,) the hash of the account's ID.

    statuses int8 (n,): see the module's head; a label is True where the status is fraud. Sets built by hand may lack
    the fields after `accounts`: every row then counts as labelled, and the set can't be relabelled. inputs: what the
    columns are, None for the kernel's WIDTH; folded: rows whose value was not logged then, by the name of the column.
    left_out: decisions in the range that was read which are no rows, because of their engine or feature spec.
    """

    features: NDArray[np.float32]
    labels: Mask
    times: NDArray[np.int64]
    amounts: NDArray[np.float64]
    accounts: NDArray[np.int64]
    statuses: NDArray[np.int8] | None = None
    origin: Origin | None = None
    verdicts: Verdicts | None = None
    known: LabelledAsOf | None = None
    inputs: tuple[Input, ...] | None = None
    folded: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.times)

    def rows(self, mask: Mask) -> TrainingSet:
        """The rows where the mask is True; a copy unless they are contiguous."""
        found = np.flatnonzero(mask)
        contiguous = len(found) > 0 and found[-1] - found[0] + 1 == len(found)
        chosen: Mask | slice = slice(int(found[0]), int(found[-1]) + 1) if contiguous else mask
        return replace(
            self,
            features=self.features[chosen],
            labels=self.labels[chosen],
            times=self.times[chosen],
            amounts=self.amounts[chosen],
            accounts=self.accounts[chosen],
            statuses=None if self.statuses is None else self.statuses[chosen],
            origin=None if self.origin is None else self.origin.rows(chosen),
            verdicts=None if self.verdicts is None else self.verdicts.of(mask),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return spec.NAMES if self.inputs is None else tuple(each.name for each in self.inputs)

    def between(self, start: int, end: int) -> TrainingSet:
        """The rows with start ≤ event time < end (epoch ms), without copying their features."""
        mask = np.zeros(len(self), dtype=np.bool_)
        mask[np.searchsorted(self.times, start, "left") : np.searchsorted(self.times, end, "left")] = True
        return self.rows(mask)

    def counts(self) -> dict[str, int]:
        """Number of rows by status; {} if the set has no statuses."""
        if self.statuses is None:
            return {}
        found = np.bincount(self.statuses, minlength=len(STATUSES)).tolist()
        return dict(zip(STATUSES, found, strict=True))


def as_known(data: TrainingSet, until: int, maturity_ms: int | None = None, clock: Clock | None = None) -> TrainingSet:
    """The same rows with the labels known at `until` (epoch ms); features are shared, not copied.

    maturity_ms, clock: default to the set's own. Raises BadInput if the set has no verdicts.
    """
    if data.verdicts is None or data.origin is None or data.known is None:
        raise BadInput("this training set cannot be relabelled: it holds labels but not the verdicts behind them")
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
    return replace(data, statuses=statuses, labels=statuses == FRAUD, known=LabelledAsOf(until, maturity_ms, clock))


def _agreed(verdicts: Verdicts, until: int, clock: Clock) -> dict[tuple[int, str, str], Status]:
    """The consensus at `until` on each payment with an accepted verdict, by partition, account and transaction."""
    at = verdicts.known_at(clock)
    paid = verdicts.payments_recorded_at if clock == "log" else verdicts.payments
    said: dict[tuple[int, str, str], list[VerdictRecord]] = {}
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
    """The rows that can be used for training and evaluation: neither in review nor pending."""
    if data.statuses is None:
        return data
    mask = (data.statuses != REVIEW) & (data.statuses != PENDING)
    return data if mask.all() else data.rows(mask)
