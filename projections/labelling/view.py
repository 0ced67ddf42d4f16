"""The label of every payment with a verdict: quality control, reliability, consensus. Pure; see the package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.hashing import HashKey, hash_strings
from core.verdicts import VerdictRecord, rater
from projections.labelling.consensus import Consensus, Label, Reliability, consensus
from projections.labelling.quality import RULES, Judged, Rules, judge_all
from projections.labelling.reliability import Learning, count_patterns, learn
from projections.labelling.verdicts import Claims, payment_keys
from projections.views import labels as labels_view
from projections.views.labels import Labels

Reliabilities = Literal["learned", "fixed"]

UNJUDGED, FRAUD, LEGITIMATE, REVIEW = range(4)
"""Codes returned by `LabelView.of_rows`. UNJUDGED: no accepted verdict."""
_CODES: dict[Label, int] = {"fraud": FRAUD, "legitimate": LEGITIMATE, "review": REVIEW}


@dataclass(frozen=True, slots=True)
class LabelledPayment:
    """A judged payment with its accepted verdicts and their consensus; None if none is accepted."""

    judged: Judged
    accepted: list[VerdictRecord]
    consensus: Consensus | None


@dataclass(frozen=True)
class LabelView:
    """The labels of all partitions at one place.

    transactions: in order of account and transaction. learning: the raters' reliabilities; empty if they are fixed.
    key: the log's, by which `of_rows` finds payments; None if it is not needed.
    """

    transactions: list[LabelledPayment]
    learning: Learning
    key: HashKey | None = None

    def of_account(self, account: str) -> LabelView:
        """Only this account's payments, labelled with the reliabilities learned from all accounts."""
        return LabelView(
            [each for each in self.transactions if each.judged.account_id == account], self.learning, self.key
        )

    @cached_property
    def _by_payment(self) -> dict[tuple[str, str], Label]:
        return {
            (each.judged.account_id, each.judged.transaction_id): each.consensus.label
            for each in reversed(self.transactions)
            if each.consensus is not None
        }

    def label(self, account: str, transaction: str) -> Label | None:
        """The payment's label; None if it has no accepted verdict."""
        return self._by_payment.get((account, transaction))

    def of_partition(self, partition: int) -> dict[tuple[str, str], Label]:
        """The labels of one partition's payments, by account and transaction."""
        return {
            (each.judged.account_id, each.judged.transaction_id): each.consensus.label
            for each in self.transactions
            if each.consensus is not None and each.judged.partition == partition
        }

    @cached_property
    def _keys(self) -> tuple[NDArray[np.uint64], list[LabelledPayment]]:
        """Ascending keys of the payments with a label, uint64 (m,), and the payments."""
        assert self.key is not None
        found = [each for each in self.transactions if each.consensus is not None]
        keys = payment_keys(
            hash_strings([each.judged.account_id for each in found], self.key),
            hash_strings([each.judged.transaction_id for each in found], self.key),
        )
        order = np.argsort(keys, kind="stable")
        return keys[order], [found[i] for i in order.tolist()]

    @cached_property
    def _agreed(self) -> NDArray[np.int8]:
        """The labels of the payments of `_keys`, as codes: int8 (m,)."""
        agreed = (each.consensus for each in self._keys[1])
        return np.array([UNJUDGED if each is None else _CODES[each.label] for each in agreed], dtype=np.int8)

    def of_rows(
        self,
        accounts: NDArray[np.uint64],
        transactions: NDArray[np.uint64],
        given_until: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int8]:
        """Labels of n payments by the hashes of their IDs (`core.hashing.hash_strings`): int8 (n,), the codes above.

        given_until: epoch ms (n,), use only verdicts on each payment given by then; reliabilities stay the view's.
        """
        out = np.full(len(accounts), UNJUDGED, dtype=np.int8)
        keys, payments = self._keys
        if not len(keys):
            return out
        wanted = payment_keys(accounts, transactions)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        known = np.flatnonzero(keys[at] == wanted)
        if given_until is None:
            out[known] = self._agreed[at[known]]
            return out
        for row in known.tolist():
            payment = payments[int(at[row])]
            words = [word for word in payment.accepted if word.occurred_at <= given_until[row]]
            agreed = consensus(words, self.learning.raters) if words else None
            if agreed is not None:
                out[row] = _CODES[agreed.label]
        return out

    def reported(self, accounts: NDArray[np.uint64], transactions: NDArray[np.uint64]) -> NDArray[np.int64]:
        """When the first accepted verdict "fraud" was given on each payment that is labelled fraud: epoch ms, int64
        (n,); 0 for all others. Payments by the hashes of their IDs, as in `of_rows`.
        """
        out = np.zeros(len(accounts), dtype=np.int64)
        keys, payments = self._keys
        if not len(keys):
            return out
        wanted = payment_keys(accounts, transactions)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        for row in np.flatnonzero(keys[at] == wanted).tolist():
            payment = payments[int(at[row])]
            if payment.consensus is not None and payment.consensus.label == "fraud":
                out[row] = min(word.occurred_at for word in payment.accepted if word.verdict == "fraud")
        return out


def view(states: Mapping[int, Labels], rules: Rules = RULES, *, reliabilities: Reliabilities = "learned") -> LabelView:
    """Every payment's label from the states of the labels' read model, by partition, in any order."""
    return view_of(list(labels_view.claims(states)), labels_view.newest(states), rules, reliabilities=reliabilities)


def view_of(
    claims: Sequence[Claims],
    newest: int = 0,
    rules: Rules = RULES,
    *,
    reliabilities: Reliabilities = "learned",
    key: HashKey | None = None,
) -> LabelView:
    """Apply quality control, learn reliabilities and compute consensus. claims: of all partitions. newest: the end of
    the newest payment's day (epoch ms). key: the log's, if rows are to be looked up. Cost: 4 µs per verdict.
    """
    judged = judge_all(claims, newest, rules)
    accepted = [each.accepted for each in judged]
    learning = learn(count_patterns(accepted) if reliabilities == "learned" else {})
    agreed = _agreed(accepted, learning.raters if reliabilities == "learned" else None)
    return LabelView([*map(LabelledPayment, judged, accepted, agreed)], learning, key)


def _agreed(
    accepted: Iterable[Sequence[VerdictRecord]], raters: Mapping[str, Reliability] | None
) -> Iterator[Consensus | None]:
    """The consensus of each payment's accepted verdicts. That of one alone does not depend on when it was given, so it
    is computed once for all that say the same.
    """
    alone: dict[tuple[str, str, float], Consensus] = {}
    for words in accepted:
        if len(words) != 1:
            yield consensus(words, raters) if words else None
            continue
        said = rater(words[0]), words[0].verdict, words[0].confidence
        found = alone.get(said)
        if found is None:
            found = alone[said] = consensus(words, raters)
        yield found


def given_until(claims: Sequence[Claims], moment: int) -> list[Claims]:
    """The verdicts given by `moment` (event time, epoch ms)."""
    kept = [each._replace(verdicts=[word for word in each.verdicts if word.occurred_at <= moment]) for each in claims]
    return [each for each in kept if each.verdicts]
