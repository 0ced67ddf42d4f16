"""An audit as one HTML page without scripts or external resources; any browser can print it to PDF."""

from __future__ import annotations

from console import audit_text as words
from core.text import html_text
from projections.audit.story import Later, Story

_STYLE = """
:root { --ink: #1c2430; --soft: #5b6778; --line: #dde3ea; --up: #c0392b; --down: #2e6da4; }
* { box-sizing: border-box; }
body { font: 14px/1.45 system-ui, sans-serif; color: var(--ink); max-width: 1000px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
p.under { color: var(--soft); margin: 0 0 1rem; }
.verdict { padding: .6rem .9rem; border-radius: 4px; border-left: 6px solid; font-weight: 600; }
.same { background: #e9f5ee; border-color: #2e7d5b; } .other { background: #fbeae8; border-color: var(--up); }
.verdict ul { font-weight: 400; margin: .4rem 0 0; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .22rem .5rem; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; } th { color: var(--soft); font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.v { overflow-wrap: anywhere; } td.k { color: var(--soft); white-space: nowrap; width: 11rem; }
tr.unusual td:first-child { font-weight: 700; } tr.unusual td:first-child::after { content: " *"; color: var(--up); }
.bar { display: inline-block; height: .75em; vertical-align: middle; }
.up { background: var(--up); } .down { background: var(--down); }
.half { width: 90px; padding-left: 0; padding-right: 0; } .left { text-align: right; }
small, .note { color: var(--soft); font-size: .85em; } pre { white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .8em; background: #f6f8fa; padding: .6rem; border-radius: 4px; }
@media print { body { font-size: 9.5pt; margin: 0; max-width: none; padding: 0; } h2 { break-after: avoid; }
  tr { break-inside: avoid; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
@page { margin: 15mm; }
"""


def page(story: Story) -> str:
    """The page as text, to be encoded as UTF-8. All data from outside is escaped."""
    title = f"Audit of transaction {story.transaction_id}"
    body = [
        f"<h1>{html_text(title)}</h1>",
        f'<p class="under">account {html_text(story.account_id)} · {html_text(story.place)} · positions'
        f" t {story.t}, f {story.f}, c {story.c}</p>",
        _verdict(story),
        "<h2>Decision</h2>" + _pairs(words.decision_lines(story)),
        _rules(story),
        "<h2>Transaction as logged</h2>" + _pairs(words.listing(story.raw)),
        "<h2>In force at the decision</h2>"
        + _pairs([*words.model_lines(story), *words.policy_lines(story), *words.reference_lines(story)]),
        _features(story),
        _alert(story),
        _later("Labels after the decision", story.labels),
        _later("Actions and cases after the decision", story.actions),
        _later("Account events after the decision", story.account_since),
        _proof(story),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _verdict(story: Story) -> str:
    kind = "same" if story.recomputed.identical else "other"
    lines = "".join(f"<li>{html_text(line)}</li>" for line in story.recomputed.differences)
    text = words.verdict(story)
    said = html_text(text[0].upper() + text[1:])
    return f'<div class="verdict {kind}">{said}{f"<ul>{lines}</ul>" if lines else ""}</div>'


def _pairs(pairs: list[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><td class="k">{html_text(k)}</td><td class="v">{html_text(v)}</td></tr>' for k, v in pairs)
    return f"<table>{rows}</table>"


def _rules(story: Story) -> str:
    if not story.rule_hits:
        return '<h2>Rules that hit</h2><p class="note">none</p>'
    rows = "".join(
        f"<tr><td>{html_text(r.code)}</td><td>{html_text(r.effect)}</td><td>{html_text(r.meaning)}</td></tr>"
        for r in story.rule_hits
    )
    return f"<h2>Rules that hit</h2><table><tr><th>code</th><th>effect</th><th>meaning</th></tr>{rows}</table>"


def _features(story: Story) -> str:
    ranked = words.by_share(story)
    widest = max((abs(f.share or 0.0) for f in ranked), default=0.0) or 1.0
    rows = []
    for f in ranked:
        values = "".join(f'<td class="n">{words.number(v)}</td>' for v in (f.value, f.median, f.p05, f.p95))
        shown = f'<td class="n">{"–" if f.share is None else f"{f.share:+.4f}"}</td>'
        share = f.share or 0.0
        width = f"{88 * abs(share) / widest:.0f}px"
        down = f'<span class="bar down" style="width:{width}"></span>' if share < 0 else ""
        up = f'<span class="bar up" style="width:{width}"></span>' if share > 0 else ""
        mark = ' class="unusual"' if f.unusual else ""
        unit = f" <small>{html_text(f.unit)}</small>" if f.unit else ""
        rows.append(
            f'<tr{mark}><td title="{html_text(f.meaning)}">{html_text(f.name)}{unit}</td>{values}{shown}'
            f'<td class="half left">{down}</td><td class="half">{up}</td></tr>'
        )
    head = "".join(f'<th class="n">{name}</th>' for name in ("value", "median", "5 %", "95 %", "share"))
    methods = (
        f"Shares: {story.method}, in log-odds; with the bias, {story.bias:+.4f}, they add up to the margin."
        if story.bias is not None
        else "No model decided, so there are no contributions."
    )
    return (
        f"<h2>Features against the account's baseline</h2><p class=\"note\">Median, 5 % and 95 % of the account's"
        f" {story.earlier_decisions:,} earlier decisions; * outside that range. {html_text(methods)}</p>"
        f"<table><tr><th>feature</th>{head}"
        '<th class="half left">less&nbsp;</th><th class="half">&nbsp;more</th></tr>'
        f"{''.join(rows)}</table>"
    )


def _alert(story: Story) -> str:
    if story.alert is None:
        return '<h2>Alert</h2><p class="note">none</p>'
    said = f"<h2>Alert in words</h2>{_pairs(words.reason_lines(story))}"
    return f"<h2>Alert as raised</h2>{_pairs(words.listing(story.alert, but='transaction'))}{said}"


def _later(title: str, later: list[Later]) -> str:
    if not later:
        return f'<h2>{title}</h2><p class="note">none</p>'
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{html_text(words.event_line(e))}</li>' for e in later)}</ul>"


def _proof(story: Story) -> str:
    lines = [
        ("logged score", f"SHA-256 {story.recomputed.logged_score_digest}"),
        ("recomputed score", f"SHA-256 {story.recomputed.recomputed_score_digest or 'no score'}"),
    ]
    if story.seal is not None:
        seal = story.seal
        lines.append(("sealed", f"batch {seal.sequence}, {words.moment(seal.recorded_at)}, digest {seal.digest}"))
    raw = html_text(bytes(story.score).decode(errors="replace"))
    return f'<h2>Proof</h2>{_pairs(lines)}<p class="note">the score as logged</p><pre>{raw}</pre>'
