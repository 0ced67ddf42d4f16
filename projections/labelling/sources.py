"""Statistics of sources and analysts: volume, agreement, reliability and delay of their verdicts. Pure.

Everything is computed from judged payments (`projections.labelling.view`) and their accepted verdicts. A source's
verdict on a transaction is its last conclusive one (fraud or legitimate), whichever of its raters gave it; an analyst's
is their own last one.

    agreement     share of transactions judged by others as well on which it agrees with the others' consensus
    kappa         Cohen (1960): (agreement − chance) / (1 − chance); None if chance agreement is complete
    overturned    share of all its transactions whose consensus is the opposite of its verdict
    delay         payment → first fraud verdict, for transactions whose consensus is fraud
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import msgspec

from core.events import FeedbackSource
from core.feedback_sources import SOURCES
from core.times import DAY_MS
from core.verdicts import VerdictRecord, rater
from projections.labelling.consensus import EVIDENCE_MIN, Reliability, consensus
from projections.labelling.maturity import Maturity, maturity
from projections.labelling.reliability import pooled, prior_of
from projections.labelling.view import LabelledPayment, LabelView
from projections.views.labels import Labels

ANY = "any source"
PAIRS_MAX = 100


class SourceRow(msgspec.Struct, frozen=True):
    """A source or an analyst. verdicts: all it gave. held_back: those quarantined, by quality status. transactions:
    those with a conclusive verdict of it. fraud_share: of these. overlap: those judged by others as well. is_measured:
    enough overlap for the learned reliability to be used; until then sensitivity and specificity are dominated by the
    prior (None: no overlap at all).
    """

    name: str
    prior: float
    verdicts: int
    held_back: dict[str, int]
    transactions: int
    fraud_share: float | None
    overlap: int
    agreement: float | None
    kappa: float | None
    sensitivity: float | None
    specificity: float | None
    is_measured: bool
    overturned: float | None
    delay_median_days: float | None


class PairRow(msgspec.Struct, frozen=True):
    """Two sources, or two analysts, on the transactions both judged. Counts: by first's verdict, second's verdict."""

    first: str
    second: str
    both_fraud: int
    fraud_legitimate: int
    legitimate_fraud: int
    both_legitimate: int
    agreement: float
    kappa: float | None


class SourcesReport(msgspec.Struct, frozen=True):
    """items, prevalence: of the data behind learned reliabilities. maturity: of any source first, then by source."""

    items: int
    prevalence: float
    sources: list[SourceRow]
    analysts: list[SourceRow]
    pairs: list[PairRow]
    maturity: dict[str, Maturity]


def report(of: LabelView, states: Mapping[int, Labels], moment: int) -> SourcesReport:
    """The whole report as of `moment` (epoch ms)."""
    raters = of.learning.raters
    names: list[FeedbackSource] = list(get_args(FeedbackSource))
    sources, analysts = _tally(of, lambda said: said.source), _tally(of, rater, persons=True)
    delays = _delays(of, _observed_until(of, states, moment))
    return SourcesReport(
        of.learning.items,
        of.learning.prevalence,
        [_row(sources[n], pooled(raters, n), delays.get(n)) for n in names if n in sources],
        [_row(each, raters.get(name), None) for name, each in sorted(analysts.items())],
        [
            *_pairs(of, lambda said: said.source),
            *_pairs(of, lambda said: rater(said) if SOURCES[said.source].is_person else "")[:PAIRS_MAX],
        ],
        {name: delays[name] for name in (ANY, *names) if name in delays},
    )


@dataclass
class _Tally:
    name: str
    verdicts: int = 0
    held_back: dict[str, int] = field(default_factory=dict)
    transactions: int = 0
    frauds: int = 0
    overturned: int = 0
    against: list[tuple[bool, bool]] = field(default_factory=list)
    overlap: int = 0
    delays: list[int] = field(default_factory=list)


Name = Callable[[VerdictRecord], str]


def _words(accepted: Iterable[VerdictRecord], name: Name) -> dict[str, VerdictRecord]:
    """The last conclusive verdict of each name; the name "" is left out."""
    return {of: said for said in accepted if said.verdict != "unsure" and (of := name(said))}


def _tally(of: LabelView, name: Name, persons: bool = False) -> dict[str, _Tally]:
    found: dict[str, _Tally] = {}
    for each in of.transactions:
        for said, quality in zip(each.judged.verdicts, each.judged.quality, strict=True):
            if persons and not SOURCES[said.source].is_person:
                continue
            tally = found.setdefault(name(said), _Tally(name(said)))
            tally.verdicts += 1
            if quality != "accepted":
                tally.held_back[quality] = tally.held_back.get(quality, 0) + 1
        words = _words(each.accepted, name)
        for who, said in words.items():
            if SOURCES[said.source].is_person or not persons:
                _count(found[who], who, said, each, name, of.learning.raters, len(words) > 1)
    return found


def _count(
    tally: _Tally,
    who: str,
    said: VerdictRecord,
    each: LabelledPayment,
    name: Name,
    learned: Mapping[str, Reliability],
    is_judged_by_others: bool,
) -> None:
    says_fraud = said.verdict == "fraud"
    tally.transactions += 1
    tally.frauds += says_fraud
    label = each.consensus.label if each.consensus is not None else "review"
    tally.overturned += label == ("legitimate" if says_fraud else "fraud")
    paid = each.judged.payment_at or said.claimed_at
    if paid and says_fraud and label == "fraud":
        tally.delays.append(said.occurred_at - paid)
    if not is_judged_by_others:
        return
    tally.overlap += 1
    others = consensus([other for other in each.accepted if name(other) != who], learned)
    if others.label != "review":
        tally.against.append((says_fraud, others.label == "fraud"))


def _row(tally: _Tally, learned: Reliability | None, delays: Maturity | None) -> SourceRow:
    equal = sum(mine == theirs for mine, theirs in tally.against)
    n = tally.transactions
    delay = sorted(tally.delays)
    return SourceRow(
        name=tally.name,
        prior=prior_of(tally.name),
        verdicts=tally.verdicts,
        held_back=dict(sorted(tally.held_back.items())),
        transactions=n,
        fraud_share=tally.frauds / n if n else None,
        overlap=tally.overlap,
        agreement=equal / len(tally.against) if tally.against else None,
        kappa=kappa(tally.against),
        sensitivity=learned.sensitivity if learned is not None else None,
        specificity=learned.specificity if learned is not None else None,
        is_measured=learned is not None and learned.evidence >= EVIDENCE_MIN,
        overturned=tally.overturned / n if n else None,
        delay_median_days=(
            delays.seen_median_days if delays is not None else delay[len(delay) // 2] / DAY_MS if delay else None
        ),
    )


def kappa(words: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa of pairs of verdicts; None without pairs, or if both always give the same single verdict."""
    n = len(words)
    if not n:
        return None
    first, second = sum(a for a, _ in words), sum(b for _, b in words)
    chance = (first * second + (n - first) * (n - second)) / (n * n)
    if chance >= 1.0:
        return None
    return (sum(a == b for a, b in words) / n - chance) / (1.0 - chance)


def _pairs(of: LabelView, name: Name) -> list[PairRow]:
    """All pairs of names with common transactions, in descending order of their number."""
    found: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    for each in of.transactions:
        words = sorted(_words(each.accepted, name).items())
        for i, (first, mine) in enumerate(words):
            for second, theirs in words[i + 1 :]:
                found.setdefault((first, second), []).append((mine.verdict == "fraud", theirs.verdict == "fraud"))
    rows = []
    for (first, second), words_of in found.items():
        ff, fl, lf, ll = (words_of.count(p) for p in ((True, True), (True, False), (False, True), (False, False)))
        rows.append(PairRow(first, second, ff, fl, lf, ll, (ff + ll) / len(words_of), kappa(words_of)))
    rows.sort(key=lambda row: (-_total(row), row.first, row.second))
    return rows


def _total(row: PairRow) -> int:
    return row.both_fraud + row.fraud_legitimate + row.legitimate_fraud + row.both_legitimate


def _observed_until(of: LabelView, states: Mapping[int, Labels], moment: int) -> int:
    """The end of observation in event time: the newest payment or verdict, but not later than `moment`."""
    days = max((day * DAY_MS for state in states.values() for day in state.days), default=0)
    said = max((said.occurred_at for each in of.transactions for said in each.accepted), default=0)
    return min(max(said, days), moment)


def _delays(of: LabelView, until: int) -> dict[str, Maturity]:
    delays: dict[str, list[int]] = {}
    observed: dict[str, list[int]] = {}
    for each in of.transactions:
        if each.consensus is None or each.consensus.label != "fraud":
            continue
        first: dict[str, int] = {}
        paid = each.judged.payment_at or next((said.claimed_at for said in each.accepted if said.claimed_at), 0)
        for said in each.accepted:
            if paid and said.verdict == "fraud":
                for name in (said.source, ANY):
                    first[name] = min(first.get(name, said.occurred_at), said.occurred_at)
        for name, at in first.items():
            delays.setdefault(name, []).append(at - paid)
            observed.setdefault(name, []).append(until - paid)
    found = {name: maturity(of_name, observed[name]) for name, of_name in delays.items()}
    return {name: each for name, each in found.items() if each is not None}
