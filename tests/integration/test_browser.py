"""The web console in a real browser (Debian's chromium) on a local stack with a worker: what a person does in it.

Screenshots of every page, in both themes and on two sizes of screen, are written to a temporary directory; set
CONSOLE_SCREENSHOTS to a directory to look at them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from console import wiring
from console.api import users
from console.api.users import UserFile
from console.service import Service, wait_for_partitions
from console.stack import LocalStack, free_port
from core.codec import decode_account_event
from core.events import FeedbackReceived, Transaction
from core.log.base import EventLog
from core.log.paging import entries
from core.settings import Settings
from ingest import kafka_client
from tests.integration.conftest import need

PASSWORD = "correct horse battery"
PARTITIONS = 2
AXE = Path(__file__).parent / "axe" / "axe.min.js"
SIZES = {"laptop": (1366, 768), "phone": (390, 844)}
WAIT_MS = 20_000


class Running(NamedTuple):
    """A console with its log. case: an open one."""

    url: str
    settings: Settings
    log: EventLog
    case: str

    def session(self, name: str) -> httpx.Client:
        """A client of the API that is logged in."""
        client = httpx.Client(base_url=self.url, timeout=30.0)
        client.post("/v1/login", json={"name": name, "password": PASSWORD}).raise_for_status()
        return client

    def pay(self, number: int, **fields: Any) -> Transaction:
        """Send a payment that is received now."""
        now = int(time.time() * 1000)
        payment = Transaction(
            transaction_id=f"live-{number}-{now}", amount=99.5, occurred_at=now, currency="EUR", **fields
        )
        producer = kafka_client.producer(self.settings)
        producer.produce(
            self.settings.transactions_topic, msgspec.json.encode(payment), key=payment.account_id.encode()
        )
        assert producer.flush(10.0) == 0
        return payment

    def verdicts(self, transaction_id: str) -> list[str]:
        """What the log holds of verdicts on a payment, in order."""
        found = [
            decode_account_event(entry.payload) for p in range(PARTITIONS) for entry in entries(self.log, p, "feedback")
        ]
        return [e.verdict for e in found if isinstance(e, FeedbackReceived) and e.transaction_id == transaction_id]


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The condition's first true value; fails if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A stack with 30 days of synthetic payments, a worker, and the console."""
    need(None if shutil.which("chromium") else "chromium not installed (Debian: chromium)")
    directory = tmp_path_factory.mktemp("console")
    file = UserFile(directory / "users.json")
    for name, roles in (("ann", ["analyst", "auditor", "rule_author"]), ("bob", ["publisher", "analyst", "auditor"])):
        users.add(file, name, roles, 1, PASSWORD)
    with ExitStack() as stack:
        servers = stack.enter_context(LocalStack(directory))
        s = wiring.settings(
            None,
            kafka_servers=servers.kafka_servers,
            redis_host=servers.redis_host,
            redis_port=servers.redis_port,
            redis_cluster=False,
            partitions=PARTITIONS,
            snapshot_directory=str(directory / "snapshots"),
        )
        kafka_client.create_topics(s, [s.transactions_topic, s.feedback_topic, s.dead_letter_topic])
        stats = directory / "worker.json"
        worker = stack.enter_context(Service("worker", ["ingest", "--stats-file", str(stats)], s, directory))
        wait_for_partitions(worker, stats, PARTITIONS, 120.0)
        start = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 30 * 86_400))
        history = ["produce", "--start", start, "--days", "29", "--transactions", "6000", "--accounts", "150"]
        with Service("history", history, s, directory) as loading:
            assert loading.wait(120.0) == 0, loading.log_path.read_text()[-2000:]
        port = free_port()
        serve = ["serve", "--port", str(port), "--users", str(directory / "users.json")]
        serve += ["--checkpoint-directory", str(directory / "projections")]
        stack.enter_context(Service("serve", serve, s, directory))
        log = wiring.open_log(s)
        stack.callback(log.close)
        url = f"http://127.0.0.1:{port}"
        until(lambda: sum(log.length(p, "scores") for p in range(PARTITIONS)) >= 6000, 120.0)
        until(lambda: _is_ready(url), 60.0)
        found = Running(url, s, log, "")
        with closing(found.session("ann")) as client:
            case = until(lambda: client.get("/v1/cases", params={"limit": 1}).json()["cases"])[0]["case"]["case_id"]
        yield found._replace(case=case)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def browser(running: Running) -> Iterator[Browser]:
    """A headless chromium."""
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(running: Running, browser: Browser) -> Iterator[Page]:
    """Ann's browser, logged in; the test fails on any error of a script, and on any request to another host.

    Chromium's own editing commands make inline styles, which the policy refuses without harm.
    """
    with browser.new_context(viewport={"width": 1366, "height": 768}, base_url=running.url) as context:
        shown = context.new_page()
        faults: list[str] = []
        shown.on("pageerror", lambda error: faults.append(str(error)))
        shown.on("console", lambda said: faults.append(said.text) if _is_refused(said.text) else None)
        shown.on("request", lambda sent: None if sent.url.startswith(running.url) else faults.append(sent.url))
        log_in(shown, "ann")
        yield shown
        assert faults == []


def _is_refused(text: str) -> bool:
    return "Content Security Policy" in text and "inline style" not in text


def log_in(page: Page, name: str) -> None:
    """Log in through the form, by keyboard."""
    page.goto("/live")
    page.get_by_label("Name").fill(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("navigation", name="pages")).to_be_visible(timeout=WAIT_MS)


def pages(running: Running) -> dict[str, str]:
    """The addresses of all pages by a name for their screenshots."""
    account = running.log.get(int(running.case[:2]), "transactions", _position(running.case))
    assert account is not None
    account_id = msgspec.json.decode(account)["account_id"]
    return {
        "live": "/live",
        "queue": "/queue",
        "case": f"/case/{running.case}",
        "case-model": f"/case/{running.case}?tab=model",
        "case-past": f"/case/{running.case}?as_of=p{running.case}",
        "search": "/search?q=is:alert",
        "search-empty": "/search?q=amount>99999999",
        "search-wrong": "/search?q=amuont:5",
        "account": f"/account/{account_id}",
        "decision": f"/decision/p{running.case}",
        "rules": "/rules",
        "editor": "/rules?edit=",
        "lists": "/lists",
        "models": "/models",
        "experiments": "/experiments",
        "drift": "/drift",
        "audit": "/audit",
        "system": "/system",
    }


def _position(case_id: str) -> Any:
    from core.events import Position

    return Position.parse(case_id[3:])


def settled(page: Page, address: str) -> None:
    """Open a page and wait until it shows what it has."""
    page.goto(address)
    expect(page.locator("main")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.locator("[aria-busy=true]")).to_have_count(0, timeout=WAIT_MS)


def test_a_wrong_password_is_told_and_the_name_kept(running: Running, browser: Browser) -> None:
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


def test_keys_lead_to_every_page(page: Page) -> None:
    """`g` and a letter open each page; `?` shows the map and Escape closes it; the palette finds a page by name."""
    for key, name in {
        "q": "Queue",
        "s": "Search",
        "r": "Rules",
        "i": "Lists",
        "m": "Models",
        "e": "Experiments",
    }.items():
        page.locator("main").focus()
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.locator("main").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("choose a moment")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Control+k")
    page.keyboard.type("go to drift")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Drift")


def test_a_past_moment_is_in_the_address_and_in_every_request(page: Page, running: Running) -> None:
    """As seen when the case's alert was decided, nothing later is shown, and a copied link says the same."""
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    settled(page, f"/case/{running.case}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Case")
    asked.clear()
    page.locator("main").focus()
    with page.expect_request(lambda sent: "/v1/cases/" in sent.url or "/v1/decisions?" in sent.url):
        page.keyboard.press("v")
    expect(page.get_by_role("button", name="Back to now")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert f"as_of=p{running.case[:2]}%3A" in page.url
    reads = [url for url in asked if "/v1/cases/" in url or "/v1/decisions?" in url]
    assert reads and all("as_of=" in url for url in reads)
    page.reload()
    expect(page.get_by_role("button", name="Back to now")).to_be_visible()


def test_a_program_is_checked_and_tried_while_it_is_typed(page: Page) -> None:
    """A fault is told at its line; mended, the program is tried on the log and can be proposed."""
    settled(page, "/rules?edit=")
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
    expect(page.get_by_role("button", name="TYPED")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Propose")).to_be_enabled()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_serious_fault_of_accessibility(running: Running, browser: Browser, theme: str) -> None:
    """axe-core finds nothing serious on any page, in either theme; nothing is wider than the screen on a phone."""
    kept = os.environ.get("CONSOLE_SCREENSHOTS")
    found: dict[str, list[str]] = {}
    for size, (width, height) in SIZES.items():
        view = {"width": width, "height": height}
        with browser.new_context(viewport=view, base_url=running.url, color_scheme=theme) as context:  # type: ignore[arg-type]
            page = context.new_page()
            log_in(page, "ann")
            for name, address in pages(running).items():
                settled(page, address)
                if kept:
                    Path(kept).mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=Path(kept) / f"{name}-{size}-{theme}.png")
                wider = page.evaluate("document.documentElement.scrollWidth") - width
                faults = [f"{wider} px wider than the screen"] if wider > 0 else []
                page.evaluate(AXE.read_text())
                rules = page.evaluate("axe.run(document).then((found) => found.violations)")
                faults += [
                    f"{rule['id']}: {rule['help']}: {[node['target'] for node in rule['nodes'][:3]]}"
                    for rule in rules
                    if rule["impact"] in ("serious", "critical")
                ]
                if faults:
                    found[f"{name} on a {size}"] = faults
    assert found == {}


def test_an_alert_comes_by_itself_and_is_judged_by_keyboard(page: Page, running: Running) -> None:
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
    assert until(lambda: running.verdicts(payment.transaction_id)) == ["fraud"]
    expect(page.get_by_text("closed as")).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("z")
    until(lambda: running.verdicts(payment.transaction_id) == ["fraud", "unsure"])
    expect(page.get_by_role("button", name="Fraud")).to_be_visible(timeout=WAIT_MS)


def _blocked_payment(running: Running) -> Transaction | None:
    """A payment that a worker declined because of its card; None if the list was not in force yet."""
    payment = running.pay(1, account_id="victim", card_id="stolen-card", merchant_id="m1", country="DE")
    with closing(running.session("ann")) as client:
        row = until(
            lambda: client.get("/v1/decisions", params={"transaction_id": payment.transaction_id}).json()["decisions"]
        )
    return payment if row[0]["decision"] == "decline" else None
