"""A rule from its first letter to its first alert: written, tried, proposed, approved by a second login, deployed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from playwright.sync_api import Page, expect

from tests.builders.bank import Bank, until
from tests.builders.pictures import WAIT_MS, settled

BACKTEST_MS = 120_000
RULE = """
[[rules]]
code = "GIFT_CARDS"
when = "merchant_category == 'gift_cards' && amount > 150"
effect = "decline"
words = "{amount:,.2f} for gift cards"
"""


def test_a_program_is_checked_and_tried_while_it_is_typed(page: Page) -> None:
    """A fault is told at its line; mended, the program is tried on the log and can be proposed."""
    settled(page, "/rules?edit=current")
    page.locator(".text .cm-content").focus()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text('\n[[rules]]\ncode = "TYPED"\nwhen = "amuont > 5"\neffect = "review"\nwords = "x"\n')
    expect(page.get_by_label("faults")).to_contain_text("did you mean amount?", timeout=WAIT_MS)
    expect(page.get_by_role("button", name="Propose")).to_be_disabled()
    page.keyboard.press("Control+End")
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    page.keyboard.press("Shift+End")
    page.keyboard.insert_text('when = "amount > 5"')
    expect(page.get_by_text("The program is valid.")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_role("button", name="TYPED")).to_be_visible(timeout=BACKTEST_MS)
    expect(page.get_by_role("button", name="Propose")).to_be_enabled()
    page.get_by_role("button", name="Changes").click()
    expect(page.locator("table.diff tr.in").filter(has_text="TYPED")).to_be_visible()


def test_a_rule_is_written_approved_by_another_and_fires(as_user: Callable[[str], Page], running: Bank) -> None:
    """Ann writes a rule and proposes it; she can't approve it, Bob can, and deploys it. The next such payment is
    declined by it, its audit tells who wrote and who approved it, and the page as of the payment knows no later verdict
    or block, which the page of now does.
    """
    ann, bob = as_user("ann"), as_user("bob")
    before = running.pay(1, account_id="giver", amount=180.0, merchant_id="m9", merchant_category="gift_cards")
    until(lambda: decided(running, before.transaction_id))
    write(ann)
    propose(ann, "gift cards are how stolen accounts are emptied")
    proposal = ann.get_by_role("article", name="proposal cards@7.0.0")
    expect(proposal).to_contain_text("GIFT_CARDS", timeout=WAIT_MS)
    expect(proposal.get_by_role("button", name="Approve")).to_have_count(0)
    approve_and_deploy(bob)
    expect(bob.locator(".case-head")).to_contain_text("cards@7.0.0 decides", timeout=WAIT_MS)
    expect(bob.get_by_role("table", name="rules")).to_contain_text("GIFT_CARDS", timeout=WAIT_MS)
    place = until(lambda: declined(running))
    audited(ann, running, place)


def decided(running: Bank, transaction_id: str) -> dict[str, object] | None:
    """The decision on a payment, as a row of the search; None if there is none yet."""
    with closing(running.session("ann")) as client:
        rows = client.get("/v1/decisions", params={"transaction_id": transaction_id}).json()["decisions"]
        return rows[0] if rows else None


def write(page: Page) -> None:
    """Add the rule to the program in force, under a new version, and see what it would have done."""
    settled(page, "/rules?edit=current")
    content = page.locator(".text .cm-content")
    expect(content).to_contain_text("LARGE_ON_NEW_DEVICE")
    content.focus()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text(RULE)
    page.keyboard.press("Control+Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Home")
    page.keyboard.press("Shift+End")
    page.keyboard.insert_text('version = "7.0.0"')
    expect(page.get_by_text("The program is valid.")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_role("button", name="GIFT_CARDS")).to_be_visible(timeout=BACKTEST_MS)


def propose(page: Page, reason: str) -> None:
    """With Ctrl+S and the dialog that asks why."""
    page.keyboard.press("Control+s")
    page.get_by_role("dialog").get_by_label("Reason").fill(reason)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Rules", timeout=WAIT_MS)
    expect(page.get_by_role("dialog")).to_have_count(0, timeout=WAIT_MS)


def approve_and_deploy(page: Page) -> None:
    """As the second person: what changes is read, approved, and put into force."""
    settled(page, "/rules")
    proposal = page.get_by_role("article", name="proposal cards@7.0.0")
    expect(proposal.get_by_role("button", name="Deploy")).to_be_disabled(timeout=WAIT_MS)
    proposal.get_by_role("button", name="Show the text").click()
    expect(proposal.locator("tr.in").filter(has_text="GIFT_CARDS").first).to_be_visible(timeout=WAIT_MS)
    for act, reason in (("Approve", "read, and the backtest is fine"), ("Deploy", "from today on")):
        proposal.get_by_role("button", name=act).click()
        page.get_by_role("dialog").get_by_label("Reason").fill(reason)
        page.get_by_role("dialog").get_by_role("button", name=act).click()
        expect(page.get_by_role("dialog")).to_have_count(0, timeout=WAIT_MS)
        if act == "Approve":
            expect(proposal).to_contain_text("approved by bob", timeout=WAIT_MS)
    expect(proposal).to_have_count(0, timeout=WAIT_MS)


def declined(running: Bank) -> str | None:
    """The place of a payment that the rule declined; None if the program was not in force yet."""
    payment = running.pay(2, account_id="giver", amount=180.0, merchant_id="m9", merchant_category="gift_cards")
    row = until(lambda: decided(running, payment.transaction_id))
    return row["place"] if "GIFT_CARDS" in row["rules"] and row["decision"] == "decline" else None


def audited(page: Page, running: Bank, place: str) -> None:
    """Judge and block, then look at the decision as of before and of now."""
    settled(page, f"/case/{place[1:]}")
    expect(page.get_by_text("180.00 for gift cards")).to_be_visible(timeout=WAIT_MS)
    page.locator("main").focus()
    page.keyboard.press("b")
    page.get_by_role("dialog").get_by_label("Reason").fill("emptied by a stranger")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("dialog")).to_have_count(0, timeout=WAIT_MS)
    page.keyboard.press("f")
    expect(page.get_by_text("closed as")).to_be_visible()
    with closing(running.session("ann")) as client:
        running.pay(3, account_id="giver", amount=5.0, merchant_id="m1")  # a block counts with the next payment
        until(lambda: client.get("/v1/accounts/giver").json()["profile"]["blocked"])
    settled(page, f"/decision/{place}")
    expect(page.get_by_text("Decided again from the log: identical, byte for byte.")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("main")).to_contain_text("cards@7.0.0")
    expect(page.locator("main")).to_contain_text("read, and the backtest is fine")
    page.get_by_role("tab", name="What came later").click()
    later = page.get_by_role("tabpanel")
    expect(later).to_contain_text("fraud on", timeout=WAIT_MS)
    expect(later).to_contain_text("blocked: emptied by a stranger")
    settled(page, f"/decision/{place}?tab=later&as_of={place}")
    expect(page.get_by_role("tabpanel")).to_contain_text("Nothing has been reported or done", timeout=WAIT_MS)
    settled(page, f"/account/giver?as_of={place}")
    expect(page.locator("main")).to_contain_text("not blocked", timeout=WAIT_MS)
    settled(page, "/account/giver")
    expect(page.locator("main")).to_contain_text("blocked by ann: emptied by a stranger", timeout=WAIT_MS)
