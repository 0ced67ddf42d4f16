"""Each read model against plain Python over the log's JSON, and the rules that a random stream does not reach."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import CaseOpened, FeedbackSource, Position
from core.times import DAY_MS
from core.verdicts import VerdictRecord
from projections.engine.base import CONTROL, Fact, fold
from projections.engine.feed import batches
from projections.labelling.consensus import MATURITY_DAYS, consensus, unjudged
from projections.views import registry as registry_model
from projections.views.case_records import SLA_MS, Case, clock
from projections.views.cases import CASES
from projections.views.drift import DRIFT
from projections.views.labels import LABELS
from projections.views.lists import LISTS
from projections.views.profiles.projection import PROFILES
from projections.views.registry import REGISTRY
from projections.views.throughput import THROUGHPUT, latency_ms_at_most
from tests.builders.events import T0, fuzz, verdict
from tests.builders.facts import decided
from tests.builders.logs import PARTITIONS
from tests.builders.views import assigned, plain, resolved, shared_log


def folded(projection: Any, source: int) -> Any:
    """The projection's state of a source of the shared log."""
    log = shared_log()
    end = log.control_head() if source == CONTROL else log.head(source).sequence
    return fold(projection, (fact for batch in batches(log, source, 0, end) for fact in batch.facts))


def control() -> list[tuple[int, dict[str, Any]]]:
    return [(n, json.loads(payload)) for n, payload in shared_log().read_control(count=10**6)]


def test_profiles_are_what_plain_counting_gives() -> None:
    """Activity, amounts, decisions, verdicts and blocks of every account equal a loop over the JSON."""
    for p in range(PARTITIONS):
        expected: dict[str, Any] = defaultdict(
            lambda: {
                "t": [],
                "decisions": Counter(),
                "alerts": Counter(),
                "verdicts": Counter(),
                "blocked": False,
                "at": [],
            }
        )
        for kind, _, event, _ in plain(shared_log(), p):
            if kind == "decided":
                of = expected[event["transaction"]["account_id"]]
                of["t"].append(event["transaction"])
                of["at"].append(event["transaction"]["occurred_at"])
                of["decisions"][event["score"]["decision"]] += 1
                if event["alert"]:
                    of["alerts"][event["alert"]["severity"]] += 1
            elif kind == "feedback" and event["type"] == "feedback.v1":
                of = expected[event["account_id"]]
                of["at"].append(event["occurred_at"])
                of["verdicts"][f"{event['source']}:{event['verdict']}"] += 1
            elif kind == "feedback" and event["type"].startswith("account_"):
                of = expected[event["account_id"]]
                of["at"].append(event["occurred_at"])
                of["blocked"] = event["type"] == "account_blocked.v1"
        got = folded(PROFILES, p).accounts
        assert set(got) == set(expected)
        for account, of in expected.items():
            profile = got[account]
            assert (profile.transactions, profile.decisions) == (len(of["t"]), of["decisions"])
            assert (profile.alerts, profile.verdicts, profile.blocked) == (of["alerts"], of["verdicts"], of["blocked"])
            assert (profile.first_seen, profile.last_seen) == (min(of["at"]), max(of["at"]))
            assert profile.amounts.get("EUR", 0.0) == sum(t["amount"] for t in of["t"])
            assert [r.transaction_id for r in profile.recent] == [t["transaction_id"] for t in of["t"][-10:]]
            last: list[str] = []
            for country in [t["country"] for t in of["t"] if t.get("country")][::-1]:
                last += [country] if country not in last else []
            assert set(profile.countries) == set(last[:8])


def test_cases_hold_every_alert_once_with_the_earliest_deadline() -> None:
    """All alerts of the log are in exactly one case of their account, and clocks follow from their severities."""
    total = 0
    for p in range(PARTITIONS):
        alerts = {
            e["alert"]["alert_id"]: (e["alert"]["account_id"], e["alert"]["severity"], at)
            for kind, _, e, at in plain(shared_log(), p)
            if kind == "decided" and e["alert"]
        }
        got: dict[str, Any] = {}
        for account, of in folded(CASES, p).accounts.items():
            for case in of.cases:
                for alert in case.alerts:
                    assert alert.alert_id not in got
                    got[alert.alert_id] = (account, alert.severity, alert.recorded_at)
                if case.alerts:
                    assert case.due_at == min(a.recorded_at + SLA_MS[a.severity] for a in case.alerts)
                    order = ["low", "medium", "high", "critical"]
                    assert case.severity == max((a.severity for a in case.alerts), key=order.index)
        assert got == alerts
        total += len(got)
    assert total > 20


def said(event: Any, recorded_at: int = T0 + 1000) -> Fact:
    return Fact(0, Position(1, 1), recorded_at, event)


def cases_of(*facts: Fact) -> list[Case]:
    cases: list[Case] = fold(CASES, facts).accounts["a1"].cases
    return cases


def test_a_case_lives_from_alert_to_resolution() -> None:
    """Alerts join the unresolved case, assignment and resolution change it, the next alert opens another."""
    first, second = cases_of(
        decided(1, "medium"),
        decided(2, "critical", T0 + 60_000),
        said(assigned("00:1-1", "a1", "bob")),
        said(assigned("nobody's", "a1", "eve")),
        said(resolved("00:1-1", "a1", "fraud"), T0 + 70_000),
        said(assigned("00:1-1", "a1", "eve")),
        decided(3, "low", T0 + 80_000),
    )
    assert (first.case_id, first.severity, first.stage, first.assignee) == ("00:1-1", "critical", "resolved", "bob")
    assert (first.outcome, first.resolved_by, [a.transaction_id for a in first.alerts]) == (
        "fraud",
        "bob",
        ["t1", "t2"],
    )
    assert first.due_at == T0 + 60_000 + SLA_MS["critical"]
    assert (second.case_id, second.stage, second.due_at) == ("00:1-3", "open", T0 + 80_000 + SLA_MS["low"])


def test_analysts_verdicts_on_all_alerts_resolve_a_case() -> None:
    """One of two verdicts leaves it open; both resolve it, as fraud if any is; unsure resolves nothing."""
    alerts = (decided(1), decided(2))
    legitimate = said(verdict("a1", "legitimate", transaction_id="t1"))
    fraud = said(verdict("a1", "fraud", transaction_id="t2"))
    assert cases_of(*alerts, legitimate)[0].stage == "open"
    assert cases_of(*alerts, legitimate, said(verdict("a1", "unsure", transaction_id="t2")))[0].stage == "open"
    assert (
        cases_of(*alerts, fraud, said(verdict("a1", "fraud", transaction_id="t1", source="customer")))[0].stage
        == "open"
    )
    (case,) = cases_of(*alerts, legitimate, fraud)
    assert (case.stage, case.outcome) == ("resolved", "fraud")


def test_a_case_goes_by_what_was_said_last_not_delivered_last() -> None:
    """Unsure, then legitimate: the case is resolved by both alerts' verdicts though "unsure" came last."""
    clear = said(verdict("a1", "legitimate", T0 + DAY_MS, transaction_id="t1"))
    unsure = said(verdict("a1", "unsure", T0, transaction_id="t1"))
    (case,) = cases_of(decided(1), decided(2), clear, unsure, said(verdict("a1", "legitimate", transaction_id="t2")))
    assert (case.stage, case.outcome) == ("resolved", "legitimate")


def test_a_verdict_that_is_held_back_settles_and_contradicts_nothing() -> None:
    """Given before its payment, or later than its source may: as if it had not been given."""
    early = said(verdict("a1", "fraud", T0 - 30 * DAY_MS))
    (case,) = cases_of(decided(1), early)
    assert (case.stage, case.verdicts) == ("open", [])
    late = said(verdict("a1", "fraud", T0 + 2000 * DAY_MS, source="chargeback"))
    (case,) = cases_of(decided(1), said(resolved("00:1-1", "a1", "legitimate")), late)
    assert not case.contradicted


def test_a_verdict_against_the_outcome_is_a_contradiction() -> None:
    """A chargeback on what was called legitimate marks the case; one that agrees does not; a correction ends it."""
    start = (decided(1), said(resolved("00:1-1", "a1", "legitimate")))
    agree = said(verdict("a1", "legitimate", source="customer"))
    against = said(verdict("a1", "fraud", source="chargeback"))
    assert not cases_of(*start, agree)[0].contradicted
    assert cases_of(*start, agree, against)[0].contradicted
    (case,) = cases_of(*start, against, said(resolved("00:1-1", "a1", "fraud")))
    assert (case.contradicted, case.outcome) == (False, "fraud")


def test_a_case_opened_by_hand_takes_the_alerts_case_or_has_no_clock() -> None:
    """The new ID becomes a name of the case that holds the alert; without an alert it is a case of its own."""
    named = CaseOpened(account_id="a1", case_id="K1", occurred_at=T0, actor="ann", alert_id="00:1-1")
    own = CaseOpened(account_id="a1", case_id="K2", occurred_at=T0, actor="ann")
    first, second = cases_of(decided(1), said(named), said(own), said(own), said(resolved("K1", "a1", "fraud")))
    assert (first.case_id, first.names, first.stage) == ("00:1-1", ["K1"], "resolved")
    assert (second.case_id, second.opened_by, clock(second, T0)) == ("K2", "ann", "none")


def test_the_clock_runs_is_overdue_met_or_missed() -> None:
    """Before the deadline it runs; after it the case is overdue; resolved by log time, it was met or missed."""
    due = T0 + SLA_MS["high"]
    (case,) = cases_of(decided(1))
    assert (clock(case, due), clock(case, due + 1)) == ("running", "overdue")
    for at, expected in ((due, "met"), (due + 1, "missed")):
        (case,) = cases_of(decided(1), said(resolved("00:1-1", "a1", "fraud"), at))
        assert clock(case, due + 10**9) == expected


def test_labels_keep_every_verdict_and_count_every_day() -> None:
    """Verdicts by account and transaction in log order, transactions by day of event time, as a loop gives them."""
    for p in range(PARTITIONS):
        verdicts: dict[tuple[str, str], list[str]] = defaultdict(list)
        days: Counter[int] = Counter()
        for kind, _, event, _ in plain(shared_log(), p):
            if kind == "decided":
                days[event["transaction"]["occurred_at"] // DAY_MS] += 1
            elif kind == "feedback" and event["type"] == "feedback.v1":
                verdicts[event["account_id"], event["transaction_id"]].append(event["verdict"])
        state = folded(LABELS, p)
        got = {
            (account, t): [s.verdict for s in held]
            for account, of in state.accounts.items()
            for t, held in of.verdicts.items()
        }
        assert got == verdicts and state.days == days


def word(source: Any, verdict: Any, day: int = 0, actor: str = "", confidence: float = 1.0) -> VerdictRecord:
    return VerdictRecord(source, verdict, confidence, actor, T0 + day * DAY_MS, T0 + day * DAY_MS)


@pytest.mark.parametrize(
    ("verdicts", "label"),
    [
        ([word("customer", "fraud")], "fraud"),
        ([word("analyst", "unsure")], "review"),
        ([word("chargeback", "fraud"), word("analyst", "legitimate")], "review"),
        ([word("analyst", "legitimate", actor="ann"), word("analyst", "fraud", 1, actor="ann")], "fraud"),
        ([word("analyst", "legitimate", actor="ann"), word("analyst", "fraud", 1, actor="bob")], "review"),
        (
            [word("customer", "fraud"), word("representment", "legitimate", 270), word("analyst", "legitimate", 270)],
            "legitimate",
        ),
        ([word("chargeback", "fraud"), word("analyst", "legitimate", 360)], "legitimate"),
        ([word("chargeback", "fraud"), word("customer", "legitimate", confidence=0.2)], "fraud"),
        ([word("chargeback", "fraud"), word("representment", "legitimate", 30)], "review"),
        ([word("chargeback", "fraud"), *(word("analyst", "legitimate", actor=f"x{n}") for n in range(4))], "review"),
        ([word("chargeback", "fraud"), *(word("analyst", "legitimate", actor=f"x{n}") for n in range(400))], "review"),
        (
            [
                word("customer", "fraud", confidence=0.6),
                *(word("analyst", "legitimate", actor=f"x{n}") for n in range(2)),
                word("early_fraud_warning", "legitimate"),
            ],
            "legitimate",
        ),
        ([*(word("analyst", "fraud", actor=f"x{n}") for n in range(9)), word("analyst", "legitimate")], "fraud"),
    ],
)
def test_consensus_weighs_reliability_confidence_and_recency(verdicts: list[VerdictRecord], label: str) -> None:
    """Agreement decides, a correction replaces, a conflict goes to review, old and weak words lose. Many names of one
    source do not outvote another.
    """
    assert consensus(verdicts).label == label


words = st.builds(
    word,
    st.sampled_from(get_args(FeedbackSource)),
    st.sampled_from(["fraud", "legitimate", "unsure"]),
    st.integers(0, 400),
    st.sampled_from(["", "ann", "bob"]),
    st.floats(0.0, 1.0),
)


@given(st.lists(words, min_size=1, max_size=8), st.randoms(use_true_random=False))
@fuzz(max_examples=200)
def test_consensus_depends_on_last_words_only(verdicts: list[VerdictRecord], rng: Any) -> None:
    """Swapping fraud and legitimate mirrors the label; raters' order does not matter; agreement is never reviewed."""
    agreed = consensus(verdicts)
    said = sorted(verdicts, key=lambda v: v.occurred_at)
    last = {(v.source, v.actor if v.source == "analyst" else ""): v for v in said}
    newest = max(v.occurred_at for v in verdicts)
    if max(v.occurred_at for v in last.values()) == newest:
        shuffled = sorted(last.values(), key=lambda v: rng.random())
        assert consensus(shuffled) == agreed
    other = {"fraud": "legitimate", "legitimate": "fraud", "unsure": "unsure"}
    mirrored = [VerdictRecord(v.source, other[v.verdict], v.confidence, v.actor, v.occurred_at, 0) for v in verdicts]  # type: ignore[arg-type]
    assert consensus(mirrored).label == {**other, "review": "review"}[agreed.label]
    said_words = {v.verdict for v in last.values() if v.confidence > 0}
    if said_words in ({"fraud"}, {"legitimate"}):
        assert agreed.label in said_words
    assert agreed.share is None or 0.0 <= agreed.share <= 1.0


def test_no_verdict_is_not_legitimate_before_maturity() -> None:
    """Without a verdict a transaction is pending until the delay is over, then presumed legitimate and called so."""
    ripe = T0 + MATURITY_DAYS * DAY_MS
    assert [unjudged(T0, now) for now in (T0, ripe - 1, ripe)] == ["pending", "pending", "presumed_legitimate"]


def test_the_registry_tells_stages_lineage_and_who_deployed_what() -> None:
    """Aliases, deployments and policy in force equal a loop over the control stream; refused changes have no effect."""
    state = folded(REGISTRY, CONTROL)
    deployed = [(n, e) for n, e in control() if e["type"] in ("model_deployed.v1", "model_rolled_back.v1")]
    assert [(d.position, d.actor, d.model, d.reason) for d in state.deployments] == [
        (n, e["actor"], f"{e['name']}-{e['version']}", e.get("reason", "")) for n, e in deployed
    ]
    assert state.aliases == {e.get("alias", "champion"): f"{e['name']}-{e['version']}" for _, e in deployed}
    assert {label: registry_model.stage(state, label) for label in state.models} == {
        "tiny-1.0.0": "champion",
        "tiny-1.1.0": "candidate",
    }
    assert registry_model.lineage(state, "tiny-1.1.0") == ["tiny-1.1.0", "tiny-1.0.0"]
    assert (state.review, state.decline, state.parameters) == (0.3, 0.7, {"amount_high": 500.0})
    assert [bool(change.refused) for change in state.policy] == [False, True, False]
    published = [e for _, e in control() if e["type"] == "reference_published.v1" and e["kind"] == "merchant"]
    reference = state.references["merchant"]
    assert (reference.digest, reference.tables) == (published[-1]["digest"], len(published))


def test_lists_hold_what_was_added_and_not_removed() -> None:
    """Members and blocked accounts equal sets in a loop; every change is in the history with who and why."""
    state = folded(LISTS, CONTROL)
    assert {name: list(held) for name, held in state.members.items()} == {"card:block": ["c2", "c3"]}
    assert [(c.action, c.value) for c in state.history] == [
        ("add", "c1"),
        ("add", "c2"),
        ("add", "c3"),
        ("remove", "c1"),
    ]
    assert state.members["card:block"]["c2"].reason == "stolen"
    changes = 0
    for p in range(PARTITIONS):
        blocked: set[str] = set()
        for kind, _, event, _ in plain(shared_log(), p):
            if kind == "feedback" and event["type"] == "account_blocked.v1":
                blocked.add(event["account_id"])
            elif kind == "feedback" and event["type"] == "account_unblocked.v1":
                blocked.discard(event["account_id"])
        of_partition = folded(LISTS, p)
        assert set(of_partition.accounts) == blocked
        changes += len(of_partition.history)
    assert changes > 0


def test_drift_is_open_until_it_is_cleared() -> None:
    """A clearing ends the detections of its feature and no other."""
    found = {d.feature: (d.magnitude, bool(d.cleared_at), d.cleared_by) for d in folded(DRIFT, CONTROL).detections}
    assert found == {"amount": (0.3, True, "ann"), "hour": (0.3, False, "")}


def test_throughput_counts_what_the_log_holds() -> None:
    """Hours, decisions, models, rejects and ages equal counting the JSON."""
    for p in range(PARTITIONS):
        state = folded(THROUGHPUT, p)
        entries = plain(shared_log(), p)
        hours: dict[int, Counter[str]] = defaultdict(Counter)
        for kind, _, event, at in entries:
            hours[at // 3_600_000][kind] += 1
            hours[at // 3_600_000]["alert"] += kind == "decided" and event["alert"] is not None
        got = {
            hour: {
                "seal": h.batches,
                "decided": h.transactions,
                "feedback": h.feedback,
                "reject": h.rejects,
                "alert": h.alerts,
            }
            for hour, h in state.hours.items()
        }
        assert {hour: +Counter(counts) for hour, counts in got.items()} == {h: +c for h, c in hours.items()}
        scores = [e["score"] for kind, _, e, _ in entries if kind == "decided"]
        assert state.decisions == Counter(s["decision"] for s in scores)
        assert state.models == Counter(s["model"] for s in scores)
        assert state.rejects == Counter(e["reason"] for kind, _, e, _ in entries if kind == "reject")
        ages = sorted(at - e["transaction"]["occurred_at"] for kind, _, e, at in entries if kind == "decided")
        for share in (0.5, 0.95):
            bound = latency_ms_at_most(state.latency, share)
            assert bound is not None and sum(max(age, 0) < bound for age in ages) >= share * len(ages)
    assert latency_ms_at_most({}, 0.5) is None
