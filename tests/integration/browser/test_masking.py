"""Who may not see whom a payment is about: the decision without names, and what it takes to see them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from playwright.sync_api import Page, expect

from tests.builders.accessibility import faults
from tests.builders.bank import Bank
from tests.builders.pictures import WAIT_MS, settled


def test_a_decision_is_shown_without_names_and_unmasked_with_a_reason(
    as_user: Callable[[str], Page], running: Bank
) -> None:
    """A viewer, who may read no audit, opens a row of the search and sees the decision, without the account's name and
    without a way to it. A publisher sees the name after giving a reason, which the audit trail then tells.
    """
    with closing(running.session("ann")) as client:
        row = client.get("/v1/decisions", params={"decision": "decline", "limit": 1}).json()["decisions"][0]
    viewer, publisher = as_user("eve"), as_user("cho")
    settled(viewer, "/search?q=decision:decline")
    viewer.locator("main tbody tr td").first.click()
    expect(viewer.locator("main")).to_contain_text("The model gave", timeout=WAIT_MS)
    settled(viewer, f"/decision/{row['place']}")
    expect(viewer.locator("main")).to_contain_text(row["transaction_id"])
    assert row["account_id"] not in viewer.content()
    expect(viewer.get_by_role("button", name="Unmask")).to_have_count(0)
    assert faults(viewer, 1366) == []
    settled(publisher, f"/decision/{row['place']}")
    assert row["account_id"] not in publisher.content()
    publisher.get_by_role("button", name="Unmask").click()
    publisher.get_by_role("dialog").get_by_role("textbox").fill("the customer is on the phone")
    publisher.keyboard.press("Control+Enter")
    expect(publisher.get_by_text(row["account_id"], exact=True)).to_be_visible(timeout=WAIT_MS)
    auditor = as_user("ann")
    settled(auditor, "/audit")
    expect(auditor.locator("main")).to_contain_text("the customer is on the phone", timeout=WAIT_MS)
