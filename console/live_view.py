"""The demo's live terminal view: rate, latency, decisions, rejects and the newest alerts. Renders only; contacts no
server.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from core.events import AlertRaised
from core.text import visible
from core.times import minute_text
from projections.audit.reasons import in_short

ALERTS_SHOWN = 8
_COLOURS = {"low": "cyan", "medium": "yellow", "high": "red", "critical": "bold red"}


@dataclass(slots=True)
class View:
    """What is shown. `stats` is the worker's statistics file; the rate is over the last few seconds."""

    total: int | None
    produced: int = 0
    stage: str = "starting"
    stats: dict[str, Any] = field(default_factory=dict)
    alerts: deque[AlertRaised] = field(default_factory=lambda: deque(maxlen=ALERTS_SHOWN))
    _history: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=8))

    def update(self, stats: dict[str, Any] | None) -> None:
        if stats is None:
            return
        self.stats = stats
        if not self._history or self._history[-1][0] != stats["at"]:
            self._history.append((stats["at"], stats["transactions"]))

    @property
    def rate(self) -> float:
        """Decisions per second over the last few seconds."""
        if len(self._history) < 2:
            return 0.0
        (t0, n0), (t1, n1) = self._history[0], self._history[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0

    def __rich__(self) -> RenderableType:
        return Group(self._numbers(), self._alerts())

    def _numbers(self) -> RenderableType:
        stats = self.stats
        decisions, latency = stats.get("decisions", {}), stats.get("latency_ms", {})
        grid = Table.grid(padding=(0, 3))
        for _ in range(4):
            grid.add_column()
        done = stats.get("transactions", 0)
        grid.add_row(
            Text(f"{done:,} decided", style="bold"),
            f"{self.produced:,} produced",
            f"{self.rate:,.0f}/s",
            f"{sum(stats.get('rejects', {}).values()):,} rejected",
        )
        grid.add_row(
            f"approve {decisions.get('approve', 0):,}",
            Text(f"review {decisions.get('review', 0):,}", style="yellow"),
            Text(f"decline {decisions.get('decline', 0):,}", style="red"),
            f"feedback {stats.get('feedback', 0):,}",
        )
        grid.add_row(
            "latency",
            f"p50 {_ms(latency.get('p50'))}",
            f"p99 {_ms(latency.get('p99'))}",
            f"p99.9 {_ms(latency.get('p99.9'))}",
        )
        bar = ProgressBar(total=self.total or max(done, 1), completed=done)
        return Panel(Group(grid, bar), title=f"Stream-Sentinel: {self.stage}", title_align="left")

    def _alerts(self) -> RenderableType:
        table = Table(expand=True, box=None, pad_edge=False)
        table.add_column("event time", no_wrap=True)
        table.add_column("account", no_wrap=True)
        table.add_column("amount", justify="right", no_wrap=True)
        table.add_column("score", justify="right", no_wrap=True)
        table.add_column("severity", no_wrap=True)
        table.add_column("reason codes and the gravest reason", ratio=1, overflow="ellipsis", no_wrap=True)
        for alert in reversed(self.alerts):
            when = minute_text(alert.timestamp)[5:]
            amount = alert.transaction.get("amount", 0.0)
            words = visible(f"{', '.join(alert.reason_codes)}: {in_short(alert)}")
            table.add_row(
                when,
                Text(visible(alert.account_id)),
                f"{amount:,.2f}" if isinstance(amount, int | float) else "",
                f"{alert.fraud_score:.3f}",
                Text(alert.severity, style=_COLOURS[alert.severity]),
                Text(words),
            )
        return Panel(table, title="newest alerts", title_align="left")


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"
