"""Dashboards, alert rules and the files around them: generated, complete, and asking only for what is exported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from console import metrics_page
from tests.builders import dashboards
from tests.builders.deployments import of_compose
from tests.builders.panels import DASHBOARDS, Dashboard

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
ENDINGS = {"histogram": ("_bucket", "_count", "_sum")}
OF_EVERY_PROCESS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}


def exported() -> set[str]:
    """Names of all series."""
    return {row.name + ending for row in metrics_page.rows() for ending in ENDINGS.get(row.kind, ("",))}


def asked(expression: str) -> set[str]:
    """The metrics that an expression names."""
    return set(re.findall(r"\b(?:sentinel|process)_\w+|\bup\b", expression))


def alerts() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text())["groups"]:
        yield from group["rules"]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)
def test_a_dashboard_is_as_generated_and_asks_for_what_exists(dashboard: Dashboard) -> None:
    """`make docs` has been run; panels have a unit, words, and queries of metrics that are exported; none overlap."""
    text = (dashboards.FOLDER / f"{dashboard.name}.json").read_text()
    assert text == dashboards.text(dashboard)
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(text)["panels"]:
        assert panel["description"].endswith(".") and panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            names = asked(target["expr"])
            assert names and names <= exported() | OF_EVERY_PROCESS, target["expr"]
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < dashboards.COLUMNS, panel["title"]
        taken |= cells


def test_no_dashboard_is_left_over() -> None:
    """Each file is generated, and Grafana's home is one of them."""
    files = {path.stem for path in dashboards.FOLDER.iterdir()}
    assert files == {dashboard.name for dashboard in DASHBOARDS}
    home = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["grafana"]["environment"]
    assert Path(home["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).stem in files


def test_each_alert_asks_for_what_exists_and_has_its_section() -> None:
    """Its expression ends with a comparison, its severity is known, and the runbook has a heading for its link."""
    headings = {line.removeprefix("## ").lower() for line in (ROOT / "docs" / "runbook.md").read_text().splitlines()}
    names = [alert["alert"] for alert in alerts()]
    assert len(set(names)) == len(names) > 20
    for alert in alerts():
        assert asked(alert["expr"]) <= exported() | OF_EVERY_PROCESS, alert["alert"]
        assert re.search(r" (==|>) [\d.]+$", alert["expr"]), alert["alert"]
        assert alert["labels"]["severity"] in ("page", "ticket")
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert (page, anchor) == ("docs/runbook.md", alert["alert"].lower()) and anchor in headings
    sections = {
        line.removeprefix("## ")
        for line in (ROOT / "docs" / "runbook.md").read_text().splitlines()
        if line[:3] == "## "
    }
    assert sections == set(names)


def test_every_process_of_compose_is_scraped() -> None:
    """Under its own name, which the alert on processes that are down names; the archiver alone has no port."""
    ours = {each.name for each in of_compose("compose.yaml")} - {"archiver"}
    jobs = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    scraped = {job["job_name"]: job["dns_sd_configs"][0]["names"] for job in jobs}
    assert len(ours) == 6 and all(scraped[name] == [name] for name in ours)
    (down,) = (alert["expr"] for alert in alerts() if alert["alert"] == "SentinelProcessDown")
    assert set(re.findall(r'job=~"([^"]+)"', down)[0].split("|")) == set(scraped)
