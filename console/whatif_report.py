"""A what-if's results as figures: logged decisions against hypothetical ones, by UTC day and in total."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from core import policy
from core.times import DAY_MS, date_text
from learners.metrics import at_threshold
from projections.audit.whatif import Changed, Outcome

_DECLINE = policy.DECISIONS.index("decline")


class Measures(msgspec.Struct, frozen=True):
    """Measures of the decisions of one day, or of all. Shares in [0, 1], None if the denominator is 0.

    alert: a decision other than approve. false_positive_ratio: FP:TP.
    """

    alerts: int
    declines: int
    alert_rate: float | None
    precision: float | None
    recall: float | None
    value_detection_rate: float | None
    false_positive_ratio: float | None


class Money(msgspec.Struct, frozen=True):
    """Logged amounts of transactions whose decision changed.

    saved: fraud that was approved and would have been reviewed or declined. lost: fraud that was stopped and would have
    been approved (`fraud_let_through`), plus legitimate payments that would have been newly declined.
    legitimate_released: legitimate payments that were declined and would not have been; part of neither.
    """

    saved: float
    lost: float
    fraud_let_through: float
    legitimate_declined: float
    legitimate_released: float


class Line(msgspec.Struct, frozen=True):
    """One UTC day of event time (`2026-01-31`), or `total`."""

    day: str
    decisions: int
    frauds: int
    labelled: int
    changed: int
    logged: Measures
    whatif: Measures
    money: Money


class Report(msgspec.Struct, frozen=True):
    """changes: descriptions of the changes. table: changed decisions, largest amounts first. undecidable: how many in
    range can't be made again here, by reason; no figure counts them.
    """

    changes: list[str]
    total: Line
    days: list[Line]
    table: list[Changed]
    undecidable: dict[str, int]


def report(outcome: Outcome, changes: list[str]) -> Report:
    """The figures of an outcome."""
    days = outcome.times // DAY_MS
    lines = [_line(date_text(day * DAY_MS), outcome, days == day) for day in np.unique(days).tolist()]
    total = _line("total", outcome, np.ones(len(days), dtype=np.bool_))
    return Report(changes, total, lines, outcome.changed, outcome.undecidable)


def _line(name: str, o: Outcome, rows: NDArray[np.bool_]) -> Line:
    fraud, amounts, was, now = o.fraud[rows], o.amounts[rows], o.was[rows], o.now[rows]
    stopped_was, stopped_now = was > 0, now > 0
    let_through = float(amounts[fraud & stopped_was & ~stopped_now].sum())
    declined = float(amounts[~fraud & (was != _DECLINE) & (now == _DECLINE)].sum())
    return Line(
        day=name,
        decisions=len(was),
        frauds=int(fraud.sum()),
        labelled=int(o.labelled[rows].sum()),
        changed=int((was != now).sum()),
        logged=_measures(fraud, was, amounts),
        whatif=_measures(fraud, now, amounts),
        money=Money(
            saved=float(amounts[fraud & ~stopped_was & stopped_now].sum()),
            lost=let_through + declined,
            fraud_let_through=let_through,
            legitimate_declined=declined,
            legitimate_released=float(amounts[~fraud & (was == _DECLINE) & (now != _DECLINE)].sum()),
        ),
    )


def _measures(fraud: NDArray[np.bool_], decisions: NDArray[np.uint8], amounts: NDArray[np.float64]) -> Measures:
    alerted = decisions > 0
    at = at_threshold(fraud, alerted, amounts)
    shares = {name: value if np.isfinite(value) else None for name, value in at._asdict().items()}
    return Measures(alerts=int(alerted.sum()), declines=int((decisions == _DECLINE).sum()), **shares)


def text(r: Report) -> str:
    """The report for a terminal."""
    out = ["changed: " + ("; ".join(r.changes) or "nothing"), ""]
    t = r.total
    out.append(
        f"{t.decisions:,} decisions, {t.frauds:,} frauds ({t.labelled:,} labelled), {t.changed:,} changed decisions"
    )
    out += [f"{count:,} more can't be made again here: {why}" for why, count in r.undecidable.items()]
    rows = [("", "logged", "what if")]
    for name, words in (
        ("alert_rate", "alert rate"),
        ("precision", "precision"),
        ("recall", "recall"),
        ("value_detection_rate", "value detection rate"),
    ):
        rows.append((words, _share(getattr(t.logged, name)), _share(getattr(t.whatif, name))))
    rows.append(("FP:TP", _ratio(t.logged.false_positive_ratio), _ratio(t.whatif.false_positive_ratio)))
    rows.append(("declines", f"{t.logged.declines:,}", f"{t.whatif.declines:,}"))
    out += [f"  {a:<22}{b:>12}{c:>12}" for a, b, c in rows]
    m = t.money
    out.append(f"  money saved {m.saved:,.2f}; lost {m.lost:,.2f}")
    out.append(
        f"  (lost: fraud newly approved {m.fraud_let_through:,.2f}, legitimate newly declined"
        f" {m.legitimate_declined:,.2f}; legitimate no longer declined {m.legitimate_released:,.2f})"
    )
    out += ["", *_days_table(r.days)]
    if r.table:
        out += ["", f"changed decisions (the {len(r.table)} largest of {t.changed:,}):", *_changed_table(r.table)]
    return "\n".join(out)


def _days_table(days: list[Line]) -> list[str]:
    head = f"{'day':<11}{'decisions':>10}{'frauds':>7}{'changed':>8}  {'alert rate':>15}{'precision':>16}{'recall':>16}"
    out = [head + f"{'value detected':>16}{'FP:TP':>14}{'saved':>13}{'lost':>13}"]
    for d in days:
        pairs = [
            f"{_share(getattr(d.logged, name), 1)} → {_share(getattr(d.whatif, name), 1)}"
            for name in ("alert_rate", "precision", "recall", "value_detection_rate")
        ]
        ratio = f"{_ratio(d.logged.false_positive_ratio)} → {_ratio(d.whatif.false_positive_ratio)}"
        out.append(
            f"{d.day:<11}{d.decisions:>10,}{d.frauds:>7,}{d.changed:>8,}  "
            + f"{pairs[0]:>15}"
            + "".join(f"{pair:>16}" for pair in pairs[1:])
            + f"{ratio:>14}{d.money.saved:>13,.2f}{d.money.lost:>13,.2f}"
        )
    return out


def _changed_table(table: list[Changed]) -> list[str]:
    return [
        f"  {c.amount:>12,.2f}  {'fraud' if c.fraud else '-':<5}  {c.was:>7} → {c.now:<7}"
        f"  {c.probability_was:.4f} → {c.probability_now:.4f}  p{c.partition:02d}:{c.position}"
        f"  {c.transaction_id}  account {c.account_id}"
        for c in table
    ]


def _share(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}%}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
