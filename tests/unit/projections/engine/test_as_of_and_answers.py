"""Answers of read models and `sentinel query`: as-of times and positions, one account on demand, the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from console import cli, wiring
from console.commands import query
from console.log_options import options
from core.errors import BadInput
from core.events import DriftDetected, Position, ThresholdsChanged
from core.log.memory import MemoryLog
from projections.catalogue import ALL, QUESTIONS
from projections.engine import feed
from projections.engine.as_of import parse_time, resolve
from projections.engine.base import CONTROL, DecidedTransaction, Place
from projections.engine.checkpoints import CheckpointStore
from projections.engine.feed import Bound, account_facts, facts_between
from projections.engine.runner import Runner
from projections.engine.states import States, open_states
from projections.views.cases import CASES, case_answer, cases_answer
from projections.views.drift import DRIFT
from projections.views.labels import LABELS
from projections.views.labels_answers import Filters, labels_answer
from projections.views.profiles.answers import profile_answer
from projections.views.profiles.projection import PROFILES
from projections.views.registry_answers import reference_answer
from tests.builders.batches import copy_log
from tests.builders.events import T0, fuzz
from tests.builders.logs import PARTITIONS, control, entries, filled
from tests.builders.views import encoded, plain, shared_log, truncated

CALLS = range(PARTITIONS)
Sentinel = Callable[..., tuple[int, str]]


def accounts(log: MemoryLog) -> dict[str, int]:
    """Every account with its partition."""
    return {e["transaction"]["account_id"]: p for p in CALLS for kind, _, e, _ in plain(log, p) if kind == "decided"}


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-02", 86_400_000),
        ("1970-01-02T00:00Z", 86_400_000),
        ("1970-01-02T02:00:00.250+02:00", 86_400_250),
        ("1524000000000", T0),
        ("c12", None),
        ("p07:1-533", None),
        ("yesterday", None),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, ms: int | None) -> None:
    """Dates, ISO 8601 and epoch milliseconds; anything else is no time."""
    assert parse_time(text) == ms


@given(data=st.data())
@fuzz(max_examples=60)
def test_as_of_a_time_is_what_the_log_held_then(data: st.DataObject) -> None:
    """Partitions end at the last seal recorded by T; control at the first event after T, or what a seal had seen."""
    log = shared_log()
    seals = {p: [e for kind, _, e, _ in plain(log, p) if kind == "seal"] for p in CALLS}
    times = sorted({seal["recorded_at"] for held in seals.values() for seal in held})
    moment = data.draw(st.sampled_from(times)) + data.draw(st.integers(-1, 1))
    cut = resolve(log, CALLS, str(moment))
    floor = 0
    for p in CALLS:
        held = [seal for seal in seals[p] if seal["recorded_at"] <= moment]
        assert cut.place(p) == Place(len(held))
        floor = max([floor, *(seal["control"] for seal in held)])
    known = floor
    for _, payload in log.read_control(floor):
        if json.loads(payload)["occurred_at"] > moment:
            break
        known += 1
    assert (cut.control, cut.moment) == (known, moment)


@given(data=st.data())
@fuzz(max_examples=60)
def test_as_of_a_transaction_is_what_its_decision_knew(data: st.DataObject) -> None:
    """The partition right after it with the feedback that its score saw, and the control position that it names."""
    log = shared_log()
    p = data.draw(st.sampled_from(list(CALLS)))
    decided = [(position, e) for kind, position, e, _ in plain(log, p) if kind == "decided"]
    position, event = data.draw(st.sampled_from(decided))
    cut = resolve(log, CALLS, f"p{p:02d}:{position}")
    assert cut.control == event["score"]["c"]
    facts = list(facts_between(log, p, Place(0), cut.place(p)))
    assert isinstance(facts[-1].event, DecidedTransaction) and str(facts[-1].id) == position
    assert str(cut.partitions[p].transactions) == position
    verdicts = [fact.id for fact in facts if hasattr(fact.event, "account_id")]
    assert [e.id for e in entries(log, p, "feedback") if e.id <= cut.partitions[p].feedback] == verdicts
    assert cut.partitions[p].feedback <= Position.parse(event["score"]["f"])
    again = resolve(log, CALLS, str(cut))
    assert str(again) == str(cut)


def test_as_of_a_control_position_takes_no_decision_that_saw_more() -> None:
    """Every partition stands after its last batch that saw no later control event."""
    log = shared_log()
    for c in range(log.control_head() + 1):
        cut = resolve(log, CALLS, f"c{c}")
        assert cut.control == c
        for p in CALLS:
            seen = [e["control"] for kind, _, e, _ in plain(log, p) if kind == "seal"]
            assert cut.place(p) == Place(sum(control <= c for control in seen))


@pytest.mark.parametrize(
    "text", ["tomorrow", "p0", "p99:1-1", "p0:1-99999999", "p0:s9999", "c9999", "c1,", "t5", "p0:1"]
)
def test_what_is_not_there_is_refused_in_one_line(text: str) -> None:
    """An as-of that names nothing, or what the log has not reached, is bad input."""
    with pytest.raises(BadInput):
        resolve(shared_log(), CALLS, text)


@given(data=st.data())
@fuzz(max_examples=60)
def test_one_account_on_demand_is_its_part_of_the_whole(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Profile, cases and labels of one account, from nothing or a checkpoint, equal those of folding everyone."""
    log = shared_log()
    known = accounts(log)
    account = data.draw(st.sampled_from([*sorted(known), "only-feedback1"]))
    p = data.draw(st.sampled_from(list(CALLS)))
    sequence = data.draw(st.integers(0, log.head(p).sequence - 1))
    store = CheckpointStore(tmp_path_factory.mktemp("views"), "t")
    if data.draw(st.booleans()):
        runner = Runner(log, CALLS, ALL, store)
        runner.step(data.draw(st.integers(1, sequence + 1)))
        runner.checkpoint()
    text = f"p{p}:s{sequence}+{data.draw(st.integers(0, 2))}"
    fresh, stored = open_states(log, ALL, now_ms=0, as_of=text), open_states(log, ALL, store, now_ms=0, as_of=text)
    for projection in (PROFILES, CASES, LABELS):
        whole = fresh.of(projection, p).accounts.get(account)
        part = stored.of_account(projection, account, p).accounts.get(account)
        assert msgspec.to_builtins(part) == msgspec.to_builtins(whole)


def test_an_accounts_partition_follows_from_its_key() -> None:
    """By the partitioner that the log was created with."""
    log = shared_log()
    states = open_states(log, ALL, now_ms=0)
    assert all(states.partitions_of_account(account) == [p] for account, p in accounts(log).items())


def test_only_the_accounts_own_entries_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other accounts' transactions are passed over as bytes."""
    log = shared_log()
    account = "a7"
    p = accounts(log)[account]
    states = open_states(log, ALL, now_ms=0)
    decoded: list[str] = []
    original = feed.decode_transaction
    monkeypatch.setattr(
        feed, "decode_transaction", lambda raw: decoded.append(original(raw).account_id) or original(raw)
    )
    states.of_account(PROFILES, account, p)
    assert decoded and set(decoded) == {account}
    assert len(decoded) < log.length(p, "transactions")


def test_an_answer_asked_again_with_its_as_of_is_the_same_when_the_log_has_grown() -> None:
    """Every answer names its places; with them the same question has the same answer for ever."""
    log = shared_log()
    half = truncated(log, {p: log.head(p).sequence // 2 for p in CALLS} | {CONTROL: log.control_head() - 3})
    then = open_states(half, ALL, now_ms=T0 + 10**10)
    later = open_states(log, ALL, now_ms=T0 + 10**12)
    again = open_states(log, ALL, now_ms=T0 + 10**12, as_of=then.as_of)
    for question in QUESTIONS.values():
        answer = question(then)
        assert answer.as_of == then.as_of
        assert question(again) == answer
        assert question(later) != answer
    profile = profile_answer(then, "a1")
    assert profile.profile is not None and profile_answer(again, "a1") == profile


def test_cases_come_by_deadline_and_can_be_found_by_alert() -> None:
    """The queue is in the order of deadlines; filters hold; a case is found by any of its alerts."""
    states = open_states(shared_log(), ALL, now_ms=10**15)
    answer = cases_answer(states, stages=("open", "assigned", "resolved"), limit=10**6)
    assert sum(answer.counts.get(stage, 0) for stage in ("open", "assigned", "resolved")) == len(answer.cases)
    due = [row.case.due_at for row in answer.cases if row.case.due_at]
    assert due == sorted(due) and len(due) > 5
    row = max(answer.cases, key=lambda row: len(row.case.alerts))
    assert case_answer(states, row.case.alerts[-1].alert_id) == row
    assert case_answer(states, "99:1-1") is None
    mine = cases_answer(states, account=row.case.account_id, stages=("open", "assigned", "resolved"))
    assert mine.cases == [r for r in answer.cases if r.case.account_id == row.case.account_id]
    assert {r.case.severity for r in cases_answer(states, severity="critical").cases} <= {"critical"}


def test_labels_of_one_account_name_those_without_a_verdict() -> None:
    """All of the account's transactions are listed: labelled, pending or presumed legitimate."""
    log = shared_log()
    answer = labels_answer(open_states(log, ALL, now_ms=10**13), Filters(account="a1", limit=10**6))
    p = accounts(log)["a1"]
    own = [
        e["transaction"]["transaction_id"]
        for kind, _, e, _ in plain(log, p)
        if kind == "decided" and e["transaction"]["account_id"] == "a1"
    ]
    listed = {row.transaction_id: row.status for row in answer.labels}
    assert set(own) <= set(listed) and answer.transactions == len(own)
    assert all(status != "pending" for status in listed.values())
    early = labels_answer(open_states(log, ALL, now_ms=T0), Filters(account="a1", limit=10**6))
    assert "presumed_legitimate" not in early.counts and early.counts["pending"] > 0
    assert early.immature == len(own)


def test_reference_rows_are_those_of_the_table_in_force() -> None:
    """A merchant's row by name as of the cut; no table and no row are told apart."""
    states = open_states(shared_log(), ALL, now_ms=0)
    answer = reference_answer(states, "merchant", "m0")
    assert answer.table is not None and answer.values is not None and answer.values["merchant_count_30d"] is not None
    assert reference_answer(states, "merchant", "nobody").values is None
    assert reference_answer(open_states(shared_log(), ALL, now_ms=0, as_of="c1"), "device", "d1").table is None


@pytest.fixture
def sentinel(
    event_log: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Sentinel:
    """Runs `sentinel` on a copy of the shared log in every implementation of the event log."""
    source = shared_log()
    if isinstance(event_log, MemoryLog):
        copied: Any = source.clone()
    else:
        copied = event_log
        copy_log(source, CALLS, copied)
    monkeypatch.setattr(copied, "close", lambda: None)
    monkeypatch.setattr(wiring, "open_log", lambda settings: copied)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sentinel", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out or err

    return run


COMMANDS = [
    ("profile", "a1"),
    ("cases",),
    ("cases", "--all", "--account", "a1"),
    ("labels",),
    ("labels", "--account", "a1"),
    ("registry",),
    ("lists",),
    ("lists", "--history"),
    ("drift",),
    ("stats",),
    ("reference", "merchant", "m0"),
]


def test_every_question_answers_in_words_and_json(sentinel: Sentinel) -> None:
    """Text and JSON before and after `sentinel project` has made checkpoints, now and as of a position."""
    first = {}
    for command in COMMANDS:
        code, out = sentinel("query", *command)
        assert (code, "as_of" in out) == (0, True), out
        code, out = sentinel("query", *command, "--json", "--as-of", "c9")
        assert code == 0
        first[command] = json.loads(out)
        assert ",c9" in first[command]["as_of"]
    code, out = sentinel("project", "--json")
    statuses = json.loads(out)
    assert code == 0
    assert {(s["condition"], s["lag_events"], s["lag_seconds"]) for s in statuses} == {("following", 0, 0.0)}
    assert len(list(Path(".sentinel/projections").iterdir())) == len(ALL)
    for command in COMMANDS:
        assert json.loads(sentinel("query", *command, "--json", "--as-of", "c9")[1]) == first[command]
    assert "0 events, 0.0 s" in sentinel("project", "--rebuild", "cases")[1]


def test_a_question_of_the_catalogue_is_a_subcommand(sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is one; one that no layout is written for answers in JSON, as of any moment."""

    class Answer(msgspec.Struct):
        as_of: str
        open: int

    def count(states: States) -> Answer:
        """How many drifts are open."""
        return Answer(states.as_of, len(states.of_control(DRIFT).detections))

    commands: dict[str, Any] = vars(get_command(query.app))["commands"]
    assert commands.keys() >= QUESTIONS.keys() and all(command.help for command in commands.values())
    app = typer.Typer()
    app.callback()(options)
    query.derive(app, "count", count)
    monkeypatch.setattr(query, "app", app)
    code, out = sentinel("query", "count", "--as-of", "c9")
    assert code == 0 and ",c9," in json.loads(out)["as_of"]


def test_what_is_not_known_has_exit_code_one_and_nonsense_two(sentinel: Sentinel) -> None:
    """Unknown accounts and cases are told as such; a wrong option or position is one line and exit code 2."""
    row = json.loads(sentinel("query", "cases", "--json", "--limit", "1")[1])["cases"][0]
    code, out = sentinel("query", "case", row["case"]["case_id"], "--json")
    assert (code, json.loads(out)["case"]) == (0, row["case"])
    reasons = json.loads(out)["reasons"]
    assert list(reasons) == [alert["alert_id"] for alert in row["case"]["alerts"]]
    assert all(each["risk_factors"] for each in reasons.values())
    assert any("can't be loaded" in each["missing"] for each in reasons.values())  # the command knows no such model
    code, out = sentinel("query", "case", row["case"]["case_id"])
    said = [sentence for each in reasons.values() for sentence in (*each["words"], each["missing"])]
    assert code == 0 and all(sentence in out for sentence in said)
    assert sentinel("query", "case", "nobody")[0] == 1
    assert sentinel("query", "case", "nobody", "--json") == (1, "null\n")
    assert sentinel("query", "profile", "nobody")[0] == 1
    assert sentinel("query", "labels", "--account", "nobody")[0] == 1
    assert sentinel("query", "labels", "--transaction", "none")[0] == 1
    assert sentinel("query", "labels", "--account", row["case"]["account_id"])[0] == 0
    for arguments in (
        ("stats", "--as-of", "never"),
        ("reference", "planet", "x"),
        ("stats", "--as-of", "p00:1-99999999"),
    ):
        code, out = sentinel("query", *arguments)
        assert (code, out.count("\n"), out.startswith("sentinel: ")) == (2, 1, True)
    assert sentinel("project", "--rebuild", "nothing")[0] == 2


def test_events_dated_back_behind_later_ones_were_not_known() -> None:
    """Control as of a time is a prefix: an event appended after a later-dated one does not enter the past."""
    log = shared_log().clone()
    before = log.control_head()
    newest = max(json.loads(payload)["occurred_at"] for payload in control(log))
    drift: dict[str, Any] = {
        "statistic": "psi",
        "magnitude": 1.0,
        "severity": "low",
        "window_start": 0,
        "window_end": 1,
    }
    late = DriftDetected(occurred_at=newest + 10_000_000_000, actor="ann", feature="late", **drift)
    dated_back = DriftDetected(occurred_at=1, actor="ann", feature="early", **drift)
    log.append_control(encoded(late, dated_back), before)
    assert resolve(log, CALLS, str(newest + 5_000_000_000)).control == before
    assert resolve(log, CALLS, str(newest + 10_000_000_000 - 1)).control == before
    assert resolve(log, CALLS, str(newest + 10_000_000_000)).control == before + 2


def test_what_a_recorded_decision_saw_was_known_whatever_its_date() -> None:
    """A control event dated into the future is known from the moment a batch that saw it was recorded."""
    ahead = ThresholdsChanged(occurred_at=T0 * 2, actor="ann", review=0.2, decline=0.9)
    log = filled(5, 200, changes={100: [ahead]})
    number = next(n for n, payload in log.read_control(count=10**6) if json.loads(payload)["occurred_at"] == T0 * 2)
    seals = [e for p in CALLS for kind, _, e, _ in plain(log, p) if kind == "seal"]
    first = min(seal["recorded_at"] for seal in seals if seal["control"] >= number)
    assert resolve(log, CALLS, str(first)).control >= number
    assert resolve(log, CALLS, str(first - 1)).control < number


def test_one_accounts_facts_are_those_of_the_whole_in_the_same_order() -> None:
    """Account by account, the fast read gives the same facts as folding everyone, in the order of decision."""
    log = shared_log()
    for p in CALLS:
        cut = resolve(log, CALLS)
        whole = list(facts_between(log, p, Place(0), cut.place(p)))
        for account in [name for name, of in accounts(log).items() if of == p]:
            own = [
                fact
                for fact in whole
                if getattr(fact.event, "account_id", None) == account
                or (isinstance(fact.event, DecidedTransaction) and fact.event.transaction.account_id == account)
            ]
            assert list(account_facts(log, p, account, Bound(), cut.partitions[p])) == own


def test_projections_with_checkpoints_at_different_places_share_one_read(tmp_path: Path) -> None:
    """Each gets only the account's facts after its own checkpoint."""
    log = shared_log()
    store = CheckpointStore(tmp_path, "t")
    runner = Runner(log, CALLS, [PROFILES], store)
    runner.step(5)
    runner.checkpoint()
    account, p = "a1", accounts(log)["a1"]
    stored, fresh = open_states(log, ALL, store, now_ms=0), open_states(log, ALL, now_ms=0)
    got = stored.of_account_each([PROFILES, CASES], account, p)
    expected = [fresh.of(PROFILES, p), fresh.of(CASES, p)]
    assert [s.accounts[account] for s in got] == [s.accounts[account] for s in expected]
