"""An experiment's report as text; `sentinel experiment show` and `sentinel query experiment` share it."""

from __future__ import annotations

from typing import Any

import msgspec

from console.tables import print_fields, print_table, span_text, time_text
from learners.experiments.report import Report
from learners.experiments.verdict import METRICS


def print_report(report: Report) -> None:
    """Exposure, sample ratio, gains with intervals, verdict."""
    definition = report.definition
    rows: list[dict[str, Any]] = [
        {
            "arm": row.name,
            "model": row.model,
            "program": row.program[:16] or "deployed",
            "share": f"{row.share:.1%}",
            "exposed": f"{row.exposed:,}",
            "expected": f"{row.expected:,.0f}",
            "mature": f"{row.mature:,}",
            **{metric: f"{value:.3%}" if value == value else "" for metric, value in row.means.items()},
        }
        for row in report.arms
    ]
    programs = ("program",) if any(row.program for row in report.arms) else ()
    print_table(("arm", "model", *programs, "share", "exposed", "expected", "mature", *METRICS), rows)
    print_table(
        ("arm", "metric", "role", "gain", "from", "to", "p_better", "p_worse"),
        [
            {
                "arm": f.arm,
                "metric": f.metric,
                "role": "primary" if f.metric == definition.primary else _role(f.metric, definition.guardrails),
                "gain": f"{f.gain:+.4%}" if f.gain == f.gain else "",
                "from": f"{f.interval.low:+.4%}",
                "to": f"{f.interval.high:+.4%}",
                "p_better": f"{f.p_better:.2g}",
                "p_worse": f"{f.p_worse:.2g}",
            }
            for f in report.findings
        ],
    )
    print_table(
        ("when", "action", "traffic", "actor", "reason"),
        [
            {**msgspec.to_builtins(c), "when": time_text(c.occurred_at), "traffic": f"{c.traffic / 100:g} %"}
            for c in report.changes
        ],
    )
    ratio = report.sample_ratio
    print_fields(
        {
            "experiment": f"{report.experiment_id} ({' '.join(filter(None, (report.state, report.conclusion)))})",
            "verdict": f"{report.verdict.action} {report.verdict.arm}".strip(),
            "because": "; ".join(report.verdict.reasons),
            "observation": f"each account's first {span_text(definition.window_ms)} of event time; mature"
            f" {span_text(definition.window_ms + definition.maturity_ms)} of log time after its first transaction",
            "sample_ratio": f"anytime-valid p {ratio.p_anytime:.3g} (one-look chi-square p {ratio.p_chi_square:.3g})",
            "excluded": report.excluded,
            "as_of": report.as_of,
        }
    )


def _role(metric: str, guardrails: tuple[str, ...]) -> str:
    return "guardrail" if metric in guardrails else ""
