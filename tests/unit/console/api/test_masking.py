"""Users whose roles don't need personal data see none: in no answer of any route, by no search, in no error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from console import wiring
from console.api.access import PUBLIC, ROUTES, sees_personal_data
from console.api.personal import PREFIX, Classes, Masks, masked
from console.api.users import ROLES
from core import control_stream
from core.codec import encode
from core.events import (
    AccountBlocked,
    ActionFailed,
    CaseNoted,
    CaseOpened,
    ChangeProposed,
    FeedbackReceived,
    ListChanged,
    ThresholdsChanged,
    ValuesUnmasked,
)
from core.identity import FIXED, LogIdentity
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest
from sources.record import Record
from tests.builders.api import Served, served
from tests.builders.events import T0
from tests.builders.programs import deployed, stored

ACCOUNTS = 6
BY: dict[str, Any] = {"occurred_at": 5, "actor": "ann"}
PROGRAM = """
[program]
name = "mail"
version = "1.0.0"
uses = ["standard@1"]

[fields]
mail = { from = "attributes.email", type = "string", personal = "personal" }
born = { from = "attributes.born", type = "number", personal = "personal" }
shop = { from = "attributes.shop", type = "string" }

[[rules]]
code = "SUSPECT_MAIL"
when = "has(mail) && born > 1900.0 && has(shop) && amount > 100.0"
effect = "review"
words = "{mail} of {born}, at {shop}, with {device_id}"
"""
SECRETS = [f"{kind}-{n}" for n in range(ACCOUNTS) for kind in ("person", "phone", "plastic")]
SECRETS += [f"203.0.113.{n}" for n in range(ACCOUNTS)]
SECRETS += [f"p{n}@example.org" for n in range(ACCOUNTS)] + ["+49 30 1234", "told me his", "gold member"]
BORN = [1950 + n for n in range(ACCOUNTS)]
HIDDEN_FROM = [role for role in ROLES if not sees_personal_data([role])]


def fill(log: MemoryLog) -> None:
    """People with devices, cards, addresses and attributes; cases, verdicts, blocks, lists and proposals about them."""
    loaded = stored(log, PROGRAM.encode())
    lists = ListChanged(**BY, reason="gold member", kind="account", effect="watch", add=("person-1", "person-2"))
    off = ListChanged(**BY, kind="device", effect="block", remove=("phone-1",))
    start = [
        ThresholdsChanged(**BY, review=0.2, decline=0.9),
        *deployed(loaded, 5),
        lists,
        ListChanged(**BY, kind="device", effect="block", add=("phone-1",)),
        ListChanged(**BY, kind="ip", effect="watch", add=("203.0.113.2",)),
        ListChanged(**BY, kind="card", effect="watch", add=("plastic-3",)),
        ChangeProposed(**BY, proposal_id="list:1", change={"type": "list_changed.v1", **_of(off)}),
    ]
    ingest = OfflineIngest(log, wiring.open_resolver(log), partitions=2, reference=False, start=start)
    for n in range(ACCOUNTS * 3):
        who = n % ACCOUNTS
        body = {"transaction_id": f"t{n}", "account_id": f"person-{who}", "amount": 250.0 + n, "currency": "EUR"}
        body |= {"device_id": f"phone-{who}" if n < 12 else "phone-1", "card_id": f"plastic-{who}"}
        body |= {"ip": f"203.0.113.{who}"}
        body |= {"occurred_at": T0 + n * 1000, "merchant_id": "shop-9", "country": "DE"}
        own: dict[str, Any] = {"email": f"p{who}@example.org", "born": float(BORN[who]), "shop": "corner"}
        body |= {"attributes": {**own, "x": "+49 30 1234"}}
        ingest.feed([Record("transactions", f"person-{who}", T0 + n * 1000, msgspec.json.encode(body))])
    told: dict[str, Any] = {"account_id": "person-1", "occurred_at": T0 + 30_000, "actor": "bob"}
    case = {**told, "case_id": "m-1"}
    for event in (
        CaseOpened(**case, severity="high", note="told me his phone-1"),
        CaseNoted(**case, note="p1@example.org told me his number: +49 30 1234"),
        FeedbackReceived(**told, transaction_id="t1", source="analyst", verdict="fraud", reason="told me his"),
        AccountBlocked(**told, reason="told me his"),
        ActionFailed(**told, action="notify_customer", causation_id="p00:1-1", error="no route to +49 30 1234"),
    ):
        ingest.feed([Record("feedback", "person-1", T0 + 30_000, encode(event))])
    ingest.flush()


def _of(event: Any) -> dict[str, Any]:
    return {"kind": event.kind, "effect": event.effect, "remove": list(event.remove)}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = MemoryLog()
    fill(log)
    with served(log, tmp_path_factory.mktemp("masked")) as found:
        yield found


def told(text: str) -> list[str]:
    """The personal values in a text."""
    text = msgspec.json.encode(text).decode() + text
    return [each for each in (*SECRETS, *(f"{year}" for year in BORN)) if re.search(rf"(?<!\d){re.escape(each)}", text)]


def places(api: Served) -> dict[str, list[str]]:
    """IDs by which routes are asked, by the part of the path before them; accounts and devices are masks."""
    masks = Masks(identity_of(api))
    decisions = api.get("/v1/decisions", limit=100).json()["decisions"]
    cases = [case["case"]["case_id"] for case in api.get("/v1/cases", stage="all").json().get("cases", [])]
    return {
        "decisions": [each["place"] for each in decisions] + ["t1", "none"],
        "accounts": [masks.of(f"person-{n}") for n in range(ACCOUNTS)] + [masks.of("stranger")],
        "cases": ["m-1", *cases, "none"],
        "programs": ["mail-1.0.0", "none"],
        "reference/device": [masks.of("phone-1")],
    }


def identity_of(api: Served) -> LogIdentity:
    return control_stream.identity_of(api.desk.log)


def paths(api: Served) -> list[str]:
    """Every route that answers questions, asked about everything."""
    found: list[str] = []
    ids = places(api)
    for route, roles in ROUTES.items():
        method, path = route.split(" ")
        if method != "GET" or roles is PUBLIC or "oidc" in path:
            continue
        path = path.replace("{kind}", "device").replace("{position}", "3")
        before, _, after = path.removeprefix("/v1/").partition("/{id}")
        for name in ids.get(before, ["none"]) if "{id}" in path else [""]:
            found.append(f"/v1/{before}/{name}{after}" if "{id}" in path else path)
    masks = Masks(identity_of(api))
    mine = masks.of("person-1")
    found += [f"/v1/decisions?account={mine}", f"/v1/labels?account={mine}", f"/v1/cases?account={mine}"]
    found += [f"/v1/decisions?device={masks.of('phone-1')}", f"/v1/summary?account={mine}"]
    return [path + "?seconds=0" if path == "/v1/events" else path for path in found]


@pytest.mark.parametrize("role", HIDDEN_FROM)
def test_no_route_answers_with_a_personal_value(api: Served, role: str) -> None:
    """Every route, every decision, case and account; an auditor gets them by the same questions."""
    seen: set[str] = set()
    leaks = {}
    for path in paths(api):
        got = api.get(path, role)
        if found := told(got.text + str(dict(got.headers))):
            leaks[path] = found
        assert got.status_code != 500, (path, got.text)
    assert not leaks, leaks
    for path in ("/v1/decisions/t1", "/v1/decisions", "/v1/cases/m-1", "/v1/lists", "/v1/proposals", "/v1/live"):
        seen |= set(told(api.get(path, "admin").text))
    assert {"person-1", "phone-1", "plastic-3", "p1@example.org", "told me his", "203.0.113.2", "1951"} <= seen


def test_events_are_masked_too(api: Served) -> None:
    """Each line of the stream, also of what was missed."""
    first = api.get("/v1/events?seconds=0", "viewer").text.partition("id: ")[2].partition("\n")[0]
    begin = ".".join("0-0" for _ in first.split("."))
    said = {
        role: api.get("/v1/events?seconds=0.2", role, {"last-event-id": begin}).text for role in ("viewer", "analyst")
    }
    assert "person-1" in said["analyst"] and PREFIX in said["viewer"]
    assert not told(said["viewer"]) and len(told(said["analyst"])) > 5


def test_a_mask_leads_on_and_a_raw_value_is_refused(api: Served) -> None:
    """Who sees masks may follow them; by raw values they learn nothing, not even that there are none."""
    row = api.get("/v1/decisions?limit=1", "viewer").json()["decisions"][0]
    mask = row["account_id"]
    assert mask.startswith(PREFIX)
    mine = api.get("/v1/decisions", "viewer", account=mask).json()["decisions"]
    assert len(mine) == 3 and {each["account_id"] for each in mine} == {mask}
    assert api.get(f"/v1/accounts/{mask}", "viewer").json()["profile"]["transactions"] == 3
    for path in ("/v1/decisions?account={}", "/v1/accounts/{}", "/v1/accounts/{}/related", "/v1/labels?account={}",
                 "/v1/decisions?device={}", "/v1/decisions?card={}", "/v1/summary?account={}", "/v1/events?account={}",
                 "/v1/reference/device/{}"):  # fmt: skip
        known, unknown = (api.get(path.format(name), "viewer") for name in ("person-1", "stranger"))
        said = [each.json() | {"instance": ""} for each in (known, unknown)]  # it repeats what was asked
        assert said[0] == said[1] and said[0]["status"] == 400 and said[0]["reason"] == "masked"
    forged = mask[:-2] + ("AA" if mask[-2:] != "AA" else "BB")
    assert api.get("/v1/decisions", "viewer", account=forged).status_code == 400


def test_the_tag_of_an_answer_is_that_of_the_masked_one(api: Served) -> None:
    """Otherwise who guesses the whole answer could confirm the guess; asked again, it is unchanged."""
    mine, theirs = (api.get("/v1/decisions/t1", role) for role in ("viewer", "auditor"))
    assert mine.headers["etag"] != theirs.headers["etag"]
    again = api.get("/v1/decisions/t1", "viewer", {"if-none-match": mine.headers["etag"]})
    assert again.status_code == 304 and not again.content
    assert api.get("/v1/decisions/t1", "viewer", {"if-none-match": theirs.headers["etag"]}).status_code == 200


def test_unmasking_takes_a_reason_and_is_in_the_trail(api: Served) -> None:
    """It shows one payment to who may unmask; an auditor finds who saw what of it, when and why."""
    assert api.post("/v1/decisions/t1/unmask", {"reason": "he calls"}, "viewer").status_code == 403
    assert api.post("/v1/decisions/t1/unmask", {"reason": ""}, "publisher").status_code == 400
    assert api.post("/v1/decisions/none/unmask", {"reason": "he calls"}, "publisher").status_code == 404
    before = control_stream.history(api.desk.log)
    got = api.post("/v1/decisions/t1/unmask", {"reason": "he calls"}, "publisher")
    assert got.status_code == 200, got.text
    paid = got.json()["transaction"]
    assert (paid["account_id"], paid["attributes"]["email"]) == ("person-1", "p1@example.org")
    (entry,) = control_stream.history(api.desk.log)[len(before) :]
    event = entry.event
    assert isinstance(event, ValuesUnmasked) and not entry.refused
    assert (event.actor, event.reason, event.place) == ("publisher", "he calls", got.json()["place"])
    own = ("attributes.born", "attributes.email", "attributes.x")
    assert event.fields == ("account_id", *own, "card_id", "device_id", "ip")
    shown = api.get("/v1/control", "auditor", limit=100).text
    assert "values_unmasked.v1" in shown and "he calls" in shown


def test_attributes_are_masked_unless_the_program_says_that_they_are_not_personal(api: Served) -> None:
    """Personal ones, also numbers, and those that no program knows."""
    attributes = api.get("/v1/decisions/t1", "viewer").json()["transaction"]["attributes"]
    assert attributes["shop"] == "corner" and attributes["born"] == "masked"
    assert attributes["email"].startswith(PREFIX) and attributes["x"].startswith(PREFIX)


def test_masks_are_of_one_log() -> None:
    """Equal values have equal masks in it; another log's are not opened, and tokens are no secrets."""
    mine, other = Masks(FIXED), Masks(FIXED._replace(log_id="f" * 32))
    assert mine.of("person-1") == mine.of("person-1") != other.of("person-1")
    assert mine.opened(mine.of("pérson 1")) == "pérson 1"
    with pytest.raises(Exception, match="ask by a mask"):
        mine.opened(other.of("person-1"))
    token = "acct_0_" + "a" * 32
    assert mine.of(token) == token == mine.opened(token)


def test_a_value_is_masked_wherever_it_stands() -> None:
    """In texts, in keys and in lists; but not within other words."""
    masks = Masks(FIXED)
    content = {"account_id": "a1", "text": "a1 paid a10 at (a1)", "by": {"a1": 1}, "digest": "ba1f"}
    mask = masks.of("a1")
    assert masked(content, masks, Classes()) == {
        "account_id": mask,
        "text": f"{mask} paid a10 at ({mask})",
        "by": {mask: 1},
        "digest": "ba1f",
    }
