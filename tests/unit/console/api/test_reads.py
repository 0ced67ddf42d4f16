"""What the API reads: searches against a scan of the log, answers against the read models' own, bad input."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.api.access import PUBLIC, ROUTES
from console.api.views import Views
from core.codec import decode_score, decode_transaction
from core.events import START, Position, SourceGenerationStarted
from core.log.base import Batch, Head
from core.log.memory import MemoryLog
from core.log.paging import decision_pages
from core.settings import Settings
from projections.catalogue import ALL, QUESTIONS
from projections.engine.base import Place
from projections.engine.checkpoints import CheckpointStore
from projections.engine.states import open_states
from projections.views.cases import CASES
from tests.builders.api import Served, served
from tests.builders.baseline_log import PARTITIONS
from tests.builders.decisions import append_unchecked, created

LATER = ("labels", "actions", "account_since", "recomputed")
"""What an audit tells of later events, and of today's release."""


@pytest.fixture(scope="module")
def rows(decided: MemoryLog) -> list[dict[str, Any]]:
    """Every decision, newest first, as the search orders them."""
    found = []
    for p in range(PARTITIONS):
        for transactions, scores in decision_pages(decided, p):
            for entry, score in zip(transactions, scores, strict=True):
                t, s = decode_transaction(entry.payload), decode_score(score.payload)
                row = {**msgspec.to_builtins(t), **msgspec.to_builtins(s), "place": f"p{p:02d}:{entry.id}"}
                found.append({**row, "order": (t.received_at or t.occurred_at, p, entry.id)})
    return sorted(found, key=lambda row: row["order"], reverse=True)


def test_searches_find_what_a_scan_finds(api: Served, rows: list[dict[str, Any]]) -> None:
    """200 random conditions, page by page: the same decisions in the same order as a scan of the log."""
    rng = random.Random(5)
    times = sorted(row["order"][0] for row in rows)
    rules = sorted({code for row in rows for code in row.get("rules", ())})
    found_any = 0
    for _ in range(200):
        query: dict[str, Any] = {}
        wanted = rows
        if rng.random() < 0.3:
            query["account"] = rng.choice(rows)["account_id"]
            wanted = [row for row in wanted if row["account_id"] == query["account"]]
        if rng.random() < 0.3:
            query["decision"] = rng.choice(["approve", "review", "decline"])
            wanted = [row for row in wanted if row["decision"] == query["decision"]]
        if rng.random() < 0.3:
            query["rule"] = rng.choice([*rules, "NO_SUCH_RULE"])
            wanted = [row for row in wanted if query["rule"] in row.get("rules", ())]
        if rng.random() < 0.3:
            query["alerts"] = True
            wanted = [row for row in wanted if row.get("severity")]
        if rng.random() < 0.4:
            low, high = sorted(rng.sample(times, 2))
            query |= {"start": low, "end": high + 1}
            wanted = [row for row in wanted if low <= row["order"][0] <= high]
        if rng.random() < 0.3:
            query |= {"amount_min": 20, "amount_max": 200.5}
            wanted = [row for row in wanted if 20 <= row["amount"] <= 200.5]
        got, cursor = [], ""
        for _ in range(3):
            page = api.get("/v1/decisions", "auditor", limit=rng.choice([1, 7, 500]), cursor=cursor, **query).json()
            got += [row["place"] for row in page["decisions"]]
            cursor = page["next"]
            if not cursor:
                break
        assert got == [row["place"] for row in wanted][: len(got)], query
        assert cursor or len(got) == len(wanted), query
        found_any += bool(got)
    assert found_any > 100


def test_a_search_in_the_past_finds_what_was_known_then(api: Served, rows: list[dict[str, Any]]) -> None:
    """As of a decision, its partition's later ones are not found; the cursor keeps the moment."""
    middle = rows[len(rows) // 2]
    p, position = middle["order"][1:]
    page = api.get("/v1/decisions", as_of=middle["place"], limit=500)
    known = [row["place"] for row in page.json()["decisions"]]
    mine = [row for row in rows if row["order"][1] == p and row["order"][2] <= position]
    assert [place for place in known if place.startswith(f"p{p:02d}")] == [row["place"] for row in mine][
        : sum(place.startswith(f"p{p:02d}") for place in known)
    ]
    following = api.get("/v1/decisions", cursor=page.json()["next"], limit=500).json()
    assert following["as_of"] == page.json()["as_of"]


def test_a_decision_is_found_by_id_place_and_alert(api: Served, rows: list[dict[str, Any]]) -> None:
    """The same decision, with its alert in words; its ETag saves sending it again."""
    row = next(row for row in rows if row.get("severity"))
    names = (row["transaction_id"], row["place"], row["place"].removeprefix("p"))
    answers = [api.get(f"/v1/decisions/{name}") for name in names]
    assert len({answer.content for answer in answers}) == 1
    found = answers[0].json()
    assert (found["row"]["place"], found["row"]["rules"]) == (row["place"], list(row["rules"]))
    assert found["reasons"]["words"] and found["transaction"]["amount"] == row["amount"]
    again = api.get(f"/v1/decisions/{row['place']}", headers={"if-none-match": answers[0].headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_decisions_are_replayed_and_audited(api: Served, rows: list[dict[str, Any]]) -> None:
    """Random decisions are identical when made again; the audit says so too, and has the logged score."""
    for row in random.Random(3).sample(rows, 8):
        found = api.get(f"/v1/decisions/{row['transaction_id']}/replay").json()
        assert (found["outcome"], found["place"]) == ("identical", row["place"])
        assert found["logged_digest"] == found["recomputed_digest"]
    story = api.get(f"/v1/decisions/{rows[0]['transaction_id']}/audit").json()
    assert story["recomputed"]["identical"] and story["score"]["margin"] == rows[0]["margin"]


def test_an_audit_tells_only_what_was_known_then(api: Served, rows: list[dict[str, Any]]) -> None:
    """Before the decision there is none; right after it nothing came later; later, a part of what is known now. What
    decided is the same at each moment, and the verdicts are told in the order of the log.
    """
    seen = 0
    for row in reversed(rows):
        path = f"/v1/decisions/{row['place']}/audit"
        if row["order"][2].offset < 300 or not (now := api.get(path).json())["labels"]:
            continue
        then = api.get(path, as_of=row["place"]).json()
        assert (then["labels"], then["actions"], then["account_since"]) == ([], [], [])
        assert {k: v for k, v in then.items() if k not in LATER} == {k: v for k, v in now.items() if k not in LATER}
        label = Position.parse(now["labels"][0]["position"])
        moment = api.get("/v1/stats", as_of=str(now["labels"][0]["event"]["recorded_at"])).json()["as_of"]
        between = api.get(path, as_of=moment).json()
        later = [Position.parse(each["position"]) for each in between["account_since"] + between["labels"]]
        assert between["labels"] == now["labels"][: len(between["labels"])] != []
        assert len(later) <= len(now["account_since"]) + len(now["labels"]) and label in later
        for past in (path, f"/v1/decisions/{row['place']}", f"/v1/decisions/{row['transaction_id']}/replay"):
            early = api.get(past, as_of=f"p{row['order'][1]:02d}:1-200")
            assert (early.status_code, early.json()["reason"]) == (404, "not_found"), early.text
        seen += 1
        if seen == 3:
            break
    assert seen == 3


def test_the_audit_trail_ends_at_the_moment(api: Served, decided: MemoryLog) -> None:
    """As of a control position, later acts are not told; its own is."""
    last = decided.control_head() - 2
    page = api.get("/v1/control", as_of=f"c{last}").json()
    assert [event["position"] for event in page["events"]] == list(range(1, last + 1)) and page["until"] == last
    first = api.get("/v1/control", as_of=f"c{last}", limit=2).json()
    rest = api.get("/v1/control", as_of=f"c{last}", limit=100, cursor=first["next"]).json()
    assert first["events"] + rest["events"] == page["events"] and rest["next"] == ""
    assert api.get("/v1/control").json()["until"] == decided.control_head()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/lists"), ("PATCH", "/v1/thresholds"), ("POST", "/v1/cases/none/resolve"), ("POST", "/v1/whatif")],
)
def test_an_act_at_a_past_moment_is_refused(api: Served, decided: MemoryLog, method: str, path: str) -> None:
    """Whatever the body: what happened can't be changed. Nothing is appended."""
    before = decided.control_head()
    role = "viewer" if path == "/v1/whatif" else "publisher" if method == "PATCH" else "analyst"
    got = api.client.request(method, f"{path}?as_of=2026-01-10", json={}, headers=api.bearer(role))
    assert (got.status_code, got.json()["reason"], got.json()["field"]) == (409, "past_moment", "as_of")
    assert "acts happen now" in got.json()["detail"] and decided.control_head() == before


@pytest.mark.parametrize(
    ("path", "question"),
    [("/v1/cases", "cases"), ("/v1/models", "registry"), ("/v1/lists", "lists"), ("/v1/stats", "stats")],
)
@pytest.mark.parametrize("moment", [None, "p01:1-200"])
def test_answers_are_the_read_models_own(
    api: Served, decided: MemoryLog, path: str, question: str, moment: str | None
) -> None:
    """The live state and a past one give, byte for byte, what a fold from the beginning gives as of the same cut."""
    answer = api.get(path, **({} if moment is None else {"as_of": moment}))
    cut = answer.json()["as_of"]
    states = open_states(decided, ALL, now_ms=int(time.time() * 1000), as_of=cut)
    content = answer.content.replace(b',"next":""}', b"}") if path == "/v1/cases" else answer.content
    assert content == msgspec.json.encode(QUESTIONS[question](states))


@pytest.mark.parametrize(
    ("path", "query", "rows"),
    [
        ("/v1/cases", {"stage": "all"}, "cases"),
        ("/v1/labels", {"status": "fraud"}, "labels"),
    ],
)
def test_a_list_is_paged_as_of_its_first_page(api: Served, path: str, query: dict[str, str], rows: str) -> None:
    """Pages of any size are the whole list, in order. All have the first one's cut, whatever is asked for later."""
    whole = api.get(path, limit=1000, **query).json()
    assert len(whole[rows]) > 3 and whole["next"] == ""
    for size in (1, 3, len(whole[rows])):
        seen, cursor, cut = [], "", whole["as_of"]
        while True:
            asked = {"cursor": cursor, "as_of": "c1"} if cursor else {"as_of": cut}
            page = api.get(path, limit=size, **query, **asked).json()
            assert page["as_of"] == cut and len(page[rows]) <= size
            seen += page[rows]
            cursor = page["next"]
            if not cursor:
                break
        assert seen == whole[rows]


def test_an_answer_about_the_past_is_kept(api: Served) -> None:
    """Asked twice, it is the same answer with the same ETag."""
    first, second = (api.get("/v1/stats", as_of="p01:1-300") for _ in range(2))
    assert first.headers["etag"] == second.headers["etag"] and first.content == second.content
    assert api.get("/v1/stats", as_of=first.json()["as_of"]).content == first.content


def test_the_audit_trail_is_paged_and_hides_the_logs_key(api: Served, decided: MemoryLog) -> None:
    """Every control event once, in order, without the key of the hashes."""
    seen, cursor = [], ""
    while True:
        page = api.get("/v1/control", limit=3, cursor=cursor).json()
        seen += page["events"]
        cursor = page["next"]
        if not cursor:
            break
    assert [event["position"] for event in seen] == list(range(1, decided.control_head() + 1))
    assert all("hash_key" not in event["event"] for event in seen)
    assert {event["actor"] for event in seen} >= {"ann", "bob"}


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/v1/decisions?limit=0", 400, "bad_request"),
        ("/v1/decisions?limit=1001", 400, "bad_request"),
        ("/v1/decisions?limit=x", 400, "bad_request"),
        ("/v1/decisions?decision=maybe", 400, "bad_request"),
        ("/v1/decisions?start=yesterday", 400, "bad_input"),
        ("/v1/decisions?start=2026-02-01&end=2026-01-01", 400, "bad_input"),
        ("/v1/decisions?amount_min=-1", 400, "bad_request"),
        ("/v1/decisions?amount_min=2&amount_max=1", 400, "bad_input"),
        ("/v1/decisions?cursor=%00", 400, "bad_input"),
        ("/v1/decisions?cursor=AAAA", 400, "bad_input"),
        ("/v1/cases?cursor=AAAA", 400, "bad_input"),
        ("/v1/cases?cursor=kv-g", 400, "bad_input"),
        ("/v1/labels?cursor=%00", 400, "bad_input"),
        ("/v1/decisions?as_of=zzz", 400, "bad_input"),
        ("/v1/decisions?as_of=p99:1-1", 400, "bad_input"),
        ("/v1/decisions/none", 404, "not_found"),
        ("/v1/decisions/p00:1-999999", 404, "not_found"),
        ("/v1/decisions/none/replay", 404, "not_found"),
        ("/v1/cases/none", 404, "not_found"),
        ("/v1/models/none", 404, "not_found"),
        ("/v1/programs/none", 404, "not_found"),
        ("/v1/reference/ship/m1", 400, "bad_request"),
        ("/v1/nothing", 404, "no_such_route"),
    ],
)
def test_bad_requests_get_a_problem(api: Served, path: str, status: int, reason: str) -> None:
    """A status of the caller's fault, a stable reason, a detail in words."""
    got = api.get(path)
    assert (got.status_code, got.json()["reason"]) == (status, reason), got.text
    assert got.headers["content-type"].startswith("application/problem+json")
    assert got.json()["detail"] and "Traceback" not in got.text


def test_the_description_names_every_route(api: Served) -> None:
    """The OpenAPI description has each route of the table of roles, with a summary, and needs no login."""
    described = api.client.get("/schema/openapi.json").json()
    found = {f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods}
    routes = set(api.client.get("/v1/me", headers=api.bearer("admin")).json()["routes"])
    assert routes <= found
    assert all(each.get("summary") for methods in described["paths"].values() for each in methods.values())


def test_the_description_tells_errors_as_they_are(api: Served) -> None:
    """Every operation's errors are problems, which it defines; those that need no login say so. Each schema has a title
    of its own, and is there for whoever refers to it.
    """
    described = api.client.get("/schema/openapi.json").json()
    schemas = described["components"]["schemas"]
    titles = [schema.get("title") for schema in schemas.values()]
    assert titles == list(schemas) and set(schemas["Problem"]["required"]) >= {"title", "status", "detail"}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            is_public = ROUTES[f"{method.upper()} {path}"] is PUBLIC
            errors = {status for status in operation["responses"] if status[0] in "4d"}
            assert errors >= {"400", "default"} | (set() if is_public else {"401", "403"})
            assert all(operation["responses"][status]["content"] == problem for status in errors)
            assert ("security" in operation) is is_public
    text = json.dumps(described)
    assert set(re.findall(r"#/components/schemas/([^\"]+)", text)) <= set(schemas)


def test_requests_are_counted(api: Served) -> None:
    """The metrics have the request by route, not by path."""
    api.get("/v1/accounts/some-account")
    text = api.get("/metrics").text
    assert 'sentinel_api_requests_total{method="GET",route="/v1/accounts/{id}",status="200"}' in text
    assert "some-account" not in text


def test_the_next_start_begins_where_the_last_one_ended(decided: MemoryLog, tmp_path: Path) -> None:
    """A server that is stopped leaves checkpoints of every read model, and answers from them the same as before."""
    with served(decided, tmp_path) as api:
        first = api.get("/v1/cases").json()["counts"]
    store = CheckpointStore(tmp_path / "projections", Settings().log_prefix)
    held = store.load(CASES, decided, 0, Place(decided.head(0).sequence))
    assert held is not None and held.place == Place(decided.head(0).sequence)
    with served(decided, tmp_path) as api:
        assert api.get("/v1/cases").json()["counts"].keys() == first.keys()


def test_a_log_whose_last_message_was_rejected_is_caught_up_with(tmp_path: Path) -> None:
    """Rejected messages and duplicates move a partition's end beyond its last decision."""
    log = created()
    topic: dict[str, Any] = {
        "topic": "transactions",
        "topic_name": "t",
        "generation": 1,
        "topic_id": "u",
        "partitions": 1,
    }
    append_unchecked(log, SourceGenerationStarted(occurred_at=1, actor="worker", **topic))
    log.append(0, Batch(0, 1, transactions_end=Position(1, 3), feedback_end=START), Head())
    views = Views(log, CheckpointStore(tmp_path, "p"))
    for _ in range(20):
        views.follow()
    assert views.is_caught_up
    assert not views.follow().is_behind
