"""Payments over HTTP, on a real log server, broker and worker: what is answered, when, and what repeats get."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console import wiring
from console.stack import Broker, Valkey
from core.validation import VALUE_BYTES_MAX
from tests.builders.api import Served, served
from tests.worker_harness import Stage, Threaded, assert_sound, stage, wait_for

_numbers = itertools.count()


def payment(**changes: Any) -> dict[str, Any]:
    number = next(_numbers)
    return {
        "transaction_id": f"t{number}",
        "account_id": f"a{number % 5}",
        "amount": 12.5,
        "occurred_at": int(time.time() * 1000),
        "currency": "EUR",
    } | changes


@pytest.fixture(scope="module")
def on(valkey_server: Valkey, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    directory = tmp_path_factory.mktemp("submitting")
    made = stage(broker.bootstrap, valkey_server.host, valkey_server.port, directory, history=False)
    made.create_topics()
    return made


@pytest.fixture(scope="module")
def live(on: Stage) -> Iterator[Served]:
    """The API beside a worker that owns all partitions."""
    with Threaded(on) as worker:
        wait_for(lambda: len(worker.worker.partitions) == on.settings.partitions, "the assignment")
        with served(wiring.open_log(on.settings), on.directory, on.settings) as api:
            yield api


def test_a_payment_is_answered_with_its_durable_decision(live: Served, on: Stage) -> None:
    """The answer is what the log holds at its place, and what a later read and a replay say."""
    sent = payment()
    got = live.post("/v1/decisions", sent, "submitter", wait_ms=10_000)
    assert got.status_code == 200, got.text
    answer = got.json()
    assert (answer["status"], answer["transaction_id"]) == ("decided", sent["transaction_id"])
    detail = live.get(f"/v1/decisions/{answer['place']}").json()
    assert detail["row"]["decision"] == answer["decision"]
    assert detail["transaction"]["amount"] == sent["amount"]
    assert live.get(f"/v1/decisions/{answer['place']}/replay").json()["outcome"] == "identical"


def test_an_alert_comes_with_its_id_and_what_to_do(live: Served) -> None:
    """A payment that raises an alert names it, and what the program recommends."""
    account = payment()["transaction_id"]
    answers = [
        live.post("/v1/decisions", payment(account_id=account, amount=900.0), "submitter", wait_ms=10_000).json()
        for _ in range(12)
    ]
    alerted = [answer for answer in answers if answer["severity"]]
    assert alerted and all(answer["alert_id"] == answer["place"].removeprefix("p") for answer in alerted)
    assert all(answer["actions"] for answer in alerted)
    assert all(not answer["alert_id"] for answer in answers if not answer["severity"])


def test_a_repeated_payment_gets_its_first_decision(live: Served) -> None:
    """The same bytes again: the same answer, from memory or, in another process, from the log."""
    sent = payment()
    first = live.post("/v1/decisions", sent, "submitter", wait_ms=10_000)
    assert live.post("/v1/decisions", sent, "submitter", wait_ms=10_000).content == first.content
    live.client.app.state.submitter.answered.clear()
    assert live.post("/v1/decisions", sent, "submitter", wait_ms=10_000).content == first.content


def test_payments_sent_twice_at_once_are_decided_once(live: Served) -> None:
    """Two requests with one payment, at the same time: one decision, told to both."""
    for _ in range(5):
        sent = payment()
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(live.post, "/v1/decisions", sent, "submitter", wait_ms=10_000) for _ in range(2)]
        answers = {call.result().content for call in calls}
        assert len(answers) == 1, answers


def test_an_idempotency_key_repeats_the_answer_and_takes_no_other_body(live: Served) -> None:
    """A repeat needs no worker; another body under the key is 422; another user's equal key is another key."""
    sent, key = payment(), {"idempotency-key": "k1"}

    def post(body: Any, role: str = "submitter") -> Any:
        headers = live.bearer(role) | key
        return live.client.post("/v1/decisions", json=body, headers=headers, params={"wait_ms": 10_000})

    first = post(sent)
    assert first.status_code == 200 and post(sent).content == first.content
    other = post(payment())
    assert (other.status_code, other.json()["reason"]) == (422, "idempotency_key_reused")
    assert post(payment(), "admin").status_code == 200


def test_an_asynchronous_payment_is_answered_with_where_to_look(live: Served) -> None:
    """202 once Kafka has it; its location soon has the decision."""
    headers = live.bearer("submitter") | {"prefer": "respond-async"}
    got = live.client.post("/v1/decisions", json=payment(), headers=headers)
    assert got.status_code == 202 and got.json()["status"] == "accepted"
    location = got.headers["location"]
    found = wait_for(lambda: (a := live.get(location, "submitter")).status_code == 200 and a, "the decision")
    assert found.json()["row"]["place"] == got.json()["place"]


def test_a_batch_has_a_result_for_each_payment(live: Served) -> None:
    """In the order sent; a bad one says why and does not hold up the others."""
    sent = [payment(), payment(amount=-1), payment(), {"nonsense": 1}, payment(account_id="")]
    got = live.post("/v1/decisions/batch", sent, "submitter", wait_ms=10_000).json()
    assert [result["status"] for result in got["results"]] == [
        "decided", "rejected", "decided", "rejected", "rejected",
    ]  # fmt: skip
    assert got["counts"] == {"decided": 2, "rejected": 3}
    assert got["results"][0]["transaction_id"] == sent[0]["transaction_id"]
    assert [r["problem"]["reason"] for r in got["results"] if r["status"] == "rejected"] == [
        "negative_amount", "unknown_field", "empty_id",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "reason", "field"),
    [
        (b"", 422, "not_json", ""),
        (b"nope", 422, "not_json", ""),
        (b"[]", 422, "wrong_type", ""),
        (b"\xff\xfe", 422, "not_utf8", ""),
        (b'{"transaction_id": "t"}', 422, "missing_field", "account_id"),
        ({"amount": "12"}, 422, "wrong_type", "amount"),
        ({"amount": -1}, 422, "negative_amount", "amount"),
        ({"amount": 1e13}, 422, "absurd_amount", "amount"),
        ({"colour": "red"}, 422, "unknown_field", "colour"),
        ({"rate": 2.0}, 422, "unknown_field", "rate"),
        ({"occurred_at": 1}, 422, "absurd_time", "occurred_at"),
        ({"occurred_at": 1_500_000_000_000}, 422, "past_time", "occurred_at"),
        ({"occurred_at": 4_000_000_000_000}, 422, "future_time", "occurred_at"),
        ({"transaction_id": "a\u0000"}, 422, "bad_id", "transaction_id"),
        ({"merchant_id": "x" * 200}, 422, "bad_id", "merchant_id"),
        (b'{"amount": 1, "amount": 2}', 422, "missing_field", "transaction_id"),
        (b"{" + b" " * VALUE_BYTES_MAX + b"}", 413, "too_large", ""),
        (b'{"attributes":' * 4000, 422, "wrong_type", "attributes[...]"),
    ],
)
def test_a_bad_payment_is_rejected_at_once_with_reason_and_field(
    live: Served, body: Any, status: int, reason: str, field: str
) -> None:
    """The worker's own reason codes; nothing is sent to Kafka, and the log has no reject."""
    given = {"json": payment(**body)} if isinstance(body, dict) else {"content": body}
    got = live.client.post("/v1/decisions", headers=live.bearer("submitter"), **given)
    found = got.json()
    assert (got.status_code, found["reason"], found.get("field", "")) == (status, reason, field), got.text
    assert got.headers["content-type"].startswith("application/problem+json")


def test_what_only_the_worker_rejects_is_told_with_its_reason(live: Served, on: Stage) -> None:
    """A payment under a known ID is scored as a conflict; the place of a reject says why there is no decision."""
    sent = payment()
    first = live.post("/v1/decisions", sent, "submitter", wait_ms=10_000).json()
    other = live.post("/v1/decisions", {**sent, "amount": 99.0}, "submitter", wait_ms=10_000).json()
    assert other["place"] != first["place"] and "ID_CONFLICT" in other["rules"]
    partition, position = first["place"][1:].split(":")
    live.post("/v1/decisions", sent, "submitter", wait_ms=10_000)
    offset = int(other["place"].split("-")[1]) + 1
    got = live.get(f"/v1/decisions/p{partition}:{position.split('-')[0]}-{offset}", "submitter")
    assert (got.status_code, got.json()["reason"]) == (404, "duplicate_transaction")


def test_without_a_worker_a_payment_is_accepted_and_decided_later(
    valkey_server: Valkey, broker: Broker, tmp_path: Path
) -> None:
    """202 when the wait is over; once a worker runs, the location has the decision, and a repeat gets it."""
    on = stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, history=False)
    on.create_topics()
    on.drain()  # so that the log exists
    sent = payment()
    with served(wiring.open_log(on.settings), tmp_path, on.settings) as api:
        began = time.monotonic()
        got = api.post("/v1/decisions", sent, "submitter", wait_ms=300)
        assert got.status_code == 202 and 0.3 <= time.monotonic() - began < 5.0
        assert api.get(got.headers["location"], "submitter").status_code == 404
        on.drain()
        found = api.get(got.headers["location"], "submitter")
        assert found.status_code == 200 and found.json()["row"]["transaction_id"] == sent["transaction_id"]
    assert_sound(on)


def test_without_kafka_a_payment_is_refused_and_reads_go_on(on: Stage, live: Served, tmp_path: Path) -> None:
    """503 with what to do; the log still answers, so reads do."""
    settings = on.changed(kafka_servers="127.0.0.1:1", kafka={"message.timeout.ms": 500}).settings
    with served(wiring.open_log(settings), tmp_path, settings) as api:
        got = api.post("/v1/decisions", payment(), "submitter")
        assert (got.status_code, got.json()["reason"]) == (503, "unavailable"), got.text
        assert "send the same again" in got.json()["detail"] and got.headers["retry-after"]
        assert api.get("/v1/stats").status_code == 200


def test_verdicts_and_blocks_reach_the_log_under_the_users_name(live: Served, on: Stage) -> None:
    """A verdict is checked, completed from its payment, and becomes a label; a block declines the next payment."""
    sent = payment(account_id="judged")
    live.post("/v1/decisions", sent, "submitter", wait_ms=10_000)
    body = {"transaction_id": sent["transaction_id"], "verdict": "fraud", "reason": "called the customer"}
    given = live.post("/v1/feedback", body, "analyst")
    assert given.status_code == 202, given.text
    assert (given.json()["account_id"], given.json()["actor"]) == ("judged", "analyst")

    def labelled() -> Any:
        live.post("/v1/decisions", payment(account_id="judged"), "submitter", wait_ms=10_000)
        found = live.get("/v1/labels", account="judged", transaction=sent["transaction_id"]).json()["labels"]
        return found and found[0]["verdicts"] and found[0]

    label = wait_for(labelled, "the label")
    assert label["verdicts"][0]["actor"] == "analyst" and label["status"] == "fraud"
    assert live.post("/v1/accounts/judged/block", {"reason": "stolen card"}, "analyst").status_code == 202

    def declined() -> Any:
        answer = live.post("/v1/decisions", payment(account_id="judged"), "submitter", wait_ms=10_000).json()
        return "ACCOUNT_BLOCKED" in answer.get("rules", ()) and answer

    assert wait_for(declined, "the block")["decision"] == "decline"


@pytest.mark.parametrize(
    ("body", "role", "status", "reason"),
    [
        ({"transaction_id": "no-such", "verdict": "fraud"}, "analyst", 422, "no_account"),
        ({"transaction_id": "x", "verdict": "guilty"}, "analyst", 400, "bad_request"),
        ({"transaction_id": "", "verdict": "fraud"}, "analyst", 400, "bad_request"),
        ({"transaction_id": "x", "verdict": "fraud", "actor": "bob"}, "analyst", 400, "bad_request"),
        ({"transaction_id": "x", "verdict": "fraud", "source": "chargeback"}, "analyst", 403, "not_permitted"),
        ({"transaction_id": "x", "verdict": "fraud", "source": "analyst"}, "submitter", 403, "not_permitted"),
        ({"transaction_id": "x", "verdict": "fraud", "confidence": 2}, "analyst", 400, "bad_request"),
    ],
)
def test_a_bad_verdict_is_refused(live: Served, body: Any, role: str, status: int, reason: str) -> None:
    """With a reason; nobody gives a verdict in another's name, or of a source that is not theirs."""
    got = live.post("/v1/feedback", body, role)
    assert (got.status_code, got.json()["reason"]) == (status, reason), got.text


def heard(live: Served, seconds: float, last: str = "", **query: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """The (ID, type, data) of the events of a stream that ends after so many seconds."""
    headers = {"last-event-id": last} if last else {}
    text = live.get("/v1/events", "auditor", headers, seconds=seconds, **query).text
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("id", ""), fields["event"], msgspec.json.decode(fields["data"])))
    return found


def test_decisions_are_heard_live_and_what_was_missed_comes_first(live: Served) -> None:
    """Each decision once, in order, with the row that a search has; after a reconnect, all after the last one heard."""
    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(heard, live, 6.0)
        wait_for(lambda: len(live.client.app.state.hub), "the listener")
        places = [live.post("/v1/decisions", payment(), "submitter", wait_ms=10_000).json()["place"] for _ in range(6)]
        events = listening.result(30)
    told = [data["place"] for _, _, data in events]
    assert told == places
    missed = heard(live, 0.3, events[2][0])
    assert [data["place"] for _, _, data in missed] == places[3:]
    row = wait_for(
        lambda: live.get("/v1/decisions", transaction_id=events[0][2]["transaction_id"]).json()["decisions"], "it"
    )
    assert row[0] == events[0][2]
    assert len(live.client.app.state.hub) == 0


def test_listeners_hear_what_they_asked_for(live: Served) -> None:
    """Only one account's decisions, or only alerts."""
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(heard, live, 8.0, account="only-me")
        alerts = pool.submit(heard, live, 8.0, kind="alerts")
        wait_for(lambda: len(live.client.app.state.hub) == 2, "the listeners")
        sent = [payment(account_id="only-me" if number % 4 == 0 else "loud", amount=950.0) for number in range(20)]
        live.post("/v1/decisions/batch", sent, "submitter", wait_ms=10_000)
        mine, loud = one.result(30), alerts.result(30)
    assert len(mine) == 5 and {data["account_id"] for _, _, data in mine} == {"only-me"}
    assert loud and all(kind == "alert" and data["severity"] for _, kind, data in loud)


@pytest.mark.parametrize("last", ["nonsense", "1-1", "1-1.1-1.1-1.x-1", "1-1.1-1.1-1.-5-1", "9" * 400])
def test_an_id_of_another_log_is_refused(live: Served, last: str) -> None:
    """A Last-Event-ID that this log can't have given."""
    got = live.get("/v1/events", "viewer", {"last-event-id": last}, seconds=0)
    assert got.status_code == 400 and "Last-Event-ID" in got.json()["detail"]


def alerted(live: Served, account: str) -> str:
    """The ID of a new alert of the account."""
    for _ in range(40):
        sent = payment(account_id=account, amount=900.0)
        answer = live.post("/v1/decisions", sent, "submitter", wait_ms=10_000).json()
        if answer["severity"]:
            return str(answer["alert_id"])
    raise AssertionError("no payment raised an alert")


def test_a_case_is_worked_on_over_http(live: Served) -> None:
    """Assigned, noted, resolved with verdicts, reopened: each under the user's name, and in the log when answered."""
    case_id = alerted(live, "case-one")
    path = f"/v1/cases/{case_id}"
    taken = live.post(f"{path}/assign", {}, "analyst")
    assert taken.status_code == 200, taken.text
    assert taken.json()["case"]["assignee"] == "analyst"
    live.post(f"{path}/notes", {"note": "asked @alice to call"}, "analyst")
    live.post(f"{path}/route", {"queue": "escalated", "note": "a lot of money"}, "analyst")
    until = int(time.time() * 1000) + 3_600_000
    assert live.post(f"{path}/snooze", {"until": until}, "analyst").json()["case"]["snoozed_until"] == until
    resolved = live.post(f"{path}/resolve", {"verdict": "fraud", "note": "confirmed"}, "analyst").json()["case"]
    assert (resolved["stage"], resolved["outcome"], resolved["resolved_by"]) == ("resolved", "fraud", "analyst")
    assert {verdict["actor"] for verdict in resolved["verdicts"]} == {"analyst"}
    shown = wait_for(lambda: (c := live.get(path).json()["case"])["outcome"] and c, "the read model")
    assert shown["outcome"] == "fraud" and shown["queue"] == "escalated"
    again = live.post(f"{path}/reopen", {"note": "wrong customer"}, "analyst").json()["case"]
    assert again["stage"] != "resolved"
    own = live.post(f"{path}/check", {"verdict": "fraud"}, "analyst")
    assert own.status_code == 422 and "not resolved" in own.json()["detail"]


def test_of_two_people_one_case_is_one_persons(live: Served) -> None:
    """Who saw an older revision, or a case that somebody else has, is told so with 409, unless they insist."""
    case_id = alerted(live, "case-two")
    path = f"/v1/cases/{case_id}"
    revision = wait_for(lambda: live.get(path).json().get("case"), "the read model")["revision"]
    assert live.post(f"{path}/assign", {"assignee": "alice", "revision": revision}, "analyst").status_code == 200
    stale = live.post(f"{path}/assign", {"revision": revision}, "analyst")
    assert (stale.status_code, stale.json()["reason"]) == (409, "conflict")
    locked = live.post(f"{path}/resolve", {"verdict": "fraud"}, "analyst")
    assert locked.status_code == 409 and "alice" in locked.json()["detail"] and "--" not in locked.json()["detail"]
    bulk = live.post("/v1/cases/resolve", {"cases": [case_id, "none"], "verdict": "fraud"}, "analyst").json()
    assert bulk["resolved"] == 0 and all(result["problem"] for result in bulk["results"])
    bulk = live.post("/v1/cases/resolve", {"cases": [case_id], "verdict": "fraud", "force": True}, "analyst").json()
    assert bulk["resolved"] == 1


def test_a_case_is_opened_by_hand(live: Served) -> None:
    """On an account without an alert, with a note; it is in the queue."""
    live.post("/v1/decisions", payment(account_id="quiet"), "submitter", wait_ms=10_000)
    opened = live.post("/v1/cases", {"account_id": "quiet", "note": "a tip", "severity": "high"}, "analyst")
    assert opened.status_code == 201, opened.text
    assert opened.json()["case"]["opened_by"] == "analyst"
    bad = live.post("/v1/cases/none/assign", {}, "analyst")
    assert bad.status_code == 404


def test_no_card_number_leaves_the_api(live: Served, on: Stage) -> None:
    """Neither to Kafka nor in an answer: payments, verdicts and blocks are about the card's token, in its partition."""
    pan = "4111111111111111"
    sent = payment(account_id=pan, card_id=pan, attributes={"cvv": 123})
    got = live.post("/v1/decisions", sent, "submitter", wait_ms=10_000)
    assert got.status_code == 200, got.text
    assert got.json()["account_id"].startswith("acct_")
    again = live.post("/v1/decisions", sent, "submitter", wait_ms=10_000)
    assert again.content == got.content
    block = live.post(f"/v1/accounts/{pan}/block", {"reason": f"card {pan}"}, "analyst")
    assert block.status_code == 202 and block.json()["account_id"] == got.json()["account_id"]

    def declined() -> bool:
        next_one = live.post("/v1/decisions", payment(account_id=pan), "submitter", wait_ms=10_000).json()
        return bool(next_one["decision"] == "decline")

    wait_for(declined, "the block")
    refused = live.post("/v1/decisions", payment(merchant_id=pan, amount=-1), "submitter")
    assert refused.status_code == 422
    kafka = [m for name in (on.settings.transactions_topic, on.settings.feedback_topic) for m in on.messages(name)]
    everything = repr((kafka, got.text, again.text, block.text, refused.text))
    assert pan not in everything and "123" not in str([m.value for m in kafka if b"cvv" in (m.value or b"")])
