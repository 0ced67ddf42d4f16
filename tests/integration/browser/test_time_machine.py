"""The time machine: a moment is chosen once, and every page shows the state as of then."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from playwright.sync_api import Page, expect

from tests.builders.bank import Bank, until
from tests.builders.pictures import WAIT_MS, addresses, settled

BACKTEST_MS = 120_000
OF_NOW = {"/v1/me", "/v1/events", "/v1/system", "/v1/programs/completions"}
"""What says who is asking, what arrives, and what the log does not keep."""


def test_every_request_of_every_page_names_the_moment(page: Page, running: Bank) -> None:
    """Each read of each page is as of the moment in its address; System says what it shows of now."""
    asked: list[str] = []
    settled(page, "/lists")  # so that nothing which logging in asked of Live arrives later
    page.on("request", lambda sent: asked.append(sent.url) if sent.method == "GET" else None)
    lacking = {}
    for name, address in addresses(page).items():
        if "as_of" in address:
            continue
        asked.clear()
        settled(page, f"{address}{'&' if '?' in address else '?'}as_of={quote(running.before)}")
        reads = [urlsplit(url) for url in asked if urlsplit(url).path.startswith("/v1/")]
        without = {url.path for url in reads if "as_of=" not in url.query} - OF_NOW
        if without or not reads:
            lacking[name] = without
    assert lacking == {}


def test_pages_show_nothing_that_came_later(page: Page, running: Bank) -> None:
    """What people did in the bank is on its page now, and not as of before they did it."""
    pages = {
        "/rules": ("deployed cards@1.0.0", "LARGE_ON_NEW_DEVICE"),
        "/lists": ("c5512", "reported stolen"),
        "/models": ("baseline-1.1.0", "four eyes"),
        "/audit": ("bob", "deployed program cards@1.0.0"),
        "/queue?view=resolved": ("legitimate",),
        "/live": ("bob",),
    }
    for address, texts in pages.items():
        settled(page, address)
        for text in texts:
            expect(page.locator("main")).to_contain_text(text, timeout=WAIT_MS)
        settled(page, f"{address}{'&' if '?' in address else '?'}as_of={quote(running.before)}")
        expect(page.get_by_role("button", name="Back to now")).to_be_visible()
        for text in texts:
            if text != "four eyes":
                expect(page.locator("main")).not_to_contain_text(text)
    expect(page.locator("main")).to_contain_text("In force", timeout=WAIT_MS)


def test_a_past_moment_can_be_looked_at_only(page: Page, running: Bank) -> None:
    """Lists offer no act, and a program can't be proposed, by button or by key."""
    settled(page, "/lists")
    expect(page.get_by_role("button", name="Add an entry")).to_be_visible(timeout=WAIT_MS)
    settled(page, f"/lists?as_of={quote(running.before)}")
    expect(page.get_by_role("button", name="Add an entry")).to_have_count(0)
    settled(page, f"/rules?edit=current&as_of={quote(running.before)}")
    expect(page.get_by_text("The program is valid.")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_role("button", name="Propose")).to_be_disabled()
    page.keyboard.press("Control+s")
    expect(page.get_by_role("status").filter(has_text="you are looking at a past moment")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_editor_tries_a_program_on_what_was_known_then(page: Page, running: Bank) -> None:
    """The backtest is asked as of the moment, over the days before it, and counts no later decision."""
    paid = {"transaction_id": running.pay(7, account_id="later", amount=12.0, merchant_id="m1").transaction_id}
    until(lambda: page.request.get("/v1/decisions", params=paid).json()["decisions"])
    known = {}
    for moment in ("", running.before):
        with page.expect_response("**/v1/programs/backtest", timeout=BACKTEST_MS) as told:
            page.goto(f"/rules?edit=current&days=60{moment and f'&as_of={quote(moment)}'}")
        assert told.value.request.post_data_json.get("as_of", "") == moment
        known[moment] = told.value.json()["decisions"]
        expect(page.get_by_text(f"{known[moment]:,} decisions, ")).to_be_visible(timeout=WAIT_MS)
    assert 0 < known[running.before] < known[""]


def test_a_moment_is_chosen_by_keyboard_and_stays_from_page_to_page(page: Page) -> None:
    """`t` and a time; the bar says it, the next page has it, acts are refused, and `T` goes back to now."""
    settled(page, "/queue")
    page.locator("main").focus()
    page.keyboard.press("t")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="yesterday").click()
    expect(page.get_by_text("As of")).to_be_visible()
    expect(page.locator("main")).to_contain_text("No open case", timeout=WAIT_MS)
    page.locator("main").focus()
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", level=1)).to_have_text("Rules")
    assert "as_of=" in page.url
    page.keyboard.press("T")
    expect(page.get_by_role("button", name="Back to now")).to_have_count(0)
    assert "as_of=" not in page.url


def test_ages_are_counted_from_the_moment(page: Page, running: Bank) -> None:
    """As of a decision, which is a position of the log, that decision was made just now; the bar tells a cut's time."""
    row = page.request.get("/v1/decisions", params={"alerts": "true", "limit": 1}).json()["decisions"][0]
    settled(page, f"/live?as_of={quote(row['place'])}")
    last = page.locator("dt", has_text="last decision").locator("xpath=following-sibling::dd[1]")
    expect(last).to_have_text("just now", timeout=WAIT_MS)
    settled(page, f"/rules?as_of={quote(running.before)}")
    expect(page.get_by_role("banner")).to_contain_text("ago")


def test_a_case_as_seen_when_it_was_decided(page: Page, running: Bank) -> None:
    """`v` shows a case as of its alert; the moment is in the address, so a copied link says the same."""
    case = page.request.get("/v1/cases", params={"limit": 1}).json()["cases"][0]["case"]
    settled(page, f"/case/{case['case_id']}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Case")
    page.locator("main").focus()
    page.keyboard.press("v")
    expect(page.get_by_role("button", name="Back to now")).to_be_visible()
    assert f"as_of=p{case['case_id'][:2]}%3A" in page.url
    expect(page.get_by_role("button", name="Fraud")).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("f")
    expect(page.get_by_role("status").filter(has_text="you are looking at a past moment")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Back to now")).to_be_visible()
    expect(page.get_by_role("button", name="As seen then")).to_have_attribute("aria-pressed", "true")
