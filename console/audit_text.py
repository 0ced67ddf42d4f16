"""An audit for a terminal: the story of one decision in plain lines."""

from __future__ import annotations

import msgspec

from core.policy import Thresholds, threshold_words
from core.text import visible
from core.times import SECOND_MS, utc
from projections.audit.in_force import ControlChange
from projections.audit.story import FeatureLine, Later, Story

LATER_SHOWN = 20
"""Maximum number of later events of each kind in the text; the page and the JSON have all of them."""


def moment(ms: int) -> str:
    """Epoch ms → `2026-01-31 12:00:00.000 UTC`."""
    try:
        return utc(ms).strftime("%Y-%m-%d %H:%M:%S.") + f"{ms % SECOND_MS:03d} UTC"
    except OverflowError:
        return f"{ms} ms"


def number(value: float | None) -> str:
    """A feature's value; – if it is unknown."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e12 else f"{value:,.4g}"


def by(change: ControlChange | None, nothing: str = "never changed") -> str:
    """Who changed it, when and why, as text."""
    if change is None:
        return nothing
    why = f": {change.reason}" if change.reason else ""
    return f"{change.type} #{change.sequence} by {change.actor}, {moment(change.occurred_at)}{why}"


def verdict(story: Story) -> str:
    """The outcome of the recomputation in one line."""
    if story.recomputed.identical:
        return "identical: the recomputed score and alert equal the logged ones, byte for byte"
    return "NOT identical: the recomputed score or alert differs from the logged one"


def fields(raw: bytes) -> dict[str, object]:
    """An event's fields."""
    found: dict[str, object] = msgspec.json.decode(raw, type=dict[str, object])
    return found


def words(value: object) -> str:
    """A field's value as text."""
    return visible(value) if isinstance(value, str) else msgspec.json.encode(value).decode()


def listing(raw: bytes, but: str = "") -> list[tuple[str, str]]:
    """An event's fields as (name, text), times also as dates, without the field `but`."""
    return [
        (
            k,
            f"{v} ({moment(v)})"
            if k in ("occurred_at", "recorded_at", "timestamp") and isinstance(v, int)
            else words(v),
        )
        for k, v in fields(raw).items()
        if k != but
    ]


def by_share(story: Story) -> list[FeatureLine]:
    """Features by their absolute SHAP value, largest first; in the spec's order if no model decided."""
    return sorted(story.features, key=lambda f: -abs(f.share or 0.0))


def policy_lines(story: Story) -> list[tuple[str, str]]:
    """Thresholds, rules and lists in force, as (name, text)."""
    p = story.policy
    thresholds = threshold_words(Thresholds(p.review, p.decline, p.review_loss, p.decline_loss))
    lines = [("thresholds", f"{thresholds} ({by(p.thresholds_changed)})")]
    changed = ", ".join(f"{name}={value:g}" for name, value in p.parameters.items()) or "default parameters"
    off = f"; off: {', '.join(p.disabled)}" if p.disabled else ""
    lines.append(("rules", f"{changed}{off} ({by(p.rules_changed)})"))
    if p.listed:
        lines.append(("lists", "; ".join(p.listed)))
    return lines


def model_lines(story: Story) -> list[tuple[str, str]]:
    """The model and who promoted it, as (name, text)."""
    m = story.model
    if m is None:
        return [("model", "none deployed; decided by rules alone")]
    lines = [("model", f"{m.label}, feature spec {m.spec}"), ("SHA-256", m.digest)]
    lines.append(("promoted", by(m.deployed, "unknown")))
    lines.append(("registered", by(m.registered, "not registered in the control stream")))
    if m.metrics:
        lines.append(("metrics", ", ".join(f"{name} {value:.4f}" for name, value in m.metrics.items())))
    if m.parent:
        lines.append(("parent", m.parent))
    return lines


def reference_lines(story: Story) -> list[tuple[str, str]]:
    """The reference tables in force, as (name, text)."""
    return [
        (f"{r.kind} table", f"{r.digest}, as of {moment(r.as_of)}, {r.rows:,} rows ({by(r.published)})")
        for r in story.references
    ] or [("reference tables", "none published")]


def decision_lines(story: Story) -> list[tuple[str, str]]:
    """The decision itself, as (name, text)."""
    lines = [
        ("decision", story.decision + (f", severity {story.severity}" if story.severity else ", no alert")),
        ("probability", f"{story.probability!r} (margin {story.margin!r} log-odds)"),
        ("arm", story.arm),
    ]
    if story.degraded:
        lines.append(("degraded", story.degraded))
    if story.recommended:
        lines.append(("recommended", ", ".join(story.recommended)))
    return lines


def reason_lines(story: Story) -> list[tuple[str, str]]:
    """The alert in words, as (name, text)."""
    if story.reasons is None:
        return []
    lines = [("reason", sentence) for sentence in story.reasons.words]
    if story.reasons.missing:
        lines.append(("reason missing", visible(story.reasons.missing)))
    return lines + [("risk factor", f"{name}: {factor(value)}") for name, value in story.reasons.risk_factors.items()]


def factor(value: float | bool | None) -> str:
    """A risk factor's value as text."""
    if value is None or isinstance(value, bool):
        return {None: "unknown", True: "yes", False: "no"}[value]
    return f"{value:,.10g}"


def text(story: Story, features: int = 15) -> str:
    """The whole story; shows the `features` features with the largest SHAP values, and every unusual one."""
    out = [f"{story.place}  transaction {story.transaction_id}  account {story.account_id}", verdict(story)]
    out += [f"  {line}" for line in story.recomputed.differences]
    out += ["", "decision", *_pairs(decision_lines(story))]
    out += _pairs([("rule", f"{r.code} ({r.effect}): {r.meaning}") for r in story.rule_hits])
    out += ["", "transaction as logged", *_pairs(listing(story.raw))]
    out += ["", f"positions: t {story.t}  f {story.f}  c {story.c}"]
    if story.seal is not None:
        out.append(f"sealed in batch {story.seal.sequence}, {moment(story.seal.recorded_at)}, {story.seal.digest}")
    out += ["", "in force", *_pairs([*model_lines(story), *policy_lines(story), *reference_lines(story)])]
    out += ["", *_features(story, features)]
    if story.alert is not None:
        out += ["", "alert", *_pairs(listing(story.alert, but="transaction")), *_pairs(reason_lines(story))]
    for title, later in (
        ("labels after the decision", story.labels),
        ("actions and cases after the decision", story.actions),
        ("account events after the decision", story.account_since),
    ):
        out += ["", f"{title}: {f'{len(later):,}' if later else 'none'}"]
        out += [f"  {event_line(e)}" for e in later[:LATER_SHOWN]]
        if len(later) > LATER_SHOWN:
            out.append(f"  … {len(later) - LATER_SHOWN:,} more (see --html or --json)")
    return "\n".join(out)


def event_line(later: Later) -> str:
    """One event of the feedback stream on one line."""
    found = fields(later.event)
    when = found.pop("occurred_at", None)
    shown = [f"{k}={words(v)}" for k, v in found.items() if k not in ("type", "recorded_at", "account_id")]
    return f"{moment(when) if isinstance(when, int) else ''}  {later.type}  {' '.join(shown)}"


def _pairs(pairs: list[tuple[str, str]]) -> list[str]:
    return [f"  {name:<22}{value}" for name, value in pairs]


def _features(story: Story, count: int) -> list[str]:
    ranked = by_share(story)
    shown = ranked[:count] + [f for f in ranked[count:] if f.unusual]
    out = [
        f"features, {len(shown)} of {len(ranked)} (baseline: the account's {story.earlier_decisions:,} earlier"
        " decisions; * outside its 5 %–95 % range)"
    ]
    out.append(f"  {'':<22}{'value':>12}{'median':>12}{'5 %':>12}{'95 %':>12}{'share':>10}")
    for f in shown:
        values = "".join(f"{number(v):>12}" for v in (f.value, f.median, f.p05, f.p95))
        share = "–" if f.share is None else f"{f.share:+.4f}"
        out.append(f"{' *' if f.unusual else '  '}{f.name:<22}{values}{share:>10}")
    if story.bias is not None:
        out.append(f"  {'bias':<70}{story.bias:>+10.4f}")
        out.append(f"  shares: {story.method}, in log-odds; with the bias they add up to the margin")
    return out
