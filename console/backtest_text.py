"""A backtest's report for people, as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from console.backtest_report import Changed, Measures, Report, RuleLine
from console.tables import time_text
from core.policy import DECISIONS

DAYS_SHOWN = 31
OTHERS_SHOWN = 3
_BAR = 40


def text(r: Report, rule: str = "") -> str:
    """The report for a terminal. rule: the only one told about."""
    days = len(r.days)
    out = [
        f"{r.program} ({r.digest[:16]}) over {r.first_day} … {r.last_day}, {days} day{'s' * (days != 1)} with payments",
        f"{r.decisions:,} decisions; {r.labelled:,} labelled, {r.frauds:,} of them fraud"
        + (f"; {r.unreadable:,} can't be judged: they don't decode" if r.unreadable else ""),
        *(f"{count:,} more can't be made again here: {why}" for why, count in r.undecidable.items()),
        way_words(r),
        *sample_lines(r),
        "",
        *_measures(r),
        "",
        *_matrix(r),
        "",
        *_rules(r.rules),
    ]
    if rule:
        out += ["", *_timeline(r.rules[0])]
    else:
        out += ["", *_days(r)]
    for title, changes in (("stricter", r.stricter), ("milder", r.milder)):
        if changes:
            out += ["", f"most telling changes to a {title} decision (labelled fraud first, then by amount):"]
            out += [_change(each) for each in changes]
    return "\n".join(out)


def way_words(r: Report) -> str:
    took = f"{r.decisions / r.seconds:,.0f} decisions/s" if r.seconds > 0 else ""
    if r.way == "stored":
        return f"judged from stored columns ({took}): nothing that it reads had to be computed again"
    if r.way == "computed":
        return f"new features computed from the log's columns ({took}): {r.why}"
    return f"decided again by a fold of the log ({took}): {r.why}"


def sample_lines(r: Report) -> list[str]:
    """What a sample says of all accounts; nothing if there is none."""
    if r.sample is None:
        return []
    of = r.sample.estimates
    out = [
        f"a sample: {r.sample.accounts:,} accounts, {r.sample.share:.3g} of all; figures are of the sample, but these"
        " are estimates for all accounts, with intervals at 95 %:"
    ]
    for name, words in (
        ("alerts_per_day_before", "alerts a day before"),
        ("alerts_per_day_after", "alerts a day after"),
        ("stricter", "stricter decisions"),
        ("milder", "milder decisions"),
        ("frauds_after", "frauds alerted after"),
    ):
        out.append(f"  {words:<22}{of[name].value:>14,.1f}  ({of[name].low:,.1f} … {of[name].high:,.1f})")
    for when in ("before", "after"):
        if (found := of.get(f"precision_{when}")) is not None:
            words = f"precision {when}"
            out.append(f"  {words:<22}{share(found.value):>14}  ({share(found.low)} … {share(found.high)})")
    return out


def measure_rows(r: Report) -> list[tuple[str, Callable[[Measures], str]]]:
    """What is compared before and after: names, and their text."""
    rows: list[tuple[str, Callable[[Measures], str]]] = [
        ("alerts a day", lambda m: f"{m.alerts_per_day:,.1f}"),
        ("alerts", lambda m: f"{m.alerts:,}"),
        ("  of these labelled", lambda m: f"{m.labelled:,}"),
        ("  of these fraud", lambda m: f"{m.frauds:,}"),
        ("declines", lambda m: f"{m.declines:,}"),
        ("precision", lambda m: share(m.precision)),
        ("FP:TP", lambda m: "–" if m.false_positive_ratio is None else f"{m.false_positive_ratio:.2f}"),
        ("frauds alerted", lambda m: share(m.recall)),
        ("value detected", lambda m: f"{m.value_detected:,.2f}"),
        ("value detection rate", lambda m: share(m.value_detection_rate)),
    ]
    if r.after.hours is not None:
        rows.append(("analyst hours", lambda m: f"{m.hours or 0.0:,.1f}"))
    if r.after.net is not None:
        rows.append(("net of [limits]", lambda m: f"{m.net or 0.0:,.2f}"))
    return rows


def _measures(r: Report) -> list[str]:
    out = [f"  {'':<22}{'before':>16}{'after':>16}"]
    out += [f"  {name:<22}{of(r.before):>16}{of(r.after):>16}" for name, of in measure_rows(r)]
    if r.budget is not None:
        over = r.after.alerts_per_day - r.budget
        out.append(f"  budget of {r.budget:,.0f} alerts a day: {abs(over):,.1f} {'above' if over > 0 else 'below'} it")
    out.append("  (a payment without a label counts as legitimate)")
    return out


def _matrix(r: Report) -> list[str]:
    out = [f"  {'decision before ↓ after →':<26}" + "".join(f"{name:>14}" for name in DECISIONS)]
    for was in DECISIONS:
        out.append(f"  {was:<26}" + "".join(f"{r.decisions_changed[was][now]:>14,}" for now in DECISIONS))
    if r.regraded:
        out.append(f"  {r.regraded:,} alerts keep their decision and change their severity")
    return out


def _rules(rules: Sequence[RuleLine]) -> list[str]:
    out = [
        f"  {'rule':<24}{'effect':<9}{'mode':<8}{'before':>10}{'after':>10}{'shadow':>10}{'alone':>10}{'frauds':>8}"
        f"{'precision':>11}  often with"
    ]
    for each in sorted(rules, key=lambda rule: -(rule.after + rule.shadow)):
        others = ", ".join(f"{code} {n:,}" for code, n in list(each.with_others.items())[:OTHERS_SHOWN])
        out.append(
            f"  {each.code:<24}{each.effect:<9}{each.mode:<8}{each.before:>10,}{each.after:>10,}{each.shadow:>10,}"
            f"{each.alone:>10,}{each.frauds:>8,}{share(each.precision):>11}  {others}"
        )
    return out


def _timeline(rule: RuleLine) -> list[str]:
    if not rule.days:
        return [f"{rule.code} would never have hit"]
    most = max(rule.days.values())
    out = [f"{rule.code} would have hit, by day:"]
    return out + [f"  {day}{n:>9,}  {'█' * max(1, round(_BAR * n / most))}" for day, n in rule.days.items()]


def _days(r: Report) -> list[str]:
    out = [f"  {'day':<12}{'decisions':>11}{'frauds':>8}{'alerts':>18}{'frauds alerted':>18}"]
    for d in r.days[-DAYS_SHOWN:]:
        alerts = f"{d.alerts_before:,} → {d.alerts_after:,}"
        caught = f"{d.frauds_before:,} → {d.frauds_after:,}"
        out.append(f"  {d.day:<12}{d.decisions:>11,}{d.frauds:>8,}{alerts:>18}{caught:>18}")
    if len(r.days) > DAYS_SHOWN:
        out.append(f"  (the last {DAYS_SHOWN} of {len(r.days)} days; --json has all)")
    return out


def _change(c: Changed) -> str:
    rules = f"{'+'.join(c.rules_was) or '–'} → {'+'.join(c.rules_now) or '–'}"
    return (
        f"  {c.amount:>12,.2f}  {c.label or 'no label':<10}  {c.was:>7} → {c.now:<7}  {time_text(c.occurred_at)}"
        f"  {c.position}  {c.transaction_id}  account {c.account_id}  {rules}"
    )


def share(value: float | None) -> str:
    """A share as a percentage; a dash for none."""
    return "–" if value is None else f"{value:.2%}"
