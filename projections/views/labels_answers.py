"""Answers about labels and their sources, over all partitions as of a cut.

A label also depends on other accounts: on the learned reliability of each rater, and on whether it exceeded its rate.
Every label is therefore computed from the whole view, even if only one account is requested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import msgspec

from core.times import DAY_MS
from core.verdicts import VerdictRecord
from projections.engine.base import DecidedTransaction
from projections.engine.feed import Bound, account_facts
from projections.engine.states import States
from projections.labelling.consensus import MATURITY_DAYS, Consensus, Status, unjudged
from projections.labelling.quality import RULES, SUSPECT, Quality, Rules
from projections.labelling.sources import SourcesReport, report
from projections.labelling.view import LabelledPayment, LabelView, view
from projections.views.labels import LABELS, AccountLabels, Labels


class LabelRow(msgspec.Struct, frozen=True):
    """One transaction's label and the verdicts behind it, each with its quality status.

    consensus: None if no verdict is accepted; the status is then pending or presumed_legitimate, or review if the
    payment is not in the log either.
    """

    account_id: str
    transaction_id: str
    status: Status
    consensus: Consensus | None
    verdicts: list[VerdictRecord]
    quality: list[Quality] = []

    @property
    def is_suspect(self) -> bool:
        """Whether some verdict needs review by a person."""
        return any(each in SUSPECT for each in self.quality)


class LabelsAnswer(msgspec.Struct, frozen=True):
    """counts: transactions by label. immature: transactions (labelled or not) of days that are not yet mature. quality:
    verdicts by quality status. All three before filtering.
    """

    as_of: str
    transactions: int
    immature: int
    counts: dict[str, int]
    quality: dict[str, int]
    labels: list[LabelRow]


class SourcesAnswer(msgspec.Struct, frozen=True):
    """See projections.labelling.sources. quality: verdicts by status."""

    as_of: str
    quality: dict[str, int]
    report: SourcesReport


class Filters(msgspec.Struct, frozen=True):
    """Which transactions to list: of one account, with one ID, with one status, only those with a verdict quarantined
    for review; at most `limit`, without the first `after`.
    """

    account: str | None = None
    transaction: str | None = None
    status: str | None = None
    is_suspect: bool = False
    limit: int = 50
    after: int = 0


EVERYTHING = Filters()


def labels_answer(
    states: States,
    filters: Filters = EVERYTHING,
    *,
    maturity_days: int = MATURITY_DAYS,
    rules: Rules = RULES,
    is_fixed: bool = False,
) -> LabelsAnswer:
    """Counts of labels, and the transactions with verdicts; for one account, also those without.

    is_fixed: use fixed reliabilities instead of learned ones.
    """
    account = filters.account
    held = states.by_partition(LABELS)
    of = view(held, rules, reliabilities="fixed" if is_fixed else "learned")
    if account is None:
        return _listed(states, of, _days(held.values()), filters, maturity_days)
    own: list[Labels] = []
    silent: list[tuple[str, str, int]] = []
    for partition in states.partitions_of_account(account):
        state, times = _of_account(states, account, partition)
        own.append(state)
        silent += [(account, t, at) for t, at in times.items()]
    return _listed(states, of.of_account(account), _days(own), filters, maturity_days, silent)


def sources_answer(states: States, rules: Rules = RULES) -> SourcesAnswer:
    """The sources of verdicts: volume, quality, reliability and delay of each."""
    held = states.by_partition(LABELS)
    of = view(held, rules)
    return SourcesAnswer(states.as_of, _qualities(of.transactions), report(of, held, states.moment))


def _of_account(states: States, account: str, partition: int) -> tuple[Labels, dict[str, int]]:
    """One account's labels, and the event times of its transactions without a verdict."""
    state = LABELS.initial()
    times: dict[str, int] = {}
    for fact in account_facts(states.log, partition, account, Bound(), states.cut.partitions[partition]):
        LABELS.apply(state, fact)
        if isinstance(fact.event, DecidedTransaction):
            times[fact.event.transaction.transaction_id] = fact.event.transaction.occurred_at
    judged = state.accounts.get(account, AccountLabels()).verdicts
    return state, {t: at for t, at in times.items() if t not in judged}


def _listed(
    states: States,
    of: LabelView,
    days: Mapping[int, int],
    filters: Filters,
    maturity_days: int,
    silent: Iterable[tuple[str, str, int]] = (),
) -> LabelsAnswer:
    """The filtered answer. days: transactions by epoch day. silent: (account, transaction, event time) of those without
    a verdict.
    """
    rows = [
        LabelRow(account, transaction, unjudged(at, states.moment, maturity_days), None, [])
        for account, transaction, at in silent
    ]
    rows += [_row(each, states.moment, maturity_days) for each in of.transactions]
    chosen = [
        row
        for row in rows
        if filters.transaction in (None, row.transaction_id)
        and filters.status in (None, row.status)
        and (row.is_suspect or not filters.is_suspect)
    ]
    chosen.sort(key=lambda row: (row.account_id, row.transaction_id))
    mature_before = (states.moment - maturity_days * DAY_MS) // DAY_MS
    return LabelsAnswer(
        states.as_of,
        sum(days.values()),
        sum(count for day, count in days.items() if day >= mature_before),
        _counted(row.status for row in rows),
        _qualities(of.transactions),
        chosen[filters.after : filters.after + filters.limit],
    )


def _row(each: LabelledPayment, moment: int, maturity_days: int) -> LabelRow:
    judged = each.judged
    status: Status
    if each.consensus is not None:
        status = each.consensus.label
    else:
        status = unjudged(judged.payment_at, moment, maturity_days) if judged.payment_at else "review"
    return LabelRow(
        judged.account_id, judged.transaction_id, status, each.consensus, judged.verdicts, list(judged.quality)
    )


def _qualities(transactions: Collection[LabelledPayment]) -> dict[str, int]:
    return _counted(quality for each in transactions for quality in each.judged.quality)


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _days(states: Iterable[Labels]) -> Mapping[int, int]:
    """Transactions by epoch day over all partitions."""
    total: Counter[int] = Counter()
    for state in states:
        total.update(state.days)
    return total
