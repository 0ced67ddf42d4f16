"""An alert appears by itself, is judged by keyboard, becomes feedback in the log; its case closes; undo reopens it."""

from __future__ import annotations

from contextlib import closing

from playwright.sync_api import Page, expect

from core.codec import decode_account_event
from core.events import FeedbackReceived, Transaction
from core.log.paging import entries
from tests.builders.bank import PARTITIONS, Bank, until
from tests.builders.pictures import WAIT_MS


def verdicts(running: Bank, transaction_id: str) -> list[str]:
    """What the log holds of verdicts on a payment, in order."""
    found = [
        decode_account_event(entry.payload) for p in range(PARTITIONS) for entry in entries(running.log, p, "feedback")
    ]
    return [e.verdict for e in found if isinstance(e, FeedbackReceived) and e.transaction_id == transaction_id]


def test_an_alert_comes_by_itself_and_is_judged_by_keyboard(page: Page, running: Bank) -> None:
    """A payment with a listed card: its alert appears on Live without a reload; `f` in its case puts a verdict into the
    log and closes the case; `z` takes the verdict back and opens the case again.
    """
    with closing(running.session("bob")) as bob:
        entry = {"kind": "card", "effect": "block", "add": ["stolen-card"], "reason": "reported stolen"}
        bob.post("/v1/lists", json=entry).raise_for_status()
    payment = until(lambda: _blocked_payment(running))
    row = page.locator("table[aria-label=alerts] tr", has_text="victim").first
    expect(row).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("g")
    page.keyboard.press("q")
    expect(page.get_by_role("heading", level=1)).to_have_text("Queue")
    page.locator("#filter").focus(timeout=WAIT_MS)  # else the letters are commands
    page.keyboard.type("victim")
    page.keyboard.press("Enter")
    expect(page.locator("table[aria-label=cases] tbody tr")).to_have_count(1, timeout=WAIT_MS)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Case")
    expect(page.locator("main")).to_contain_text("block list", timeout=WAIT_MS)
    page.keyboard.press("f")
    expect(page.get_by_role("status").filter(has_text="victim: fraud")).to_be_visible()
    assert until(lambda: verdicts(running, payment.transaction_id)) == ["fraud"]
    expect(page.get_by_text("closed as")).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("z")
    until(lambda: verdicts(running, payment.transaction_id) == ["fraud", "unsure"])
    expect(page.get_by_role("button", name="Fraud")).to_be_visible(timeout=WAIT_MS)


def test_what_is_read_late_does_not_close_a_case_again(page: Page) -> None:
    """After undo a case is open, also while its read models still have the verdict; the newest act on it counts."""
    page.goto("/queue?sort=newest")
    expect(page.locator("table[aria-label=cases] tbody tr").nth(1)).to_be_visible(timeout=WAIT_MS)
    page.locator("main").focus()
    page.keyboard.press("Enter")
    fraud, closed = page.get_by_role("button", name="Fraud"), page.get_by_text("closed as")
    expect(fraud).to_be_visible(timeout=WAIT_MS)
    path = f"/v1/cases/{page.url.rpartition('/')[2].partition('?')[0]}"
    page.keyboard.press("u")
    expect(closed).to_contain_text("by ann", timeout=WAIT_MS)
    late = page.request.get(path).json()
    page.route(lambda url: url.partition("?")[0].endswith(path), lambda route: route.fulfill(json=late))
    with page.expect_response(lambda got: got.url.endswith("/reopen") and got.ok, timeout=WAIT_MS):
        page.keyboard.press("z")
    for _ in range(20):
        assert fraud.is_visible() and not closed.is_visible()
        page.wait_for_timeout(25)
    with page.expect_response(lambda got: got.url.endswith("/resolve") and got.ok, timeout=WAIT_MS):
        page.keyboard.press("u")
    with page.expect_response(lambda got: got.url.endswith("/reopen") and got.ok, timeout=WAIT_MS):
        page.keyboard.press("z")
    page.unroute_all()
    expect(fraud).to_be_visible()
    until(lambda: page.request.get(path).json()["case"]["stage"] != "resolved")
    page.wait_for_timeout(500)
    expect(fraud).to_be_visible()


def _blocked_payment(running: Bank) -> Transaction | None:
    """A payment that a worker declined because of its card; None if the list was not in force yet."""
    payment = running.pay(1, account_id="victim", card_id="stolen-card", merchant_id="m1", country="DE")
    with closing(running.session("ann")) as client:
        row = until(
            lambda: client.get("/v1/decisions", params={"transaction_id": payment.transaction_id}).json()["decisions"]
        )
    return payment if row[0]["decision"] == "decline" else None
