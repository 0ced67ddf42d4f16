"""Everything by keyboard: pages, lists, verdicts, undo, next, the palette; and how long a step takes."""

from __future__ import annotations

from statistics import median
from typing import Any

from playwright.sync_api import Page, expect

from tests.builders.bank import until
from tests.builders.pictures import WAIT_MS

STEP_MS_MAX = 100.0
BUSY_MS_MAX = 250.0
"""Of the median: others use this machine, too."""
ROUNDS, ROUNDS_MAX = 5, 15
"""More only while no round was fast enough: a busy machine needs luck, a slow console has none."""
PAGES = {"q": "Queue", "s": "Search", "r": "Rules", "i": "Lists", "m": "Models", "e": "Experiments", "d": "Drift"} | {
    "a": "Audit trail",
    "y": "System",
    "l": "Live",
}
# From a key to the frame that shows what it did. The page is told which element to look at, and what it must say.
MEASURE = """([key, selector, what]) => new Promise((done, fail) => {
  const started = performance.now();
  const look = () => {
    if (performance.now() - started > 10_000) { fail(new Error(`${key}: ${selector} never says ${what}`)); return; }
    const found = document.querySelector(selector);
    const isThere = found && new RegExp(what).test(found.textContent);
    requestAnimationFrame(isThere ? () => done(performance.now() - started) : look);
  };
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, composed: true }));
  look();
})"""


def step_ms(page: Page, key: str, selector: str, what: str) -> float:
    """From a key until `selector` holds text that matches `what`, in ms: the browser's own clock, to the next frame."""
    found: float = page.evaluate(MEASURE, [key, selector, what])
    return found


# The case after the one that is shown, in the order that the queue left: its answer has arrived.
IS_NEXT_LOADED = """() => {
  const order = JSON.parse(localStorage.getItem("sentinel.queue") || "[]");
  const next = order[order.indexOf(decodeURIComponent(location.pathname.split("/").at(-1))) + 1];
  const path = `/v1/cases/${encodeURIComponent(next)}`;
  return performance.getEntriesByType("resource").some((each) => each.name.includes(path));
}"""
IS_QUIET = (
    """() => performance.getEntriesByType("resource").every((each) => performance.now() - each.responseEnd > 300)"""
)


def on_main(page: Page) -> None:
    """Leave any field, so that letters are commands."""
    page.locator("main").focus()


def test_keys_lead_to_every_page(page: Page) -> None:
    """`g` and a letter open each page; `?` shows the map and Escape closes it; the palette finds a page by name."""
    for key, name in PAGES.items():
        on_main(page)
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
    on_main(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("choose a moment")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Control+k")
    page.keyboard.type("go to drift")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Drift")


def test_a_queue_is_worked_off_by_keyboard(page: Page) -> None:
    """Moving, opening, judging, taking back, the next case, and back to the queue."""
    page.goto("/queue?sort=newest")
    rows = page.locator("table[aria-label=cases] tbody tr")
    expect(rows.nth(2)).to_be_visible(timeout=WAIT_MS)
    on_main(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(rows.nth(1)).to_have_class("open at")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Fraud")).to_be_visible(timeout=WAIT_MS)
    first = page.url
    page.keyboard.press("u")
    expect(page.get_by_text("closed as")).to_be_visible()
    page.keyboard.press("z")
    expect(page.get_by_role("button", name="Fraud")).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("n")
    expect(page).not_to_have_url(first)
    expect(page.get_by_role("heading", level=1)).to_have_text("Case")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", level=1)).to_have_text("Queue")


def test_the_palette_acts_on_what_is_shown(page: Page) -> None:
    """A command of the page, found by its words, does what its key does; what is no command is searched for."""
    page.goto("/queue")
    expect(page.locator("table[aria-label=cases]")).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("Control+k")
    page.keyboard.type("theme: dark")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("Control+k")
    page.keyboard.type("amount>1000 decision:decline")
    expect(page.get_by_role("dialog").get_by_role("option", selected=True)).to_contain_text("Search decisions")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Search")
    expect(page.locator("#q")).to_have_value("amount>1000 decision:decline")


def test_a_step_takes_less_than_a_tenth_of_a_second(page: Page, capsys: Any) -> None:
    """Moving, opening a case that was loaded ahead, the next one, judging and the map, from the key to the frame: the
    fastest of a few times, since others use this machine, too; and the median takes little more.
    """
    found: dict[str, list[float]] = {key: [] for key in ("j", "Enter", "n", "?", "u")}
    for number in range(ROUNDS_MAX):
        if number >= ROUNDS and all(min(times) < STEP_MS_MAX for key, times in found.items() if key != "u"):
            break
        page.goto("/queue?sort=newest")
        expect(page.locator("table[aria-label=cases] tbody tr").nth(3)).to_be_visible(timeout=WAIT_MS)
        on_main(page)
        page.wait_for_function(IS_QUIET)
        with page.expect_response(lambda got: "/v1/cases/" in got.url, timeout=WAIT_MS) as ahead:
            found["j"].append(step_ms(page, "j", "tbody tr:nth-child(2).at", "."))
        ahead.value.finished()
        found["Enter"].append(step_ms(page, "Enter", "main .answer", "at risk"))
        page.wait_for_function(IS_NEXT_LOADED, timeout=WAIT_MS)
        page.wait_for_function(IS_QUIET)
        other = _account(page)
        found["n"].append(step_ms(page, "n", "main .answer", f"^(?!.*{other})"))
        page.wait_for_function(IS_QUIET)
        found["?"].append(step_ms(page, "?", "[role=dialog]", "Keyboard"))
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
    for _ in range(ROUNDS):
        found["u"].append(step_ms(page, "u", "main .case-head", "closed as"))
        with page.expect_response(lambda got: got.url.endswith("/reopen") and got.ok, timeout=WAIT_MS):
            page.keyboard.press("z")
        until(lambda: _stage(page) != "resolved")
        expect(page.get_by_role("button", name="Fraud")).to_be_visible(timeout=WAIT_MS)
        page.wait_for_function(IS_QUIET)
    with capsys.disabled():
        told = ", ".join(f"{key} {min(times):.0f} to {max(times):.0f}" for key, times in found.items())
        print(f"\nms from a key to the frame that shows it: {told}")
    slow = {key: times for key, times in found.items() if min(times) >= STEP_MS_MAX or median(times) >= BUSY_MS_MAX}
    assert slow == {}


def _stage(page: Page) -> str:
    """Of the case that is shown, as the API has it."""
    case = page.url.rpartition("/")[2].partition("?")[0]
    stage: str = page.request.get(f"/v1/cases/{case}").json()["case"]["stage"]
    return stage


def _account(page: Page) -> str:
    return page.locator("main .answer a").inner_text()
