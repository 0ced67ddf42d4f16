"""Audits: one account's history is enough to decide again, byte for byte; the story says what was in force."""

from __future__ import annotations

from collections.abc import Callable

import lightgbm
import msgspec
import numpy as np
import pytest

from console.audit_page import page
from console.audit_text import text
from console.wiring import load_scorer
from core import control_stream
from core.alerts import MODEL_CODE
from core.codec import decode_alert, decode_score, decode_transaction, encode
from core.context import Resolver
from core.errors import Incomplete
from core.events import AlertRaised, FeedbackReceived, Position
from core.features import packing, spec
from core.log.base import Batch, Entry, Stream
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest
from models.shipped import shipped_baseline
from projections.audit import redecide, whatif
from projections.audit.reasons import phrase
from projections.audit.redecide import DecisionPlace, Found
from projections.audit.story import Story, tell
from tests.builders.baseline_log import PARTITIONS, decided, follow_up, timeline
from tests.builders.logs import entries, heads, records


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return decided()


def story(log: MemoryLog, place: DecisionPlace) -> Story:
    found = redecide.at_place(log, place)
    assert found is not None
    return tell(log, found, control_stream.history(log), timeline(log))


def alerts(log: MemoryLog) -> list[DecisionPlace]:
    return [DecisionPlace(p, e.id) for p in range(PARTITIONS) for e in entries(log, p, "alerts")]


def replaced(log: MemoryLog, stream: Stream, place: DecisionPlace, change: Callable[[bytes], bytes]) -> MemoryLog:
    """A copy of the log with one entry changed."""
    other, before = log.clone(), log.get(place.partition, stream, place.position)
    assert before is not None
    other.tamper(place.partition, stream, place.position, change(before))
    return other


def test_every_decision_comes_out_identical_from_its_account_alone(log: MemoryLog) -> None:
    """All rows of a partition audited: model, rules, lists, thresholds and the missing table as they were."""
    for partition in range(PARTITIONS):
        count = log.length(partition, "scores")
        found = redecide.check(log, partition, range(count), timeline(log))
        assert found == (count, count, {}, [])
    degraded = [decode_score(e.payload).degraded for p in range(PARTITIONS) for e in entries(log, p, "scores")]
    assert {None, "reference_unavailable"} == set(degraded)


def test_a_sample_is_decided_with_other_accounts_left_out(log: MemoryLog) -> None:
    """A few rows only: most of the partition's accounts are never folded, and the result is the same."""
    count = log.length(1, "scores")
    found = redecide.check(log, 1, [count - 1, 7, count // 2], timeline(log))
    assert (found.audited, found.identical) == (3, 3)
    assert redecide.check(log, 1, [count + 5], timeline(log)).audited == 0


def test_a_changed_score_is_found_and_named(log: MemoryLog) -> None:
    """One bit of a logged probability or feature makes the audit say where and what."""
    place = alerts(log)[10]

    def change(payload: bytes) -> bytes:
        score = decode_score(payload)
        row = packing.vector(score.features)
        amount = spec.index("amount")
        row[amount : amount + 1].view(np.uint32)[0] ^= 1
        return encode(msgspec.structs.replace(score, features=packing.pack(row[None, :])[0], probability=0.5))

    other = story(replaced(log, "scores", place, change), place)
    assert not other.recomputed.identical
    assert [line.split(":")[0] for line in other.recomputed.differences] == ["probability", "feature amount"]
    assert "NOT identical" in text(other)
    assert 'class="verdict other"' in page(other)
    count = log.length(place.partition, "scores")
    sampled = redecide.check(replaced(log, "scores", place, change), place.partition, range(count), timeline(log))
    assert sampled.identical == count - 1
    assert sampled.differences[0][0] == place


def test_a_changed_alert_or_history_is_found(log: MemoryLog) -> None:
    """The alert is compared too, and an earlier transaction of the account that was altered shows."""
    place = alerts(log)[-1]
    lower = replaced(
        log,
        "alerts",
        place,
        lambda p: encode(msgspec.structs.replace(decode_alert(p), severity="low", fraud_score=0.0)),
    )
    assert any(line.startswith("alert fraud_score") for line in story(lower, place).recomputed.differences)
    account = story(log, place).account_id
    earlier = next(
        e.id
        for e in entries(log, place.partition, "transactions")
        if decode_transaction(e.payload).account_id == account
    )
    richer = replaced(
        log,
        "transactions",
        DecisionPlace(place.partition, earlier),
        lambda p: encode(msgspec.structs.replace(decode_transaction(p), amount=123456.0)),
    )
    assert story(richer, place).recomputed.differences


def test_the_story_says_what_was_in_force_and_who_put_it_there(log: MemoryLog) -> None:
    """Early and late decisions name their own thresholds, rules and tables, and who promoted the model."""
    places = alerts(log)
    handicapped = [p for p in places if decode_score(log.get(p.partition, "scores", p.position) or b"").degraded]
    early, late = story(log, places[0]), story(log, handicapped[-1])
    assert early.recomputed.identical and late.recomputed.identical
    assert (early.policy.review, early.policy.decline) == (0.3, 0.7)
    assert early.policy.thresholds_changed is not None and early.policy.thresholds_changed.actor == "ann"
    assert (early.policy.parameters, early.policy.rules_changed, early.references) == ({}, None, [])
    assert (late.policy.review, late.policy.decline) == (0.5, 0.9)
    assert late.policy.thresholds_changed is not None and late.policy.thresholds_changed.reason == "too many"
    assert late.policy.disabled == ("UNUSUAL_HOUR",) and late.policy.parameters == {"velocity_10m": 4.0}
    assert [r.kind for r in late.references] == ["device", "merchant"]
    assert late.degraded == "reference_unavailable"
    for each in (early, late):
        assert each.model is not None and each.model.deployed is not None
        assert each.model.deployed.reason == "passed the checks" and each.model.deployed.actor == "ann"
        assert each.model.digest == shipped_baseline()[1]["digest"]
        assert each.model.metrics == shipped_baseline()[1]["metrics"]


def test_shares_are_shap_values_and_rank_the_alerts_reasons(log: MemoryLog) -> None:
    """They are LightGBM's, add up with the bias to the logged margin, and an alert of the model names those first that
    say most for fraud.
    """
    booster = lightgbm.Booster(model_str=shipped_baseline()[0].decode())
    ranked = 0
    for place in alerts(log)[::20]:
        told = story(log, place)
        shares = np.array([f.share for f in told.features], dtype=np.float64)
        assert told.bias is not None and told.bias + shares.sum() == pytest.approx(told.margin, abs=1e-9)
        row = np.array([[np.nan if f.value is None else f.value for f in told.features]])
        assert [*shares, told.bias] == pytest.approx(booster.predict(row, pred_contrib=True)[0], abs=1e-9)
        assert told.alert is not None
        alert = msgspec.json.decode(told.alert, type=AlertRaised)
        by_share = [spec.FEATURES[i] for i in np.argsort(-shares, kind="stable") if shares[i] > 0.0]
        if alert.reason_codes == (MODEL_CODE,):
            top = [phrase(feature.name, float(row[0, spec.index(feature.name)])) for feature in by_share]
            assert told.reasons is not None and list(told.reasons.words) == [words for words in top if words][:3]
            ranked += 1
    assert ranked


def test_normal_is_the_accounts_earlier_decisions(log: MemoryLog) -> None:
    """Median and percentiles are numpy's over the features logged for the account before, and for nobody else."""
    place = alerts(log)[-3]
    told = story(log, place)
    values = []
    p = place.partition
    for t, s in zip(entries(log, p, "transactions"), entries(log, p, "scores"), strict=True):
        if t.id < place.position and decode_transaction(t.payload).account_id == told.account_id:
            score = decode_score(s.payload)
            values.append(packing.vector(score.features)[spec.index("amount")])
    line = told.features[spec.index("amount")]
    assert told.earlier_decisions == line.known == len(values) > 20
    assert [line.p05, line.median, line.p95] == pytest.approx(np.percentile(np.array(values, float), [5, 50, 95]))


def test_labels_and_actions_since_are_told_apart(log: MemoryLog) -> None:
    """A verdict on this transaction is a label; a case and an action caused by its alert are its; others are not."""
    place = alerts(log)[0]
    found = redecide.at_place(log, place)
    assert found is not None
    other = log.clone()
    head = other.head(place.partition)
    events = follow_up(found.account_id, found.transaction_id, f"{place.partition:02d}:{place.position}")
    ids = [Position(1, head.feedback.offset + n) for n in range(1, len(events) + 1)]
    batch = Batch(
        control=head.control,
        recorded_at=1,
        transactions_end=head.transactions,
        feedback_end=ids[-1],
        feedback=[Entry(i, encode(e)) for i, e in zip(ids, events, strict=True)],
    )
    other.append(place.partition, batch, head)
    told = story(other, place)
    assert [later.type for later in told.actions] == ["case_opened.v1", "action_succeeded.v1", "case_resolved.v1"]
    assert [msgspec.json.decode(x.event, type=dict)["transaction_id"] for x in told.labels] == [found.transaction_id]
    assert told.account_since and told.recomputed.identical
    assert "action_succeeded.v1" in text(told)


def test_escaped_and_shared_identifiers_are_found() -> None:
    """IDs that JSON escapes, and spellings that another encoder would choose, are found; look-alikes are not."""
    log = MemoryLog()
    ids = ['t"1', "ü", "t/2", "a7"]
    payloads = [
        b'{"type":"transaction.v1","recorded_at":1,"transaction_id":%s,"account_id":"a7","amount":1,"occurred_at":1}'
        % msgspec.json.encode(i)
        for i in ids
    ]
    payloads.append(payloads[1].replace("ü".encode(), b"\\u00fc"))
    for number, payload in enumerate(payloads, 1):
        log.tamper(0, "transactions", Position(1, number), payload)
    places = {i: [f.place.position.offset for f in redecide.find(log, [0], i)] for i in ids}
    assert places == {'t"1': [1], "ü": [2, 5], "t/2": [3], "a7": [4]}
    assert redecide.find(log, [0], "ü", "a8") == []
    assert len(redecide.find(log, [0], "ü", "a7")) == 2


def test_a_place_reads_as_an_alert_writes_it() -> None:
    """p07:1-533 and the alert ID 07:1-533 are one place; anything else is refused."""
    assert DecisionPlace.parse("p07:1-533") == DecisionPlace.parse("07:1-533") == DecisionPlace(7, Position(1, 533))
    assert str(DecisionPlace(7, Position(1, 533))) == "p07:1-533"
    for text_ in ("", "7", "p07:", "p07:1", "x:1-2"):
        with pytest.raises(ValueError):
            DecisionPlace.parse(text_)


def test_the_page_stands_alone_and_escapes(log: MemoryLog) -> None:
    """No script, no address, nothing to load; what came from outside can't become markup."""
    place = alerts(log)[0]
    html = page(story(log, place))
    for forbidden in ("<script", "http:", "https:", "src=", "url(", "@import", "<link"):
        assert forbidden not in html
    assert 'class="verdict same"' in html
    nasty = "<img src=x onerror=alert(1)>"
    told = msgspec.structs.replace(story(log, place), transaction_id=nasty, account_id=nasty, place=nasty)
    assert nasty not in page(told)
    assert "&lt;img" in page(told)


def test_a_decision_without_a_model_is_told(log: MemoryLog) -> None:
    """No champion at c: the story says so, has no contributions, and is identical."""
    other = MemoryLog()

    ingest = OfflineIngest(other, Resolver(other.get_blob, load_scorer), partitions=1)
    ingest.feed(records(3, 200))
    ingest.flush()
    last = entries(other, 0, "transactions")[-1]
    told = tell(
        other,
        Found(DecisionPlace(0, last.id), "", decode_transaction(last.payload).account_id),
        control_stream.history(other),
        timeline(other),
    )
    assert told.model is None and told.bias is None and told.degraded == "no_model"
    assert told.recomputed.identical
    assert "decided by rules alone" in text(told) and "No model decided" in page(told)


def test_a_later_verdict_changes_no_audit(log: MemoryLog) -> None:
    """Feedback after f is not folded in: it is listed as the future that it was."""
    place = alerts(log)[0]
    told = story(log, place)
    f = Position.parse(told.f)
    future = [e for e in redecide.account_events(log, place.partition, [told.account_id]) if e[0] > f]
    assert future and len(future) == len(told.labels) + len(told.actions) + len(told.account_since)
    assert any(isinstance(event, FeedbackReceived) for _, event in future)


@pytest.mark.parametrize("batches", [1, 3])
def test_a_trimmed_history_is_refused_and_not_called_different(log: MemoryLog, batches: int) -> None:
    """Without the account's first events nothing can be decided again: an error that says so, not a false alarm."""
    other = log.clone()
    head = heads(log, 1)[batches]
    other.trim(1, head)
    last = DecisionPlace(1, entries(other, 1, "transactions")[-1].id)
    with pytest.raises(Incomplete, match="archive"):
        story(other, last)
    with pytest.raises(Incomplete, match="archive"):
        whatif.run(other, 1, other.head(1), timeline(other), whatif.Changes(), whatif.Scope(), {})
    assert redecide.check(other, 0, [5], timeline(other)).identical == 1
