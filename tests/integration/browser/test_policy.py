"""What is tried on the log and then put in force: thresholds by what-if, an experiment from its start to its stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Page, Route, expect

from tests.builders.bank import Bank
from tests.builders.bank_life import agreed
from tests.builders.pictures import WAIT_MS, settled


@pytest.fixture
def bob(as_user: Callable[[str], Page], running: Bank) -> Iterator[Page]:
    """Bob's browser; the thresholds are set back afterwards."""
    with closing(running.session("bob")) as client:
        before = client.get("/v1/thresholds").json()
        yield as_user("bob")
        back = {"review": before["review"], "decline": before["decline"], "reason": "as before"}
        with closing(running.session("cho")) as second:
            agreed(client, second, "/v1/thresholds", back, "PATCH")


def test_thresholds_are_tried_on_the_log_and_set(bob: Page, as_user: Callable[[str], Page]) -> None:
    """A handle moves by keyboard, the figures follow, the address keeps it; set, it waits for a second person, and is
    in force when she has approved it.
    """
    settled(bob, "/whatif")
    expect(bob.get_by_text("Nothing would have been decided otherwise")).to_be_visible(timeout=WAIT_MS)
    review = bob.get_by_role("slider", name="Review from")
    review.focus()
    for _ in range(10):
        review.press("ArrowLeft")
    expect(bob.locator("main .answer")).to_contain_text("would have been different", timeout=WAIT_MS)
    expect(bob.get_by_role("table", name="changed decisions").locator("tbody tr").first).to_be_visible()
    chosen = review.get_attribute("aria-valuetext") or ""
    bob.reload()
    expect(review).to_have_attribute("aria-valuetext", chosen, timeout=WAIT_MS)
    bob.get_by_role("button", name="Set these thresholds").click()
    bob.get_by_role("dialog").get_by_label("Reason").fill("the queue is empty by noon")
    bob.get_by_role("dialog").get_by_role("button", name="Set thresholds").click()
    expect(bob.get_by_role("dialog")).to_have_count(0, timeout=WAIT_MS)
    expect(bob.locator("body")).to_contain_text("waits for a second person", timeout=WAIT_MS)
    settled(bob, "/rules")
    expect(bob.get_by_role("article").get_by_role("button", name="Approve").last).to_be_disabled()
    cho = as_user("cho")
    approve(cho)
    settled(bob, "/live")
    expect(bob.locator("main")).to_contain_text(f"review from {chosen}", timeout=WAIT_MS)


def test_an_experiment_is_started_and_stopped(bob: Page, as_user: Callable[[str], Page]) -> None:
    """What runs is stopped, and another one is started with another model for a share of accounts."""
    settled(bob, "/experiments")
    stop = bob.get_by_role("button", name="Stop")
    if stop.count():  # the bank's own; a deployment in another test ends it
        act(bob, "Stop", "long enough")
        expect(bob.locator(".case-head")).to_contain_text("stopped", timeout=WAIT_MS)
    bob.get_by_role("button", name="Start an experiment").click()
    dialog = bob.get_by_role("dialog")
    dialog.get_by_label("Name").fill("autumn")
    dialog.get_by_label("Its model").select_option("baseline-1.1.0")
    dialog.get_by_label("Reason").fill("does it catch more?")
    dialog.get_by_role("button", name="Start").click()
    expect(dialog).to_have_count(0, timeout=WAIT_MS)
    approve(as_user("cho"))
    settled(bob, "/experiments/autumn")
    expect(bob.locator(".case-head")).to_contain_text("running", timeout=WAIT_MS)
    expect(bob.get_by_role("table", name="arms")).to_contain_text("baseline-1.1.0", timeout=WAIT_MS)
    expect(bob.get_by_role("table", name="gains")).to_contain_text("nothing known yet", timeout=WAIT_MS)
    bob.route("**/v1/experiments/autumn*", with_gains)
    settled(bob, "/experiments/autumn")
    gains = bob.get_by_role("table", name="gains").locator("tbody tr")
    expect(gains).to_have_count(1, timeout=WAIT_MS)
    for shown in ("8.400 %", "2.100 %", "14.700 %"):
        expect(gains).to_contain_text(shown)
    bob.unroute("**/v1/experiments/autumn*")
    settled(bob, "/experiments/autumn")
    act(bob, "Stop", "it was a test")
    expect(bob.locator(".case-head")).to_contain_text("stopped", timeout=WAIT_MS)


def with_gains(route: Route) -> None:
    """The API's answer with one gain, whose interval is known: an experiment has one after days only."""
    answer = route.fetch()
    report = answer.json()
    finding = report["findings"][0]
    assert isinstance(finding["interval"], list)
    report["findings"] = [{**finding, "metric": "missed_fraud", "gain": 0.084, "interval": [0.021, 0.147]}]
    route.fulfill(response=answer, json=report)


def approve(page: Page) -> None:
    """Approve the newest change that waits, on the page of rules."""
    settled(page, "/rules")
    section = page.locator("section", has_text="Changes that wait for a second person")
    section.get_by_role("button", name="Approve").last.click()
    page.get_by_role("dialog").get_by_label("Reason").fill("looked at the curve")
    page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog")).to_have_count(0, timeout=WAIT_MS)


def act(page: Page, name: str, reason: str) -> None:
    """Press a button of the page, say why, and wait until it is done."""
    page.get_by_role("button", name=name, exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=name, exact=True).click()
    expect(dialog).to_have_count(0, timeout=WAIT_MS)
