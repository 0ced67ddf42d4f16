"""What-if: nothing changed changes nothing; a changed threshold, rule or model shows where; nothing is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console import whatif_report
from console.plots.whatif import write_plot
from core import control_stream
from core.codec import decode_score, decode_transaction
from core.errors import BadInput
from core.events import Position
from core.features import packing
from core.log.base import Batch, Entry, EventLog, Head
from core.log.memory import MemoryLog
from core.log.readonly import ReadOnlyLog
from core.times import DAY_MS
from projections.audit.stored_batch import NotStored
from projections.audit.whatif import Changes, Outcome, Scope, run
from projections.audit.whatif_columns import WhatIf
from projections.labelling.reader import LabelReader
from tests.builders.baseline_log import PARTITIONS, decided, timeline
from tests.builders.logs import entries
from tests.builders.models import TinyScorer

EVERYTHING = Scope()


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return decided()


def outcome(log: EventLog, changes: Changes, scope: Scope = EVERYTHING, top: int = 10) -> Outcome:
    labels = LabelReader(log, range(PARTITIONS)).view()
    parts = [
        run(log, p, log.head(p), timeline(log), changes, scope, labels.of_partition(p), top=top)
        for p in range(PARTITIONS)
    ]
    return Outcome.joined(parts, top)


def rows(log: MemoryLog) -> list[tuple[int, Position, object, object]]:
    """(partition, position, transaction, score) of every decision."""
    return [
        (p, t.id, decode_transaction(t.payload), decode_score(s.payload))
        for p in range(PARTITIONS)
        for t, s in zip(entries(log, p, "transactions"), entries(log, p, "scores"), strict=True)
    ]


def test_no_change_changes_no_decision(log: MemoryLog) -> None:
    """Thresholds, rules, lists and a missing table as they were: every decision comes out as logged."""
    found = outcome(log, Changes())
    assert len(found.times) == sum(log.length(p, "scores") for p in range(PARTITIONS))
    assert (found.was == found.now).all() and found.changed == []
    report = whatif_report.report(found, [])
    assert report.total.changed == 0
    assert report.total.logged == report.total.whatif
    assert report.total.money == whatif_report.Money(0.0, 0.0, 0.0, 0.0, 0.0)
    assert sum(line.decisions for line in report.days) == report.total.decisions


def test_lower_thresholds_are_a_recount_of_the_logged_probabilities(log: MemoryLog) -> None:
    """With the same model, decisions and money under other thresholds follow from the log itself."""
    found = outcome(log, Changes(review=0.1, decline=0.2), top=10**6)
    labels = LabelReader(log, range(PARTITIONS)).view()
    saved = declined = frauds = 0.0
    alerts = 0
    for _, _, t, s in rows(log):
        fraud = labels.label(t.account_id, t.transaction_id) == "fraud"  # type: ignore[attr-defined]
        hit_review = s.decision == "review" or s.probability >= 0.1  # type: ignore[attr-defined]
        now_declined = s.decision == "decline" or s.probability >= 0.2  # type: ignore[attr-defined]
        alerts += hit_review or now_declined
        frauds += fraud
        if fraud and s.decision == "approve" and (hit_review or now_declined):  # type: ignore[attr-defined]
            saved += t.amount  # type: ignore[attr-defined]
        if not fraud and s.decision != "decline" and now_declined:  # type: ignore[attr-defined]
            declined += t.amount  # type: ignore[attr-defined]
    total = whatif_report.report(found, []).total
    assert frauds == total.frauds > 50 and saved > 0
    assert total.whatif.alerts == alerts > total.logged.alerts
    assert total.money.saved == pytest.approx(saved)
    assert total.money.lost == pytest.approx(declined)
    assert len(found.changed) == total.changed == int((found.was != found.now).sum())


def test_higher_thresholds_let_fraud_through(log: MemoryLog) -> None:
    """Money lost is the fraud that was stopped and no longer would be; recall falls; the table is by amount."""
    report = whatif_report.report(outcome(log, Changes(review=0.95, decline=0.99)), [])
    total = report.total
    assert total.money.saved == 0.0 < total.money.lost == total.money.fraud_let_through
    assert (total.whatif.recall or 0.0) < (total.logged.recall or 0.0)
    assert (total.whatif.value_detection_rate or 0.0) < (total.logged.value_detection_rate or 0.0)
    amounts = [c.amount for c in report.table]
    assert len(amounts) == 10 and amounts == sorted(amounts, reverse=True)
    assert sum(line.money.lost for line in report.days) == pytest.approx(total.money.lost)


def test_rules_can_be_changed_and_switched_off(log: MemoryLog) -> None:
    """A parameter and a disabled code act on top of what was in force; a rule set replaces it."""
    off = outcome(log, Changes(disabled=("VELOCITY_10M", "CARD_TESTING", "LIST_WATCH", "IMPOSSIBLE_TRAVEL")))
    assert len(off.changed) > 0
    assert all(c.now == "approve" and c.was == "review" and c.rules_was for c in off.changed)
    eager = outcome(log, Changes(parameters={"velocity_10m": 1.0}))
    assert len(eager.changed) > 0
    assert all("VELOCITY_10M" in c.rules_now and c.was == "approve" and c.now == "review" for c in eager.changed)
    replaced = outcome(log, Changes(rule_set=({"velocity_10m": 1.0}, ()), disabled=("VELOCITY_10M",)))
    assert all("VELOCITY_10M" not in c.rules_now for c in replaced.changed)
    with pytest.raises(BadInput):
        outcome(log, Changes(disabled=("NO_SUCH_RULE",)))
    with pytest.raises(BadInput):
        outcome(log, Changes(review=0.99, decline=None))


def test_another_model_decides_instead(log: MemoryLog) -> None:
    """Its probabilities are its own on the features as they were, and its name is in the context."""
    found = outcome(log, Changes(model=TinyScorer()), top=10**6)
    assert found.changed
    by_place = {(p, str(position)): s for p, position, _, s in rows(log)}
    scorer = TinyScorer()
    for change in found.changed[:50]:
        logged = by_place[change.partition, change.position]
        row = packing.vector(logged.features)[None, :]  # type: ignore[attr-defined]
        margin = float(scorer.margins(row)[0])
        assert change.probability_now == pytest.approx(1 / (1 + np.exp(-margin)), rel=1e-9)
    context = dataclasses.replace(timeline(log).at(5, 0), scorer=None, degraded="model_unavailable")
    under = Changes(model=scorer).of(context)
    assert (under.model, under.degraded, under.scorer) == ("tiny-1.0.0", None, scorer)
    context = dataclasses.replace(context, degraded="reference_unavailable+model_unavailable")
    assert Changes(model=scorer).of(context).degraded == "reference_unavailable"


def test_a_stretch_counts_only_its_decisions_with_the_whole_history(log: MemoryLog) -> None:
    """Times are half-open, positions inclusive; features still come from everything before."""
    times = sorted(t.occurred_at for _, _, t, _ in rows(log))  # type: ignore[attr-defined]
    start = times[len(times) // 2] // DAY_MS * DAY_MS
    middle = Scope(start_ms=start, end_ms=start + 2 * DAY_MS)
    found = outcome(log, Changes(), middle)
    assert len(found.times) == sum(start <= t < start + 2 * DAY_MS for t in times) > 0
    assert (found.was == found.now).all()
    assert [line.decisions > 0 for line in whatif_report.report(found, []).days] == [True, True]
    first, last = Position(1, 300), Position(1, 400)
    some = run(log, 1, log.head(1), timeline(log), Changes(), Scope(first=first, last=last), {})
    assert len(some.times) == len(log.read(1, "scores", Position(1, 299), 1000, last))
    assert (some.was == some.now).all()
    with pytest.raises(BadInput):
        outcome(log, Changes(), Scope(start_ms=times[-1] + 1))


def test_a_table_keeps_the_largest_amounts(log: MemoryLog) -> None:
    """A bounded table is the head of the whole one."""
    changes = Changes(review=0.05, decline=0.1)
    assert outcome(log, changes, top=7).changed == outcome(log, changes, top=10**6).changed[:7]
    assert outcome(log, changes, top=0).changed == []


def test_the_plot_is_a_png(log: MemoryLog, tmp_path: Path) -> None:
    """One picture, also where a day has no fraud; a path that can't be written is the user's error."""
    report = whatif_report.report(outcome(log, Changes(review=0.1)), ["review 0.1"])
    write_plot(report, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(BadInput):
        write_plot(report, tmp_path / "no" / "plot.png")


def test_the_text_names_changes_and_days(log: MemoryLog) -> None:
    """What was changed, every day, and the table are in the report for a terminal."""
    report = whatif_report.report(outcome(log, Changes(review=0.1)), ["review 0.1"])
    shown = whatif_report.text(report)
    assert shown.startswith("changed: review 0.1")
    assert all(line.day in shown for line in report.days)
    assert all(c.transaction_id in shown for c in report.table)


def test_a_read_only_log_refuses_every_write_and_reads_the_same() -> None:
    """No writing method of the protocol gets through; all of them are covered."""
    behind = MemoryLog()
    log = ReadOnlyLog(behind)
    before = dict(vars(behind))
    batch = Batch(control=0, recorded_at=1, transactions_end=Position(1, 1), feedback_end=Position(0, 0))
    writes = {
        "append": lambda: log.append(0, batch, Head()),
        "append_many": lambda: log.append_many([(0, batch, Head())]),
        "start_append": lambda: log.start_append([]),
        "append_control": lambda: log.append_control([b"{}"], 0),
        "put_blob": lambda: log.put_blob(b"x"),
        "continue_after": lambda: log.continue_after(0, Entry(Position(1, 1), b"{}")),
        "remove_blob": lambda: log.remove_blob("0" * 64),
        "trim": lambda: log.trim(0, Head()),
    }
    for write in writes.values():
        with pytest.raises(BadInput, match="read-only"):
            write()
    reads = {
        "head",
        "read",
        "begin",
        "follow",
        "get",
        "get_many",
        "length",
        "control_head",
        "read_control",
        "get_blob",
        "held_blobs",
        "server_time",
        "close",
        "signer",
    }
    assert {name for name in vars(EventLog) if not name.startswith("_")} == reads | writes.keys()
    assert vars(behind) == before
    assert log.get_many(0, "scores", []) == []
    assert (log.head(0), log.length(0, "scores"), log.control_head(), log.read_control()) == (Head(), 0, 0, [])


def test_empty_changes_leave_a_context_as_it_was(log: MemoryLog) -> None:
    """Field by field, and the program's parameters and rules; a changed `amount_high` is in force in the program."""
    context = timeline(log).at(6, 0)
    same = Changes().of(context)
    assert same.program.parameters == context.program.parameters
    assert same.program.disabled == context.program.disabled and same.program.digest == context.program.digest
    for name in (f.name for f in dataclasses.fields(context) if f.compare and f.name != "program"):
        was, now = getattr(context, name), getattr(same, name)
        assert np.array_equal(was, now) if isinstance(was, np.ndarray) else was == now
    high = Changes(parameters={"amount_high": 5.0}).of(context)
    assert high.program.parameters == {**context.program.parameters, "amount_high": 5.0}
    lower = Changes(decline=0.55).of(context).program.parameters
    assert lower == {**context.program.parameters, "decline_probability": 0.55}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (Changes(parameters={"speed": 1.0}), "program default@1.0.0: unknown rule parameter 'speed'"),
        (Changes(rule_set=({"speed": 1.0}, ())), "unknown rule parameter 'speed'"),
        (Changes(rule_set=({}, ("NO_SUCH_RULE",))), "unknown rule 'NO_SUCH_RULE'"),
        (Changes(parameters={"amount_high": float("nan")}), "amount_high is not a number"),
        (Changes(parameters={"review_probability": 0.2}), "review_probability is a threshold"),
    ],
)
def test_what_the_program_does_not_have_can_not_be_changed(log: MemoryLog, changes: Changes, message: str) -> None:
    """Names and codes are those of the program that decides; thresholds have their own options."""
    with pytest.raises(BadInput, match=message):
        changes.of(timeline(log).at(6, 0))


def test_a_rule_set_replaces_what_was_set(log: MemoryLog) -> None:
    """Parameters that it leaves out have the program's defaults again, whatever was in force."""
    context = timeline(log).at(6, 0)
    changed = Changes(parameters={"amount_high": 5.0}, disabled=("CLOCK_SKEW",)).of(context)
    under = Changes(rule_set=({"velocity_10m": 2.0}, ("NEW_MERCHANT",)), disabled=("CARD_TESTING",)).of(changed).program
    assert (under.parameters["amount_high"], under.parameters["velocity_10m"]) == (1000.0, 2.0)
    assert under.disabled == ("NEW_MERCHANT", "CARD_TESTING")


@pytest.mark.parametrize(
    "changes",
    [
        Changes(),
        Changes(review=0.1, decline=0.2),
        Changes(review=0.95, decline=0.99),
        Changes(review_loss=10.0, decline_loss=40.0),
        Changes(parameters={"velocity_10m": 1.0}),
        Changes(disabled=("VELOCITY_10M", "CARD_TESTING", "LIST_WATCH", "IMPOSSIBLE_TRAVEL")),
        Changes(rule_set=({"velocity_10m": 1.0}, ()), disabled=("VELOCITY_10M",)),
    ],
)
@pytest.mark.parametrize("start", [None, 1_770_000_000_000])
def test_stored_columns_give_what_the_fold_gives(log: MemoryLog, changes: Changes, start: int | None) -> None:
    """The report by stored columns is the fold's, figure by figure, with the same changed decisions."""
    times = sorted(t.occurred_at for _, _, t, _ in rows(log))  # type: ignore[attr-defined]
    scope = Scope(start_ms=times[len(times) // 3] if start else None)
    folded = whatif_report.report(outcome(log, changes, scope), [])
    found, _ = columns(log, changes).run({p: log.head(p).transactions for p in range(PARTITIONS)}, scope)
    judged = whatif_report.report(found, [])
    assert judged.total == folded.total and judged.days == folded.days
    assert judged.table == folded.table and (changes == Changes()) is (judged.total.changed == 0)


def columns(log: MemoryLog, changes: Changes, **options: Any) -> WhatIf:
    labels = LabelReader(log, range(PARTITIONS)).view()
    return WhatIf(log, control_stream.history(log), changes, labels, top=10, **options)


def test_a_curve_has_what_each_threshold_gives(log: MemoryLog) -> None:
    """Each point is the what-if with that threshold for review, and declines from at least there."""
    until = {p: log.head(p).transactions for p in range(PARTITIONS)}
    _, curve = columns(log, Changes(decline=0.5), curve=(0.1, 0.5, 0.9)).run(until, EVERYTHING)
    for point in curve:
        changes = Changes(review=point.review, decline=max(point.review, 0.5))
        total = whatif_report.report(outcome(log, changes), []).total.whatif
        assert (point.alerts, point.precision, point.recall) == (total.alerts, total.precision, total.recall)
        assert point.value_detection_rate == pytest.approx(total.value_detection_rate)
    assert curve[0].alerts > curve[1].alerts > curve[2].alerts


def test_columns_refuse_what_takes_the_fold(log: MemoryLog) -> None:
    """Another model has other margins; unknown names are told as by the fold."""
    with pytest.raises(NotStored, match="model"):
        columns(log, Changes(model=TinyScorer()))
    until = {p: log.head(p).transactions for p in range(PARTITIONS)}
    with pytest.raises(BadInput, match="NO_SUCH_RULE"):
        columns(log, Changes(disabled=("NO_SUCH_RULE",))).run(until, EVERYTHING)
    with pytest.raises(BadInput, match="no decisions"):
        columns(log, Changes()).run(until, Scope(start_ms=2**42))
