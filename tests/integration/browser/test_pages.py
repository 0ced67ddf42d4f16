"""Every page of the console: it opens by keys, it is accessible, it fits a phone.

Pictures of all pages are kept if CONSOLE_SCREENSHOTS names a directory (`python -m tests.builders.pictures` takes them
without tests).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.builders.accessibility import faults
from tests.builders.bank import Bank
from tests.builders.pictures import SIZES, addresses, log_in, settled


def test_a_wrong_password_is_told_and_the_name_kept(running: Bank, browser: Browser) -> None:
    """The form says what is wrong and keeps the name; nothing of the console is shown."""
    with browser.new_context(base_url=running.url) as context:
        page = context.new_page()
        page.goto("/queue")
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill("wrong horse battery")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("the name or the password is wrong")
        expect(page.get_by_label("Name")).to_have_value("ann")
        expect(page.get_by_role("navigation", name="pages")).to_have_count(0)


def test_a_phone_reaches_every_page(running: Bank, browser: Browser) -> None:
    """The bar at the bottom holds a few pages, and More all of them, with logging out."""
    width, height = SIZES["phone"]
    with browser.new_context(viewport={"width": width, "height": height}, base_url=running.url) as context:
        page = context.new_page()
        log_in(page, "ann")
        page.get_by_role("button", name="More").click()
        dialog = page.get_by_role("dialog", name="Pages")
        expect(dialog.get_by_role("button", name="Log out")).to_be_visible()
        dialog.get_by_role("link", name="Audit trail").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Audit trail")
        expect(dialog).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_page_has_a_serious_fault_of_accessibility(running: Bank, browser: Browser, theme: str, size: str) -> None:
    """axe-core finds nothing serious on any page, and nothing is wider than the screen."""
    kept = os.environ.get("CONSOLE_SCREENSHOTS")
    width, height = SIZES[size]
    found: dict[str, list[str]] = {}
    view = {"width": width, "height": height}
    with browser.new_context(viewport=view, base_url=running.url, color_scheme=theme) as context:  # type: ignore[arg-type]
        page = context.new_page()
        log_in(page, "ann")
        for name, address in addresses(page).items():
            settled(page, address)
            if kept:
                Path(kept).mkdir(parents=True, exist_ok=True)
                page.screenshot(path=Path(kept) / f"{name}-{size}-{theme}.png")
            if said := faults(page, width):
                found[name] = said
    assert found == {}
