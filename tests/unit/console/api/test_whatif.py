"""What-if over HTTP: the report of the command line, as of any moment, and nothing is written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from console import whatif_report
from core.log.memory import MemoryLog
from projections.audit.whatif import Changes, Outcome, Scope, run
from projections.labelling.reader import LabelReader
from tests.builders.api import Served
from tests.builders.baseline_log import PARTITIONS, timeline


def of_command(log: MemoryLog, changes: Changes, scope: Scope) -> dict[str, Any]:
    labels = LabelReader(log, range(PARTITIONS)).view()
    parts = [
        run(log, p, log.head(p), timeline(log), changes, scope, labels.of_partition(p), top=20)
        for p in range(PARTITIONS)
    ]
    found: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(whatif_report.report(Outcome.joined(parts, 20), []))
    )
    return found


def test_the_answer_is_the_commands(api: Served, decided: MemoryLog) -> None:
    """Other thresholds and a rule less, from a day on: every figure of `sentinel whatif`, by stored columns."""
    body = {"review": 0.1, "decline": 0.2, "disabled": ["CARD_TESTING"], "start": "2026-01-10"}
    answer = api.post("/v1/whatif", body, "auditor").json()
    wanted = of_command(
        decided, Changes(review=0.1, decline=0.2, disabled=("CARD_TESTING",)), Scope(start_ms=1_768_003_200_000)
    )
    assert answer["way"] == "stored" and answer["changes"] == ["review 0.1", "decline 0.2", "without CARD_TESTING"]
    assert {name: answer[name] for name in ("total", "days", "table")} == {
        name: wanted[name] for name in ("total", "days", "table")
    }
    assert answer["total"]["changed"] > 0 and answer["curve"] == []


def test_another_model_is_folded(api: Served, decided: MemoryLog) -> None:
    """The registered model decides again; nothing changes under the one that decided anyway."""
    answer = api.post("/v1/whatif", {"model": "baseline-1.0.0"}, "viewer").json()
    assert answer["way"] == "fold" and "margins" in answer["why"]
    assert answer["total"]["decisions"] == sum(decided.length(p, "scores") for p in range(PARTITIONS))
    assert answer["total"]["changed"] == 0


def test_a_curve_falls_with_the_threshold(api: Served) -> None:
    """More alerts at a lower threshold; the point at the asked threshold is the answer itself."""
    answer = api.post("/v1/whatif", {"review": 0.5, "decline": 0.9, "curve": True}, "viewer").json()
    alerts = [point["alerts"] for point in answer["curve"]]
    assert alerts == sorted(alerts, reverse=True) and alerts[0] > alerts[-1]
    same = next(point for point in answer["curve"] if point["review"] == 0.5)
    assert same["alerts"] == answer["total"]["whatif"]["alerts"]


def test_as_of_a_moment_later_decisions_do_not_count(api: Served, decided: MemoryLog) -> None:
    """With the verdicts that were known then; the same moment gives the same answer."""
    now = api.post("/v1/whatif", {"review": 0.2}, "viewer").json()
    then = api.post("/v1/whatif", {"review": 0.2, "as_of": "p01:1-200"}, "viewer").json()
    assert 0 < then["total"]["decisions"] < now["total"]["decisions"]
    assert then["total"]["labelled"] < now["total"]["labelled"]
    again = api.post("/v1/whatif", {"review": 0.2, "as_of": then["as_of"]}, "viewer").json()
    assert again["total"] == then["total"] and again["as_of"] == then["as_of"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"review": 1.5}, 400, "review"),
        ({"review": 0.9, "decline": 0.1}, 422, "thresholds"),
        ({"disabled": ["NO_SUCH"]}, 422, "NO_SUCH"),
        ({"parameters": {"nothing": 1}}, 422, "nothing"),
        ({"model": "/etc/passwd"}, 422, "not registered"),
        ({"start": "yesterday"}, 422, "start 'yesterday' is neither"),
        ({"end": "tomorrow"}, 422, "end 'tomorrow' is neither"),
        ({"start": "2199-01-01"}, 422, "no decisions"),
        ({"as_of": "zzz"}, 422, "zzz"),
        ({"what": 1}, 400, "what"),
    ],
)
def test_bad_questions_get_a_problem(api: Served, body: dict[str, Any], status: int, words: str) -> None:
    """Also a file of the server is no model. No message names a flag, which the API does not have."""
    got = api.post("/v1/whatif", body, "auditor")
    assert got.status_code == status and words in got.text and "--" not in got.text, got.text


def test_a_long_fold_is_refused(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to ask instead."""
    monkeypatch.setattr("console.api.routes.whatif.FOLD_MAX", 10)
    got = api.post("/v1/whatif", {"model": "baseline-1.0.0"}, "viewer")
    assert (got.status_code, got.json()["reason"]) == (422, "takes_a_fold")


def some(api: Served, **query: Any) -> dict[str, Any]:
    """The newest decision that matches."""
    found: dict[str, Any] = api.get("/v1/decisions", limit=1, **query).json()["decisions"][0]
    return found


def test_one_payment_without_changes_is_as_it_was(api: Served) -> None:
    """Decided again, bit for bit; no feature differs."""
    for query in ({"alerts": True}, {"decision": "decline"}, {"decision": "approve"}):
        row = some(api, **query)
        answer = api.post(f"/v1/decisions/{row['place']}/whatif", {}, "analyst").json()
        assert answer["reproduced"] and answer["logged"] == answer["whatif"] and answer["features"] == []
        assert (answer["logged"]["decision"], answer["logged"]["rules"]) == (row["decision"], row["rules"])


def test_another_amount_and_merchant_decide_otherwise(api: Served) -> None:
    """Through the live path: features follow, and rules and model with them."""
    row = some(api, decision="approve")
    body = {"payment": {"amount": 25_000.0, "merchant_id": "never-seen"}}
    answer = api.post(f"/v1/decisions/{row['place']}/whatif", body, "analyst").json()
    assert answer["changes"] == ["amount 25000.0", "merchant_id never-seen"]
    assert "AMOUNT_HIGH" in answer["whatif"]["rules"] and "AMOUNT_HIGH" not in answer["logged"]["rules"]
    changed = {each["name"]: each["now"] for each in answer["features"]}
    assert changed["amount"] == 25_000.0 and answer["whatif"]["margin"] != answer["logged"]["margin"]
    again = api.post(f"/v1/decisions/{row['place']}/whatif", body, "analyst").json()
    assert again == answer and answer["reproduced"]


def test_what_would_undo_a_decision(api: Served) -> None:
    """A single change that turns it, as the same change asked for alone does."""
    row = next(r for r in api.get("/v1/decisions", alerts=True, limit=200).json()["decisions"] if len(r["rules"]) == 1)
    path = f"/v1/decisions/{row['place']}/whatif"
    turns = api.post(path, {"undo": True}, "analyst").json()["undo"]
    alone = api.post(path, {"disabled": row["rules"]}, "analyst").json()["whatif"]["decision"]
    expected = [alone] if alone != row["decision"] else []
    assert [turn["decision"] for turn in turns if turn["change"] == f"without {row['rules'][0]}"] == expected
    assert all(turn["decision"] != row["decision"] for turn in turns)
    rows = api.get("/v1/decisions", alerts=True, limit=40).json()["decisions"]
    asked = [api.post(f"/v1/decisions/{r['place']}/whatif", {"undo": True}, "analyst").json() for r in rows]
    assert any(answer["undo"] for answer in asked)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"payment": {"amount": -1}}, 400),
        ({"payment": {"currency": "USD"}}, 400),
        ({"payment": {"account_id": "x"}}, 400),
        ({"disabled": ["NO_SUCH"]}, 422),
    ],
)
def test_bad_questions_about_a_payment_get_a_problem(api: Served, body: dict[str, Any], status: int) -> None:
    """Also its identity and its currency, whose rate nobody logged, can't be changed."""
    place = some(api)["place"]
    assert api.post(f"/v1/decisions/{place}/whatif", body, "analyst").status_code == status
    assert api.post("/v1/decisions/none/whatif", {}, "analyst").status_code == 404
