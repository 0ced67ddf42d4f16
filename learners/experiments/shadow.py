"""The report on a shadow model: its agreement with the deciding model, and both evaluated on labels. Pure."""

from __future__ import annotations

import msgspec

from learners.experiments import paired
from learners.experiments.design import USUAL, Design
from learners.experiments.paired import PairedReport
from learners.experiments.verdict import criteria_of
from learners.metrics import average_precision, roc_auc
from projections.views.shadow import Pair, ShadowAnswer, agreement, labelled
from projections.views.shadow_trial import observe


class ShadowReport(msgspec.Struct, frozen=True):
    """Rates are shares of decisions. changed: decisions that would have differed; gained, lost: alerts raised only by
    the shadow, or only by the deciding model. Metrics are over `labelled` transactions, `frauds` of them fraud (None:
    one class is missing); unlabelled: transactions pending or in review.
    """

    as_of: str
    model: str
    shadow: str
    first_at: int
    last_at: int
    decisions: int
    alert_rate: float
    shadow_alert_rate: float
    changed: float
    gained: float
    lost: float
    labelled: int
    frauds: int
    unlabelled: int
    auc_roc: float | None
    shadow_auc_roc: float | None
    average_precision: float | None
    shadow_average_precision: float | None
    trial: PairedReport | None = None
    """The paired test with the usual design (`learners.experiments.design`); None for older shadows, whose accounts are
    no longer kept."""


def report(answer: ShadowAnswer, design: Design = USUAL) -> list[ShadowReport]:
    """One report per pair of models, newest first. Only the newest pair still has transactions to compare with labels,
    and only the newest shadow has accounts for the paired test, which is made with `design`.

    A shadow that became champion is compared with itself until it is withdrawn; such a pair is left out.
    """
    pairs = [name for name, held in answer.pairs.items() if any(pair.model != pair.shadow for pair in held.values())]
    return [_of(answer, name, design) for name in reversed(pairs)]


def _paired(answer: ShadowAnswer, held: dict[int, Pair], design: Design) -> PairedReport | None:
    if not any(pair.accounts for pair in held.values()):
        return None
    times = (design.window_ms, design.maturity_ms)
    trial = observe(held, answer.said, answer.clocks, *times)
    began, now = min(pair.first_at for pair in held.values()), max(answer.clocks.values())
    return paired.report(trial, criteria_of(design), now - began)


def _of(answer: ShadowAnswer, name: str, design: Design) -> ShadowReport:
    held = answer.pairs[name]
    found = agreement(list(held.values()))
    truth = labelled(held, answer.labels, answer.clocks)
    total = found.decisions
    pairs = list(held.values())
    frauds = int(truth.fraud.sum())
    auc, shadow_auc, precision, shadow_precision = (
        measure(truth.fraud, margins) if 0 < frauds < len(truth.fraud) else None
        for measure in (roc_auc, average_precision)
        for margins in (truth.margin, truth.shadow)
    )
    return ShadowReport(
        answer.as_of,
        pairs[0].model,
        pairs[0].shadow,
        min(pair.first_at for pair in pairs),
        max(pair.last_at for pair in pairs),
        total,
        found.alerts / total,
        found.shadow_alerts / total,
        found.changed / total,
        found.gained / total,
        found.lost / total,
        len(truth.fraud),
        frauds,
        truth.unlabelled,
        auc,
        shadow_auc,
        precision,
        shadow_precision,
        _paired(answer, held, design),
    )
