"""The read model of A/B tests: observations, time travel, resumption, and streaming against batch inference."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from core.assignment import Allocation
from core.events import (
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStopped,
    ModelDeployed,
    ProgramDeployed,
    ProgramRegistered,
)
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.verdicts import VerdictRecord
from learners.experiments.report import criteria_of, paths, report
from learners.experiments.srm import Mismatch
from learners.experiments.verdict import METRICS, finding, new_effect
from projections.catalogue import ALL
from projections.engine.base import CONTROL, control_fact, fold
from projections.engine.feed import batches
from projections.engine.states import open_states
from projections.labelling.consensus import consensus
from projections.views.experiments import EXPERIMENTS, ROW, ROWS_MAX, Experiments
from projections.views.experiments_answers import (
    VALUE_CAP,
    Final,
    Observations,
    experiment_answer,
    observe,
)
from projections.views.labels import LABELS
from tests.builders.decisions import control_entries
from tests.builders.events import T0
from tests.builders.experiments import ANN, ARMS, MATURITY, ONE, TWO, WINDOW, experimented, started
from tests.builders.facts import decided
from tests.builders.logs import PARTITIONS
from tests.builders.views import plain, truncated

CRITERIA = criteria_of(started())


@cache
def log_of_an_experiment() -> MemoryLog:
    """Some 140 accounts over twelve days, the first before the experiment; ramped down and up on the way."""
    changes: dict[int, list[Any]] = {
        60: [started()],
        300: [ExperimentRamped(**ANN, occurred_at=T0, experiment_id="e1", traffic=3000)],
        450: [ExperimentRamped(**ANN, occurred_at=T0, experiment_id="e1", traffic=10_000)],
    }
    return experimented(7, 900, changes)


def asked(log: MemoryLog, as_of: str | None = None) -> tuple[Any, Observations]:
    answer = experiment_answer(open_states(log, ALL, now_ms=0, as_of=as_of), "e1")
    return answer.experiment, answer.seen


def expected(log: MemoryLog) -> list[tuple[int, int, str, str, dict[str, float], int]]:
    """(mature_at, partition, account, arm, outcomes, transactions in conflict), made from the log's JSON alone."""
    rows = []
    for p in range(PARTITIONS):
        entries = plain(log, p)
        clock = max((at for *_, at in entries), default=0)
        accounts: dict[str, list[tuple[dict[str, Any], int]]] = {}
        verdicts: dict[tuple[str, str], list[VerdictRecord]] = {}
        for kind, _, e, at in entries:
            if kind == "decided" and e["score"].get("arm", "champion") != "champion":
                accounts.setdefault(e["transaction"]["account_id"], []).append((e, at))
            elif kind == "feedback" and e["type"] == "feedback.v1":
                said = VerdictRecord(
                    e["source"], e["verdict"], e.get("confidence", 1.0), e.get("actor", ""), e["occurred_at"], at
                )
                verdicts.setdefault((e["account_id"], e["transaction_id"]), []).append(said)
        for account, held in accounts.items():
            first, exposed_at = held[0]
            mature_at = exposed_at + WINDOW + MATURITY
            if mature_at >= clock:
                continue
            outcomes = dict.fromkeys(METRICS, 0.0)
            lost, conflicts = 0.0, 0
            for e, at in held:
                t = e["transaction"]
                if t["occurred_at"] >= first["transaction"]["occurred_at"] + WINDOW or at > mature_at:
                    continue
                known = [s for s in verdicts.get((account, t["transaction_id"]), []) if s.recorded_at <= mature_at]
                label = consensus(known).label if known else "legitimate"
                alerted = e["score"]["decision"] != "approve"
                conflicts += label == "review"
                if label == "fraud":
                    outcomes["fraud_caught" if alerted else "missed_fraud"] = 1.0
                    lost += 0.0 if alerted else t["amount"]
                elif label == "legitimate" and alerted:
                    outcomes["false_positive"] = 1.0
            outcomes["value_lost"] = min(lost / VALUE_CAP, 1.0)
            rows.append((mature_at, p, account, first["score"]["arm"], outcomes, conflicts))
    return sorted(rows, key=lambda row: row[:3])


def test_observations_are_those_of_the_log_written_out() -> None:
    """Arms, order and outcomes of every mature account equal a plain computation from the log's JSON."""
    log = log_of_an_experiment()
    for fraction in (0.3, 0.6, 1.0):
        cut = {p: int(log.head(p).sequence * fraction) for p in range(PARTITIONS)} | {CONTROL: log.control_head()}
        then = truncated(log, cut)
        _, seen = asked(then)
        rows = expected(then)
        assert [f"e1/{ARMS[arm].name}" for arm in seen.arm] == [row[3] for row in rows]
        assert seen.mature_at.tolist() == [row[0] for row in rows]
        for metric in METRICS:
            assert seen.outcomes[metric].tolist() == [row[4][metric] for row in rows]
        assert seen.unresolved == sum(row[5] for row in rows)
    assert len(rows) > 60
    assert all(0 < seen.outcomes[metric].sum() < len(rows) for metric in METRICS)
    assert seen.crossed > 0


def test_arms_are_those_of_the_assignment() -> None:
    """Whoever was exposed is in the arm that the hash gives, whatever the traffic was, and counts once."""
    log = log_of_an_experiment()
    state = open_states(log, ALL, now_ms=0).by_partition(EXPERIMENTS)
    whole = Allocation.of(started(traffic=10_000), FIXED.key)
    count = 0
    for held in state.values():
        for account, enrolment in held.enrolled["e1"].accounts.items():
            assert ARMS[int(whole.arms_of([account])[0])].name == enrolment.arm
            count += 1
    _, seen = asked(log)
    assert len(seen.exposed) == count and (np.diff(seen.exposed_at) >= 0).all()


def test_an_earlier_cut_is_a_prefix_of_a_later_one() -> None:
    """What one partition's accounts showed at a seal stays, in place: later seals only add behind it."""
    log = log_of_an_experiment()
    for p in range(PARTITIONS):
        before: list[tuple[Any, ...]] = []
        for sequence in range(0, log.head(p).sequence + 1, 2):
            ends = {q: sequence if q == p else 0 for q in range(PARTITIONS)} | {CONTROL: log.control_head()}
            _, seen = asked(truncated(log, ends))
            now = [
                (int(arm), int(at), *(float(values[i]) for values in seen.outcomes.values()))
                for i, (arm, at) in enumerate(zip(seen.arm, seen.mature_at, strict=True))
            ]
            assert now[: len(before)] == before
            before = now
        assert before


def test_what_earlier_looks_found_final_is_what_a_new_look_finds() -> None:
    """Observing cut after cut with one memory gives what observing each without one gives."""
    log = log_of_an_experiment()
    final: Final = {}
    for fraction in (0.4, 0.7, 1.0):
        ends = {p: int(log.head(p).sequence * fraction) for p in range(PARTITIONS)} | {CONTROL: log.control_head()}
        held = open_states(truncated(log, ends), ALL, now_ms=0)
        states, labels = held.by_partition(EXPERIMENTS), held.by_partition(LABELS)
        experiment = held.of_control(EXPERIMENTS).experiments["e1"]
        before = len(final)
        got, fresh = observe(experiment, states, labels, final=final), observe(experiment, states, labels)
        assert len(final) == len(fresh.arm) > before
        assert got.unresolved == fresh.unresolved and got.mature_at.tolist() == fresh.mature_at.tolist()
        assert all((got.outcomes[m] == fresh.outcomes[m]).all() for m in METRICS)


def test_a_report_is_what_a_looker_saw_account_by_account() -> None:
    """At several cuts, evidence, interval, estimate and sample ratio equal updates one account at a time."""
    log = log_of_an_experiment()
    for fraction in (0.5, 0.8, 1.0):
        ends = {p: int(log.head(p).sequence * fraction) for p in range(PARTITIONS)} | {CONTROL: log.control_head()}
        experiment, seen = asked(truncated(log, ends))
        held = report(experiment, seen, "x")
        mismatch = Mismatch()
        for arm in seen.exposed.tolist():
            mismatch.update(arm, (0.4, 0.6))
        assert held.sample_ratio.log_e == pytest.approx(mismatch.log_e)
        for metric in METRICS:
            effect = new_effect(metric, CRITERIA)
            for arm, outcome in zip(seen.arm.tolist(), seen.outcomes[metric].tolist(), strict=True):
                effect.observe(arm, 0.6, 0.4, outcome)
            mine = finding("new", metric, effect, 0.05 / 4)
            got = next(f for f in held.findings if f.metric == metric)
            for name in ("gain", "log_e_better", "log_e_worse", "p_better", "p_worse"):
                assert getattr(got, name) == pytest.approx(getattr(mine, name), rel=1e-9, abs=1e-12)
            assert got.interval == pytest.approx(mine.interval)
            assert paths(experiment, seen, 1)[metric].estimate[-1] == pytest.approx(effect.estimate)
        assert sum(row.mature for row in held.arms) == len(seen.arm)
        assert sum(row.exposed for row in held.arms) == len(seen.exposed)


def test_time_travel_is_what_stopped_there_and_resumes() -> None:
    """As of any seal the view is the log's that ended there; from its stored form it goes on to the same end."""
    log = log_of_an_experiment()
    for p in (*range(PARTITIONS), CONTROL):
        top = log.control_head() if p == CONTROL else log.head(p).sequence
        facts = [fact for batch in batches(log, p, 0, top) for fact in batch.facts]
        whole = EXPERIMENTS.digest(fold(EXPERIMENTS, facts))
        for cut in range(0, len(facts), max(1, len(facts) // 12)):
            half = EXPERIMENTS.decode(EXPERIMENTS.encode(fold(EXPERIMENTS, facts[:cut])))
            assert EXPERIMENTS.digest(fold(EXPERIMENTS, facts[cut:], half)) == whole
        if p == CONTROL:
            continue
        for sequence in range(0, top + 1, max(1, top // 10)):
            text = f"p{p:02d}:s{sequence}," + ",".join(f"p{q:02d}:s0" for q in range(PARTITIONS) if q != p) + ",c3"
            stopped = [fact for batch in batches(log, p, 0, sequence) for fact in batch.facts]
            got = open_states(log, ALL, now_ms=0, as_of=text).of(EXPERIMENTS, p)
            assert EXPERIMENTS.digest(got) == EXPERIMENTS.digest(fold(EXPERIMENTS, stopped))


def controlled(*given: Any) -> Experiments:
    """The control stream's state after a champion and these events."""
    champion = ModelDeployed(**ANN, occurred_at=1, name="tiny", version="1.0.0", digest=ONE)
    return fold(EXPERIMENTS, map(control_fact, control_entries(champion, *given)))


def test_an_experiment_ends_once_and_says_how() -> None:
    """Stop, conclusion and a change of champion or program each end it; what may not follow changes nothing."""
    stop = ExperimentStopped(**ANN, occurred_at=T0 + 9, experiment_id="e1")
    concluded = ExperimentConcluded(
        **ANN, occurred_at=T0 + 8, experiment_id="e1", verdict="promote", winner="new", evidence={"e": 40.0}
    )
    new = ModelDeployed(**ANN, occurred_at=T0 + 7, name="tiny", version="1.1.0", digest=TWO)
    ramp = ExperimentRamped(**ANN, occurred_at=T0 + 6, experiment_id="e1", traffic=100)
    known = ProgramRegistered(**ANN, occurred_at=1, name="cards", version="1.0.0", digest="1" * 64)
    program = ProgramDeployed(**ANN, occurred_at=T0 + 5, digest="1" * 64)
    for end, how in ((stop, "stopped"), (concluded, "concluded"), (new, "superseded"), (program, "superseded")):
        held = controlled(known, started(), ramp, end, stop, ramp).experiments["e1"]
        assert (held.end, held.ended_at, held.ended) == (how, end.occurred_at, 5)
        assert [c.action for c in held.changes] == ["started", "ramped", how]
        assert [c.traffic for c in held.changes] == [9000, 100, 0]
        assert (held.conclusion is not None) is (how == "concluded")
    second = controlled(started(), started(experiment_id="e2"))
    assert list(second.experiments) == ["e1"]


def test_accounts_whose_window_the_end_cut_off_give_no_observation() -> None:
    """After a stop, only accounts whose window was over by then mature; the others are counted as cut off."""
    log = log_of_an_experiment()
    _, seen = asked(log)
    at = int(np.median(seen.mature_at)) - MATURITY
    stop = ExperimentStopped(**ANN, occurred_at=at, experiment_id="e1")
    stopped = experimented(7, 900, {60: [started()], 880: [stop]})
    ended, after = asked(stopped)
    assert ended.end == "stopped" and after.cut_off > 0
    assert after.crossed == 0  # what came after the end is not outside of anything
    assert (after.mature_at - MATURITY <= at).all()
    assert len(after.arm) + after.cut_off <= len(after.exposed)


def test_an_account_holds_a_bounded_number_of_rows() -> None:
    """Beyond ROWS_MAX transactions an account's are left out and counted; the first ones stay."""
    facts = []
    for number in range(ROWS_MAX + 30):
        fact = decided(number + 1)
        score = msgspec.structs.replace(fact.event.score, arm="e1/new")
        facts.append(fact._replace(event=fact.event._replace(score=score)))
    held = fold(EXPERIMENTS, facts).enrolled["e1"].accounts["a1"]
    assert len(held.rows) == ROWS_MAX * ROW.itemsize
    assert held.left_out == 30
