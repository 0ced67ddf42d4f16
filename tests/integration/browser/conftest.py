"""A bank with its console, a headless chromium, and the browser of somebody who is logged in. They last for this
folder: its tests share the bank, so each asks for what it needs, and counts on nothing that another might change.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.builders.bank import Bank, bank
from tests.builders.bank_life import live_a_while
from tests.builders.pictures import log_in
from tests.integration.conftest import need

LAPTOP = {"width": 1366, "height": 768}


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A stack with 30 days of synthetic payments, a worker, the console, and something on each of its pages."""
    need(None if shutil.which("chromium") else "chromium not installed (Debian: chromium)")
    with bank(tmp_path_factory.mktemp("console"), drift=True) as here:
        live_a_while(here)
        yield here


@pytest.fixture(scope="package")
def browser(running: Bank) -> Iterator[Browser]:
    """A headless chromium."""
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


LogIn = Callable[[str], Page]


@pytest.fixture
def as_user(running: Bank, browser: Browser) -> Iterator[LogIn]:
    """Opens a browser of its own for whoever is named, logged in; the test fails on any error of a script, and on any
    request to another host.
    """
    with ExitStack() as stack:

        def opened(name: str) -> Page:
            context = stack.enter_context(browser.new_context(viewport=LAPTOP, base_url=running.url))  # type: ignore[arg-type]
            page = stack.enter_context(_watched(context, running.url))
            log_in(page, name)
            return page

        yield opened


@pytest.fixture
def page(as_user: LogIn) -> Page:
    """Ann's browser."""
    return as_user("ann")


@contextmanager
def _watched(context: BrowserContext, url: str) -> Iterator[Page]:
    """Chromium's own editing commands make inline styles, which the policy refuses without harm."""
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if _is_refused(said.text) else None)
    page.on("request", lambda sent: None if sent.url.startswith(url) else faults.append(sent.url))
    yield page
    assert faults == []


def _is_refused(text: str) -> bool:
    return "Content Security Policy" in text and "inline style" not in text
