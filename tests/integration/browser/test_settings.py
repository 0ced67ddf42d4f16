"""Thresholds and rules' parameters are changed on the page of rules: by keyboard, with a reason, under four eyes."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.builders.accessibility import faults
from tests.builders.pictures import SIZES, WAIT_MS, settled

TRIED_MS = 120_000


def saved(page: Page, reason: str) -> None:
    """Fill in the reason and send the open dialog by keyboard."""
    page.get_by_role("dialog").get_by_label("Reason").fill(reason)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("dialog")).to_have_count(0, timeout=WAIT_MS)


def approved(page: Page, change: str, reason: str) -> None:
    """Approve, as another person, the proposal that says this."""
    settled(page, "/rules")
    proposal = page.get_by_role("article").filter(has_text=change)
    proposal.get_by_role("button", name="Approve").click()
    saved(page, reason)
    expect(page.get_by_role("article").filter(has_text=change)).to_have_count(0, timeout=WAIT_MS)


def test_a_parameter_is_set_by_keyboard_and_approved_by_another(as_user: Callable[[str], Page]) -> None:
    """What it would have done is told before; it waits for a second person; then the rule has it, and what it was
    before, who approved it and why stand in the history. Back at the program's own value, nothing is marked any more.
    """
    bob, cho = as_user("bob"), as_user("cho")
    settled(bob, "/rules")
    bob.get_by_role("button", name="change VELOCITY_24H").focus()
    bob.keyboard.press("Enter")
    dialog = bob.get_by_role("dialog", name="Change VELOCITY_24H")
    field = dialog.get_by_label("velocity_24h", exact=True)
    expect(field).to_be_focused()
    expect(dialog).to_contain_text("the program's own value: 25")
    bob.keyboard.press("Control+Enter")
    expect(dialog).to_be_visible()
    field.fill("40")
    expect(dialog.get_by_label("what the change would have done")).to_contain_text(
        "On the last 14 days", timeout=TRIED_MS
    )
    assert faults(bob, 1366) == []
    dialog.get_by_label("Reason").focus()
    bob.keyboard.press("Control+Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("Reason is needed")
    saved(bob, "weekends have more payments")
    expect(bob.get_by_role("article").filter(has_text="velocity_24h = 40")).to_be_visible(timeout=WAIT_MS)
    approved(cho, "velocity_24h = 40", "seen in the queue")
    settled(bob, "/rules")
    row = bob.get_by_role("row").filter(has=bob.get_by_text("VELOCITY_24H", exact=True))
    expect(row).to_contain_text("velocity_24h 40")
    expect(row).to_contain_text("set")
    expect(bob.locator("ul.history").filter(has_text="velocity_24h 25 → 40 seen in the queue")).to_be_visible()
    bob.get_by_role("button", name="change VELOCITY_24H").click()
    bob.get_by_role("button", name="use 25 for velocity_24h").click()
    saved(bob, "too many were missed")
    approved(cho, "too many were missed", "agreed")
    settled(bob, "/rules")
    expect(row).to_contain_text("velocity_24h 25", timeout=WAIT_MS)
    expect(row).not_to_contain_text("set", timeout=WAIT_MS)


def test_thresholds_are_set_by_keyboard(as_user: Callable[[str], Page]) -> None:
    """A wrong value is told and nothing is sent; a right one waits for a second person, and is then in force."""
    bob, cho = as_user("bob"), as_user("cho")
    settled(bob, "/rules")
    bob.locator("main").focus()
    bob.keyboard.press("s")
    dialog = bob.get_by_role("dialog", name="Set thresholds")
    review = dialog.get_by_label("Review from")
    expect(review).to_be_focused()
    review.fill("140")
    expect(dialog).to_contain_text("a probability above 0 and up to 100 %")
    review.fill("35.5")
    expect(dialog.get_by_label("what the change would have done")).to_contain_text(
        "On the last 14 days", timeout=TRIED_MS
    )
    assert faults(bob, 1366) == []
    saved(bob, "fraud rose in March")
    thresholds = bob.locator("section").filter(has=bob.get_by_role("heading", name="Thresholds", exact=True))
    expect(thresholds).to_contain_text("review from 40.0 %")
    approved(cho, "fraud rose in March", "seen in the queue")
    settled(bob, "/rules")
    expect(thresholds).to_contain_text("review from 35.5 %", timeout=WAIT_MS)
    expect(thresholds).to_contain_text("set by cho")
    bob.locator("main").focus()
    bob.keyboard.press("s")
    review.fill("40")
    saved(bob, "as it was")
    approved(cho, "as it was", "agreed")
    settled(bob, "/rules")
    expect(thresholds).to_contain_text("review from 40.0 %", timeout=WAIT_MS)


def test_nobody_changes_what_they_may_not(as_user: Callable[[str], Page]) -> None:
    """A viewer sees what is set, without buttons; nor does a publisher change the past. A phone shows it whole."""
    eve, bob = as_user("eve"), as_user("bob")
    for page, address in ((eve, "/rules"), (bob, "/rules?as_of=c10")):
        settled(page, address)
        expect(page.get_by_role("heading", name="Thresholds", exact=True)).to_be_visible()
        expect(page.get_by_role("button", name="Set thresholds")).to_have_count(0)
        expect(page.get_by_role("button", name="change VELOCITY_24H")).to_have_count(0)
    width, height = SIZES["phone"]
    bob.set_viewport_size({"width": width, "height": height})
    settled(bob, "/rules")
    bob.get_by_role("button", name="change VELOCITY_24H").click()
    expect(bob.get_by_role("dialog")).to_be_visible()
    assert faults(bob, width) == []
