"""What axe-core and a ruler find at fault on a page of the console."""

from __future__ import annotations

from playwright.sync_api import Page

from console.service import ROOT

AXE = ROOT / "tests" / "integration" / "browser" / "axe" / "axe.min.js"


def faults(page: Page, width: int) -> list[str]:
    """Serious faults of accessibility, in words; and whether the page is wider than the screen (px)."""
    wider = page.evaluate("document.documentElement.scrollWidth") - width
    if wider > 0:
        return [f"{wider} px wider than the screen"]
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    rules = page.evaluate("axe.run(document).then((found) => found.violations)")
    return [
        f"{rule['id']}: {rule['help']}: {[node['target'] for node in rule['nodes'][:3]]}"
        for rule in rules
        if rule["impact"] in ("serious", "critical")
    ]
