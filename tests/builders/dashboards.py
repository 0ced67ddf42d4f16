"""Grafana's dashboards (docker/grafana/dashboards), generated: `make docs` writes them, a test compares them.

What they show is in `tests.builders.panels`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.builders.panels import Dashboard, Panel

FOLDER = Path(__file__).parents[2] / "docker" / "grafana" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24


def text(dashboard: Dashboard) -> str:
    """The file that Grafana loads."""
    figures = [panel for panel in dashboard.panels if panel.kind == "stat"]
    others = [panel for panel in dashboard.panels if panel.kind != "stat"]
    width, half = COLUMNS // max(len(figures), 1), COLUMNS // 2
    places = [{"x": i * width, "y": 0, "w": width, "h": 4} for i in range(len(figures))]
    places += [{"x": i % 2 * half, "y": 4 + i // 2 * 8, "w": half, "h": 8} for i in range(len(others))]
    panels = [_panel(i, *each) for i, each in enumerate(zip([*figures, *others], places, strict=True), 1)]
    content = {
        "uid": f"stream-sentinel-{dashboard.name}",
        "title": f"Stream-Sentinel: {dashboard.title}",
        "tags": ["stream-sentinel"],
        "timezone": "utc",
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": []},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "title": "Dashboards", "tags": ["stream-sentinel"], "asDropdown": True}],
        "panels": panels,
    }
    return json.dumps(content, indent=1) + "\n"


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + i), "expr": expression, "legendFormat": legend}
        | ({"format": "table", "instant": True} if panel.kind == "table" else {})
        for i, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.shows,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": _options(panel.kind),
        "targets": targets,
    }


def _options(kind: str) -> dict[str, Any]:
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}}
    if kind == "table":
        return {"showHeader": True}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
