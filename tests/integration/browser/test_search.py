"""A search: what matches is counted, a value narrows it, and selected payments are judged together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from playwright.sync_api import Page, expect

from tests.builders.bank import Bank, until
from tests.builders.pictures import WAIT_MS, settled


def test_a_search_is_counted_narrowed_and_acted_on(as_user: Callable[[str], Page], running: Bank) -> None:
    """The figures are those of the API; three payments get a verdict at once."""
    page = as_user("ann")
    with closing(running.session("ann")) as client:
        found = client.get("/v1/summary", params={"decision": "approve", "amount_min": 5}).json()
        settled(page, "/search?q=decision:approve amount>5")
        counted = page.get_by_label("what matches")
        expect(counted).to_contain_text("decisions", timeout=WAIT_MS)
        shown = int(counted.inner_text().split()[0].replace(",", "").replace("\u202f", ""))
        assert shown >= found["totals"]["count"] > 0
        name = found["top"]["merchant"][0]["value"]
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.get_by_label("search decisions")).to_have_value(f"decision:approve amount>5 merchant:{name}")
        expect(page.get_by_role("table", name="decisions")).to_contain_text(name, timeout=WAIT_MS)
        page.locator("main").focus()
        for key in ("x", "j", "x", "j", "x"):
            page.keyboard.press(key)
        expect(page.get_by_role("toolbar", name="selected payments")).to_contain_text("3 payments selected")
        rows = client.get(
            "/v1/decisions", params={"decision": "approve", "amount_min": 5, "merchant": name, "limit": 3}
        ).json()["decisions"]
        page.keyboard.press("L")
        page.get_by_role("dialog").get_by_label("Reason").fill("asked the shop")
        page.keyboard.press("Control+Enter")
        expect(page.get_by_text("3 verdicts given")).to_be_visible(timeout=WAIT_MS)
        expect(page.get_by_role("toolbar", name="selected payments")).to_have_count(0)
        for row in rows:
            asked = {"account": row["account_id"], "transaction": row["transaction_id"]}
            until(lambda asked=asked: "legitimate" in client.get("/v1/labels", params=asked).text)
