"""A backtest's report as one HTML page, without scripts or external resources: readable on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from console.backtest_report import Changed, Report, RuleLine
from console.backtest_text import measure_rows, sample_lines, share, way_words
from console.tables import time_text
from core.policy import DECISIONS
from core.text import html_text

OTHERS_SHOWN = 3
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6778; --line: #dde3ea; --paper: #fff; --bar: #2e6da4;
  --fraud: #c0392b; --box: #f4f7fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --soft: #9aa7b8; --line: #323c49; --paper: #12171e;
  --bar: #6aa9e0; --fraud: #ef8174; --box: #1b232d; } }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px;
  margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.35rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
p.under, .note { color: var(--soft); margin: 0 0 .6rem; font-size: .92em; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.card { background: var(--box); border-radius: 6px; padding: .55rem .8rem; }
.card b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .85em; }
.wide { overflow-x: auto; } .wide table { min-width: 46rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.same { color: var(--soft); } td.fraud { color: var(--fraud); font-weight: 600; }
td code { font-size: .85em; overflow-wrap: anywhere; } a { color: var(--bar); }
svg { width: 100%; height: 120px; display: block; }
.ends { display: flex; justify-content: space-between; color: var(--soft); font-size: .8em; }
rect.all { fill: var(--bar); } rect.mark { fill: var(--fraud); }
@media print { body { margin: 0; max-width: none; padding: 0; font-size: 10pt; } tr { break-inside: avoid; } }
"""
_WIDTH, _HEIGHT = 960, 120


def page(r: Report, rule: str = "", link: str = "") -> str:
    """The page as text, to be encoded as UTF-8. rule: the only one told about. link: an address for a payment, with
    {transaction_id}, {account_id} or {position} in it; "" for none. All data from outside is escaped.
    """
    title = f"Backtest of {r.program}" + (f": {rule}" if rule else "")
    body = [
        f"<h1>{html_text(title)}</h1>",
        f'<p class="under">{html_text(r.first_day)} … {html_text(r.last_day)} · {r.decisions:,} decisions,'
        f" {r.labelled:,} labelled, {r.frauds:,} fraud · program {html_text(r.digest[:16])}</p>",
        f'<p class="under">{html_text(way_words(r))}</p>',
        "".join(f'<p class="under">{html_text(line)}</p>' for line in sample_lines(r)),
        _cards(r),
        _timeline(r, rule),
        _measures(r),
        _matrix(r),
        _rules(r.rules),
        _changes(r.stricter, "stricter", link),
        _changes(r.milder, "milder", link),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(each for each in body if each)
        + "\n</body></html>\n"
    )


def _cards(r: Report) -> str:
    def moved(before: str, after: str, name: str) -> str:
        return f'<div class="card"><b>{after}</b><span>{name}<br>before: {before}</span></div>'

    b, a = r.before, r.after
    cards = [
        moved(f"{b.alerts_per_day:,.1f}", f"{a.alerts_per_day:,.1f}", "alerts a day"),
        moved(share(b.precision), share(a.precision), "precision"),
        moved(share(b.value_detection_rate), share(a.value_detection_rate), "of the fraud's value in alerts"),
    ]
    if a.net is not None and b.net is not None:
        cards.append(moved(f"{b.net:,.0f}", f"{a.net:,.0f}", "net of [limits]"))
    if r.budget is not None:
        over = a.alerts_per_day - r.budget
        words = f"{abs(over):,.1f} {'above' if over > 0 else 'below'} it"
        cards.append(f'<div class="card"><b>{r.budget:,.0f}</b><span>budget of alerts a day<br>{words}</span></div>')
    return f'<div class="cards">{"".join(cards)}</div>'


def _timeline(r: Report, rule: str) -> str:
    """Hits of the rule, or alerts after and before, by day."""
    if rule:
        line = r.rules[0]
        if not line.days:
            return f'<h2>When it would have hit</h2><p class="note">{html_text(line.code)} would never have hit.</p>'
        days = [(day.day, line.days.get(day.day, 0), 0) for day in r.days]
        return "<h2>When it would have hit</h2>" + _bars(days, "hits")
    days = [(day.day, day.alerts_after, day.frauds_after) for day in r.days]
    return "<h2>Alerts by day</h2>" + _bars(days, "alerts", "on labelled fraud")


def _bars(days: Sequence[tuple[str, int, int]], what: str, marked: str = "") -> str:
    most = max((n for _, n, _ in days), default=0) or 1
    step = _WIDTH / max(len(days), 1)
    width = max(step * 0.8, 0.5)
    bars = []
    for k, (day, count, mark) in enumerate(days):
        said = f"{day}: {count:,} {what}" + (f", {mark:,} {marked}" if marked else "")
        for kind, n in (("all", count), ("mark", mark)):
            if n:
                high = _HEIGHT * n / most
                bars.append(
                    f'<rect class="{kind}" x="{k * step:.1f}" y="{_HEIGHT - high:.1f}" width="{width:.1f}"'
                    f' height="{high:.1f}"><title>{html_text(said)}</title></rect>'
                )
    first, last = (html_text(days[k][0]) for k in (0, -1))
    note = f"at most {most:,} a day" + (f"; red: {marked}" if marked else "")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{what} by day">'
        f'{"".join(bars)}</svg><div class="ends"><span>{first}</span><span>{note}</span><span>{last}</span></div>'
    )


def _measures(r: Report) -> str:
    rows = "".join(
        f'<tr><td>{html_text(name.strip())}</td><td class="n">{of(r.before)}</td><td class="n">{of(r.after)}</td></tr>'
        for name, of in measure_rows(r)
    )
    note = "" if r.frauds else '<p class="note">No payment is labelled fraud.</p>'
    return (
        f'<h2>Before and after</h2><table><tr><th></th><th class="n">before</th><th class="n">after</th></tr>{rows}'
        f'</table><p class="note">A payment without a label counts as legitimate.</p>{note}'
    )


def _matrix(r: Report) -> str:
    head = "".join(f'<th class="n">{name}</th>' for name in DECISIONS)
    rows = ""
    for was in DECISIONS:
        cells = "".join(
            f'<td class="n{" same" if was == now else ""}">{r.decisions_changed[was][now]:,}</td>' for now in DECISIONS
        )
        rows += f"<tr><td>{was}</td>{cells}</tr>"
    regraded = f"{r.regraded:,} alerts keep their decision and change their severity." if r.regraded else ""
    return (
        f"<h2>Decisions before ↓ after →</h2><table><tr><th></th>{head}</tr>{rows}</table>"
        f'<p class="note">{regraded}</p>'
    )


def _rules(rules: Sequence[RuleLine]) -> str:
    names = ("before", "after", "shadow", "alone", "frauds", "precision")
    head = "".join(f'<th class="n">{name}</th>' for name in names)
    rows = ""
    for each in sorted(rules, key=lambda rule: -(rule.after + rule.shadow)):
        values = [f"{n:,}" for n in (each.before, each.after, each.shadow, each.alone, each.frauds)]
        cells = "".join(f'<td class="n">{value}</td>' for value in [*values, share(each.precision)])
        others = ", ".join(f"{html_text(code)} {n:,}" for code, n in list(each.with_others.items())[:OTHERS_SHOWN])
        mode = "" if each.mode == "live" else f" <small>{html_text(each.mode)}</small>"
        rows += f"<tr><td>{html_text(each.code)}{mode}</td><td>{each.effect}</td>{cells}<td>{others}</td></tr>"
    return (
        f'<h2>Rules</h2><div class="wide"><table><tr><th>rule</th><th>effect</th>{head}<th>often with</th></tr>{rows}'
        "</table></div>"
    )


def _changes(changes: Sequence[Changed], kind: str, link: str) -> str:
    if not changes:
        return ""
    rows = ""
    for c in changes:
        name = html_text(c.transaction_id)
        if link:
            name = f'<a href="{html_text(address(link, c))}">{name}</a>'
        rules = f"{'+'.join(c.rules_was) or '–'} → {'+'.join(c.rules_now) or '–'}"
        kind_of = ' class="fraud"' if c.label == "fraud" else ""
        rows += (
            f'<tr><td class="n">{c.amount:,.2f}</td><td{kind_of}>{c.label or "–"}</td><td>{c.was} → {c.now}</td>'
            f"<td>{time_text(c.occurred_at)}</td><td>{name}<br><small>account {html_text(c.account_id)},"
            f" {c.position}</small></td><td><code>{html_text(rules)}</code></td></tr>"
        )
    return (
        f"<h2>Most telling changes to a {kind} decision</h2>"
        '<p class="note">Labelled fraud first, then by amount. <code>sentinel audit TRANSACTION</code> tells each one’s'
        ' story.</p><div class="wide"><table><tr><th class="n">amount</th><th>label</th><th>decision</th><th>time</th>'
        f"<th>payment</th><th>rules</th></tr>{rows}</table></div>"
    )


def address(link: str, c: Changed) -> str:
    """The link with a payment's names put in, percent-encoded."""
    found = link
    for name in ("transaction_id", "account_id", "position"):
        found = found.replace(f"{{{name}}}", quote(getattr(c, name), safe=""))
    return found
