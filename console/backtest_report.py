"""A backtest's results as figures: decisions before and after, by rule and by day. Pure.

Unlabelled payments count as legitimate in precision and FP:TP, as in `sentinel whatif`; how many are labelled stands
beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.policy import DECISIONS
from core.program.checked import CheckedRule
from core.times import DAY_MS, date_text
from projections.audit import sampling
from projections.audit.sampling import Estimate
from projections.audit.tally import Change, Tally
from projections.labelling.view import FRAUD, LEGITIMATE

Cube = NDArray[np.float64]
Way = Literal["stored", "computed", "fold"]
_LABEL_WORDS = {FRAUD: "fraud", LEGITIMATE: "legitimate"}


class Measures(msgspec.Struct, frozen=True):
    """Of the decisions before or after. Shares in [0, 1], None if the denominator is 0.

    frauds, labelled: alerts on payments that are labelled fraud, or labelled at all. precision: frauds / alerts.
    false_positive_ratio: FP:TP. recall, value_detection_rate: the share of frauds, and of their amount, in alerts.
    hours: review_minutes of `[limits]` for every alert. net: the amount of alerted fraud and a chargeback_fee for each,
    less a review_cost for each alert; both None without these limits.
    """

    alerts: int
    declines: int
    alerts_per_day: float
    frauds: int
    labelled: int
    precision: float | None
    false_positive_ratio: float | None
    recall: float | None
    value_detected: float
    value_detection_rate: float | None
    hours: float | None
    net: float | None


class RuleLine(msgspec.Struct, frozen=True):
    """A rule. before: its hits as logged, live only; after: live hits; shadow: hits without effect. frauds, legitimate,
    fraud_amount: of all hits after, live or not. alone: live hits where no other rule hit. with_others: in how many
    live hits which other rule hit too, the most frequent first. days: hits by day, live or not.
    """

    code: str
    effect: str
    mode: str
    before: int
    after: int
    shadow: int
    frauds: int
    legitimate: int
    precision: float | None
    fraud_amount: float
    alone: int
    with_others: dict[str, int]
    days: dict[str, int]


class Day(msgspec.Struct, frozen=True):
    """A UTC day of event time."""

    day: str
    decisions: int
    frauds: int
    alerts_before: int
    alerts_after: int
    frauds_before: int
    frauds_after: int


class Changed(msgspec.Struct, frozen=True):
    """A decision that changes."""

    position: str
    transaction_id: str
    account_id: str
    occurred_at: int
    amount: float
    label: str
    was: str
    now: str
    rules_was: list[str]
    rules_now: list[str]


class Sample(msgspec.Struct, frozen=True):
    """A sample of accounts. share: with which each was taken; accounts: how many had a decision in range. estimates: of
    all accounts, by name: value, and its interval at 95 % (`projections.audit.sampling`).
    """

    share: float
    accounts: int
    estimates: dict[str, Estimate]


class Report(msgspec.Struct, frozen=True):
    """way: see `projections.audit.backtest`; why: the reason if it is not the first. decisions_changed: decisions by
    decision before, then after. budget: alerts_per_day of `[limits]`; None for a sample. stricter, milder: the most
    telling changes. regraded: decisions whose severity alone changes. unreadable: decisions that don't decode.
    undecidable: those that can't be made again here, by reason.
    """

    program: str
    digest: str
    way: Way
    why: str
    first_day: str
    last_day: str
    decisions: int
    frauds: int
    labelled: int
    unreadable: int
    undecidable: dict[str, int]
    regraded: int
    budget: float | None
    before: Measures
    after: Measures
    decisions_changed: dict[str, dict[str, int]]
    rules: list[RuleLine]
    days: list[Day]
    stricter: list[Changed]
    milder: list[Changed]
    seconds: float
    sample: Sample | None


def report(
    tally: Tally,
    rules: Sequence[CheckedRule],
    limits: Mapping[str, float],
    named: Mapping[Change, tuple[str, str]],
    *,
    program: str,
    digest: str,
    way: Way,
    why: str,
    seconds: float,
    only: str = "",
    share: float | None = None,
) -> Report:
    """The figures. rules: those that were evaluated. named: transaction and account of the telling changes. only: the
    one rule to tell about; "" for all. share: of the accounts, if only a sample was judged.
    """
    numbers = sorted(tally.days)
    total: Cube = np.sum([tally.days[day] for day in numbers], axis=0)
    count = len(numbers)
    matrix = total[0].sum(axis=2)
    return Report(
        program=program,
        digest=digest,
        way=way,
        why=why,
        first_day=_day(numbers[0]),
        last_day=_day(numbers[-1]),
        decisions=int(total[0].sum()),
        frauds=int(total[0, :, :, FRAUD].sum()),
        labelled=int(total[0, :, :, FRAUD].sum() + total[0, :, :, LEGITIMATE].sum()),
        unreadable=tally.unreadable,
        undecidable=tally.undecidable,
        regraded=tally.regraded,
        budget=limits.get("alerts_per_day") if share is None else None,
        before=_measures(total.sum(axis=2), count, limits),
        after=_measures(total.sum(axis=1), count, limits),
        decisions_changed={
            was: {now: int(matrix[i, j]) for j, now in enumerate(DECISIONS)} for i, was in enumerate(DECISIONS)
        },
        rules=[rule_line(tally, k, rule) for k, rule in enumerate(rules) if only in ("", rule.code)],
        days=[_line(day, tally.days[day][0]) for day in numbers],
        stricter=[_changed(each, named) for each in tally.stricter],
        milder=[_changed(each, named) for each in tally.milder],
        seconds=seconds,
        sample=None if share is None else _sample(tally, share, count),
    )


def _sample(tally: Tally, share: float, days: int) -> Sample:
    found = sampling.joined(tally.accounts)
    return Sample(share, len(found.owners), sampling.estimates(found, share, days))


def _day(number: int) -> str:
    return date_text(number * DAY_MS)


def _measures(by: Cube, days: int, limits: Mapping[str, float]) -> Measures:
    """by: counts and amounts (2, 3, 4) by decision and label."""
    counts, amounts = by
    alerts, frauds = int(counts[1:].sum()), int(counts[1:, FRAUD].sum())
    all_frauds, all_value = counts[:, FRAUD].sum(), amounts[:, FRAUD].sum()
    value = float(amounts[1:, FRAUD].sum())
    minutes, cost = limits.get("review_minutes"), limits.get("review_cost")
    fee = limits.get("chargeback_fee", 0.0)
    return Measures(
        alerts=alerts,
        declines=int(counts[2].sum()),
        alerts_per_day=alerts / days,
        frauds=frauds,
        labelled=frauds + int(counts[1:, LEGITIMATE].sum()),
        precision=frauds / alerts if alerts else None,
        false_positive_ratio=(alerts - frauds) / frauds if frauds else None,
        recall=float(frauds / all_frauds) if all_frauds else None,
        value_detected=value,
        value_detection_rate=float(value / all_value) if all_value else None,
        hours=None if minutes is None else alerts * minutes / 60.0,
        net=None if cost is None else value + fee * frauds - cost * alerts,
    )


def rule_line(tally: Tally, k: int, rule: CheckedRule) -> RuleLine:
    """The figures of the k-th rule."""
    live = {day: found[:, k] for day, found in tally.hits.items()}
    quiet = {day: found[:, k] for day, found in tally.quiet.items()}
    both: Cube = np.zeros((2, 4))
    for found in (*live.values(), *quiet.values()):
        both += found
    after = int(sum(found[0].sum() for found in live.values()))
    hits, frauds = int(both[0].sum()), int(both[0, FRAUD])
    others = {tally.codes[j]: int(n) for j, n in enumerate(tally.overlap[k]) if j != k and n}
    by_day = {day: int(sum(of[day][0].sum() for of in (live, quiet) if day in of)) for day in sorted({*live, *quiet})}
    return RuleLine(
        code=rule.code,
        effect=rule.effect,
        mode=rule.mode if rule.rollout >= 100.0 or rule.mode != "live" else f"{rule.rollout:g} %",
        before=int(tally.before[rule.code].sum()) if rule.code in tally.before else 0,
        after=after,
        shadow=hits - after,
        frauds=frauds,
        legitimate=int(both[0, LEGITIMATE]),
        precision=frauds / hits if hits else None,
        fraud_amount=float(both[1, FRAUD]),
        alone=int(tally.alone[k]),
        with_others=dict(sorted(others.items(), key=lambda item: -item[1])),
        days={_day(day): n for day, n in by_day.items() if n},
    )


def _line(day: int, counts: Cube) -> Day:
    return Day(
        day=_day(day),
        decisions=int(counts.sum()),
        frauds=int(counts[:, :, FRAUD].sum()),
        alerts_before=int(counts[1:].sum()),
        alerts_after=int(counts[:, 1:].sum()),
        frauds_before=int(counts[1:, :, FRAUD].sum()),
        frauds_after=int(counts[:, 1:, FRAUD].sum()),
    )


def _changed(each: Change, named: Mapping[Change, tuple[str, str]]) -> Changed:
    transaction, account = named.get(each, ("", ""))
    return Changed(
        position=f"p{each.partition:02d}:{each.generation}-{each.offset}",
        transaction_id=transaction,
        account_id=account,
        occurred_at=each.time,
        amount=each.amount,
        label=_LABEL_WORDS.get(each.label, ""),
        was=DECISIONS[each.was],
        now=DECISIONS[each.now],
        rules_was=each.rules_was.split(",") if each.rules_was else [],
        rules_now=each.rules_now.split(",") if each.rules_now else [],
    )
