"""Pictures of every page of the console, for the eye; and the README's.

    python -m tests.builders.pictures DIRECTORY          # every page, in both themes, on a laptop and a phone
    python -m tests.builders.pictures --readme           # docs/console-{light,dark}.webp

Without --url it starts a bank of its own, which takes about a minute; with it, it takes one that runs
(`python -m tests.builders.bank_life`). Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from console.service import ROOT
from tests.builders.bank import PASSWORD, bank
from tests.builders.bank_life import live, live_a_while

SIZES = {"laptop": (1366, 768), "phone": (390, 844)}
THEMES = ("light", "dark")
WAIT_MS = 20_000


def log_in(page: Page, name: str) -> None:
    """Log in through the form, by keyboard."""
    page.goto("/live")
    page.get_by_label("Name").fill(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("navigation", name="pages")).to_be_visible(timeout=WAIT_MS)


def settled(page: Page, address: str) -> None:
    """Open a page and wait until it shows what it has."""
    page.goto(address)
    expect(page.locator("main")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.locator("[aria-busy=true]")).to_have_count(0, timeout=WAIT_MS)


def addresses(page: Page) -> dict[str, str]:
    """The addresses of all pages by a name for their pictures. page: logged in."""
    cases = page.request.get("/v1/cases", params={"limit": 100}).json()["cases"]
    case = max(cases, key=lambda row: (len(row["case"]["alerts"]), row["case"]["case_id"]))["case"]
    closed = page.request.get("/v1/cases", params={"stage": "resolved", "limit": 1}).json()["cases"]
    account, identity = case["account_id"], case["case_id"]
    place = case["alerts"][-1]["alert_id"]
    return {
        "live": "/live",
        "queue": "/queue",
        "queue-closed": "/queue?view=resolved",
        "case": f"/case/{identity}",
        "case-model": f"/case/{identity}?tab=model",
        "case-history": f"/case/{identity}?tab=history",
        "case-raw": f"/case/{identity}?tab=raw",
        "case-audit": f"/case/{identity}?tab=audit",
        "case-past": f"/case/{identity}?as_of=p{place}",
        **({"case-closed": f"/case/{closed[0]['case']['case_id']}?tab=history"} if closed else {}),
        "search": "/search?q=is:alert",
        "search-start": "/search",
        "search-empty": "/search?q=amount>99999999",
        "search-wrong": "/search?q=amuont:5",
        "account": f"/account/{account}",
        "account-unknown": "/account/nobody",
        "decision": f"/decision/p{place}",
        "decision-features": f"/decision/p{place}?tab=features",
        "rules": "/rules",
        "editor": "/rules?edit=current",
        "lists": "/lists",
        "lists-changes": "/lists?tab=history",
        "rules-compared": "/rules?program=cards@1.1.0&against=cards@1.0.0",
        "whatif": "/whatif",
        "whatif-other": "/whatif?review=0.2&decline=0.6&off=NEW_MERCHANT&budget=15",
        "rings": "/rings",
        "models": "/models",
        "experiments": "/experiments",
        "drift": "/drift",
        "audit": "/audit",
        "system": "/system",
    }


def take(browser: Browser, url: str, directory: Path, names: list[str], whole: bool) -> None:
    """A PNG of every page in every theme and size."""
    directory.mkdir(parents=True, exist_ok=True)
    for theme in THEMES:
        for size, (width, height) in SIZES.items():
            view = {"width": width, "height": height}
            with browser.new_context(viewport=view, base_url=url, color_scheme=theme) as context:  # type: ignore[arg-type]
                page = context.new_page()
                page.goto("/live")
                page.screenshot(path=directory / f"login-{size}-{theme}.png")
                log_in(page, "ann")
                for name, address in addresses(page).items():
                    if names and not any(name.startswith(each) for each in names):
                        continue
                    settled(page, address)
                    expect(page.get_by_text("Trying…")).to_have_count(0, timeout=6 * WAIT_MS)
                    page.screenshot(path=directory / f"{name}-{size}-{theme}.png", full_page=whole)


LEVELS = ("low", "medium", "high", "critical")


def telling(page: Page) -> str:
    """The address of an open case that shows much: grave, with several rules and some payments."""
    cases = page.request.get("/v1/cases", params={"limit": 200}).json()["cases"]

    shown = [(row["case"], alert) for row in cases for alert in row["case"]["alerts"]]

    def rank(found: tuple[dict[str, Any], dict[str, Any]]) -> tuple[int, int, float]:
        case, alert = found
        return (min(LEVELS.index(alert["severity"]), 2), len(alert["values"]), -abs(len(case["alerts"]) - 6))

    case, alert = max(shown, key=rank)
    return f"/case/{case['case_id']}?alert={alert['alert_id']}"


def take_readme(browser: Browser, url: str) -> None:
    """docs/console-{light,dark}.webp: one case, whose first screen says what, why, who else, and what was before."""
    for theme in THEMES:
        view = {"width": 1280, "height": 720}
        options: dict[str, Any] = {"viewport": view, "device_scale_factor": 1.5, "base_url": url, "color_scheme": theme}
        with browser.new_context(**options) as context:
            page = context.new_page()
            log_in(page, "ann")
            settled(page, telling(page))
            page.get_by_role("img", name="payments, amounts on a logarithmic scale").wait_for()
            page.get_by_role("group", name="other accounts").wait_for()
            picture = Image.open(BytesIO(page.screenshot()))
            picture.save(ROOT / "docs" / f"console-{theme}.webp", "WEBP", quality=82, method=6)


def main() -> None:
    """Take pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--readme", action="store_true", help="the README's, into docs/")
    parser.add_argument("--url", help="of a running bank")
    parser.add_argument("--only", nargs="*", default=[], help="pages whose name begins so")
    parser.add_argument("--whole", action="store_true", help="whole pages, not only what a screen shows")
    asked = parser.parse_args()
    with ExitStack() as stack:
        url = asked.url
        if url is None:
            size = {"transactions": 20_000, "accounts": 400}
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            here = stack.enter_context(bank(directory, **size, drift=True))
            stack.enter_context(live(here, **size))
            live_a_while(here)
            url = here.url
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        stack.callback(browser.close)
        if asked.readme:
            take_readme(browser, url)
        if asked.directory:
            take(browser, url, asked.directory, asked.only, asked.whole)


if __name__ == "__main__":
    main()
