"""Answers about labels and their sources, of all partitions as of a cut: what `projections.queries` delegates to.

A label depends on the other accounts too: on how reliable each voice has turned out to be, and on whether it was over
its rate. So every label is worked out from the whole view, also one account's; `is_fixed` instead takes the fixed
reliabilities and leaves rates out, and then one account needs no other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from core.features.spec import DAY_MS
from projections.labelling.quality import SUSPECT, Quality, Rules
from projections.labelling.sources import Labelled, LabelView, SourcesReport, report, view
from projections.views import labels
from projections.views.labels import Labels, Said


class LabelRow(msgspec.Struct, frozen=True):
    """One transaction's label and the verdicts behind it; `quality` says of each whether it counts.

    consensus: None if no verdict counts; the status is then pending or presumed_legitimate, or review if the log does
    not know the payment either.
    """

    account_id: str
    transaction_id: str
    status: labels.Status
    consensus: labels.Consensus | None
    verdicts: list[Said]
    quality: list[Quality] = []

    @property
    def is_suspect(self) -> bool:
        """Some verdict should be looked at by a person."""
        return any(each in SUSPECT for each in self.quality)


class LabelsAnswer(msgspec.Struct, frozen=True):
    """counts: transactions by label. immature: transactions (labelled or not) of days inside the delay. quality: how
    many verdicts count, or why not. All three before the filters.
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
    """What to list: one transaction, one status, only transactions with a suspect verdict; so many rows at most."""

    transaction: str | None = None
    status: str | None = None
    is_suspect: bool = False
    limit: int = 50


def labels_answer(
    as_of: str,
    moment: int,
    of: LabelView,
    days: Mapping[int, int],
    filters: Filters,
    maturity_days: int,
    unjudged: Iterable[tuple[str, str, int]] = (),
) -> LabelsAnswer:
    """days: transactions by epoch day. unjudged: (account, transaction, event time) of those without a verdict."""
    rows = [
        LabelRow(account, transaction, labels.status((), at, moment, maturity_days), None, [])
        for account, transaction, at in unjudged
    ]
    rows += [_row(each, moment, maturity_days) for each in of.transactions]
    chosen = [
        row
        for row in rows
        if filters.transaction in (None, row.transaction_id)
        and filters.status in (None, row.status)
        and (row.is_suspect or not filters.is_suspect)
    ]
    chosen.sort(key=lambda row: (row.account_id, row.transaction_id))
    mature_before = (moment - maturity_days * DAY_MS) // DAY_MS
    return LabelsAnswer(
        as_of,
        sum(days.values()),
        sum(count for day, count in days.items() if day >= mature_before),
        _counted(row.status for row in rows),
        _qualities(of.transactions),
        chosen[: filters.limit],
    )


def sources_answer(as_of: str, moment: int, states: Mapping[int, Labels], rules: Rules) -> SourcesAnswer:
    """Sources, analysts, agreement and delays."""
    of = view(states, rules)
    return SourcesAnswer(as_of, _qualities(of.transactions), report(of, states, moment))


def _row(each: Labelled, moment: int, maturity_days: int) -> LabelRow:
    judged = each.judged
    status: labels.Status
    if each.consensus is not None:
        status = each.consensus.label
    else:
        status = labels.status((), judged.payment_at, moment, maturity_days) if judged.payment_at else "review"
    return LabelRow(
        judged.account_id, judged.transaction_id, status, each.consensus, judged.verdicts, list(judged.quality)
    )


def _qualities(transactions: Collection[Labelled]) -> dict[str, int]:
    return _counted(quality for each in transactions for quality in each.judged.quality)


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))
